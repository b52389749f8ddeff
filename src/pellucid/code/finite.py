"""Finite functions as a method of the search: few whole numbers in, few out, as expressions.

1. The rows that went in have to be whole numbers, few of them, and equal rows have to come out equal. Where all of the
   box that they span is small, the function is asked on the rest of it, so that nothing is left open.
2. What comes out is read as whole numbers if it is near them; else, for the network as a whole, as the index of the
   largest output, or as two levels on either side of zero.
3. The shortest expression for it is sought (`expressions.tables`): Boolean, threshold, modular, …, a table at last.

Few rows are near whole numbers by chance. So the farther outputs are from them, the more rows there have to be:
(twice the largest distance) ^ rows has to be below one in a thousand, and spread ^ (rows - 2) of two levels, which say
by their budget how far they are off, below one in a hundred.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from pellucid.code.expressions.expression import integral, names_in
from pellucid.code.expressions.expression import text as expression_text
from pellucid.code.expressions.tables import TableReading, express
from pellucid.code.propose import Candidate, Method, Part
from pellucid.code.recurrent.writing import Writer
from pellucid.code.samples import ROUNDING, Samples, ask, begin, finish, named, samples_of
from pellucid.errors import InvalidProgram
from pellucid.ir.bits import code_bits
from pellucid.ir.graph import Ref
from pellucid.ir.program import Measure, Reading

MOST_INPUTS = 10
"""Functions of up to so many whole numbers are read."""

MOST_OUTPUTS = 256
"""Outputs at each place, or classes, up to so many."""

MOST_FORMULAS = 8
"""Outputs that are each given an expression."""

MOST_ROWS = 4096
"""Different rows."""

LARGEST = 2**15
"""Whole numbers from here on are no small ones."""

CHANCE, LEVELS_CHANCE = 1e-3, 1e-2
"""Whole numbers, or two levels, that are likelier than this by chance are not believed."""

FARTHEST = 0.25
"""How far outputs may be off whole numbers."""

WIDEST = 0.1
"""How far outputs may be off their level, as a share of the largest."""

SECONDS = 2.0
"""For each expression."""

LONGEST_SUMMARY = 120
"""Longer expressions are cut in the summary."""


@dataclass(frozen=True, eq=False)
class Targets:
    """What is to be expressed, one column for each expression, and how outputs are made of that.

    `form` is "numbers", "index" (of the largest) or "levels": `levels` stand for 0 and 1.
    """

    form: str
    values: Int64[np.ndarray, "rows columns"]
    measure: Measure
    budget: float
    levels: tuple[float, float] = (0.0, 1.0)


def propose_finite(part: Part, seconds: float) -> Candidate | str:
    """Expressions over the few whole numbers that come in."""
    deadline = time.monotonic() + seconds
    reasons = []
    for samples in samples_of(part, MOST_INPUTS, MOST_OUTPUTS):
        rows = _whole_rows(samples)
        if rows is None or not samples.same():
            continue
        for keys, outputs, every in _tables(part, samples, rows):
            targets = _targets(outputs, samples, part.whole)
            if targets is None:
                reasons.append("outputs are not few")
                continue
            found = _expressed(samples, keys, targets, deadline)
            if isinstance(found, str):
                reasons.append(found)
                continue
            domain = f", on {'all' if every else 'the'} {len(keys):,} inputs {_ranges(keys) if every else 'seen'}"
            return _reading(part, samples, targets, found, domain)
    return "; ".join(dict.fromkeys(reasons))


def _whole_rows(samples: Samples) -> Int64[np.ndarray, "rows in"] | None:
    """The different rows that went in, if they are few and whole."""
    inputs = samples.inputs
    if not np.array_equal(inputs, np.rint(inputs)) or np.abs(inputs).max(initial=0.0) >= LARGEST:
        return None
    rows: Int64[np.ndarray, "rows in"] = np.unique(inputs.astype(np.int64), axis=0)
    return rows if 1 < len(rows) <= MOST_ROWS else None


def _tables(
    part: Part, samples: Samples, rows: Int64[np.ndarray, "rows in"]
) -> Iterator[tuple[Int64[np.ndarray, "rows in"], Float[np.ndarray, "rows out"], bool]]:
    """Rows and outputs: of the box that the rows span, where that is small and not all of it was seen; then as seen."""
    low, high = rows.min(axis=0), rows.max(axis=0)
    cells = float(np.prod(high - low + 1.0))
    if len(rows) < cells <= MOST_ROWS:
        box = np.indices((high - low + 1).tolist()).reshape(len(low), -1).T + low
        yield box.astype(np.int64), ask(part, samples, box.astype(np.float64)), True
    _, first = np.unique(samples.inputs, axis=0, return_index=True)
    yield rows, samples.outputs[first], len(rows) == cells


def _ranges(keys: Int64[np.ndarray, "rows in"]) -> str:
    low, high = keys.min(axis=0), keys.max(axis=0)
    alike = (low == low[0]).all() and (high == high[0]).all()
    return f"from {low[0]} to {high[0]}" if alike else "within the ranges seen"


def _targets(outputs: Float[np.ndarray, "rows out"], samples: Samples, whole: bool) -> Targets | None:
    scale = float(np.abs(outputs).max(initial=0.0))
    nearest = np.rint(outputs)
    off = float(np.abs(outputs - nearest).max())
    varied = bool((nearest != nearest[:1]).any()) and scale < LARGEST
    if varied and outputs.shape[1] <= MOST_FORMULAS and off <= FARTHEST and (2 * off) ** len(outputs) <= CHANCE:
        if off <= ROUNDING * scale:
            return Targets("numbers", nearest.astype(np.int64), "difference", 1e-4)
        return Targets("numbers", nearest.astype(np.int64), "rounded", 0.0) if whole else None
    if not whole:
        return None
    if len(samples.shape) == 1 and samples.shape[0] > 1:
        winners = outputs.argmax(axis=1)[:, None]
        return Targets("index", winners.astype(np.int64), "decision", 0.0) if np.ptp(winners) else None
    return _levels(outputs) if outputs.shape[1] == 1 else None


def _levels(outputs: Float[np.ndarray, "rows one"]) -> Targets | None:
    """Outputs in two narrow bands, on either side of zero."""
    above = outputs > 0
    if above.all() or not above.any():
        return None
    bands = [outputs[~above], outputs[above]]
    scale = float(np.abs(outputs).max())
    spread = max(float(np.ptp(band)) for band in bands) / 2 / scale
    if spread > WIDEST or spread ** max(1, len(outputs) - 2) > LEVELS_CHANCE:
        return None
    low, high = (_short(float(band.min() + band.max()) / 2, spread * scale) for band in bands)
    return Targets("levels", above.astype(np.int64), "difference", max(1e-4, 2 * spread), (low, high))


def _short(value: float, slack: float) -> float:
    """The decimal of fewest digits within half of `slack`."""
    rounded = (round(value, digits) for digits in range(6))
    return next((decimal for decimal in rounded if abs(decimal - value) <= slack / 2), value)


def _expressed(
    samples: Samples, keys: Int64[np.ndarray, "rows in"], targets: Targets, deadline: float
) -> list[TableReading] | str:
    found = []
    for column in targets.values.T:
        left = deadline - time.monotonic()
        if left <= 0:
            return "no time left for expressions"
        reading = express(keys, column, samples.labels, min(SECONDS, left))
        if reading.expr is None:
            return "no expression: " + ", ".join(f"{form} {outcome}" for form, outcome in reading.trail)
        found.append(reading)
    return found


def _reading(
    part: Part, samples: Samples, targets: Targets, found: Sequence[TableReading], domain: str
) -> Candidate | str:
    expressions = [reading.expr for reading in found if reading.expr is not None]
    names = frozenset[str]().union(*(names_in(expr) for expr in expressions))
    used = [column for column, label in enumerate(samples.labels) if label in names]
    whole = all(integral(expr) for expr in expressions)
    writer = begin(part, samples, used or [0], "int64" if whole else "float64")
    target = part.function.outputs[0]
    try:
        values = [writer.array(expr, f"{target}_{i}") for i, expr in enumerate(expressions)]
    except InvalidProgram as error:
        return str(error)
    values = values if whole else [writer.node("round_half_even", value) for value in values]
    if targets.form == "index":
        classes = writer.node("arange", 0, samples.shape[0], name="classes")
        hot = writer.node("eq", writer.node("unsqueeze", values[0], -1), classes)
        body = named(part, writer, writer.node("cast", hot, samples.dtypes[-1]))
    else:
        body = finish(part, samples, writer, [_levelled(writer, value, targets) for value in values])
    forms = ", ".join(dict.fromkeys(reading.form for reading in found))
    shown = ", ".join(expression_text(expr) for expr in expressions)
    shown = shown if len(shown) <= LONGEST_SUMMARY else f"{shown[:LONGEST_SUMMARY]}…"
    summary = f"{_MEANING[targets.form]} {shown}{domain}"
    return Candidate(Reading("code", body, forms, code_bits(body), summary, targets.measure, targets.budget))


_MEANING = {"numbers": "gives", "index": "the largest output is number", "levels": "positive where"}


def _levelled(writer: Writer, value: Ref, targets: Targets) -> Ref:
    if targets.form != "levels":
        return value
    low, high = targets.levels
    return writer.node("where", writer.node("ne", value, 0), high, low)


FINITE = Method("finite", propose_finite)
