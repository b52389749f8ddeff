"""Boolean expressions and truth tables.

A truth table over n variables is an int8 array of length 2**n: entry k is the value where variable i is bit i of k;
-1 stands for "does not matter". Expressions are a tiny frozen tree, built with the constructors `negation`,
`conjunction`, `disjunction`, `parity`, which keep it flat and push negations to where they cost least.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce

import numpy as np
from jaxtyping import Bool, Int8, Integer

from pellucid.code.expressions import expression
from pellucid.code.expressions.expression import Expr, Name, number
from pellucid.errors import BadInput

Table = Int8[np.ndarray, "_"]

MAX_VARIABLES = 12


@dataclass(frozen=True)
class Const:
    """True or false."""

    value: bool


@dataclass(frozen=True)
class Var:
    """Variable `index` of the truth table."""

    index: int


@dataclass(frozen=True)
class Not:
    """1 - arg."""

    arg: Boolean


@dataclass(frozen=True)
class And:
    """All of two or more."""

    args: tuple[Boolean, ...]


@dataclass(frozen=True)
class Or:
    """Any of two or more."""

    args: tuple[Boolean, ...]


@dataclass(frozen=True)
class Xor:
    """An odd number of two or more."""

    args: tuple[Boolean, ...]


@dataclass(frozen=True)
class AtLeast:
    """Σ weights[i] · args[i] >= least."""

    least: int
    weights: tuple[int, ...]
    args: tuple[Boolean, ...]


Boolean = Const | Var | Not | And | Or | Xor | AtLeast

_CHAINS: dict[type[And] | type[Or] | type[Xor], str] = {And: "and", Or: "or", Xor: "xor"}


def negation(arg: Boolean) -> Boolean:
    """Not arg; of a constant, a negation or a threshold, the simpler equivalent."""
    if isinstance(arg, Const):
        return Const(not arg.value)
    if isinstance(arg, Not):
        return arg.arg
    if isinstance(arg, AtLeast):
        return AtLeast(1 - arg.least, tuple(-w for w in arg.weights), arg.args)
    return Not(arg)


def _chain(kind: type[And] | type[Or], args: Sequence[Boolean], absorbing: bool) -> Boolean:
    kept: list[Boolean] = []
    for arg in args:
        kept += arg.args if isinstance(arg, kind) else [arg]
    if Const(absorbing) in kept:
        return Const(absorbing)
    unique = list(dict.fromkeys(arg for arg in kept if not isinstance(arg, Const)))
    if not unique:
        return Const(not absorbing)
    return unique[0] if len(unique) == 1 else kind(tuple(unique))


def conjunction(*args: Boolean) -> Boolean:
    """All of args, flattened."""
    return _chain(And, args, absorbing=False)


def disjunction(*args: Boolean) -> Boolean:
    """Any of args, flattened."""
    return _chain(Or, args, absorbing=True)


def parity(*args: Boolean) -> Boolean:
    """Exclusive or of args, flattened, negations gathered into one."""
    kept: list[Boolean] = []
    flip = False
    queue = list(args)
    while queue:
        arg = queue.pop(0)
        if isinstance(arg, Not):
            flip, arg = not flip, arg.arg
        if isinstance(arg, Const):
            flip ^= arg.value
        elif isinstance(arg, Xor):
            queue = [*arg.args, *queue]
        elif arg in kept:
            kept.remove(arg)
        else:
            kept.append(arg)
    body: Boolean = Const(False) if not kept else kept[0] if len(kept) == 1 else Xor(tuple(kept))
    return negation(body) if flip else body


def as_table(values: Sequence[int] | Integer[np.ndarray, " rows"]) -> Table:
    """A truth table from 0, 1 and -1 (does not matter).

    Raises:
        BadInput: the length is no power of two up to 2**12, or another value occurs.
    """
    table = np.asarray(values)
    n = int(table.size).bit_length() - 1
    if table.ndim != 1 or table.size != 2**n or n > MAX_VARIABLES:
        raise BadInput(f"truth table has shape {table.shape}; give 2**n entries with n up to {MAX_VARIABLES}")
    if not np.isin(table, (-1, 0, 1)).all():
        raise BadInput("truth table holds values other than 0, 1 and -1 (does not matter); round them first")
    return table.astype(np.int8)


def variables(table: Table) -> int:
    """Number of variables of a truth table."""
    return len(table).bit_length() - 1


def rows(n: int) -> Bool[np.ndarray, "rows n"]:
    """All assignments of n variables, in the order of truth tables."""
    return (np.arange(2**n)[:, None] >> np.arange(n) & 1).astype(bool)


def evaluate(expr: Boolean, bits: Bool[np.ndarray, "samples n"]) -> Bool[np.ndarray, " samples"]:
    """Value of the expression for each row of variable values."""
    if isinstance(expr, Const):
        return np.full(len(bits), expr.value)
    if isinstance(expr, Var):
        return bits[:, expr.index]
    if isinstance(expr, Not):
        return ~evaluate(expr.arg, bits)
    args = [evaluate(arg, bits) for arg in expr.args]
    if isinstance(expr, AtLeast):
        total = sum(w * arg.astype(np.int64) for w, arg in zip(expr.weights, args, strict=True))
        return np.asarray(total >= expr.least)
    if isinstance(expr, And):
        return np.asarray(np.logical_and.reduce(args))
    return np.asarray(np.logical_or.reduce(args) if isinstance(expr, Or) else np.logical_xor.reduce(args))


def agrees(expr: Boolean, table: Table) -> bool:
    """Whether the expression has the value of the table wherever that matters."""
    values = evaluate(expr, rows(variables(table)))
    return bool(((table < 0) | (values == (table == 1))).all())


def to_expression(expr: Boolean, names: Sequence[str]) -> Expr:
    """The same over named integers 0 and 1: Not is `1 - a`; of an exclusive or it is `==` or `^ 1`."""
    if isinstance(expr, Const):
        return number(int(expr.value))
    if isinstance(expr, Var):
        return Name(names[expr.index])
    if isinstance(expr, Not):
        if isinstance(expr.arg, Xor):
            parts = [to_expression(a, names) for a in expr.arg.args]
            return expression.call("eq", *parts) if len(parts) == 2 else expression.call("xor", *parts, number(1))
        return expression.linear([(-1, to_expression(expr.arg, names))], 1)
    args = [to_expression(arg, names) for arg in expr.args]
    if not isinstance(expr, AtLeast):
        return expression.call(_CHAINS[type(expr)], *args)
    least, weights = expr.least, expr.weights
    if sum(weights) < 0:
        total = expression.linear([(Fraction(-w), a) for w, a in zip(weights, args, strict=True)])
        return expression.call("le", total, number(-least))
    total = expression.linear([(Fraction(w), a) for w, a in zip(weights, args, strict=True)])
    return expression.call("ge", total, number(least))


def size(expr: Boolean) -> float:
    """Description length in bits, the same measure as for the expression over integers."""
    most = 1 + max([-1, *_indices(expr)])
    return expression.bits(to_expression(expr, [f"v{i}" for i in range(most)]))


def text(expr: Boolean, names: Sequence[str]) -> str:
    """The expression as Python over integers 0 and 1."""
    return expression.text(to_expression(expr, names))


def _indices(expr: Boolean) -> set[int]:
    if isinstance(expr, Var):
        return {expr.index}
    parts = () if isinstance(expr, Const) else (expr.arg,) if isinstance(expr, Not) else expr.args
    return reduce(set.union, map(_indices, parts), set())


def support(table: Table) -> tuple[int, ...]:
    """Variables that the function must depend on: no completion of "does not matter" makes them all vanish.

    Variables are dropped one by one, the last first, as long as what remains is still a function.
    """
    n, kept = variables(table), []
    for i in reversed(range(n)):
        folded = fold(table, i)
        if folded is None:
            kept.append(i)
        else:
            table = np.repeat(folded.reshape(-1, 2**i), 2, axis=0).reshape(-1)
    return tuple(reversed(kept))


def cofactors(table: Table, i: int) -> tuple[Table, Table]:
    """The tables where variable i is 0 and is 1, over the remaining variables in order."""
    split = table.reshape(-1, 2, 2**i)
    return split[:, 0].reshape(-1), split[:, 1].reshape(-1)


def fold(table: Table, i: int) -> Table | None:
    """The table without variable i, or None if the value depends on it."""
    low, high = cofactors(table, i)
    if ((low >= 0) & (high >= 0) & (low != high)).any():
        return None
    return np.asarray(np.maximum(low, high))


def restrict(table: Table, kept: Sequence[int]) -> Table:
    """The table over the variables `kept` alone, all others being irrelevant."""
    for i in reversed(range(variables(table))):
        if i not in kept:
            folded = fold(table, i)
            if folded is None:
                raise BadInput(f"truth table depends on variable {i}, which was to be dropped; keep it")
            table = folded
    return table


def rename(expr: Boolean, index: Callable[[int], Boolean]) -> Boolean:
    """The expression with variable i replaced by `index(i)`."""
    if isinstance(expr, Var):
        return index(expr.index)
    if isinstance(expr, Const):
        return expr
    if isinstance(expr, Not):
        return negation(rename(expr.arg, index))
    args = [rename(arg, index) for arg in expr.args]
    if isinstance(expr, AtLeast):
        return AtLeast(expr.least, expr.weights, tuple(args))
    build = {And: conjunction, Or: disjunction, Xor: parity}[type(expr)]
    return build(*args)
