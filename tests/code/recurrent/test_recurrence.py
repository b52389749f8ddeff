"""Affine sequence functions come back as the shortest recurrence; what is not affine does not."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from planted import loop, random_network, sequences

from pellucid.code.recurrent.agreement import compare, draw, observe, query
from pellucid.code.recurrent.realise import simple, state_space
from pellucid.code.recurrent.recurrence import measure, read_recurrence
from pellucid.code.recurrent.steps import program_bits, program_text, run

CASES = {
    "x": (lambda s, x: (s, x), (0,), 1, ["y = x"]),
    "delay": (lambda s, x: ([x, s[0]], s[1]), (0, 0), 1, ["y = x2", "x2 = x1", "x1 = x"]),
    "sum": (lambda s, x: ([s[0] + x], s[0] + x), (0,), 1, ["s = s + x", "y = s"]),
    "last 3": (lambda s, x: ([x, s[0]], x + s[0] + s[1]), (0, 0), 1, ["y = x + x1 + x2", "x2 = x1", "x1 = x"]),
    "change": (lambda s, x: ([x], x - s[0]), (0,), 1, ["y = x - x1", "x1 = x"]),
    "position": (lambda s, x: ([s[0] + x, s[0] + x + s[1]], s[0] + x + s[1]), (0, 0), 1,
                 ["s1 = s1 + x", "s2 = s1 + s2", "y = s2"]),
    "falling": (lambda s, x: ([s[0] + x - 1, s[0] + x - 1 + s[1]], s[0] + x - 1 + s[1]), (0, 0), 1,
                ["s1 = s1 + x - 1", "s2 = s1 + s2", "y = s2"]),
    "steps": (lambda s, x: ([s[0] + 1], s[0]), (0,), 1, ["y = s", "s = s + 1"]),
    "decay": (lambda s, x: ([s[0] / 2 + 4 * x], s[0] / 2 + 4 * x), (0.0,), 1, ["s = s / 2 + 4 * x", "y = s"]),
    "half": (lambda s, x: (s, 2 * x + 0.5), (0,), 1, ["y = 2 * x + 1/2"]),
    "two": (lambda s, a, b: ([s[0] + a], (s[0] + a - b, 3 * b)), (0,), 2, ["s = s + a", "y1 = s - b", "y2 = 3 * b"]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_planted_recurrences_come_back(name):
    step, start, channels, body = CASES[name]
    f = loop(step, *start)
    found = read_recurrence(f, observe(sequences(-5, 5, channels)), budget=60.0)
    assert found.program is not None, found.trail
    assert [line.strip() for line in program_text(found.program).splitlines() if line[0] == " "][:-1] == body
    assert found.agreement.mismatches == 0


@pytest.mark.parametrize(
    ("step", "channels", "bits"),
    [
        (lambda s, x: ([s[0] + s[1] + x - s[0], s[1] + x - s[0]], s[0] + s[1] + x - s[0]), 1, 52),
        (lambda s, a, b: ([s[0] + s[2] - s[3] + a, s[1] + s[3] + s[2] + b, s[2] - s[3] + a, s[3] + s[2] + b],
                          (s[0] + s[2], s[1] + s[3])), 2, 140),
    ],
)  # fmt: skip
def test_spring_and_magnet_are_short_and_hold_at_length(step, channels, bits):
    f = loop(step, 0, 0, 0, 0)
    inputs = observe(sequences(-3, 3, channels))
    found = read_recurrence(f, inputs, budget=60.0)
    assert found.program is not None, found.trail
    assert program_bits(found.program) <= bits
    x = draw(inputs, np.random.default_rng(9), 50, 30)
    assert compare(query(f, x), run(found.program, x), x).mismatches == 0


def test_a_little_noise_and_a_transient_do_not_matter():
    f = loop(lambda s, x: ([s[0] + x, 0.5 * s[1]], s[0] + 0.999 * x + s[1]), 0, 0.12)
    found = read_recurrence(f, observe(sequences(-5, 5)), budget=60.0)
    assert program_text(found.program).splitlines()[2] == "    s = s + x"
    assert 0 < found.agreement.largest_gap < 0.5


@pytest.mark.parametrize("seed", range(3))
def test_no_recurrence_for_what_is_not_affine_or_not_simple(seed):
    for f in (random_network(seed, 4, 1), loop(lambda s, x: (s, abs(x)), 0)):
        found = read_recurrence(f, observe(sequences(-5, 5)))
        assert found.program is None
        assert found.trail
    rng = np.random.default_rng(seed)
    w = rng.uniform(0.2, 0.9, 3)
    f = loop(lambda s, x: ([w[0] * s[0] + w[1] * x], w[2] * s[0] + x), 0.0)
    assert read_recurrence(f, observe(sequences(-50, 50))).program is None


def test_response_is_measured_within_the_domain():
    def f(x):
        assert set(np.unique(x)) <= {3.0, 4.0, 5.0}
        return np.cumsum(x, 1)

    response = measure(f, observe(sequences(3, 5)), 10)
    assert np.abs(response.markov - 1).max() < 1e-6
    assert response.spread < 1e-6


def test_simple_numbers_are_few():
    assert simple(2.01) == 2
    assert simple(0.3334) == Fraction(1, 3)
    assert simple(-1.25) == Fraction(-5, 4)
    assert simple(0.41) is None
    taken = [simple(v) is not None for v in np.random.default_rng(0).uniform(0, 1, 4000)]
    assert np.mean(taken) < 0.15


def test_state_space_needs_enough_lags():
    fibonacci = np.array([1.0, 1, 2, 3, 5, 8, 13, 21, 34, 55])[:, None, None]
    space = state_space(fibonacci, 1e-6)
    assert space is not None
    assert len(space.a) == 2
    assert state_space(fibonacci[:2], 1e-6) is None
    assert state_space(np.random.default_rng(0).integers(-9, 9, (10, 1, 1)).astype(float), 1e-6) is None
