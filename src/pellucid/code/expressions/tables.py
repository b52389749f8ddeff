"""Finite functions as expressions: rows of integers in, one integer out.

Tried, cheapest first: a constant, an affine formula, a Boolean expression (if everything is bits), a threshold, affine
arithmetic modulo m, its quotient, membership in a set, the smallest expression of a grammar; a table of at most 64 rows
is the fallback. The shortest wins. Every candidate is evaluated on all rows before it counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Int64
from scipy.optimize import Bounds, LinearConstraint, milp

from pellucid.code.expressions.boolean import to_expression
from pellucid.code.expressions.boolean_search import minimise
from pellucid.code.expressions.expression import Expr, Lookup, Name, bits, call, evaluate, linear, number
from pellucid.code.expressions.grammar import Grammar, Leaf, smallest
from pellucid.code.expressions.predicates import by_predicates
from pellucid.code.recurrent.realise import simple

Keys = Int64[np.ndarray, "rows columns"]
Values = Int64[np.ndarray, " rows"]

MAX_ROWS = 64
_BITS = 10
_WEIGHT = 8
_GRID = 2**18
_SIZE = 7


@dataclass(frozen=True)
class TableReading:
    """The shortest expression found for a finite function, or None.

    Attributes:
        expr: over the given names.
        form: which search found it.
        bits: its description length.
        trail: (form, outcome) for everything tried.
    """

    expr: Expr | None
    form: str
    bits: float
    trail: tuple[tuple[str, str], ...]


def express(keys: Keys, values: Values, names: Sequence[str], budget: float = 20.0, table: bool = True) -> TableReading:
    """The shortest expression found with `values` on the rows `keys`; other inputs do not matter.

    Forms not begun within `budget` seconds are left out. A table is only an answer up to 64 rows, and if `table`.
    """
    start, trail = time.monotonic(), []
    found: list[tuple[float, str, Expr]] = []
    env = {name: keys[:, i] for i, name in enumerate(names)}
    for form, build in _forms(keys, values, names, budget, table):
        if found and time.monotonic() - start > budget:
            trail.append((form, "not tried: out of time"))
            continue
        expr = build()
        fits = expr is not None and np.array_equal(np.broadcast_to(evaluate(expr, env), values.shape), values)
        if expr is None or not fits:
            trail.append((form, "none"))
            continue
        found.append((bits(expr), form, expr))
        trail.append((form, f"{bits(expr):.0f} bits"))
        if isinstance(expr, Name) or form == "constant":
            break
    if not found:
        return TableReading(None, "", float("inf"), tuple(trail))
    cost, form, best = min(found, key=lambda item: item[0])
    return TableReading(best, form, cost, tuple(trail))


def _forms(
    keys: Keys, values: Values, names: Sequence[str], budget: float, table: bool
) -> Iterator[tuple[str, Callable[[], Expr | None]]]:
    low, high = int(values.min()), int(values.max())
    truth = low >= 0 and high <= 1
    if low == high:
        yield "constant", lambda: number(low)
        return
    yield "affine", lambda: _affine(keys, values, names)
    if truth and keys.min() >= 0 and keys.max() <= 1 and keys.shape[1] <= _BITS:
        yield "boolean", lambda: _boolean(keys, values, names, budget)
    elif truth:
        yield "threshold", lambda: _threshold(keys, values, names)
        yield "predicates", lambda: by_predicates(keys, values, names)
        if keys.shape[1] == 1:
            yield "set", lambda: _members(keys, values, names)
    if not truth or keys.min() < 0 or keys.max() > 1:
        yield "modular", lambda: _modular(keys, values, names)
        yield "quotient", lambda: _quotient(keys, values, names)
        yield "grammar", lambda: _grammar(keys, values, names, budget)
    if table and len(keys) <= MAX_ROWS:
        yield "table", lambda: _table(keys, values, names)


def _terms(weights: Sequence[int], names: Sequence[str]) -> list[tuple[int, Expr]]:
    return [(int(w), Name(name)) for w, name in zip(weights, names, strict=True)]


def _affine(keys: Keys, values: Values, names: Sequence[str]) -> Expr | None:
    design = np.c_[keys, np.ones(len(keys))].astype(float)
    solved = [simple(float(w)) for w in np.linalg.lstsq(design, values.astype(float), rcond=None)[0]]
    weights = [w for w in solved if w is not None]
    if len(weights) < len(solved):
        return None
    return linear([(w, Name(name)) for w, name in zip(weights, names, strict=False)], weights[-1])


def _boolean(keys: Keys, values: Values, names: Sequence[str], budget: float) -> Expr:
    table = np.full(2 ** keys.shape[1], -1, dtype=np.int8)
    table[(keys << np.arange(keys.shape[1])).sum(1)] = values
    return to_expression(minimise(table, budget).expr, names)


def _threshold(keys: Keys, values: Values, names: Sequence[str]) -> Expr | None:
    """Σ weight · key >= least with the smallest integer weights (integer programme)."""
    width, reach = keys.shape[1], float(np.abs(keys).max() * keys.shape[1] * _WEIGHT)
    on = values == 1
    found = milp(
        np.r_[np.ones(2 * width), 0.0],
        constraints=LinearConstraint(
            np.c_[keys, -keys, -np.ones(len(keys))], np.where(on, 0.0, -np.inf), np.where(on, np.inf, -1.0)
        ),
        integrality=np.ones(2 * width + 1),
        bounds=Bounds(np.r_[np.zeros(2 * width), -reach], np.r_[np.full(2 * width, _WEIGHT), reach]),
        options={"time_limit": 10.0},
    )
    if found.x is None:
        return None
    whole = np.rint(found.x).astype(int)
    weights = whole[:width] - whole[width:-1]
    least = int((keys @ weights)[on].min())
    return call("ge", linear(_terms(weights.tolist(), names)), number(least))


def _grid(width: int, choices: Sequence[int]) -> Int64[np.ndarray, "options width"]:
    return np.array(list(product(choices, repeat=width)), dtype=np.int64).reshape(-1, width)


def _modular(keys: Keys, values: Values, names: Sequence[str]) -> Expr | None:
    """(Σ weight · key + constant) % m, m one more than the largest value; simplest weights first."""
    m = int(values.max()) + 1
    width = keys.shape[1]
    if values.min() < 0 or m < 2 or m**width * len(keys) > _GRID * 16:
        return None
    weights = _grid(width, sorted(range(m), key=lambda w: (min(w, m - w), w)))
    gaps = (values[None] - weights @ keys.T) % m
    fits = np.flatnonzero((gaps == gaps[:, :1]).all(1))
    if not len(fits):
        return None
    signed = [[int(w) if 2 * w <= m else int(w) - m for w in weights[fit]] for fit in fits]
    best = min(range(len(fits)), key=lambda i: (sum(map(abs, signed[i])), signed[i]))
    return call("mod", linear(_terms(signed[best], names), int(gaps[fits[best], 0])), number(m))


def _quotient(keys: Keys, values: Values, names: Sequence[str]) -> Expr | None:
    """(Σ weight · key + constant) // m, over small weights and all m up to 16."""
    choices = (0, 1, -1, 2, -2, 3)
    width = keys.shape[1]
    if len(choices) ** width * len(keys) > _GRID:
        return None
    weights = _grid(width, choices)
    totals = weights @ keys.T
    for m in range(2, 17):
        least = (values * m - totals).max(1)
        most = (values * m - totals + m - 1).min(1)
        fits = np.flatnonzero(least <= most)
        if len(fits):
            best = min(fits, key=lambda i: (np.abs(weights[i]).sum() + (not least[i] <= 0 <= most[i]), i))
            constant = 0 if least[best] <= 0 <= most[best] else int(least[best])
            return call("floordiv", linear(_terms(weights[best].tolist(), names), constant), number(m))
    return None


def _grammar(keys: Keys, values: Values, names: Sequence[str], budget: float) -> Expr | None:
    """The smallest expression; its values are compared on up to 128 rows, then on all."""
    rng = np.random.default_rng(0)
    picks = np.arange(len(keys)) if len(keys) <= 128 else np.sort(rng.choice(len(keys), 128, replace=False))
    leaves = [Leaf(Name(name), keys[picks, i]) for i, name in enumerate(names)]
    low, high = int(values.min()), int(values.max())
    constants = sorted({0, 1, 2, low, high, int(keys.min()), int(keys.max())}, key=lambda c: (abs(c), c))
    moduli = sorted({2, 3, 4, 5, high + 1} - {0, 1})
    grammar = Grammar(tuple(constants), tuple(m for m in moduli if m > 1), _SIZE)
    return smallest(leaves, values[picks], grammar, budget)


def _members(keys: Keys, values: Values, names: Sequence[str]) -> Expr | None:
    """`x in {…}` or its negation, whichever set is smaller; at most 64 members."""
    inside, outside = sorted({int(k) for k in keys[values == 1, 0]}), sorted({int(k) for k in keys[values == 0, 0]})
    chosen = inside if len(inside) <= len(outside) else outside
    if len(chosen) > MAX_ROWS:
        return None
    member = call("in", Name(names[0]), *map(number, chosen))
    return member if chosen is inside else linear([(-1, member)], 1)


def _table(keys: Keys, values: Values, names: Sequence[str]) -> Expr:
    order = np.lexsort(keys.T[::-1])
    rows = tuple(tuple(map(int, keys[i])) for i in order)
    return Lookup(tuple(map(Name, names)), rows, tuple(int(values[i]) for i in order))
