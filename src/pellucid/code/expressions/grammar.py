"""The smallest expression with given values: bottom-up enumeration up to observational equivalence.

Expressions are built by size from leaves, over a small typed grammar of integers and bits. Of those that have the same
values on the samples only the first is kept (A. Albarghouthi, S. Gulwani, Z. Kincaid, "Recursive program synthesis",
2013). Values are compared by a hash that is linear in them, so that sums are hashed without being evaluated.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from pellucid.code.expressions.expression import (
    OPERATIONS,
    Expr,
    Linear,
    Number,
    bits,
    call,
    linear,
    negated,
    number,
    text,
    walk,
)

Rows = Int64[np.ndarray, "_"]
Block = tuple[str, int, Rows, Rows, Rows]
"""Operation, its constant, left arguments, right arguments, hashes of the results."""

STORE = 40_000
_BLOCK = 2**21
_SQUARED = 2**15
_SYMMETRIC = ("add", "max", "min", "eq", "and", "or", "xor")
_BINARY = ("add", "sub", "mul", "max", "min", "eq", "lt", "and", "or", "xor")


@dataclass(frozen=True, eq=False)
class Leaf:
    """A starting point: an expression, its values, and the bits that using it costs beyond its own."""

    expr: Expr
    values: Int64[np.ndarray, " samples"]
    extra: float = 0.0


@dataclass(frozen=True, eq=False)
class _Bank:
    """Expressions kept so far, by rows: how each was made, of what size, with which values and hash."""

    made: tuple[tuple[str, int, int, int], ...]
    sizes: Int64[np.ndarray, " rows"]
    values: Int64[np.ndarray, "rows samples"]
    hashes: Rows
    key: Int64[np.ndarray, " samples"]

    def bit_rows(self) -> Bool[np.ndarray, " rows"]:
        """Which rows hold only 0 and 1."""
        return np.asarray(((self.values == 0) | (self.values == 1)).all(1))


@dataclass(frozen=True)
class Grammar:
    """What the enumeration may use besides the leaves.

    Attributes:
        constants: numbers that stand alone and that values are compared with.
        moduli: numbers to divide by.
        max_size: largest number of nodes; a comparison with or division by a constant counts as one.
    """

    constants: tuple[int, ...] = (0, 1)
    moduli: tuple[int, ...] = (2,)
    max_size: int = 6


_PLAIN: Mapping[str, Callable[[Any, Any], Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "not": lambda a, _: 1 - a,
    "square": lambda a, _: a * a,
}
"""Operations that expressions write in another way."""

Results = Int64[np.ndarray, "... samples"]


def _compute(op: str, constant: int, a: Results, b: Results) -> Results:
    if op.endswith("_constant"):
        return np.asarray(OPERATIONS[op.removesuffix("_constant")].compute(a, constant))
    if op in ("abs", "isqrt"):
        return np.asarray(OPERATIONS[op].compute(a))
    if op in _PLAIN:
        return np.asarray(_PLAIN[op](a, b))
    return np.asarray(OPERATIONS[op].compute(a, b))


def smallest(
    leaves: Sequence[Leaf], target: Int64[np.ndarray, " samples"], grammar: Grammar, budget: float = 20.0
) -> Expr | None:
    """The expression of smallest size with the values of `target`; of those of one size, the one of fewest bits.

    None if there is none up to `grammar.max_size`, or none was reached within `budget` seconds.
    """
    deadline = time.monotonic() + budget
    key = np.random.default_rng(0).integers(-(2**62), 2**62, len(target)) | 1
    constants = [Leaf(number(c), np.full(len(target), c, dtype=np.int64)) for c in grammar.constants]
    starts = [*leaves, *constants]
    values = np.stack([leaf.values for leaf in starts])
    _, first = np.unique(values @ key, return_index=True)
    kept = np.sort(first)
    bank = _Bank(
        tuple(("leaf", int(i), 0, 0) for i in kept), np.ones(len(kept), np.int64), values[kept], values[kept] @ key, key
    )
    wanted = int(target @ key)
    size = 1
    while True:
        hits = np.flatnonzero((bank.hashes == wanted) & (bank.sizes == size))
        exprs = [_rebuild(bank, starts, int(row)) for row in hits if np.array_equal(bank.values[row], target)]
        if exprs:
            return min(exprs, key=lambda e: (bits(e) + _extra(e, leaves), text(e)))
        size += 1
        if size > grammar.max_size or time.monotonic() > deadline:
            return None
        bank = _grow(bank, size, grammar, wanted, deadline)


def _extra(expr: Expr, leaves: Sequence[Leaf]) -> float:
    parts = set(walk(expr))
    return sum(leaf.extra for leaf in leaves if leaf.expr in parts)


def _rebuild(bank: _Bank, starts: Sequence[Leaf], row: int) -> Expr:
    op, constant, left, right = bank.made[row]
    if op == "leaf":
        return starts[constant].expr
    a = _rebuild(bank, starts, left)
    if op == "not":
        return negated(a)
    if op in ("abs", "isqrt"):
        return call(op, a)
    if op == "square":
        return call("mul", a, a)
    if op.endswith("_constant"):
        return call(op.removesuffix("_constant"), a, number(constant))
    b = _rebuild(bank, starts, right)
    if op in ("add", "sub"):
        return _sum(a, b, 1 if op == "add" else -1)
    return call(op, a, b)


def _sum(a: Expr, b: Expr, sign: int) -> Expr:
    """a ± b, sums flattened, equal terms and numbers gathered."""
    terms: dict[Expr, Fraction] = {}
    constant = Fraction(0)
    for part, factor in ((a, 1), (b, sign)):
        if isinstance(part, Number):
            constant += factor * part.value
            continue
        whole = part if isinstance(part, Linear) else Linear(((Fraction(1), part),))
        constant += factor * whole.constant
        for coefficient, term in whole.terms:
            terms[term] = terms.get(term, Fraction(0)) + factor * coefficient
    return linear([(c, term) for term, c in terms.items()], constant)


def _grow(bank: _Bank, size: int, grammar: Grammar, wanted: int, deadline: float) -> _Bank:
    """The bank with all new expressions of one size, as many as it can store, those wanted always.

    Once it is full, only operations on one argument are tried: they cost next to nothing.
    """
    seen = np.sort(bank.hashes)
    made, values, hashes = list(bank.made), [bank.values], [bank.hashes]
    for op, constant, left, right, codes in _blocks(bank, size, grammar):
        where = np.searchsorted(seen, codes).clip(max=len(seen) - 1)
        fresh = seen[where] != codes
        if len(made) >= STORE:
            fresh &= codes == wanted
        codes, first = np.unique(codes[fresh], return_index=True)
        if len(codes):
            picks = np.flatnonzero(fresh)[np.sort(first)]
            rows = _compute(op, constant, bank.values[left[picks]], bank.values[right[picks]])
            made += [(op, constant, int(i), int(j)) for i, j in zip(left[picks], right[picks], strict=True)]
            values.append(rows)
            hashes.append(rows @ bank.key)
            seen = np.sort(np.concatenate([seen, codes]))
        if time.monotonic() > deadline:
            break
    sizes = np.concatenate([bank.sizes, np.full(len(made) - len(bank.made), size)])
    return _Bank(tuple(made), sizes, np.concatenate(values), np.concatenate(hashes), bank.key)


def _blocks(bank: _Bank, size: int, grammar: Grammar) -> Iterator[Block]:
    bit = bank.bit_rows()
    yield from _unary_blocks(bank, np.flatnonzero(bank.sizes == size - 1), bit, grammar)
    for op in _BINARY if len(bank.made) < STORE else ():
        for small in range(1, size - 1):
            if op in _SYMMETRIC and 2 * small > size - 1:
                continue
            left = np.flatnonzero((bank.sizes == small) & _admits(op, bit, 0))
            right = np.flatnonzero((bank.sizes == size - 1 - small) & _admits(op, bit, 1))
            yield from _binary_blocks(bank, op, left, right)


def _admits(op: str, bit: Bool[np.ndarray, " rows"], side: int) -> Bool[np.ndarray, " rows"]:
    """The types: bits for and, or, xor and as factors; numbers for comparisons and extremes."""
    if op in ("and", "or", "xor") or (op == "mul" and side == 0):
        return bit
    return ~bit if op in ("max", "min", "eq", "lt", "mul") else np.ones_like(bit)


def _unary_blocks(bank: _Bank, rows: Rows, bit: Bool[np.ndarray, " rows"], grammar: Grammar) -> Iterator[Block]:
    numbers, truths = rows[~bit[rows]], rows[bit[rows]]
    negative = numbers[(bank.values[numbers] < 0).any(1)]
    plain = numbers[(bank.sizes[numbers] == 1) & (bank.values[numbers] >= 0).all(1)]
    small = numbers[(bank.sizes[numbers] <= 2) & (np.abs(bank.values[numbers]) < _SQUARED).all(1)]
    jobs = [("abs", 0, negative), ("isqrt", 0, plain), ("square", 0, small), ("not", 0, truths)]
    jobs += [(f"{op}_constant", m, numbers) for op in ("mod", "floordiv") for m in grammar.moduli]
    jobs += [(f"{op}_constant", c, numbers) for op in ("ge", "eq") for c in grammar.constants]
    for op, constant, args in jobs:
        if len(args):
            values = _compute(op, constant, bank.values[args], bank.values[args])
            yield op, constant, args, args, values @ bank.key


def _binary_blocks(bank: _Bank, op: str, left: Rows, right: Rows) -> Iterator[Block]:
    if not len(left) or not len(right):
        return
    samples = 1 if op in ("add", "sub") else bank.values.shape[1]
    for part in np.array_split(left, max(1, len(left) * len(right) * samples // _BLOCK)):
        i, j = np.repeat(part, len(right)), np.tile(right, len(part))
        if op in ("add", "sub"):
            codes = bank.hashes[i] + bank.hashes[j] if op == "add" else bank.hashes[i] - bank.hashes[j]
        else:
            values = _compute(op, 0, bank.values[part][:, None], bank.values[right][None])
            codes = (values @ bank.key).ravel()
        yield op, 0, i, j, codes
