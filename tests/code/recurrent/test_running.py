"""Outputs over running quantities come back by name; noise does not."""

from __future__ import annotations

import numpy as np
import pytest
from planted import loop, random_network, sequences

from pellucid.code.expressions.expression import Name, linear
from pellucid.code.recurrent.agreement import draw, observe
from pellucid.code.recurrent.features import Feature, arrange, counts, delays, extremes, nested, program, trace
from pellucid.code.recurrent.recurrence import names_of
from pellucid.code.recurrent.running import look_back, read_running
from pellucid.code.recurrent.steps import program_text, run


def most_frequent(k):
    def step(s, x):
        s = [count + (x == i) for i, count in enumerate(s)]
        return s, np.argmax(np.stack(s), 0)

    return loop(step, *[0] * k)


CASES = {
    "size": (loop(lambda s, x: (s, abs(x)), 0), sequences(-50, 50), "y = abs(x)"),
    "square": (loop(lambda s, x: (s, np.isin(x, np.arange(10) ** 2) * 1), 0), sequences(0, 99),
               "y = x == isqrt(x) * isqrt(x)"),
    "change": (loop(lambda s, x: ([x], abs(x - s[0])), 0), sequences(-50, 50), "y = abs(x - x1)"),
    "sizes": (loop(lambda s, x: ([x], abs(x) - abs(s[0])), 0), sequences(-50, 50), "y = abs(x) - abs(x1)"),
    "repeat": (loop(lambda s, x: ([x], (x == s[0]) * 1), -1), sequences(0, 99, n=2000), "y = x == x1"),
    "maximum": (loop(lambda s, x: ([np.maximum(s[0], x)], np.maximum(s[0], x)), -99), sequences(-50, 50), "y = top"),
    "minimum": (loop(lambda s, x: ([np.minimum(s[0], x)], np.minimum(s[0], x)), 99), sequences(0, 99), "y = low"),
    "remainder": (loop(lambda s, x: ([s[0] + x], (s[0] + x) % 5), 0), sequences(0, 99), "y = total % 5"),
    "evens": (loop(lambda s, x: ([s[0] + (x % 2 == 0)], s[0] + (x % 2 == 0)), 0), sequences(0, 99), "y = evens"),
    "majority": (loop(lambda s, x: ([s[0] + 2 * x - 1], (s[0] + 2 * x > 1) * 1), 0), sequences(0, 1),
                 "y = balance >= 1"),
    "most frequent": (most_frequent(3), sequences(0, 2), "y = argmax(count_0, count_1, count_2)"),
    "balanced": (loop(lambda s, x: ([s[0] + 2 * x - 1, np.minimum(s[1], s[0] + 2 * x - 1)],
                                    ((s[0] + 2 * x == 1) & (s[1] >= 0)) * 1), 0, 0), sequences(0, 1),
                 "y = floor_balance == abs(balance)"),
    "palindrome": (loop(lambda s, x: ([2 * s[0] + x, s[1] + x * s[2], 2 * s[2]],
                                      (2 * s[0] + x == s[1] + x * s[2]) * 1), 0, 0, 1), sequences(0, 1),
                   "y = forwards == backwards"),
    "dithering": (loop(lambda s, x: ([(s[0] + x) % 100], (s[0] + x) // 100), 0), sequences(0, 99), "y = s >= 100"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_planted_programs_come_back(name):
    f, x, output = CASES[name]
    inputs = observe(x)
    found = read_running(f, inputs, *names_of(1, 1), budget=60.0)
    assert found.program is not None, found.trail
    assert output in [line.strip() for line in program_text(found.program).splitlines()]
    longer = draw(inputs, np.random.default_rng(8), 100, 40)
    assert np.array_equal(run(found.program, longer), f(longer.astype(float)))


def test_noise_has_no_program():
    wild = loop(lambda s, x: ([(7 * s[0] + 13 * x * x + 11) % 97], (7 * s[0] + 13 * x * x + 11) % 97 % 5), 0)
    for f in (wild, random_network(0, 6, 1)):
        found = read_running(f, observe(sequences(0, 99)), *names_of(1, 1), budget=60.0)
        assert found.program is None
        assert len(found.trail) > 2


def test_out_of_time_is_said():
    found = read_running(CASES["majority"][0], observe(sequences(0, 1)), *names_of(1, 1), budget=0.0)
    assert found.program is None
    assert "out of time" in found.trail[-1][1]


def test_look_back():
    inputs = observe(sequences(0, 9))
    assert look_back(lambda x: x, inputs) == 0
    assert look_back(loop(lambda s, x: ([x, s[0]], s[1]), 0, 0), inputs) == 2
    assert look_back(lambda x: np.cumsum(x, 1), inputs) is None


def test_features_are_what_their_program_computes():
    x = sequences(0, 1, n=40, length=15)
    inputs = observe(x)
    features = (*delays(inputs, ("x",), 2, True), *counts(inputs, ("x",)), *nested(inputs, ("x",)))
    seen = trace(features, ("x",), x)
    for feature in features:
        values = run(program([Name(feature.name)], features, ("x",), ("y",)), x)[..., 0]
        assert np.array_equal(values, seen[feature.name]), feature.name
    assert seen["x2"][:, :2].tolist() == [[-1, -1]] * 40
    assert np.array_equal(seen["ones"], x[..., 0].cumsum(1))


def test_two_channels_have_their_own_features():
    names = {feature.name for feature in extremes(observe(sequences(-3, 3, 2)), ("a", "b"))}
    assert {"total_a", "top_b", "low_a_or_0", "n"} <= names


def test_updates_are_put_in_the_order_that_they_need():
    sum_of = lambda name, part: Feature(name, 0, linear([(1, Name(name)), (1, Name(part))]))  # noqa: E731
    past = [Feature("x1", 0, Name("x"), late=True), Feature("x2", 0, Name("x1"), late=True)]
    ordered = arrange([*past, sum_of("area", "total"), sum_of("total", "x")])
    assert [feature.name for feature in ordered] == ["total", "area", "x2", "x1"]
