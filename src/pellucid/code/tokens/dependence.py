"""Values as functions of the fewest variables that determine them, written as the shortest expression found.

1. Sets of variables are tried by size; one counts if equal rows of it always go with equal values.
2. For the smallest sets a formula is sought (`expressions.tables`) on few rows, tested on all, and sought again with
   rows added on which it failed. Beside the forms there: a form of one number applied to a sum, product or quotient of
   two variables; and a case distinction between two simple forms that cover all rows together, under a condition that
   is itself sought as such a function.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice

import numpy as np
from jaxtyping import Bool, Int64

from pellucid.code.expressions.expression import (
    Call,
    Expr,
    Lookup,
    Name,
    bits,
    call,
    evaluate,
    linear,
    number,
    replace,
    walk,
)
from pellucid.code.expressions.tables import MAX_ROWS, express

Column = Int64[np.ndarray, " rows"]
Columns = Mapping[str, Column]

LARGEST_SET = 4
"""Most variables of a function."""

SETS, THOROUGH = 24, 3
"""Sets of variables of one size that are looked at, and that are looked at thoroughly."""

BASES = (10, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16)

CASES = 6
"""Pairs of simple forms that are tried as a case distinction."""

FEW = 160
"""Rows that a formula is first sought on; so many more are added where it fails."""

ROUNDS = 4
FEW_VALUES = 4
FORMS = 48
"""Simple forms that a case distinction is made of."""

DEEPEST = 2
"""Case distinctions within one another."""

WORTH = 0.75
"""A case distinction stands for another formula only if it is so much shorter."""

SECONDS, QUICK = 1.0, 0.1
"""For one formula on few rows; for a first attempt, which will do if it is short."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The different rows of some variables, with the value of each; those in `positive` are so everywhere."""

    names: tuple[str, ...]
    keys: Int64[np.ndarray, "rows names"]
    values: Int64[np.ndarray, " rows"]
    positive: frozenset[str] = frozenset()

    @property
    def columns(self) -> dict[str, Column]:
        """The keys by name."""
        return {name: self.keys[:, i] for i, name in enumerate(self.names)}

    def holds(self, expr: Expr) -> Bool[np.ndarray, " rows"]:
        """On which rows an expression has the value."""
        return np.asarray(np.broadcast_to(evaluate(expr, self.columns), self.values.shape) == self.values)

    def only(self, mask: Bool[np.ndarray, " rows"]) -> Rows:
        """Some of the rows."""
        return Rows(self.names, self.keys[mask], self.values[mask], self.positive)


def explain(
    target: Column, columns: Columns, deadline: float, depth: int = 0, positive: frozenset[str] | None = None
) -> Expr | None:
    """The shortest expression found for `target` over the fewest of `columns`; None if there is none in time.

    Args:
        target: one value for each row.
        columns: variables by name, earlier ones preferred.
        deadline: of `time.monotonic`.
        depth: of case distinctions around this one.
        positive: what may be divided by; None: all columns without a number below 1.
    """
    if positive is None:
        positive = frozenset(name for name, column in columns.items() if (column > 0).all())
    if not len(target):
        return None
    if (target == target[0]).all():
        return number(int(target[0]))
    for size in range(1, LARGEST_SET + 1):
        found = list(islice(determining(target, columns, size), SETS))
        options = [distinct(target, columns, names, positive) for names in found]
        best = _best_of(options, deadline, depth)
        if best is not None or time.monotonic() > deadline:
            return best
    return None


def _best_of(options: Sequence[Rows], deadline: float, depth: int) -> Expr | None:
    """The shortest formula over any of these sets: a quick one if it will do, else of the most promising sets."""
    quick = [_refined(rows, deadline, QUICK) for rows in options]
    best = min((expr for expr in quick if expr is not None), key=bits, default=None)
    if best is not None and bits(best) <= _enough(options[0]):
        return best
    order = sorted(range(len(options)), key=lambda i: math.inf if (expr := quick[i]) is None else bits(expr))
    for i in order[:THOROUGH]:
        if time.monotonic() < deadline:
            best = shorter(best, formula(options[i], deadline, depth))
    return best


def _enough(rows: Rows) -> float:
    """Bits of an expression that is short for so many variables."""
    return 12.0 + 8.0 * len(rows.names)


def shorter(best: Expr | None, expr: Expr | None) -> Expr | None:
    """The one of fewer bits; the other where one is None."""
    if best is None or expr is None:
        return expr if best is None else best
    return expr if bits(expr) < bits(best) else best


def determining(target: Column, columns: Columns, size: int) -> Iterator[tuple[str, ...]]:
    """Sets of so many variables that determine the target, in the order of `columns`."""
    _, wanted = np.unique(target, return_inverse=True)
    codes = {name: np.unique(column, return_inverse=True)[1] for name, column in columns.items()}
    few = np.random.default_rng(0).permutation(len(target))[:2000]
    for names in combinations(columns, size):
        chosen = [codes[name] for name in names]
        if _same([code[few] for code in chosen], wanted[few]) and _same(chosen, wanted):
            yield names


def _same(codes: Sequence[Column], wanted: Column) -> bool:
    """Whether equal codes go with equal values."""
    joint = joined(codes)
    most = int(wanted.max(initial=0)) + 1
    return len(np.unique(joint * most + wanted)) == len(np.unique(joint))


def joined(codes: Sequence[Column]) -> Column:
    """Rows of codes from 0 on as one number each."""
    total = np.zeros(len(codes[0]), np.int64)
    for code in codes:
        total = total * (int(code.max(initial=0)) + 1) + code
    return total


def distinct(target: Column, columns: Columns, names: Sequence[str], positive: frozenset[str] = frozenset()) -> Rows:
    """The different rows of these variables; where the target is not determined, its first value."""
    codes = [np.unique(columns[name], return_inverse=True)[1] for name in names]
    _, first = np.unique(joined(codes), return_index=True)
    keys = np.stack([columns[name][first] for name in names], axis=1)
    return Rows(tuple(names), keys, target[first], positive)


# ---- formulas


def formula(rows: Rows, deadline: float, depth: int = 0) -> Expr | None:
    """The shortest expression found with these values."""
    quick = _refined(rows, deadline, QUICK)
    if quick is not None and bits(quick) <= _enough(rows):
        return quick
    found = [quick, *_plain(rows, deadline)]
    best = min((expr for expr in found if expr is not None), key=bits, default=None)
    if best is None and depth < DEEPEST:
        best = _guarded(rows, deadline, depth)
    truth = set(np.unique(rows.values)) <= {0, 1}
    if truth or (best is not None and bits(best) <= _enough(rows)):
        return best
    if depth < DEEPEST and time.monotonic() < deadline:
        cases = shorter(_cases(rows, deadline, depth), _one_value(rows, deadline, depth))
        tabled = best is not None and any(_is_table(part) for part in walk(best))
        if cases is not None and (best is None or bits(cases) < (1.0 if tabled else WORTH) * bits(best)):
            best = cases
    return best


def _is_table(expr: Expr) -> bool:
    """Whether this is a table, and not only the rank of a number among some."""
    return isinstance(expr, Lookup) and expr.values != tuple(range(len(expr.values)))


def _plain(rows: Rows, deadline: float) -> Iterator[Expr | None]:
    yield _refined(rows, deadline, SECONDS)
    if len(rows.names) >= 2:
        yield _of_two(rows, deadline)
    else:
        yield _of_digits(rows)


def _refined(rows: Rows, deadline: float, seconds: float) -> Expr | None:
    """A formula sought on few rows and more of those on which it fails, at last a table."""
    picks = np.zeros(len(rows.values), bool)
    order = np.random.default_rng(0).permutation(len(rows.values))
    picks[order[:FEW]] = True
    for _ in range(ROUNDS):
        part = rows.only(picks)
        left = min(seconds, deadline - time.monotonic())
        if left <= 0:
            return None
        whole = bool(picks.all())
        expr = express(part.keys, part.values, rows.names, left, table=whole and len(rows.keys) <= MAX_ROWS).expr
        if expr is None:
            return None
        wrong = np.flatnonzero(~rows.holds(expr))
        if not len(wrong):
            return expr
        picks[wrong[:: max(1, len(wrong) // FEW)]] = True
    return None


def _of_digits(rows: Rows) -> Expr | None:
    """a · (x // base) + b · (x % base) + c for the one variable x."""
    x, name = rows.keys[:, 0], Name(rows.names[0])
    for base in BASES if len(x) > FEW_VALUES else ():
        design = np.stack([x // base, x % base, np.ones_like(x)], axis=1).astype(np.float64)
        weights = np.rint(np.linalg.lstsq(design, rows.values.astype(np.float64), rcond=None)[0])
        if x.max() >= base and (design @ weights == rows.values).all():
            high, low, constant = (int(w) for w in weights)
            return linear(
                [(high, call("floordiv", name, number(base))), (low, call("mod", name, number(base)))], constant
            )
    return None


def _of_two(rows: Rows, deadline: float) -> Expr | None:
    """A form of one number: of a sum, product, extreme or quotient of two variables that determines the value."""
    best: Expr | None = None
    codes = np.unique(rows.values, return_inverse=True)[1]
    for inner in _pairs(rows):
        made = evaluate(inner, rows.columns)
        if not _same([np.unique(made, return_inverse=True)[1]], codes):
            continue
        single = distinct(rows.values, {"?": made}, ["?"])
        left = min(SECONDS, deadline - time.monotonic())
        expr = express(single.keys, single.values, ["?"], left, table=len(single.keys) <= MAX_ROWS).expr
        if expr is not None:
            best = shorter(best, replace(expr, {Name("?"): inner}))
    return best


def _pairs(rows: Rows) -> Iterator[Expr]:
    for a, b in combinations(rows.names, 2):
        x, y = Name(a), Name(b)
        yield from (linear([(1, x), (1, y)]), linear([(1, x), (-1, y)]), call("mul", x, y))
        yield from (call("max", x, y), call("min", x, y))
        for p, q in ((a, b), (b, a)):
            below = rows.columns[q]
            if (below >= 0).all():
                over = Name(q) if q in rows.positive else call("max", Name(q), number(1))
                common = int(np.lcm.reduce(np.unique(below[below > 0]), initial=1)) if below.max() <= 24 else 1
                yield call("floordiv", linear([(common, Name(p))]), over)
                yield call("mod", Name(p), over)


# ---- case distinctions


def _cases(rows: Rows, deadline: float, depth: int) -> Expr | None:
    """`where(condition, a, b)` with simple a, and b that holds on all rows on which a does not."""
    forms = _simple_forms(rows)
    best: Expr | None = None
    tried = 0
    for i, (first, one) in enumerate(forms):
        for second, other in forms[i + 1 :]:
            if (one | other).all() and not one.all() and not other.all():
                best = shorter(best, _case(rows, first, second, one, other, deadline, depth))
                tried += 1
            if tried >= CASES or time.monotonic() > deadline:
                return best
    if best is None and depth + 1 < DEEPEST:
        for first, one in sorted(forms, key=lambda form: -int(form[1].sum()))[:2]:
            rest = rows.only(~one)
            if len(rest.values) < len(rows.values) and not one.all():
                remainder = explain(rest.values, rest.columns, deadline, depth + 1, rows.positive)
                if remainder is not None:
                    other = rows.holds(remainder)
                    best = shorter(best, _case(rows, first, remainder, one, other, deadline, depth))
    return best


def _guarded(rows: Rows, deadline: float, depth: int) -> Expr | None:
    """`where(x == c, a, b)` for the least or the greatest value c of a variable x."""
    best: Expr | None = None
    for name, column in rows.columns.items():
        for edge in (int(column.min()), int(column.max())):
            at = column == edge
            if at.all() or time.monotonic() > deadline:
                continue
            cases = [
                explain(part.values, part.columns, deadline, DEEPEST, rows.positive)
                for part in (rows.only(at), rows.only(~at))
            ]
            if cases[0] is not None and cases[1] is not None:
                best = shorter(best, Call("where", (call("eq", Name(name), number(edge)), cases[0], cases[1])))
    return best


def _one_value(rows: Rows, deadline: float, depth: int) -> Expr | None:
    """`where(condition, value, rest)`: one of few values under its own condition, the others as a function."""
    values = np.unique(rows.values)
    best: Expr | None = None
    for value in values if 2 < len(values) <= FEW_VALUES else ():
        here = rows.values == value
        condition = explain(here.astype(np.int64), rows.columns, deadline, DEEPEST, rows.positive)
        other = rows.only(~here)
        rest = explain(other.values, other.columns, deadline, depth + 1, rows.positive)
        if condition is not None and rest is not None:
            best = shorter(best, Call("where", (condition, number(int(value)), rest)))
    return best


def _case(
    rows: Rows,
    first: Expr,
    second: Expr,
    one: Bool[np.ndarray, " rows"],
    other: Bool[np.ndarray, " rows"],
    deadline: float,
    depth: int,
) -> Expr | None:
    """The two forms under a condition that holds where only the first does."""
    telling = one ^ other
    part = rows.only(telling)
    condition = explain(one[telling].astype(np.int64), part.columns, deadline, depth + 1, rows.positive)
    if condition is None:
        return None
    return Call("where", (condition, first, second))


def _simple_forms(rows: Rows) -> list[tuple[Expr, Bool[np.ndarray, " rows"]]]:
    """Constants, variables and small sums that hold on some rows, shortest first, the same rows once."""
    made: list[Expr] = []
    kinds, counts = np.unique(rows.values, return_counts=True)
    made += [number(int(kind)) for kind in kinds[np.argsort(-counts, kind="stable")][:4]]
    bases: list[Expr] = [Name(name) for name in rows.names]
    bases += [linear([(2, base)]) for base in bases] + [call("floordiv", base, number(2)) for base in bases]
    for a, b in combinations(rows.names, 2):
        bases += [linear([(1, Name(a)), (sign, Name(b))]) for sign in (1, -1)]
        bases += [linear([(-1, Name(a)), (1, Name(b))]), call("mul", Name(a), Name(b))]
    for base in bases:
        made += [base]
        gaps, counts = np.unique(rows.values - evaluate(base, rows.columns), return_counts=True)
        often = gaps[np.argsort(-counts, kind="stable")][:2]
        made += [linear([(1, base)], int(gap)) if not _flat(base) else _moved(base, int(gap)) for gap in often if gap]
    found: dict[bytes, tuple[Expr, Bool[np.ndarray, " rows"]]] = {}
    for expr in sorted(made, key=bits):
        holds = rows.holds(expr)
        if holds.sum() >= max(2, len(rows.values) // 50) and holds.tobytes() not in found:
            found[holds.tobytes()] = (expr, holds)
    return list(found.values())[:FORMS]


def _flat(expr: Expr) -> bool:
    return not isinstance(expr, Name | Call)


def _moved(base: Expr, gap: int) -> Expr:
    """A sum with a constant more."""
    terms = getattr(base, "terms", ())
    return linear(list(terms), gap)
