"""Expressions over named integers: what the code readings of state are written in.

A frozen tree of five kinds of node: number, name, linear combination, call of an operation, look-up in a table.
It can be evaluated on numpy arrays (one entry per sample), printed as Python, and measured in bits. Truth values are
the integers 0 and 1. Operations are named as the primitives of `pellucid.ir` are, where there is one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from typing import Any

import numpy as np
from jaxtyping import Shaped

from pellucid.ir.bits import integer_bits

Values = Shaped[np.ndarray, "..."]

NODE_BITS = 4.0
"""Bits of naming one operation, or one value in scope."""


@dataclass(frozen=True)
class Number:
    """A constant."""

    value: Fraction


@dataclass(frozen=True)
class Name:
    """The value of a variable."""

    name: str


@dataclass(frozen=True)
class Linear:
    """Σ coefficient · term + constant."""

    terms: tuple[tuple[Fraction, Expr], ...]
    constant: Fraction = Fraction(0)


@dataclass(frozen=True)
class Call:
    """An operation of `OPERATIONS` on its arguments; those that chain (`and`, `max`, …) take any number."""

    op: str
    args: tuple[Expr, ...]


@dataclass(frozen=True)
class Lookup:
    """The entry of `values` at the place of the arguments in `keys`. Arguments that are no key give `values[0]`."""

    args: tuple[Expr, ...]
    keys: tuple[tuple[int, ...], ...]
    values: tuple[int, ...]


Expr = Number | Name | Linear | Call | Lookup


@dataclass(frozen=True)
class Operation:
    """How an operation is computed on arrays and printed: as an operator of some precedence, or as a function."""

    compute: Callable[..., Any]
    symbol: str
    precedence: int = 0


def _truth(compare: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Values]:
    return lambda a, b: np.asarray(compare(a, b)).astype(np.int64)


def _isqrt(a: Values) -> Values:
    """Integer square root; 0 for negative numbers."""
    whole = np.vectorize(lambda value: math.isqrt(max(int(value), 0)), otypes=[object])(a)
    return np.asarray(whole.astype(a.dtype))


def _member(value: Values, *members: Values) -> Values:
    return np.asarray(reduce(np.logical_or, [value == member for member in members])).astype(np.int64)


def _argmax(*values: Values) -> Values:
    """Index of the largest, the first of equals."""
    best, index = values[0], np.zeros(np.shape(values[0]), np.int64)
    for i, value in enumerate(values[1:], start=1):
        index = np.where(value > best, i, index)
        best = np.maximum(best, value)
    return index


OPERATIONS: Mapping[str, Operation] = {
    "eq": Operation(_truth(lambda a, b: a == b), "==", 1),
    "ne": Operation(_truth(lambda a, b: a != b), "!=", 1),
    "lt": Operation(_truth(lambda a, b: a < b), "<", 1),
    "le": Operation(_truth(lambda a, b: a <= b), "<=", 1),
    "gt": Operation(_truth(lambda a, b: a > b), ">", 1),
    "ge": Operation(_truth(lambda a, b: a >= b), ">=", 1),
    "or": Operation(lambda *a: reduce(np.bitwise_or, a), "|", 2),
    "xor": Operation(lambda *a: reduce(np.bitwise_xor, a), "^", 3),
    "and": Operation(lambda *a: reduce(np.bitwise_and, a), "&", 4),
    "mul": Operation(lambda *a: reduce(np.multiply, a), "*", 6),
    "floordiv": Operation(lambda a, b: a // b, "//", 6),
    "mod": Operation(lambda a, b: a % b, "%", 6),
    "abs": Operation(np.abs, "abs"),
    "max": Operation(lambda *a: reduce(np.maximum, a), "max"),
    "min": Operation(lambda *a: reduce(np.minimum, a), "min"),
    "isqrt": Operation(_isqrt, "isqrt"),
    "argmax": Operation(_argmax, "argmax"),
    "in": Operation(_member, "in"),
    "where": Operation(lambda c, a, b: np.where(c != 0, a, b), "where"),
}

CHAINS = frozenset({"or", "xor", "and", "mul", "max", "min"})
COMPARISONS = frozenset({"eq", "ne", "lt", "le", "gt", "ge", "in"})
_OPPOSITE = {"eq": "ne", "ne": "eq", "lt": "ge", "ge": "lt", "gt": "le", "le": "gt"}
_BITWISE = frozenset({"or", "xor", "and"})
_ADD, _MULTIPLY, _ATOM = 5, 6, 9


def number(value: Fraction | int) -> Number:
    """The constant `value`."""
    return Number(Fraction(value))


def linear(terms: Sequence[tuple[Fraction | int, Expr]], constant: Fraction | int = 0) -> Expr:
    """Σ coefficient · term + constant, in its simplest form: zero terms dropped, a lone term or number unwrapped."""
    kept = tuple((Fraction(c), term) for c, term in terms if c != 0)
    if not kept:
        return number(constant)
    if len(kept) == 1 and kept[0][0] == 1 and constant == 0:
        return kept[0][1]
    return Linear(kept, Fraction(constant))


def call(op: str, *args: Expr) -> Expr:
    """The operation on these arguments; a chain of one argument is that argument."""
    return args[0] if op in CHAINS and len(args) == 1 else Call(op, tuple(args))


def negated(expr: Expr) -> Expr:
    """1 - expr for a truth value; of a comparison, the opposite comparison; of a remainder, that it is 0."""
    if isinstance(expr, Call) and expr.op in _OPPOSITE:
        return Call(_OPPOSITE[expr.op], expr.args)
    if isinstance(expr, Call) and expr.op == "mod":
        return Call("eq", (expr, number(0)))
    return linear([(-1, expr)], 1)


def children(expr: Expr) -> tuple[Expr, ...]:
    """The direct parts of an expression."""
    if isinstance(expr, Linear):
        return tuple(term for _, term in expr.terms)
    return expr.args if isinstance(expr, Call | Lookup) else ()


def walk(expr: Expr) -> Iterator[Expr]:
    """The expression and all its parts, outermost first."""
    yield expr
    for part in children(expr):
        yield from walk(part)


def names_in(expr: Expr) -> frozenset[str]:
    """The variables that an expression reads."""
    return frozenset(part.name for part in walk(expr) if isinstance(part, Name))


def replace(expr: Expr, mapping: Mapping[Expr, Expr]) -> Expr:
    """The expression with every part that is a key of `mapping` replaced, outermost first."""
    if expr in mapping:
        return mapping[expr]
    if isinstance(expr, Linear):
        return linear([(c, replace(term, mapping)) for c, term in expr.terms], expr.constant)
    if isinstance(expr, Call):
        return Call(expr.op, tuple(replace(arg, mapping) for arg in expr.args))
    if isinstance(expr, Lookup):
        return Lookup(tuple(replace(arg, mapping) for arg in expr.args), expr.keys, expr.values)
    return expr


def integral(expr: Expr) -> bool:
    """Whether integers in give integers out: no fraction occurs."""
    numbers = [part.value for part in walk(expr) if isinstance(part, Number)]
    for part in walk(expr):
        if isinstance(part, Linear):
            numbers += [part.constant, *(c for c, _ in part.terms)]
    return all(value.denominator == 1 for value in numbers)


def _plain(value: Fraction) -> int | float:
    return int(value) if value.denominator == 1 else float(value)


def evaluate(expr: Expr, env: Mapping[str, Values]) -> Values:
    """Value of the expression for each sample. Raises KeyError for a name that `env` does not hold."""
    if isinstance(expr, Number):
        return np.asarray(_plain(expr.value))
    if isinstance(expr, Name):
        return env[expr.name]
    if isinstance(expr, Linear):
        total: Any = _plain(expr.constant)
        for coefficient, term in expr.terms:
            total = total + _plain(coefficient) * evaluate(term, env)
        return np.asarray(total)
    args = [evaluate(arg, env) for arg in expr.args]
    if isinstance(expr, Call):
        return np.asarray(OPERATIONS[expr.op].compute(*args))
    found: Values = np.full(np.broadcast_shapes(*(np.shape(a) for a in args)), expr.values[0])
    for key, value in zip(expr.keys, expr.values, strict=True):
        found = np.where(reduce(np.logical_and, [a == k for a, k in zip(args, key, strict=True)]), value, found)
    return found


def number_bits(value: Fraction) -> float:
    """Bits of a number: its numerator, and its denominator unless that is 1."""
    whole = integer_bits(value.numerator)
    return whole if value.denominator == 1 else whole + integer_bits(value.denominator)


def bits(expr: Expr) -> float:
    """Description length: 4 bits for each operation, sign and name, Elias gamma for numbers, 2 bits and the
    choice of its value for each row of a table."""
    below = sum(map(bits, children(expr)))
    if isinstance(expr, Number):
        return number_bits(expr.value)
    if isinstance(expr, Name):
        return NODE_BITS
    if isinstance(expr, Linear):
        factors = sum(number_bits(c) for c, _ in expr.terms if abs(c) != 1)
        minus = expr.constant <= 0 and all(c < 0 for c, _ in expr.terms)
        joins = len(expr.terms) - 1 + (expr.constant != 0) + minus
        return below + factors + NODE_BITS * joins + (number_bits(expr.constant) if expr.constant else 0.0)
    if isinstance(expr, Call):
        return below + NODE_BITS * max(1, len(expr.args) - 1 if expr.op in CHAINS else 1)
    return below + 2 * NODE_BITS + len(expr.values) * (2.0 + math.log2(len(set(expr.values))))


def _signed_terms(expr: Linear) -> list[tuple[bool, str]]:
    """(negative?, text without sign) of each summand, a positive one first if there is one."""
    minus = expr.constant <= 0 and all(c < 0 for c, _ in expr.terms)
    pieces = []
    for i, (coefficient, term) in enumerate(expr.terms):
        size = abs(coefficient)
        body = _text(term, _MULTIPLY + 1 if size != 1 or (minus and i == 0) else _ADD + 1)
        up = body if size.numerator == 1 else f"{size.numerator} * {body}"
        pieces.append((coefficient < 0, up if size.denominator == 1 else f"{up} / {size.denominator}"))
    if expr.constant:
        pieces.append((expr.constant < 0, str(abs(expr.constant))))
    first = next((i for i, (negative, _) in enumerate(pieces) if not negative), 0)
    return [pieces[first], *pieces[:first], *pieces[first + 1 :]]


def _text(expr: Expr, outer: int) -> str:
    if isinstance(expr, Number):
        body, own = str(expr.value), _ATOM if expr.value >= 0 and expr.value.denominator == 1 else _ADD
    elif isinstance(expr, Name):
        body, own = expr.name, _ATOM
    elif isinstance(expr, Linear):
        (negative, head), *rest = _signed_terms(expr)
        body = ("-" if negative else "") + head + "".join(f" {'-' if minus else '+'} {t}" for minus, t in rest)
        own = _ADD if rest or negative else _MULTIPLY
    elif isinstance(expr, Lookup):
        key = ", ".join(_text(arg, 0) for arg in expr.args)
        rows = zip(expr.keys, expr.values, strict=True)
        pairs = ", ".join(f"{k[0] if len(k) == 1 else k}: {v}" for k, v in rows)
        body, own = f"{{{pairs}}}[{key}]", _ATOM
    else:
        return _call_text(expr, outer)
    return f"({body})" if own < outer else body


def _call_text(expr: Call, outer: int) -> str:
    operation = OPERATIONS[expr.op]
    if expr.op == "in":
        members = ", ".join(_text(arg, 0) for arg in expr.args[1:])
        return f"({_text(expr.args[0], 2)} in {{{members}}})"
    if not operation.precedence:
        return f"{operation.symbol}({', '.join(_text(arg, 0) for arg in expr.args)})"
    own = operation.precedence
    # Python's rules on mixed bit operations are correct but few know them: everything inside is put in brackets.
    inner = _MULTIPLY + 1 if expr.op in _BITWISE else own + 1
    first = own if expr.op in ("mod", "floordiv", "mul") else inner
    parts = [_text(arg, first if i == 0 else inner) for i, arg in enumerate(expr.args)]
    body = f" {operation.symbol} ".join(parts)
    return f"({body})" if own < outer else body


def text(expr: Expr) -> str:
    """The expression as Python; `isqrt` is math.isqrt, `argmax` the index of the first largest argument."""
    return _text(expr, 0)
