"""Sums of products: prime implicants and the fewest of them that cover a truth table (Quine 1952, McCluskey 1956).

A cube is a pair (value, mask): variable i is fixed to bit i of `value` where bit i of `mask` is set, free elsewhere.
The cover is exact (branch and bound after essential cubes and dominance) while the search stays small, greedy beyond.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Int64

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

Cube = tuple[int, int]
Join = Callable[..., Boolean]

EXACT_NODES = 20_000


def primes(table: Table) -> tuple[Cube, ...]:
    """Prime implicants: largest cubes on which the table is 1 or does not matter, in a fixed order."""
    n = variables(table)
    full = 2**n - 1
    level = {(int(k), full) for k in np.flatnonzero(table != 0)}
    found: list[Cube] = []
    while level:
        wider, used = set(), set()
        for value, mask in level:
            for i in range(n):
                bit = 1 << i
                if mask & bit and (value ^ bit, mask) in level:
                    used.add((value, mask))
                    wider.add((value & ~bit, mask & ~bit))
        found += sorted(level - used)
        level = wider
    return tuple(sorted(found, key=lambda cube: (cube[1].bit_count(), cube[1], cube[0])))


def _covers(cubes: Sequence[Cube], on: Sequence[int]) -> Bool[np.ndarray, "cubes on"]:
    points = np.asarray(on, dtype=np.int64)
    return np.array([(points & mask) == value for value, mask in cubes], dtype=bool).reshape(len(cubes), len(on))


def cover(table: Table, nodes: int = EXACT_NODES) -> tuple[Cube, ...]:
    """Cubes whose union is where the table is 1, with fewest literals plus cubes (greedy if over `nodes` branches)."""
    on = np.flatnonzero(table == 1).tolist()
    cubes = primes(table)
    if not on:
        return ()
    hits = _covers(cubes, on)
    cost = np.array([1 + mask.bit_count() for _, mask in cubes], dtype=np.int64)
    best = _greedy(hits, cost)
    exact = _exact(hits, cost, best, nodes)
    return tuple(cubes[i] for i in sorted(exact))


def _greedy(hits: Bool[np.ndarray, "cubes on"], cost: Int64[np.ndarray, " cubes"]) -> list[int]:
    open_, chosen = np.ones(hits.shape[1], dtype=bool), []
    while open_.any():
        gain = (hits & open_).sum(1) / cost
        pick = int(np.argmax(gain))
        chosen.append(pick)
        open_ &= ~hits[pick]
    return [i for i in chosen if not hits[[j for j in chosen if j != i]].any(0).all()] if len(chosen) > 1 else chosen


def _exact(
    hits: Bool[np.ndarray, "cubes on"], cost: Int64[np.ndarray, " cubes"], start: list[int], nodes: int
) -> list[int]:
    """Branch on the point that the fewest cubes cover; bounded by the cost of the best cover so far."""
    best, bound, left = start, int(cost[start].sum()), nodes

    def search(open_: Bool[np.ndarray, " on"], chosen: list[int], spent: int) -> None:
        nonlocal best, bound, left
        left -= 1
        if left < 0:
            return
        if not open_.any():
            best, bound = chosen, spent
            return
        points = np.flatnonzero(open_)
        point = points[int(np.argmin(hits[:, points].sum(0)))]
        options = np.flatnonzero(hits[:, point])
        gains = (hits[options] & open_).sum(1) / cost[options]
        for option in options[np.argsort(-gains, kind="stable")].tolist():
            after = open_ & ~hits[option]
            further = int(cost.min()) if after.any() else 0
            if spent + int(cost[option]) + further < bound:
                search(after, [*chosen, option], spent + int(cost[option]))

    search(np.ones(hits.shape[1], dtype=bool), [], 0)
    return best


def product(cube: Cube) -> Boolean:
    """The cube as a conjunction of literals."""
    value, mask = cube
    bits = [i for i in range(mask.bit_length()) if mask >> i & 1]
    return conjunction(*(Var(i) if value >> i & 1 else negation(Var(i)) for i in bits))


def sum_of_products(cubes: Sequence[Cube]) -> Boolean:
    """Disjunction of the cubes."""
    return disjunction(*map(product, cubes)) if cubes else Const(False)


def factored(cubes: Sequence[Cube]) -> Boolean:
    """The disjunction of the cubes, with the literal that most of them share taken out, recursively."""
    return _factor([frozenset(_literals(cube)) for cube in cubes], disjunction)


def _literals(cube: Cube) -> list[tuple[int, bool]]:
    value, mask = cube
    return [(i, bool(value >> i & 1)) for i in range(mask.bit_length()) if mask >> i & 1]


def _factor(terms: list[frozenset[tuple[int, bool]]], join: Join) -> Boolean:
    if not terms:
        return Const(False)
    counts = {literal: sum(literal in term for term in terms) for literal in sorted(set().union(*terms))}
    shared = max(counts, key=lambda literal: counts[literal], default=None)
    if shared is None or counts[shared] < 2:
        return join(*(conjunction(*map(_literal, sorted(term))) if term else Const(True) for term in terms))
    inside = [term - {shared} for term in terms if shared in term]
    outside = [term for term in terms if shared not in term]
    taken = conjunction(_literal(shared), _factor(inside, join))
    return join(taken, _factor(outside, join)) if outside else taken


def _literal(literal: tuple[int, bool]) -> Boolean:
    index, positive = literal
    return Var(index) if positive else negation(Var(index))


def reed_muller(table: Table) -> tuple[int, ...]:
    """Monomials (bit masks of variables) of the algebraic normal form; the table must matter everywhere."""
    spectrum = (table == 1).astype(np.uint8)
    for i in range(variables(table)):
        split = spectrum.reshape(-1, 2, 2**i)
        split[:, 1] ^= split[:, 0]
    return tuple(int(k) for k in np.flatnonzero(spectrum))


def sum_of_monomials(monomials: Sequence[int]) -> Boolean:
    """Exclusive or of the monomials, common variables taken out."""
    terms = [frozenset((i, True) for i in range(m.bit_length()) if m >> i & 1) for m in monomials]
    return _factor(terms, parity)


def complete(table: Table, cubes: Sequence[Cube]) -> Table:
    """The table of the union of the cubes: everything that did not matter gets a value."""
    points = np.arange(len(table))
    covered = np.zeros(len(table), dtype=bool)
    for value, mask in cubes:
        covered |= (points & mask) == value
    return covered.astype(np.int8)


def affine(table: Table) -> Boolean | None:
    """The table as an exclusive or of variables and a constant, if it is one wherever it matters (over GF(2))."""
    n = variables(table)
    cared = np.flatnonzero(table >= 0)
    system = np.c_[rows(n)[cared], np.ones(len(cared), bool), table[cared] == 1]
    pivots: list[int] = []
    for column in range(n + 1):
        below = np.flatnonzero(system[len(pivots) :, column]) + len(pivots)
        if not len(below):
            continue
        top = len(pivots)
        system[[top, below[0]]] = system[[below[0], top]]
        others = np.flatnonzero(system[:, column])
        system[others[others != top]] ^= system[top]
        pivots.append(column)
    if system[len(pivots) :, -1].any():
        return None
    chosen = [column for i, column in enumerate(pivots) if system[i, -1]]
    return parity(*(Const(True) if column == n else Var(column) for column in chosen))
