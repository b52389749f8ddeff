"""The enumeration finds the smallest expression, and nothing for noise."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.code.expressions.expression import Name, text
from pellucid.code.expressions.grammar import Grammar, Leaf, smallest

RNG = np.random.default_rng(0)
X, P, Q = RNG.integers(-9, 10, (3, 96))
B = RNG.integers(0, 2, 96)
LEAVES = tuple(Leaf(Name(name), values) for name, values in (("x", X), ("p", P), ("q", Q), ("b", B)))
FREE = Grammar(constants=(0, 1, 2, 3, 5), moduli=(2, 3, 5, 7), max_size=6)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (np.abs(X - P), "abs(x - p)"),
        (np.abs(X) - np.abs(P), "abs(x) - abs(p)"),
        ((X + P) % 5, "(x + p) % 5"),
        ((X + P >= 3) * 1, "x + p >= 3"),
        (np.maximum(X, np.maximum(P, Q)), "max(x, max(p, q))"),
        ((X + P + Q) % 7, "(x + p + q) % 7"),
        (B ^ (X > P), "b ^ (p < x)"),
        (B * X, "b * x"),
        (1 - B, "1 - b"),
    ],
)
def test_planted_expressions_come_back(target, expected):
    found = smallest(LEAVES, target.astype(np.int64), FREE, budget=60.0)
    assert found is not None
    assert text(found) == expected


def test_noise_and_lack_of_size_or_time_give_nothing():
    noise = RNG.integers(0, 3, 96)
    assert smallest(LEAVES, noise, FREE, budget=60.0) is None
    target = np.abs(X) - np.abs(P)
    assert smallest(LEAVES, target, Grammar(max_size=4), budget=60.0) is None
    assert smallest(LEAVES, target, FREE, budget=0.0) is None


def test_of_equal_sizes_the_cheaper_features_win():
    dear = Leaf(Name("dear"), X, extra=50.0)
    cheap = Leaf(Name("cheap"), X + 0, extra=1.0)
    other = Leaf(Name("other"), P, extra=1.0)
    found = smallest((cheap, dear, other), X + P, Grammar(), budget=60.0)
    assert text(found) == "cheap + other"
