"""Planted integers and fractions come back from under any scaling; random weights do not."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.code.linear.layer import Layer
from pellucid.code.linear.rational import Fractions, rescale_to_fractions, simple_fractions
from pellucid.errors import BadInput


def run(layers, inputs, activation):
    x = inputs
    for layer in layers[:-1]:
        x = x @ layer.weight.T + layer.bias
        x = np.maximum(x, 0) if activation == "relu" else x
    return x @ layers[-1].weight.T + layers[-1].bias


def as_layers(found):
    return [layer.layer() if isinstance(layer, Fractions) else layer for layer in found.layers]


def test_fractions_without_scaling():
    weight = np.array([[1, -2, 0], [1 / 3, 2 / 3, 1], [0.25, 1 / 6, -5]])
    found = simple_fractions(weight, np.array([4, 1 / 3, 1 / 12]), tolerance=1e-6)
    assert found is not None
    assert found.denominators.tolist() == [1, 3, 12]
    assert found.numerators.tolist() == [[1, -2, 0], [1, 2, 3], [3, 2, -60]]
    assert found.bias_numerators.tolist() == [4, 1, 1]
    assert found.deviation < 1e-12
    assert found.chance < 1e-12
    assert np.allclose(found.layer().weight, weight, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from([np.float32, np.float64]))
def test_planted_fractions_are_found(data, dtype):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    shape = data.draw(st.tuples(st.integers(1, 6), st.integers(2, 8)))
    denominators = rng.integers(1, 13, shape[0])
    numerators = rng.integers(-20, 21, shape)
    numerators[:, 0] = rng.choice([1, -1], shape[0])
    weight = (numerators / denominators[:, None]).astype(dtype)
    found = simple_fractions(weight, tolerance=1e-6)
    assert found is not None
    assert found.denominators.tolist() == denominators.tolist()
    assert np.array_equal(found.numerators, numerators)


def plant_chain(rng, sizes, dtype=np.float32):
    """Integer hidden layers hidden under positive scales, a read-out in thirds."""
    integers = [rng.integers(-3, 4, (out, inputs)) for inputs, out in pairwise(sizes)]
    for matrix in integers:
        matrix[:, 0] = rng.choice([1, -1], len(matrix))
    biases = [rng.integers(-5, 6, len(matrix)) for matrix in integers]
    layers, below = [], np.ones(sizes[0])
    for number, (matrix, bias) in enumerate(zip(integers, biases, strict=True)):
        last = number == len(integers) - 1
        scale = np.full(len(bias), 1 / 3) if last else rng.uniform(0.1, 5, len(bias))
        layers.append(Layer((matrix / below * scale[:, None]).astype(dtype), (bias * scale).astype(dtype)))
        below = scale
    return layers, integers, biases


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(2, 6), min_size=3, max_size=4))
def test_integers_under_scales_are_found_and_compute_the_same(seed, sizes):
    rng = np.random.default_rng(seed)
    layers, integers, biases = plant_chain(rng, sizes)
    found = rescale_to_fractions(layers, activation="relu", tolerance=1e-5)
    assert found is not None
    assert all(isinstance(layer, Fractions) for layer in found.layers)
    for layer, matrix, bias in zip(found.layers[:1], integers, biases, strict=False):
        together = np.column_stack([matrix, bias])
        together = together // np.gcd.reduce(together, axis=1)[:, None]
        assert np.array_equal(np.column_stack([layer.numerators, layer.bias_numerators]), together)
    inputs = rng.normal(size=(50, sizes[0]))
    wanted = run(layers, inputs, "relu")
    assert np.allclose(run(as_layers(found), inputs, "relu"), wanted, atol=1e-4 * (1 + np.abs(wanted).max()))
    assert found.bits < sum(32 * (layer.weight.size + layer.bias.size) for layer in layers)


def test_the_scale_says_how_much_smaller_the_unit_became():
    layers = [
        Layer(np.array([[0.7, -1.4], [2.5, 0.0]]), np.array([0.7, 2.5])),
        Layer(np.array([[2 / 0.7, 0.4]]), np.array([3.0])),
    ]
    found = rescale_to_fractions(layers, activation="relu", tolerance=1e-6)
    assert found is not None
    assert np.allclose(found.scales[0], [0.7, 2.5])
    first, second = found.layers
    assert isinstance(first, Fractions)
    assert isinstance(second, Fractions)
    assert first.numerators.tolist() == [[1, -2], [1, 0]]
    assert first.bias_numerators.tolist() == [1, 1]
    assert (second.numerators.tolist(), second.denominators.tolist()) == ([[2, 1]], [1])


def test_only_units_without_nonlinearity_take_a_negative_scale():
    layers = [
        Layer(np.array([[-0.7, 1.4, 2.1]]), np.array([0.7])),
        Layer(np.array([[1 / 0.7], [2 / 0.7]]), np.array([0.0, 1.0])),
    ]
    for activation, first in (("relu", -1), ("identity", 1)):
        found = rescale_to_fractions(layers, activation=activation, tolerance=1e-6)
        assert found is not None
        assert np.array_equal(found.layers[0].numerators, first * np.array([[1, -2, -3]]))
        assert (found.scales[0] > 0).all() == (activation == "relu")
        inputs = np.random.default_rng(0).normal(size=(20, 3))
        assert np.allclose(run(as_layers(found), inputs, activation), run(layers, inputs, activation))


def test_noise_needs_the_tolerance_and_is_told():
    rng = np.random.default_rng(0)
    layers, _, _ = plant_chain(rng, (6, 5, 3), np.float64)
    noisy = [Layer(*(part * (1 + rng.uniform(-1e-4, 1e-4, part.shape)) for part in (x.weight, x.bias))) for x in layers]
    assert rescale_to_fractions(noisy, activation="relu", tolerance=1e-7) is None
    found = rescale_to_fractions(noisy, activation="relu", tolerance=2e-3)
    assert found is not None
    assert all(isinstance(layer, Fractions) for layer in found.layers)
    assert 1e-6 < found.deviation < 1e-3


def test_a_layer_that_is_not_rational_stays_floats_and_still_computes_the_same():
    rng = np.random.default_rng(0)
    layers, _, _ = plant_chain(rng, (4, 5, 3), np.float64)
    layers[1] = Layer(rng.normal(size=(3, 5)), rng.normal(size=3))
    found = rescale_to_fractions(layers, activation="relu", tolerance=1e-6)
    assert found is not None
    assert isinstance(found.layers[0], Fractions)
    assert isinstance(found.layers[1], Layer)
    inputs = rng.normal(size=(20, 4))
    assert np.allclose(run(as_layers(found), inputs, "relu"), run(layers, inputs, "relu"))


def test_one_number_off_is_not_believed():
    rng = np.random.default_rng(0)
    layers, _, _ = plant_chain(rng, (4, 5, 3), np.float64)
    layers[0].weight[2, 3] += 0.01234
    found = rescale_to_fractions(layers, activation="relu", tolerance=1e-6)
    assert found is None or not isinstance(found.layers[0], Fractions)


@pytest.mark.parametrize("tolerance", [0.0, 1e-6, 1e-4, 1e-3, 1e-2])
def test_random_weights_say_nothing(tolerance):
    rng = np.random.default_rng(3)
    for shape in [(1, 1), (1, 2), (2, 1), (2, 2), (1, 3), (3, 3), (8, 5), (64, 64)] * 5:
        weight, bias = rng.normal(size=shape), rng.normal(size=shape[0])
        assert simple_fractions(weight, bias, tolerance=tolerance) is None
        assert simple_fractions(weight, tolerance=tolerance) is None
        layers = [Layer(weight, bias), Layer(rng.normal(size=(2, shape[0])), rng.normal(size=2))]
        assert rescale_to_fractions(layers, activation="relu", tolerance=tolerance) is None


def test_a_scaled_random_permutation_alone_is_no_finding():
    rng = np.random.default_rng(3)
    permutation = np.eye(20)[rng.permutation(20)] * rng.uniform(0.1, 2, 20)[:, None]
    layers = [Layer(permutation, np.zeros(20)), Layer(rng.normal(size=(3, 20)), np.zeros(3))]
    assert rescale_to_fractions(layers, activation="relu", tolerance=1e-4) is None


def test_a_wide_layer_of_integers_is_believed_without_a_warning():
    rng = np.random.default_rng(3)
    found = simple_fractions(rng.integers(-9, 10, (300, 400)).astype(np.float32), tolerance=1e-6)
    assert found is not None
    assert found.chance == 0


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_odd_shapes_say_nothing(shape):
    layer = Layer(np.zeros(shape), np.zeros(shape[0]))
    assert simple_fractions(layer.weight, tolerance=1e-3) is None
    assert simple_fractions(np.zeros((3, 3)), tolerance=1e-3) is None
    assert rescale_to_fractions([layer], activation="relu", tolerance=1e-3) is None
    assert rescale_to_fractions([], activation="relu", tolerance=1e-3) is None


def test_nan_is_refused():
    with pytest.raises(BadInput, match="fractions bias of layer 0"):
        rescale_to_fractions([Layer(np.ones((1, 1)), np.array([np.nan]))], activation="relu", tolerance=1e-3)
    with pytest.raises(BadInput, match="fractions weight"):
        simple_fractions(np.array([[np.inf]]), tolerance=1e-3)
