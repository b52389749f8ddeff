"""Truth values over integers as Boolean expressions of a few comparisons.

All comparisons of two columns, and of a column (or of a sum or difference of two) with a constant, are candidates. The
smallest sets of them that determine the value are sought by exhaustion, cheapest first, and the value is written as the
shortest formula over such a set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, islice

import numpy as np
from jaxtyping import Bool, Int8, Int64

from pellucid.code.expressions.boolean import to_expression
from pellucid.code.expressions.expression import Expr, Name, bits, call, linear, negated, number, replace
from pellucid.code.expressions.formulas import VARIABLES, formula, shortest

_PREDICATES = 48
_SETS = 12
_TRIED = 40_000
_CHUNK = 2048


@dataclass(frozen=True, eq=False)
class _Predicate:
    expr: Expr
    holds: Bool[np.ndarray, " rows"]


def by_predicates(
    keys: Int64[np.ndarray, "rows columns"], values: Int64[np.ndarray, " rows"], names: Sequence[str]
) -> Expr | None:
    """The shortest expression found with these truth values, over at most four comparisons; None if there is none."""
    candidates = _candidates(keys, values, names)
    best: Expr | None = None
    for size in range(1, VARIABLES + 1):
        found = [_written(chosen, values) for chosen in _determining(candidates, values, size)]
        for expr in found:
            best = expr if best is None or bits(expr) < bits(best) else best
        if best is not None:
            return best
    return None


def _candidates(
    keys: Int64[np.ndarray, "rows columns"], values: Int64[np.ndarray, " rows"], names: Sequence[str]
) -> list[_Predicate]:
    """Comparisons that are neither always true nor always false, without repetition, shortest first."""
    made: list[tuple[Expr, Bool[np.ndarray, " rows"]]] = []
    width = keys.shape[1]
    totals: list[tuple[Expr, Int64[np.ndarray, " rows"]]] = [(Name(names[i]), keys[:, i]) for i in range(width)]
    for i, j in combinations(range(width), 2):
        a, b = Name(names[i]), Name(names[j])
        made += [(call("eq", a, b), keys[:, i] == keys[:, j]), (call("lt", a, b), keys[:, i] < keys[:, j])]
        made += [(call("lt", b, a), keys[:, j] < keys[:, i])]
        totals += [(linear([(1, a), (1, b)]), keys[:, i] + keys[:, j])]
        totals += [(linear([(1, a), (-1, b)]), keys[:, i] - keys[:, j])]
    for expr, total in totals:
        levels = np.unique(total)
        if len(levels) <= 16:
            made += [(call("eq", expr, number(int(v))), total == v) for v in levels]
            made += [(call("ge", expr, number(int(v))), total >= v) for v in levels[1:]]
    unique: dict[bytes, _Predicate] = {}
    for expr, holds in sorted(made, key=lambda item: bits(item[0])):
        mark = (holds if holds[0] else ~holds).tobytes()
        if holds.any() and not holds.all() and mark not in unique:
            unique[mark] = _Predicate(expr, holds)
    kept = list(unique.values())
    if len(kept) > _PREDICATES:
        kept = sorted(kept, key=lambda p: -_tells(p.holds, values) + bits(p.expr) / 1000)[:_PREDICATES]
    return sorted(kept, key=lambda p: bits(p.expr))


def _tells(holds: Bool[np.ndarray, " rows"], values: Int64[np.ndarray, " rows"]) -> float:
    """How far the share of ones differs where the predicate holds and where it does not."""
    return abs(float(values[holds].mean()) - float(values[~holds].mean()))


def _determining(
    candidates: Sequence[_Predicate], values: Int64[np.ndarray, " rows"], size: int
) -> list[tuple[_Predicate, ...]]:
    """The first sets of this many predicates on which the value depends alone."""
    holds = np.array([p.holds for p in candidates], dtype=np.int8).reshape(len(candidates), len(values))
    on, off = values == 1, values != 1
    found: list[tuple[_Predicate, ...]] = []
    options = islice(combinations(range(len(candidates)), size), _TRIED)
    while len(found) < _SETS and (part := list(islice(options, _CHUNK))):
        code = sum(holds[np.array(part)[:, i]] << i for i in range(size))
        clash = np.zeros(len(part), dtype=bool)
        for pattern in range(2**size):
            here = code == pattern
            clash |= (here & on).any(1) & (here & off).any(1)
        found += [tuple(candidates[i] for i in part[row]) for row in np.flatnonzero(~clash)]
    return found[:_SETS]


def _written(chosen: Sequence[_Predicate], values: Int64[np.ndarray, " rows"]) -> Expr:
    table: Int8[np.ndarray, " points"] = np.full(2 ** len(chosen), -1, dtype=np.int8)
    table[sum(p.holds.astype(np.int64) << i for i, p in enumerate(chosen))] = values
    best = shortest(table)
    if best is None:
        raise AssertionError("seven operations reach every function of four variables")
    marks = [f"?{i}" for i in range(len(chosen))]
    expr = to_expression(formula(best[0]), marks)
    mapping: dict[Expr, Expr] = {}
    for mark, predicate in zip(marks, chosen, strict=True):
        mapping |= {Name(mark): predicate.expr, negated(Name(mark)): negated(predicate.expr)}
    return replace(expr, mapping)
