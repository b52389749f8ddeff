"""Planted weights: places that count unevenly by distance, and depending on where a row stands."""

import time

import numpy as np
import pytest
import torch

from pellucid.code.tokens.decisions import (
    Column,
    Leaf,
    Split,
    Vote,
    decide,
    labels_of,
    leaves_of,
    names_of_tests,
    prices_of,
    votes_of,
)
from pellucid.code.tokens.rules import alphabet_of, measured, quantities
from pellucid.code.tokens.votes import Ballot, with_votes

ROWS, TIME = 3000, 25
PLAIN = (0, 1)


@pytest.fixture(scope="module")
def tokens():
    rng = np.random.default_rng(0)
    middle = (rng.random((ROWS, TIME - 2)) < rng.uniform(0.3, 0.7, (ROWS, 1))).astype(np.int64)
    return np.concatenate([np.full((ROWS, 1), 3), middle, np.full((ROWS, 1), 2)], axis=1)


@pytest.fixture(scope="module")
def starts():
    return np.random.default_rng(1).integers(0, 20, (ROWS, 1))


@pytest.fixture(scope="module")
def columns(tokens, starts):
    """All quantities at the last place."""
    found = quantities(alphabet_of(tokens, np.ones(tokens.shape, dtype=bool)), True)
    names = [*found.numbers, *found.weighed]
    given = {"tokens": torch.from_numpy(tokens), "positions": torch.from_numpy(starts + np.arange(TIME))}
    values = measured(found.writer.nodes, names, given)
    return {name: Column(name, values[name][:, -1]) for name in names}


def signs(tokens):
    """1 and -1 at plain tokens, 0 at others; by distance from the last place."""
    return np.where(tokens > 1, 0, 2 * tokens - 1)[:, ::-1]


def voted(columns, labels, tree, price=1.5):
    prices = prices_of([len(np.unique(c.values)) for c in columns.values()], labels, price)
    return with_votes(tree, Ballot(columns, labels, PLAIN, prices, time.monotonic() + 60))


def wrong(tree, columns, labels):
    return (decide(tree, {name: column.values for name, column in columns.items()}) != labels).mean()


COUNTED = Split("more1_than0", "le", 0, Leaf(0), Leaf(1))
"""What counting all places alike says."""


def test_uneven_weights_by_remainder_and_distance_are_found(tokens, columns):
    distance = np.arange(TIME)
    weights = np.where(distance % 2 == 0, 1.0, 0.25) * (1.2 - 0.03 * distance)
    labels = (signs(tokens) @ weights > 0.4).astype(int)
    tree = voted(columns, labels, COUNTED)
    assert wrong(COUNTED, columns, labels) > 0.1
    assert wrong(tree, columns, labels) < 0.03
    assert votes_of(tree) >= 1
    assert any("by_distance" in name for name in names_of_tests(tree))


def test_weights_that_depend_on_where_a_row_stands_are_told_apart(tokens, starts, columns):
    even, odd = (signs(tokens) * (np.arange(TIME) % 2 == r) for r in (0, 1))
    late = starts[:, 0] % 3 == 1
    labels = (np.where(late, even.sum(1) - odd.sum(1), even.sum(1) + odd.sum(1)) > 0).astype(int)
    tree = voted(columns, labels, COUNTED)
    assert wrong(tree, columns, labels) == 0
    assert {"start_mod3", "position_mod3", "step_mod3"} & set(names_of_tests(tree))


def test_what_is_counted_alike_stays_as_it_is(tokens, columns):
    labels = (signs(tokens).sum(1) > 0).astype(int)
    assert voted(columns, labels, COUNTED) == COUNTED


def test_votes_on_noise_do_not_pay(columns):
    labels = (np.random.default_rng(2).random(ROWS) < 0.3).astype(int)
    assert voted(columns, labels, Leaf(0)) == Leaf(0)


def test_a_vote_is_applied_as_it_reads():
    tree = Vote((("x", 2), ("y", -3)), 1, Leaf(4), Split("z", "eq", 0, Leaf(5), Leaf(6)))
    given = {"x": np.array([2, 2, 0]), "y": np.array([0, 1, 0]), "z": np.array([0, 0, 1])}
    assert decide(tree, given).tolist() == [4, 5, 6]
    assert names_of_tests(tree) == ("x", "y", "z")
    assert (labels_of(tree), leaves_of(tree), votes_of(tree)) == ({4, 5, 6}, 3, 1)
