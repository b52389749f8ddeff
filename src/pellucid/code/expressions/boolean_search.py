"""The shortest expression found for a truth table, out of several forms.

Candidates: constants and exclusive ors; the shortest formula (up to four variables: exhaustive); minimal sums of
products of the function and of its complement, factored; the algebraic normal form; a linear threshold (integer
programme); and, beyond four variables, decomposition: pairs of variables that matter only through one function of them
(Ashenhurst 1957), and Shannon or Davio expansion. The smallest in bits wins, and is checked against the table.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from pellucid.code.expressions.boolean import (
    And,
    AtLeast,
    Boolean,
    Const,
    Or,
    Table,
    Var,
    agrees,
    as_table,
    cofactors,
    conjunction,
    disjunction,
    negation,
    parity,
    rename,
    restrict,
    rows,
    size,
    support,
    variables,
)
from pellucid.code.expressions.boolean_cover import (
    affine,
    complete,
    cover,
    factored,
    reed_muller,
    sum_of_monomials,
    sum_of_products,
)
from pellucid.code.expressions.formulas import VARIABLES, formula, shortest
from pellucid.errors import BadInput

LARGEST_WEIGHT = 8


@dataclass(frozen=True)
class Minimised:
    """The smallest expression found.

    Attributes:
        expr: over the variables of the table.
        form: which search found it.
        bits: its description length.
        trail: (form, bits or why not) for everything tried.
    """

    expr: Boolean
    form: str
    bits: float
    trail: tuple[tuple[str, str], ...]


def threshold(table: Table, largest: int = LARGEST_WEIGHT, seconds: float = 10.0) -> AtLeast | None:
    """The table as Σ weights · variables >= least, with the smallest integer weights, or None if there is none.

    Weights are at most `largest` in size; the integer programme stops after `seconds`.
    """
    n = variables(table)
    points, on = rows(n).astype(float), table == 1
    if not on.any() or not (table == 0).any() or not _unate(table):
        return None
    lower = np.where(on, 0.0, -np.inf)[table >= 0]
    upper = np.where(on, np.inf, -1.0)[table >= 0]
    matrix = np.c_[points, -points, -np.ones(len(points))][table >= 0]
    found = milp(
        np.r_[np.ones(2 * n), 1e-3],
        constraints=LinearConstraint(matrix, lower, upper),
        integrality=np.ones(2 * n + 1),
        bounds=Bounds(np.r_[np.zeros(2 * n), -n * largest], np.r_[np.full(2 * n, largest), n * largest]),
        options={"time_limit": seconds},
    )
    if found.x is None:
        return None
    whole = np.rint(found.x).astype(int)
    weights = whole[:n] - whole[n : 2 * n]
    used = np.flatnonzero(weights)
    least = int(whole[-1])
    expr = AtLeast(least, tuple(int(w) for w in weights[used]), tuple(Var(int(i)) for i in used))
    return expr if agrees(expr, table) else None


def _unate(table: Table) -> bool:
    """Whether each variable pushes the value in one direction only, as it must in a threshold function."""
    for i in range(variables(table)):
        low, high = cofactors(table, i)
        if ((low == 0) & (high == 1)).any() and ((low == 1) & (high == 0)).any():
            return False
    return True


def minimise(values: Table, budget: float = 20.0) -> Minimised:
    """The smallest expression found for a truth table (0, 1, -1: does not matter); forms not begun within `budget`
    seconds are left out, the first ones never.

    Raises:
        BadInput: `values` is no truth table.
    """
    table = as_table(values)
    kept = support(table)
    inner = restrict(table, kept)
    start, trail = time.monotonic(), []
    found: list[tuple[float, str, Boolean]] = []
    for form, build in _forms(inner):
        if found and time.monotonic() - start > budget:
            trail.append((form, "not tried: out of time"))
            continue
        expr = build()
        if expr is None:
            trail.append((form, "none"))
            continue
        if not agrees(expr, inner):
            raise BadInput(f"boolean form {form!r} does not fit its table of {len(inner)} rows; report this as a bug")
        found.append((size(expr), form, expr))
        trail.append((form, f"{found[-1][0]:.0f} bits"))
    bits, form, expr = min(found, key=lambda item: item[0])
    return Minimised(rename(expr, lambda i: Var(kept[i])), form, bits, tuple(trail))


def _forms(table: Table) -> Iterator[tuple[str, Callable[[], Boolean | None]]]:
    """(name, how to build it) of every form, cheapest first."""
    n = variables(table)
    if n == 0:
        yield "constant", lambda: Const(bool(table[0] == 1))
        return
    yield "exclusive or", lambda: affine(table)
    if n <= VARIABLES:
        yield "formula", lambda: _formula(table)
    flipped = np.where(table < 0, table, 1 - table).astype(np.int8)
    on, off = cover(table), cover(flipped)
    yield "sum of products", lambda: sum_of_products(on)
    yield "factored", lambda: factored(on)
    yield "product of sums", lambda: _invert(factored(off))
    yield "normal form", lambda: sum_of_monomials(reed_muller(complete(table, on)))
    if n > 2:
        yield "threshold", lambda: threshold(table)
        yield "count", lambda: _count(table)
    if n > VARIABLES:
        yield "decomposition", lambda: decompose(complete(table, on))


def _formula(table: Table) -> Boolean | None:
    found = shortest(table)
    return None if found is None else formula(found[0])


def _invert(expr: Boolean) -> Boolean:
    """The complement, by De Morgan's laws where that saves negations."""
    plain = negation(expr)
    pushed = _push(expr)
    return pushed if size(pushed) < size(plain) else plain


def _push(expr: Boolean) -> Boolean:
    if isinstance(expr, And):
        return disjunction(*map(_push, expr.args))
    if isinstance(expr, Or):
        return conjunction(*map(_push, expr.args))
    return negation(expr)


def _count(table: Table) -> Boolean | None:
    """A symmetric function as intervals of the number of ones."""
    n = variables(table)
    ones = rows(n).sum(1)
    levels = []
    for k in range(n + 1):
        seen = set(table[ones == k].tolist()) - {-1}
        if len(seen) > 1:
            return None
        levels.append(seen.pop() if seen else -1)
    filled, last = [], 0
    for value in levels:
        last = last if value < 0 else value
        filled.append(last)
    edges = [k for k in range(1, n + 1) if filled[k] != filled[k - 1]]
    if len(edges) > 4:
        return None
    everything = tuple(Var(i) for i in range(n))
    expr: Boolean = Const(bool(filled[0]))
    for k in edges:
        at_least = AtLeast(k, (1,) * n, everything)
        expr = disjunction(expr, at_least) if filled[k] else conjunction(expr, negation(at_least))
    return expr


def decompose(table: Table) -> Boolean:
    """An expression for a table that matters everywhere, by decomposition down to four variables."""
    return _decompose(table, {})


def _decompose(table: Table, known: dict[bytes, Boolean]) -> Boolean:
    if table.tobytes() in known:
        return known[table.tobytes()]
    kept = support(table)
    inner = restrict(table, kept)
    if len(kept) <= VARIABLES:
        expr = _formula(inner) or Const(False)
    else:
        expr = _through_pair(inner, known) or _expansion(inner, known)
    result = rename(expr, lambda i: Var(kept[i]))
    known[table.tobytes()] = result
    return result


def _through_pair(table: Table, known: dict[bytes, Boolean]) -> Boolean | None:
    """h(g(a, b), rest) for the first pair of variables that has only two different cofactors."""
    n = variables(table)
    for b in range(1, n):
        for a in range(b):
            low, high = cofactors(table, b)
            parts = [*cofactors(low, a), *cofactors(high, a)]
            keys = [part.tobytes() for part in parts]
            if len(set(keys)) != 2:
                continue
            inner = np.array([key != keys[0] for key in keys], dtype=np.int8)
            other = parts[int(np.argmax(inner))]
            outer = _decompose(np.concatenate([parts[0], other]), known)
            pair = rename(_formula(inner) or Const(False), lambda i, a=a, b=b: Var((a, b)[i]))  # type: ignore[misc]
            rest = [i for i in range(n) if i not in (a, b)]
            return rename(outer, lambda i, rest=rest, pair=pair: Var(rest[i]) if i < n - 2 else pair)  # type: ignore[misc]
    return None


def _expansion(table: Table, known: dict[bytes, Boolean]) -> Boolean:
    """Around the variable whose cofactors and their difference depend on least."""
    n = variables(table)

    def spread(i: int) -> tuple[int, int]:
        low, high = cofactors(table, i)
        sizes = sorted(len(support(part)) for part in (low, high, low ^ high))
        return sizes[0] + sizes[1], i

    pivot = min(range(n), key=spread)
    low, high = cofactors(table, pivot)
    rest = [i for i in range(n) if i != pivot]
    at = [rename(_decompose(part, known), lambda i: Var(rest[i])) for part in (low, high, low ^ high)]
    v = Var(pivot)
    options = [
        disjunction(conjunction(v, at[1]), conjunction(negation(v), at[0])),
        parity(at[0], conjunction(v, at[2])),
        parity(at[1], conjunction(negation(v), at[2])),
    ]
    if not (low & (1 - high)).any():
        options.append(disjunction(at[0], conjunction(v, at[1])))
    if not (high & (1 - low)).any():
        options.append(disjunction(at[1], conjunction(negation(v), at[0])))
    return min(options, key=size)
