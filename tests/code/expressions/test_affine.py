"""Planted formulas come back with their coefficients; what is not affine, or has too many terms, does not."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.code.expressions.affine import AffineOptions, find_affine, find_constant
from pellucid.errors import BadInput

FRACTIONS = st.tuples(st.integers(-30, 30).filter(bool), st.integers(1, 12)).map(lambda pair: Fraction(*pair))


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(0, 4), st.integers(4, 30))
def test_planted_formulas_come_back_exactly(data, count, inputs):
    chosen = sorted(data.draw(st.lists(st.integers(0, inputs - 1), min_size=count, max_size=count, unique=True)))
    coefficients = data.draw(st.lists(FRACTIONS, min_size=count, max_size=count))
    constant = data.draw(st.one_of(FRACTIONS, st.just(Fraction(0))))
    x = np.random.default_rng(data.draw(st.integers(0, 2**32))).normal(size=(200, inputs))
    y = float(constant) + sum((float(c) * x[:, i] for c, i in zip(coefficients, chosen, strict=True)), np.zeros(200))
    found = find_affine(x, y, budget=1e-6)
    assert found is not None
    assert found.constant == constant
    assert [(term.coefficient, term.input) for term in found.terms] == list(zip(coefficients, chosen, strict=True))
    assert np.abs(found(x) - y).max() <= 1e-6
    assert found.held_out == 60


def test_coefficients_that_are_no_simple_fractions_stay_floats():
    x = np.random.default_rng(0).normal(size=(200, 5))
    y = 2 * x[:, 1] - 0.73219 * x[:, 3] + 1 / 3
    found = find_affine(x, y, budget=1e-7)
    assert found is not None
    assert found.constant == Fraction(1, 3)
    assert found.terms[0].coefficient == 2
    assert isinstance(found.terms[1].coefficient, float)
    assert found.terms[1].coefficient == pytest.approx(-0.73219)


def test_a_wider_budget_gives_simpler_numbers_and_drops_terms():
    x = np.random.default_rng(0).uniform(-1, 1, (300, 5))
    y = 1.003 * x[:, 1] + 0.001 * x[:, 2] + 0.499
    found = find_affine(x, y, budget=0.01)
    assert found is not None
    assert (found.constant, [(t.coefficient, t.input) for t in found.terms]) == (Fraction(1, 2), [(1, 1)])
    assert 0.001 < found.deviation <= 0.01
    exact = find_affine(x, y, budget=1e-6)
    assert exact is not None
    assert len(exact.terms) == 2
    assert exact.bits > found.bits


def test_inputs_that_depend_on_each_other_do_not_hide_a_short_formula():
    rng = np.random.default_rng(0)
    one_hot = np.eye(6)[rng.integers(0, 6, 400)]
    x = np.column_stack([one_hot, rng.integers(0, 2, 400)])
    found = find_affine(x, 3 * one_hot[:, 2] - x[:, 6] + 1, budget=1e-6)
    assert found is not None
    assert found.constant == 1
    assert [(t.coefficient, t.input) for t in found.terms] == [(3, 2), (-1, 6)]


def test_terms_that_only_matter_together_are_found():
    rng = np.random.default_rng(0)
    common = rng.normal(size=400)
    x = np.column_stack([common + 0.1 * rng.normal(size=400), common + 0.1 * rng.normal(size=400), common])
    found = find_affine(x, x[:, 0] - x[:, 1], budget=1e-6, options=AffineOptions(max_terms=2))
    assert found is not None
    assert [(t.coefficient, t.input) for t in found.terms] == [(1, 0), (-1, 1)]


def test_more_terms_than_allowed_are_no_formula():
    x = np.random.default_rng(0).normal(size=(200, 8))
    y = x @ np.arange(1.0, 9)
    assert find_affine(x, y, budget=1e-6) is None
    assert find_affine(x, y, budget=1e-6, options=AffineOptions(max_terms=8)) is not None


def test_a_fit_that_fails_on_held_out_samples_is_rejected():
    x = np.random.default_rng(0).normal(size=(200, 3))
    y = x[:, 0].copy()
    assert find_affine(x, y, budget=1e-6) is not None
    rejected = 0
    for sample in range(200):
        spoiled = y.copy()
        spoiled[sample] += 0.1
        rejected += find_affine(x, spoiled, budget=1e-6) is None
    assert rejected == 200


@pytest.mark.parametrize("function", [np.abs, np.square, np.sin, lambda x: np.maximum(x, 0), lambda x: (x > 0) * 1.0])
def test_what_is_not_affine_says_nothing(function):
    x = np.random.default_rng(0).normal(size=(300, 4))
    assert find_affine(x, function(x[:, 1]), budget=1e-2) is None


@pytest.mark.parametrize("samples", [6, 10, 20, 200])
@pytest.mark.parametrize("inputs", [1, 5, 50])
def test_random_outputs_say_nothing(samples, inputs):
    rng = np.random.default_rng(samples)
    for _ in range(5):
        x, y = rng.normal(size=(samples, inputs)), rng.normal(size=samples)
        assert find_affine(x, y, budget=1e-2) is None
        assert find_constant(y, budget=1e-2) is None


def test_a_constant_is_as_simple_as_the_budget_allows():
    y = 0.7504 + np.random.default_rng(0).uniform(-1e-4, 1e-4, 50)
    for budget, constant in ((1e-3, Fraction(3, 4)), (0.3, Fraction(1))):
        found = find_constant(y, budget=budget)
        assert found is not None
        assert found.constant == constant
        assert found.terms == ()
    found = find_constant(y, budget=2.5e-4)
    assert found is not None
    assert isinstance(found.constant, float)
    assert find_constant(y, budget=1e-6) is None


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (1, 3), (3, 0), (2, 1), (5, 0)])
def test_odd_shapes_say_nothing_or_a_constant(shape):
    rng = np.random.default_rng(0)
    assert find_affine(rng.normal(size=shape), rng.normal(size=shape[0]), budget=1e-6) is None


def test_an_input_that_never_moves_is_no_term():
    x = np.random.default_rng(0).normal(size=(100, 2))
    x[:, 0] = 4
    found = find_affine(x, 2 * x[:, 1] + 4, budget=1e-9)
    assert found is not None
    assert [(t.coefficient, t.input) for t in found.terms] == [(2, 1)]
    assert found.constant == 4


def test_nan_is_refused():
    with pytest.raises(BadInput, match="affine outputs"):
        find_affine(np.zeros((5, 1)), np.full(5, np.nan), budget=1e-6)
