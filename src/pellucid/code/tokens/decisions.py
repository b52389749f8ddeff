"""Decision trees over named quantities, as short as the data ask for.

Grown by the largest gain of information, then cut back to the shortest description (Quinlan and Rivest 1989): a test
has to pay for itself with the rows that it saves from being exceptions. Tests compare one quantity with one number, or
weigh several against each other (`votes`); a leaf is a label.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int, Int64

Labels = Int64[np.ndarray, " rows"]
Test = Literal["le", "eq"]

DEEPEST = 12
MOST_LEAVES = 64


@dataclass(frozen=True)
class Leaf:
    """Everything here gets this label."""

    label: int


@dataclass(frozen=True)
class Split:
    """Rows where `name` is at most ("le"), or equal to ("eq"), `value` go to `yes`."""

    name: str
    test: Test
    value: int
    yes: Tree
    no: Tree


@dataclass(frozen=True)
class Vote:
    """Rows where the sum of weight times quantity over `terms` is larger than `threshold` go to `yes`."""

    terms: tuple[tuple[str, int], ...]
    threshold: int
    yes: Tree
    no: Tree


Tree: TypeAlias = Leaf | Split | Vote


@dataclass(frozen=True)
class Column:
    """A quantity as rows of numbers, with what it may be compared to: every value seen, or equality with some."""

    name: str
    values: Int[np.ndarray, " rows"]
    equal_to: tuple[int, ...] = ()
    ordered: bool = True


def leaves_of(tree: Tree) -> int:
    """How many leaves it has."""
    return 1 if isinstance(tree, Leaf) else leaves_of(tree.yes) + leaves_of(tree.no)


def votes_of(tree: Tree) -> int:
    """How many of its tests weigh several quantities."""
    return 0 if isinstance(tree, Leaf) else votes_of(tree.yes) + votes_of(tree.no) + isinstance(tree, Vote)


def names_of_tests(tree: Tree) -> tuple[str, ...]:
    """The quantities that it asks for, in order, without repetition."""
    if isinstance(tree, Leaf):
        return ()
    names = (tree.name,) if isinstance(tree, Split) else tuple(name for name, _ in tree.terms)
    return tuple(dict.fromkeys((*names, *names_of_tests(tree.yes), *names_of_tests(tree.no))))


def labels_of(tree: Tree) -> set[int]:
    """The labels that it can give."""
    return {tree.label} if isinstance(tree, Leaf) else labels_of(tree.yes) | labels_of(tree.no)


def decide(tree: Tree, columns: Mapping[str, Int[np.ndarray, "*rows"]]) -> Int64[np.ndarray, "*rows"]:
    """The label of each row."""
    if isinstance(tree, Leaf):
        return np.full(next(iter(columns.values())).shape, tree.label, dtype=np.int64)
    return np.where(passed(tree, columns), decide(tree.yes, columns), decide(tree.no, columns))


def passed(tree: Split | Vote, columns: Mapping[str, Int[np.ndarray, "*rows"]]) -> Bool[np.ndarray, "*rows"]:
    """Which rows go to `yes`."""
    if isinstance(tree, Vote):
        return np.asarray(sum(columns[name].astype(np.int64) * weight for name, weight in tree.terms) > tree.threshold)
    return compared(columns[tree.name], tree.test, tree.value)


def compared(values: Int[np.ndarray, "*rows"], test: Test, value: int) -> Bool[np.ndarray, "*rows"]:
    """Which of the values pass a test."""
    return np.asarray(values <= value if test == "le" else values == value)


def learn_tree(columns: Sequence[Column], labels: Labels, price: float = 1.5) -> tuple[Tree, float]:
    """The tree of shortest description for these labels (from 0), and its length in bits, exceptions included.

    Args:
        price: how many times a test has to pay for itself.
    """
    count = int(labels.max()) + 1
    codes = [np.unique(column.values, return_inverse=True) for column in columns]
    prices = prices_of([len(values) for values, _ in codes], labels, price)
    grower = _Grower(
        columns,
        [values for values, _ in codes],
        [inverse.ravel() for _, inverse in codes],
        labels,
        count,
        prices.test,
        prices.exception,
    )
    return grower.grow(np.arange(len(labels)), 0)


@dataclass(frozen=True)
class Prices:
    """Bits of a test of one quantity, and of a row that is an exception; `price` as in `learn_tree`."""

    test: float
    exception: float
    price: float


def prices_of(sizes: Sequence[int], labels: Labels, price: float) -> Prices:
    """What things cost among columns that take so many values each."""
    one = math.log2(max(2, int(labels.max()) + 1))
    test = math.log2(max(2, len(sizes))) + math.log2(max(2.0, float(np.mean(sizes))))
    return Prices(price * (test + one), math.log2(len(labels)) + one, price)


@dataclass(frozen=True)
class _Grower:
    columns: Sequence[Column]
    values: Sequence[Int[np.ndarray, "_"]]
    codes: Sequence[Labels]
    labels: Labels
    count: int
    test_bits: float
    error_bits: float

    def grow(self, rows: Labels, depth: int) -> tuple[Tree, float]:
        """The best tree for these rows and its description length."""
        often = np.bincount(self.labels[rows], minlength=self.count)
        usual = int(often.argmax())
        alone = self.error_bits * float(len(rows) - often[usual])
        if alone <= self.test_bits or depth == DEEPEST:
            return Leaf(usual), alone
        found = self._best(rows, often)
        if found is None:
            return Leaf(usual), alone
        column, test, code = found
        asked = compared(self.codes[column][rows], test, code)
        yes, yes_bits = self.grow(rows[asked], depth + 1)
        no, no_bits = self.grow(rows[~asked], depth + 1)
        split = self.test_bits + yes_bits + no_bits
        if split >= alone:
            return Leaf(usual), alone
        if yes == no:
            return yes, split - self.test_bits
        return Split(self.columns[column].name, test, int(self.values[column][code]), yes, no), split

    def _best(self, rows: Labels, often: Int64[np.ndarray, " labels"]) -> tuple[int, Test, int] | None:
        """The test that tells most about the labels: (column, test, code of the value)."""
        labels, best, most = self.labels[rows], None, 1e-9
        whole = _entropy(often[None].astype(float))[0]
        for number, column in enumerate(self.columns):
            size = len(self.values[number])
            if size < 2:
                continue
            table = np.bincount(self.codes[number][rows] * self.count + labels, minlength=size * self.count)
            each = table.reshape(size, self.count).astype(float)
            if column.ordered:
                below = each.cumsum(0)[:-1]
                gains = whole - _entropy(below) - _entropy(often - below)
                at = int(gains.argmax())
                if gains[at] > most:
                    best, most = (number, "le", at), float(gains[at])
            picks = np.flatnonzero(np.isin(self.values[number], column.equal_to))
            if len(picks):
                gains = whole - _entropy(each[picks]) - _entropy(often - each[picks])
                at = int(gains.argmax())
                if gains[at] > most:
                    best, most = (number, "eq", int(picks[at])), float(gains[at])
        return best  # type: ignore[return-value]


def _entropy(often: Float[np.ndarray, "options labels"]) -> Float[np.ndarray, " options"]:
    """Bits to tell the labels of each option's rows."""
    total = often.sum(1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = np.where(often > 0, often * np.log2(np.where(often > 0, total / np.maximum(often, 1), 1)), 0.0)
    return np.asarray(bits.sum(1))
