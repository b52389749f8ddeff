"""Finite functions come back as the expression they were planted from; noise stays a table or nothing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pellucid.code.expressions.expression import evaluate, text
from pellucid.code.expressions.predicates import by_predicates
from pellucid.code.expressions.tables import express

NAMES = ("x", "y", "z")


def rows(f, *domains):
    keys = np.array(list(itertools.product(*domains)), dtype=np.int64)
    return keys, np.array([int(f(*row)) for row in keys.tolist()], dtype=np.int64)


@pytest.mark.parametrize(
    ("f", "domains", "expected"),
    [
        (lambda x, y: 7, (range(3), range(3)), "7"),
        (lambda x, y: y, (range(3), range(3)), "y"),
        (lambda x, y: 2 * x - y + 1, (range(4), range(4)), "2 * x - y + 1"),
        (lambda x, y, z: (x & y) | z, (range(2),) * 3, "z | (x & y)"),
        (lambda x, y, z: x + y + z >= 7, (range(7), range(7), range(2)), "x + y + z >= 7"),
        (lambda x, y, z: (x + y + z) % 7, (range(7), range(7), range(2)), "(x + y + z) % 7"),
        (lambda x, y: (2 * x + y) // 5, (range(9), range(2)), "(2 * x + y) // 5"),
        (lambda x, y: abs(x) - abs(y), (range(-3, 4), range(-3, 4)), "abs(x) - abs(y)"),
        (lambda x, y: min(x + y, 5), (range(6), range(3)), "min(5, x + y)"),
        (lambda x: x in (2, 3, 5, 7, 11, 13), (range(16),), "(x in {2, 3, 5, 7, 11, 13})"),
        (lambda x: int(x**0.5) ** 2 == x, (range(100),), "x == isqrt(x) * isqrt(x)"),
        (lambda x: x % 2 == 0, (range(100),), "x % 2 == 0"),
        (lambda x, y, z: x != y and x == z, (range(2), range(-1, 2), range(-1, 2)), "(x != y) & (x == z)"),
    ],
)
def test_planted_functions_come_back(f, domains, expected):
    keys, values = rows(f, *domains)
    found = express(keys, values, NAMES[: keys.shape[1]], budget=30.0)
    assert found.expr is not None
    assert text(found.expr) == expected
    env = {name: keys[:, i] for i, name in enumerate(NAMES[: keys.shape[1]])}
    assert np.array_equal(np.broadcast_to(evaluate(found.expr, env), len(keys)), values)


def test_noise_is_a_table_up_to_64_rows_and_nothing_beyond():
    rng = np.random.default_rng(0)
    keys, _ = rows(lambda x, y: 0, range(8), range(8))
    noise = rng.integers(0, 5, 64)
    assert express(keys, noise, ("x", "y")).form == "table"
    assert express(keys, noise, ("x", "y"), table=False).expr is None
    keys, _ = rows(lambda x, y: 0, range(8), range(9))
    found = express(keys, rng.integers(0, 5, 72), ("x", "y"))
    assert found.expr is None
    assert all(outcome == "none" for _, outcome in found.trail)


def test_out_of_time_what_was_found_is_kept():
    keys, values = rows(lambda x, y: (x + y) % 5, range(5), range(5))
    found = express(keys, values, ("x", "y"), budget=0.0)
    assert text(found.expr) == "(x + y) % 5"
    assert ("grammar", "not tried: out of time") in found.trail


def test_predicates_need_a_reason():
    rng = np.random.default_rng(0)
    keys, _ = rows(lambda x, y: 0, range(9), range(9))
    assert by_predicates(keys, rng.integers(0, 2, 81), ("x", "y")) is None
