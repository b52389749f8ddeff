"""Votes: tests that weigh places against each other, where counting them alike decides badly.

A head that averages over many places does so unevenly: a selector with real-valued scores. Here the score of a place is
a line in its distance, one for each remainder of the distance by a period, and what is added up is which of two tokens
stands there. Such a test is a logistic regression on counts and on counts times distances, with the step and the start
of the sequence, terms being dropped while they do not pay for themselves, and weights rounded to whole numbers. What a
network weighs may depend on where it stands: so rows may first be told apart by places, and by quantities that take few
values.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Int64

from pellucid.code.tokens.decisions import Column, Leaf, Prices, Split, Test, Tree, Vote, compared, passed
from pellucid.code.tokens.rules import PERIODS, balance, here

Labels = Int64[np.ndarray, " rows"]

UNIT = 100
"""The weight of the quantity that moves the sum most."""

FEW_VALUES = 4
"""Quantities of up to so many values tell rows apart."""

PLACES, BOUNDS = ("step", "start", "position"), (0.25, 0.5, 0.75, 0.9)
"""Places tell rows apart, too, at these quantiles."""

DEEPEST = 3
"""How many tests tell rows apart before they are voted on."""

MINOR = 0.02
"""Labels of at most this share of the rows count as exceptions to votes between two labels."""

RIDGE, STEPS, STEP = 1e-4, 12, 1e-3
"""Of the regression: the penalty on squared weights, most steps of Newton's method, and a step that is small enough."""

MOST_ROWS = 4_000
"""Rows that a vote is fitted to."""

Names = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Ballot:
    """What votes are sought among.

    Attributes:
        columns: quantities, each [rows].
        labels: of the rows.
        plain: the tokens that may be weighed against each other.
        prices: what tests and exceptions cost.
        deadline: of `time.monotonic`.
    """

    columns: Mapping[str, Column]
    labels: Labels
    plain: tuple[int, ...]
    prices: Prices
    deadline: float

    @property
    def term_bits(self) -> float:
        """Bits of one quantity with its weight."""
        return self.prices.price * (math.log2(max(2, len(self.columns))) + math.log2(UNIT))


def with_votes(tree: Tree, ballot: Ballot) -> Tree:
    """The tree with votes wherever they describe the labels of its rows in fewer bits."""
    return _refined(tree, ballot, np.arange(len(ballot.labels)))


def _refined(tree: Tree, ballot: Ballot, rows: Labels) -> Tree:
    cost, pair = _bits(tree, ballot, rows), _two(ballot.labels[rows])
    if pair is not None and cost > 3 * ballot.term_bits:
        scheme = _scheme(ballot, rows, pair)
        option, bits = _Assembly(ballot, pair, scheme, _few(ballot, rows)).told_apart(rows, DEEPEST)
        if bits < cost:
            return option
    if isinstance(tree, Leaf):
        return tree
    yes = passed(tree, _picked(tree, ballot, rows))
    return replace(tree, yes=_refined(tree.yes, ballot, rows[yes]), no=_refined(tree.no, ballot, rows[~yes]))


def _picked(tree: Split | Vote, ballot: Ballot, rows: Labels) -> dict[str, Int[np.ndarray, " rows"]]:
    names = [tree.name] if isinstance(tree, Split) else [name for name, _ in tree.terms]
    return {name: ballot.columns[name].values[rows] for name in names}


def _bits(tree: Tree, ballot: Ballot, rows: Labels) -> float:
    """The description length of the labels of these rows."""
    if isinstance(tree, Leaf):
        return ballot.prices.exception * float((ballot.labels[rows] != tree.label).sum())
    own = ballot.prices.test if isinstance(tree, Split) else ballot.term_bits * len(tree.terms)
    yes = passed(tree, _picked(tree, ballot, rows))
    return own + _bits(tree.yes, ballot, rows[yes]) + _bits(tree.no, ballot, rows[~yes])


def _two(labels: Labels) -> tuple[int, int] | None:
    """The two labels of nearly all rows, the larger first; None if there are not just two."""
    if not len(labels):
        return None
    often = np.bincount(labels)
    most = np.flatnonzero(often > MINOR * len(labels))
    return (int(most[1]), int(most[0])) if len(most) == 2 else None


# ---- what is weighed


@dataclass(frozen=True)
class _Scheme:
    """Two tokens that are weighed against each other, and the period of the distances that are told apart."""

    a: int
    b: int
    period: int

    def sets(self) -> tuple[Names, ...]:
        """Quantities to weigh, few first: one count; that and the place itself; counts of all remainders; all those and
        the counts by distance."""
        counts, far = (
            tuple(balance(self.a, self.b, self.period, r, by) for r in range(self.period)) for by in (False, True)
        )
        own = (counts[0], here(self.a, self.b))
        return counts[:1], own, (*counts, *own[1:], "step", "start"), (*counts, *far, *own[1:], "step", "start")


def _scheme(ballot: Ballot, rows: Labels, pair: tuple[int, int]) -> _Scheme:
    """The scheme whose one count decides best."""
    schemes = [_Scheme(a, b, k) for a, b in combinations(ballot.plain, 2) for k in (1, *PERIODS)]
    target = ballot.labels[rows] == pair[0]

    def apart(scheme: _Scheme) -> float:
        values = ballot.columns[scheme.sets()[0][0]].values[rows].astype(float)
        return abs(float(np.corrcoef(values, target)[0, 1])) if values.std() > 0 else 0.0

    return max(schemes, key=apart)


def _few(ballot: Ballot, rows: Labels) -> dict[str, tuple[int, ...]]:
    """The quantities that take two to a few values on these rows, and which."""
    kinds = {name: np.unique(column.values[rows]).tolist() for name, column in ballot.columns.items()}
    return {name: tuple(values) for name, values in kinds.items() if 1 < len(values) <= FEW_VALUES}


@dataclass(frozen=True, eq=False)
class _Assembly:
    """Votes between two labels by one scheme; `few` are the quantities that take few values, with these."""

    ballot: Ballot
    pair: tuple[int, int]
    scheme: _Scheme
    few: Mapping[str, tuple[int, ...]]

    def told_apart(self, rows: Labels, depth: int) -> tuple[Tree, float]:
        """A vote on these rows, or one on each side of the test that tells them apart best; and its bits."""
        ballot = self.ballot
        option, bits = self.elected(rows)
        if not depth or bits <= 3 * ballot.term_bits or time.monotonic() > ballot.deadline:
            return option, bits
        best, least = None, bits - ballot.prices.test
        for name, test, value in self.tests(rows):
            asked = compared(ballot.columns[name].values[rows], test, value)
            cost = self.polled(rows[asked]) + self.polled(rows[~asked])
            if cost < least:
                best, least = (name, test, value, asked), cost
        if best is None:
            return option, bits
        name, test, value, asked = best
        (yes, some), (no, others) = (self.told_apart(part, depth - 1) for part in (rows[asked], rows[~asked]))
        return Split(name, test, value, yes, no), some + others + ballot.prices.test

    def tests(self, rows: Labels) -> Iterator[tuple[str, Test, int]]:
        """Tests of one quantity that tell rows apart: the values of those that take few, and bounds of places."""
        for name, kinds in self.few.items():
            for kind in kinds if len(kinds) > 2 else kinds[:1]:
                yield name, "eq", kind
        for name in PLACES:
            if name in self.ballot.columns:
                values = self.ballot.columns[name].values[rows]
                for bound in sorted(set(np.quantile(values, BOUNDS, method="lower").tolist())):
                    yield name, "le", int(bound)

    def polled(self, rows: Labels) -> float:
        """About the bits that these rows take."""
        votes = [vote.bits for names in self.scheme.sets() for vote in self._votes(rows, names, False)]
        return min([self._alone(rows)[1], *votes])

    def elected(self, rows: Labels) -> tuple[Tree, float]:
        """The shortest vote on these rows, or the commoner label alone; and its bits."""
        alone = self._alone(rows)
        votes = [vote for names in self.scheme.sets() for vote in self._votes(rows, names, True)]
        best = min(votes, key=lambda vote: vote.bits, default=None)
        if best is None or best.bits >= alone[1]:
            return alone
        return Vote(best.terms, best.threshold, Leaf(self.pair[0]), Leaf(self.pair[1])), best.bits

    def _alone(self, rows: Labels) -> tuple[Tree, float]:
        often = np.bincount(self.ballot.labels[rows], minlength=1)
        return Leaf(int(often.argmax())), self.ballot.prices.exception * float(len(rows) - often.max())

    def _votes(self, rows: Labels, names: Names, dropping: bool) -> Iterator[_Counted]:
        """A vote of these quantities; then, when `dropping`, without those that move the sum least."""
        ballot, first = self.ballot, self.ballot.labels[rows] == self.pair[0]
        second = ballot.labels[rows] == self.pair[1]
        few = slice(None, None, max(1, -(-len(rows) // MOST_ROWS)))
        if not len(rows):
            return
        names = tuple(n for n in names if n in ballot.columns and ballot.columns[n].values[rows[few]].std() > 0)
        weights = np.zeros(len(names) + 1)
        while names and 0 < first[few].sum() < len(first[few]):
            table = np.stack([ballot.columns[name].values[rows] for name in names], axis=1).astype(np.int64)
            weights = _regression(table[few].astype(float), first[few], weights)
            if np.abs(weights[1:]).max() < RIDGE:
                return
            whole, threshold = _in_whole_numbers(weights, table[few])
            wrong = np.where(table @ whole > threshold, ~first, ~second)
            terms = tuple((name, int(w)) for name, w in zip(names, whole, strict=True) if w)
            bits = ballot.prices.exception * float(wrong.sum()) + ballot.term_bits * len(terms)
            yield _Counted(terms, threshold, bits)
            if not dropping:
                return
            least = int(np.abs(weights[1:]).argmin())
            names, weights = (*names[:least], *names[least + 1 :]), np.delete(weights, least + 1)


class _Counted(NamedTuple):
    """A vote and its bits, exceptions included."""

    terms: tuple[tuple[str, int], ...]
    threshold: int
    bits: float


def _in_whole_numbers(
    weights: Float[np.ndarray, " terms"], table: Int64[np.ndarray, "rows names"]
) -> tuple[Int64[np.ndarray, " names"], int]:
    """Weights of the quantities as they are, and the threshold, from those of the regression."""
    plain = weights[1:] / table.std(0)
    unit = UNIT / abs(plain[np.abs(weights[1:]).argmax()])
    return np.rint(plain * unit).astype(np.int64), math.floor(float(plain @ table.mean(0) - weights[0]) * unit)


def _regression(
    table: Float[np.ndarray, "rows names"], target: Bool[np.ndarray, " rows"], weights: Float[np.ndarray, " terms"]
) -> Float[np.ndarray, " terms"]:
    """Logistic regression by Newton's method from these weights, constant first, on quantities of mean 0, spread 1."""
    scaled = (table - table.mean(0)) / table.std(0)
    features = np.concatenate([np.ones((len(table), 1)), scaled], axis=1)
    penalty = RIDGE * np.eye(features.shape[1])
    for _ in range(STEPS):
        sure = 1 / (1 + np.exp(-(features @ weights).clip(-30, 30)))
        slope = features.T @ (sure - target) / len(target) + penalty @ weights
        bend = (features * (sure * (1 - sure) + 1e-9)[:, None]).T @ features / len(target) + penalty
        step = np.linalg.solve(bend, slope)
        weights = weights - step
        if np.abs(step).max() < STEP * max(1.0, float(np.abs(weights).max())):
            break
    return weights
