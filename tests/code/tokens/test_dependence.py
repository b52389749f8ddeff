"""Values are written over the fewest variables that determine them, by the shortest of several forms."""

from __future__ import annotations

import time

import numpy as np
import pytest

from pellucid.code.expressions.expression import Lookup, evaluate, names_in, text, walk
from pellucid.code.tokens.dependence import determining, distinct, explain, formula

ROWS = 3000


def columns(seed=0, **ranges):
    rng = np.random.default_rng(seed)
    return {name: rng.integers(low, high + 1, ROWS) for name, (low, high) in ranges.items()}


def found(target, known, seconds=20.0):
    expr = explain(np.asarray(target, np.int64), known, time.monotonic() + seconds)
    assert expr is not None
    assert (np.broadcast_to(evaluate(expr, known), target.shape) == target).all()
    return expr


def test_only_the_variables_that_matter_are_read():
    known = columns(noise=(0, 9), a=(0, 5), other=(-3, 3), b=(0, 5))
    assert names_in(found(known["a"] - 2 * known["b"], known)) == {"a", "b"}
    assert found(np.full(ROWS, 7), known).value == 7


@pytest.mark.parametrize(
    ("rule", "reads"),
    [
        (lambda a, b: np.where(a % 3 == 2, 0, b), {"a", "b"}),
        (lambda a, b: np.where(a > b, a, b + 1), {"a", "b"}),
        (lambda a, b: (a == b).astype(int), {"a", "b"}),
        (lambda a, b: np.where(a < 0, -1, (a > b).astype(int)), {"a", "b"}),
        (lambda a, b: np.isin(a, [1, 2, 3, 5]).astype(int), {"a"}),
    ],
)
def test_planted_rules_come_back_as_formulas(rule, reads):
    known = columns(a=(-1, 6), b=(0, 7))
    expr = found(rule(known["a"], known["b"]), known)
    assert names_in(expr) == reads
    assert not any(isinstance(part, Lookup) for part in walk(expr)), text(expr)


def test_digits_are_told_apart():
    known = columns(x=(0, 99))
    expr = found(known["x"] // 10 + known["x"] % 10, known)
    assert "x // 10" in text(expr) or "x % 10" in text(expr)


def test_a_table_over_a_product_is_one_over_one_number():
    known = columns(a=(0, 7), b=(1, 6))
    product = known["a"] * known["b"]
    expr = found(np.unique(product, return_inverse=True)[1], known)
    assert "a * b" in text(expr)


def test_ranks_of_quotients_survive_zeros():
    known = columns(a=(0, 6), b=(0, 6))
    quotient = np.where(known["b"] > 0, known["a"] / np.maximum(known["b"], 1), 0)
    known["a"] = np.where(known["b"] > 0, known["a"], 0)
    found(np.unique(np.round(quotient, 9), return_inverse=True)[1], known)


def test_four_counts_are_compared_in_pairs():
    known = columns(p=(0, 3), q=(0, 3), r=(0, 3), s=(0, 3), t=(0, 3))
    target = ((known["p"] == known["q"]) & (known["r"] == known["s"])).astype(int)
    assert names_in(found(target, known)) == {"p", "q", "r", "s"}


def test_a_variable_that_is_always_zero_divides_nothing():
    known = columns(a=(0, 5), b=(0, 5)) | {"none": np.zeros(ROWS, np.int64)}
    table = np.random.default_rng(4).integers(0, 9, (6, 6))
    rows = distinct(table[known["a"], known["b"]], known, ("a", "b", "none"))
    assert formula(rows, time.monotonic() + 2.0) is not None


def test_what_is_not_determined_has_no_expression():
    known = columns(a=(0, 5), b=(0, 5))
    noise = np.random.default_rng(9).integers(0, 2, ROWS)
    assert explain(noise, known, time.monotonic() + 5.0) is None
    assert not list(determining(noise, known, 2))


def test_random_tables_that_are_large_have_none():
    known = columns(a=(0, 8), b=(0, 8))
    table = np.random.default_rng(3).integers(0, 5, (9, 9))
    rows = distinct(table[known["a"], known["b"]], known, ("a", "b"))
    assert len(rows.values) > 64
    assert formula(rows, time.monotonic() + 2.0) is None
