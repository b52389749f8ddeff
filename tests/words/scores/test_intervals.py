"""Intervals against numpy, known values, and their own coverage."""

import math

import numpy as np
import pytest

from pellucid.words.scores.intervals import bootstrapped_mean, correlation, mean_of_two, wilson


@pytest.mark.parametrize(("right", "count", "low", "high"), [
    (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662),
])  # fmt: skip
def test_wilson(right, count, low, high):
    found = wilson(right, count)
    assert (found.value, found.low, found.high) == pytest.approx((right / count, low, high), abs=1e-4)


def test_of_nothing_nothing_is_known():
    assert math.isnan(wilson(0, 0).value)
    assert math.isnan(mean_of_two(wilson(0, 0), wilson(3, 4)).value)
    assert bootstrapped_mean(np.array([math.nan])).count == 0
    assert math.isnan(correlation(np.full((3, 4), math.nan), np.ones((3, 4))).value)


def test_mean_of_two_covers():
    random = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        found = mean_of_two(wilson(random.binomial(20, 0.9), 20), wilson(random.binomial(20, 0.6), 20))
        inside += found.low <= 0.75 <= found.high
    assert inside / 400 > 0.92


def test_correlation_is_pearsons():
    random = np.random.default_rng(0)
    actual = random.normal(size=(40, 16))
    predicted = 0.6 * actual + random.normal(size=(40, 16)) + 1e4
    found = correlation(predicted, actual)
    assert found.value == pytest.approx(np.corrcoef(predicted.ravel(), actual.ravel())[0, 1], abs=1e-9)
    assert found.low < found.value < found.high
    assert found.count == 40
    assert found == correlation(predicted, actual)


def test_missing_tokens_are_left_out_and_not_zero():
    random = np.random.default_rng(0)
    actual = random.exponential(size=(20, 8))
    predicted = actual.copy()
    predicted[10:] = math.nan
    found = correlation(predicted, actual)
    assert (found.value, found.count) == (pytest.approx(1.0), 10)
    assert correlation(np.nan_to_num(predicted), actual).value < 0.8


def test_a_constant_prediction_says_nothing_and_a_silent_unit_cannot_be_predicted():
    actual = np.random.default_rng(0).exponential(size=(5, 8))
    assert correlation(np.full((5, 8), 3.3), actual).value == 0.0
    assert math.isnan(correlation(actual, np.full((5, 8), 3.3)).value)


def test_bootstrap_draws_contexts_not_tokens():
    random = np.random.default_rng(0)
    whole = np.repeat(random.normal(size=(12, 1)), 200, axis=1)
    noisy = whole + np.repeat(random.normal(size=(12, 1)), 200, axis=1)
    found = correlation(noisy, whole)
    assert found.high - found.low > 0.2


def test_bootstrapped_mean():
    values = np.random.default_rng(0).normal(3.0, 1.0, size=100)
    found = bootstrapped_mean(np.append(values, math.nan))
    assert found.count == 100
    assert found.value == pytest.approx(values.mean())
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * values.std() / 10, rel=0.15)
