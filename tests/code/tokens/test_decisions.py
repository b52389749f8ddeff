import numpy as np
import pytest

from pellucid.code.tokens.decisions import (
    Column,
    Leaf,
    Split,
    decide,
    labels_of,
    learn_tree,
    leaves_of,
    names_of_tests,
)

ROWS = 4000


@pytest.fixture
def columns():
    rng = np.random.default_rng(0)
    return {name: rng.integers(0, size, ROWS) for name, size in (("a", 50), ("b", 4), ("c", 200))}


def known(columns):
    return [
        Column("a", columns["a"]),
        Column("b", columns["b"], equal_to=(0, 1, 2, 3), ordered=False),
        Column("c", columns["c"]),
    ]


def test_a_planted_tree_is_found(columns):
    labels = np.where(columns["a"] <= 20, np.where(columns["b"] == 2, 1, 0), 2)
    tree, bits = learn_tree(known(columns), labels)
    assert leaves_of(tree) == 3
    assert set(names_of_tests(tree)) == {"a", "b"}
    assert labels_of(tree) == {0, 1, 2}
    assert (decide(tree, columns) == labels).all()
    assert bits < 100


def test_noise_grows_no_tree(columns):
    labels = (np.random.default_rng(1).random(ROWS) < 0.02).astype(int)
    tree, _ = learn_tree(known(columns), labels, price=4.0)
    assert tree == Leaf(0)


def test_a_dearer_test_leaves_exceptions_alone(columns):
    labels = np.where(columns["c"] == 7, 1, 0)
    assert leaves_of(learn_tree(known(columns), labels)[0]) == 3
    assert learn_tree(known(columns), labels, price=40.0)[0] == Leaf(0)


def test_a_tree_is_applied_as_it_reads():
    tree = Split("x", "le", 1, Leaf(0), Split("x", "eq", 3, Leaf(1), Leaf(2)))
    assert decide(tree, {"x": np.array([[0, 1], [2, 3]])}).tolist() == [[0, 0], [2, 1]]
