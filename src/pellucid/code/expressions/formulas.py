"""The shortest formulas of all functions of up to four variables.

Knuth, The Art of Computer Programming 4A, section 7.1.2 (algorithm L): functions by the number of binary operations of
their shortest formula, built level by level over and, or, exclusive or; negations are free for the level and paid for
in the cost. A function is a 16-bit number, bit k its value on row k of the truth table.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float32, Int8, UInt16

from pellucid.code.expressions.boolean import (
    Boolean,
    Const,
    Table,
    Var,
    conjunction,
    disjunction,
    negation,
    parity,
    rows,
    variables,
)
from pellucid.code.expressions.expression import NODE_BITS

VARIABLES = 4
LEVELS = 7
_ALL = 2 ** (2**VARIABLES)
_FULL = np.uint16(_ALL - 1)
_NOT_BITS = 2 * NODE_BITS
_UNREACHED = 99
_CONST, _VAR, _NOT, _AND, _OR, _XOR = range(6)
_COMBINE = {_AND: np.bitwise_and, _OR: np.bitwise_or, _XOR: np.bitwise_xor}
_TIE = {_AND: 0.0, _OR: 0.0, _XOR: 0.125}
"""Between formulas of one length, the one with fewer exclusive ors reads better."""


@dataclass(frozen=True, eq=False)
class Formulas:
    """For each function: operations of its shortest formula (99: not reached), its bits, and how it is made."""

    level: Int8[np.ndarray, " functions"]
    cost: Float32[np.ndarray, " functions"]
    made_by: Int8[np.ndarray, " functions"]
    left: UInt16[np.ndarray, " functions"]
    right: UInt16[np.ndarray, " functions"]


def _pack(values: np.ndarray) -> int:
    return int((values.astype(np.int64) << np.arange(2**VARIABLES)).sum())


@lru_cache(maxsize=LEVELS + 1)
def formulas(levels: int) -> Formulas:
    """All functions that formulas of at most `levels` operations reach. Seven reach every function."""
    if levels == 0:
        return _leaves()
    before = formulas(levels - 1)
    made = Formulas(*(getattr(before, name).copy() for name in ("level", "cost", "made_by", "left", "right")))
    for i in range((levels - 1) // 2 + 1):
        first, second = np.flatnonzero(before.level == i), np.flatnonzero(before.level == levels - 1 - i)
        for op in _COMBINE:
            _offer(made, levels, op, first.astype(np.uint16), second.astype(np.uint16))
    _negate(made, levels)
    return made


def _leaves() -> Formulas:
    made = Formulas(
        np.full(_ALL, _UNREACHED, np.int8),
        np.full(_ALL, np.inf, np.float32),
        np.full(_ALL, _CONST, np.int8),
        np.zeros(_ALL, np.uint16),
        np.zeros(_ALL, np.uint16),
    )
    for i in range(VARIABLES):
        code = _pack(rows(VARIABLES)[:, i])
        made.level[code], made.cost[code], made.made_by[code], made.left[code] = 0, NODE_BITS, _VAR, i
    _negate(made, 0)
    return made


def _negate(made: Formulas, level: int) -> None:
    """Reach the negations of the functions of a level, where that is new or cheaper."""
    codes = np.flatnonzero(made.level == level)
    opposite = (~codes.astype(np.uint16)).astype(np.int64)
    better = (made.level[opposite] == _UNREACHED) | (
        (made.level[opposite] == level) & (made.cost[codes] + _NOT_BITS < made.cost[opposite])
    )
    codes, opposite = codes[better], opposite[better]
    made.level[opposite], made.cost[opposite] = level, made.cost[codes] + _NOT_BITS
    made.made_by[opposite], made.left[opposite] = _NOT, codes


def _offer(made: Formulas, level: int, op: int, first: np.ndarray, second: np.ndarray) -> None:
    """Combine all pairs by one operation; keep, for each function not reached on a lower level, the cheapest."""
    for part in np.array_split(first, max(1, len(first) * len(second) // 2**21)):
        codes = _COMBINE[op](part[:, None], second[None, :]).ravel()
        cost = (made.cost[part][:, None] + made.cost[second][None, :] + np.float32(NODE_BITS + _TIE[op])).ravel()
        useful = (made.level[codes] >= level) & (cost < made.cost[codes]) & (codes != 0) & (codes != _FULL)
        pairs, codes, cost = np.flatnonzero(useful), codes[useful], cost[useful]
        order = np.lexsort((pairs, cost, codes))
        codes, kept = np.unique(codes[order], return_index=True)
        chosen = order[kept]
        left, right = np.divmod(pairs[chosen], len(second))
        made.level[codes], made.cost[codes], made.made_by[codes] = level, cost[chosen], op
        made.left[codes], made.right[codes] = part[left], second[right]


def _masks(table: Table) -> tuple[np.uint16, np.uint16]:
    """(where it matters, where it is 1), repeated to four variables."""
    wide = np.tile(table, 2 ** (VARIABLES - variables(table)))
    return np.uint16(_pack(wide >= 0)), np.uint16(_pack(wide == 1))


def shortest(table: Table, levels: int = LEVELS) -> tuple[int, float] | None:
    """(function, bits) of the cheapest formula of fewest operations, or None if more than `levels` are needed."""
    care, on = _masks(table)
    if on == 0 or (on | ~care) == _FULL:
        return (0 if on == 0 else int(_FULL)), NODE_BITS
    codes = np.arange(_ALL, dtype=np.uint16)
    fits = np.flatnonzero((codes & care) == on)
    for level in range(levels + 1):
        known = formulas(level)
        reached = fits[known.level[fits] <= level]
        if len(reached):
            best = int(reached[np.argmin(known.cost[reached])])
            return best, float(known.cost[best])
    return None


def formula(code: int, levels: int = LEVELS) -> Boolean:
    """The formula of a function. Variables that the table did not have do not occur in it."""
    if code in (0, int(_FULL)):
        return Const(code != 0)
    level = next(r for r in range(levels + 1) if formulas(r).level[code] <= r)
    known = formulas(level)
    op, left, right = int(known.made_by[code]), int(known.left[code]), int(known.right[code])
    if op == _VAR:
        return Var(left)
    if op == _NOT:
        return negation(formula(left, level))
    build = {_AND: conjunction, _OR: disjunction, _XOR: parity}[op]
    return build(formula(left, level), formula(right, level))
