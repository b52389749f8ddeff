"""Planted dead, constant, unread and duplicate units are found, and the layers without them compute the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.code.linear.layer import Layer
from pellucid.code.linear.units import ranges_on, ranges_within, reduce_units
from pellucid.errors import BadInput

ACTIVATIONS = {
    "relu": torch.relu,
    "identity": lambda x: x,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "silu": torch.nn.functional.silu,
    "gelu": torch.nn.functional.gelu,
}
FACTORS = {"relu": [0.3, 7.0], "identity": [-2.0, 0.5], "tanh": [-1.0, 1.0]}


def run(hidden, readout, activation, inputs):
    middle = ACTIVATIONS[activation](torch.from_numpy(inputs @ hidden.weight.T + hidden.bias)).numpy()
    return middle @ readout.weight.T + readout.bias


def random_layers(rng, inputs, units, out, dtype=np.float64):
    return (
        Layer(rng.normal(size=(units, inputs)).astype(dtype), rng.normal(size=units).astype(dtype)),
        Layer(rng.normal(size=(out, units)).astype(dtype), rng.normal(size=out).astype(dtype)),
    )


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(ACTIVATIONS)),
    st.integers(0, 2**32),
    st.integers(1, 6),
    st.integers(3, 9),
    st.sampled_from([np.float32, np.float64]),
)
def test_planted_duplicates_are_merged_and_nothing_else(activation, seed, inputs, units, dtype):
    rng = np.random.default_rng(seed)
    hidden, readout = random_layers(rng, inputs + 1, units, 3, dtype)
    planted = sorted(rng.choice(np.arange(1, units), size=rng.integers(1, units), replace=False).tolist())
    wanted = {}
    for unit in planted:
        of = int(rng.choice([u for u in range(units) if u < unit and u not in planted]))
        factor = float(rng.choice(FACTORS.get(activation, [1.0])))
        hidden.weight[unit], hidden.bias[unit] = factor * hidden.weight[of], factor * hidden.bias[of]
        wanted[unit] = (of, factor)
    found = reduce_units(hidden, readout, activation=activation, tolerance=0.0)
    assert found is not None
    assert {d.unit: (d.of, pytest.approx(d.factor, rel=1e-5)) for d in found.duplicates} == wanted
    assert found.kept.tolist() == [unit for unit in range(units) if unit not in planted]
    assert (found.dead, found.constant, found.unread, found.proved) == ((), (), (), True)
    x = rng.normal(size=(40, inputs + 1)).astype(dtype)
    difference = run(found.hidden, found.readout, activation, x) - run(hidden, readout, activation, x)
    assert np.abs(difference).max() < (1e-4 if dtype == np.float32 else 1e-10)
    assert found.bits == 32 * (len(found.kept) * (inputs + 1 + 1 + 3) + 3)


@pytest.mark.parametrize(
    ("activation", "factor"), [("relu", -1.0), ("tanh", 2.0), ("sigmoid", -1.0), ("sigmoid", 2.0), ("gelu", 3.0)]
)
def test_factors_that_do_not_commute_are_no_duplicates(activation, factor):
    hidden, readout = random_layers(np.random.default_rng(0), 4, 5, 2)
    hidden.weight[3], hidden.bias[3] = factor * hidden.weight[1], factor * hidden.bias[1]
    assert reduce_units(hidden, readout, activation=activation, tolerance=0.0) is None


@pytest.mark.parametrize("part", ["weight", "bias"])
def test_a_duplicate_one_number_off_needs_the_tolerance(part):
    hidden, readout = random_layers(np.random.default_rng(0), 4, 5, 2)
    hidden.weight[3], hidden.bias[3] = 2 * hidden.weight[1], 2 * hidden.bias[1]
    getattr(hidden, part)[3] += 1e-4
    assert reduce_units(hidden, readout, activation="relu", tolerance=1e-6) is None
    found = reduce_units(hidden, readout, activation="relu", tolerance=1e-3)
    assert found is not None
    assert [(d.unit, d.of) for d in found.duplicates] == [(3, 1)]


def test_units_dead_within_bounds_are_proved_and_dropped():
    rng = np.random.default_rng(1)
    hidden, readout = random_layers(rng, 3, 6, 2)
    hidden.bias[:] = 1.0
    hidden.bias[4] = -np.abs(hidden.weight[4]).sum() - 1e-6
    ranges = ranges_within(hidden, np.full(3, -1.0), np.ones(3))
    found = reduce_units(hidden, readout, activation="relu", tolerance=0.0, ranges=ranges)
    assert found is not None
    assert found.dead == found.constant == (4,)
    assert found.proved
    x = rng.uniform(-1, 1, (200, 3))
    assert np.allclose(run(found.hidden, found.readout, "relu", x), run(hidden, readout, "relu", x))
    hidden.bias[4] += 1e-3
    ranges = ranges_within(hidden, np.full(3, -1.0), np.ones(3))
    assert reduce_units(hidden, readout, activation="relu", tolerance=0.0, ranges=ranges) is None


def test_units_dead_on_inputs_are_dropped_but_not_proved():
    rng = np.random.default_rng(1)
    hidden, readout = random_layers(rng, 3, 6, 2)
    hidden.bias[2] = -8.0
    x = rng.normal(size=(100, 3))
    ranges = ranges_on(hidden, x)
    found = reduce_units(hidden, readout, activation="relu", tolerance=0.0, ranges=ranges)
    assert found is not None
    assert found.dead == (2,)
    assert not found.proved
    assert np.allclose(run(found.hidden, found.readout, "relu", x), run(hidden, readout, "relu", x))
    assert reduce_units(hidden, readout, activation="tanh", tolerance=0.0, ranges=ranges) is None


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([np.float32, np.float64]))
def test_no_input_within_bounds_leaves_the_proved_range(seed, dtype):
    rng = np.random.default_rng(seed)
    layer, _ = random_layers(rng, 5, 4, 1, dtype)
    lower = rng.normal(size=5).astype(dtype)
    upper = lower + rng.exponential(size=5).astype(dtype)
    ranges = ranges_within(layer, lower, upper)
    corners = np.where(layer.weight > 0, upper, lower), np.where(layer.weight > 0, lower, upper)
    for corner, end, sign in zip(corners, (ranges.high, ranges.low), (1, -1), strict=True):
        reached = (corner * layer.weight).sum(axis=1, dtype=dtype) + layer.bias
        assert (sign * reached <= sign * end).all()
        assert np.allclose(reached, end, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_units_without_in_weights_go_into_the_bias(activation):
    rng = np.random.default_rng(1)
    hidden, readout = random_layers(rng, 3, 6, 2)
    hidden.weight[[1, 5]] = 0
    hidden.bias[[1, 5]] = 0.7, -0.4
    found = reduce_units(hidden, readout, activation=activation, tolerance=0.0)
    assert found is not None
    assert found.constant == (1, 5)
    assert found.dead == ((5,) if activation == "relu" else ())
    assert found.proved
    x = rng.normal(size=(40, 3))
    assert np.allclose(run(found.hidden, found.readout, activation, x), run(hidden, readout, activation, x))


def test_units_that_stand_still_on_the_inputs_are_constants():
    rng = np.random.default_rng(1)
    hidden, readout = random_layers(rng, 3, 6, 2)
    hidden.weight[2] = 0.0, 0.0, 1.5
    x = rng.normal(size=(40, 3))
    x[:, 2] = 0.3
    found = reduce_units(hidden, readout, activation="tanh", tolerance=1e-9, ranges=ranges_on(hidden, x))
    assert found is not None
    assert found.constant == (2,)
    assert not found.proved
    assert np.allclose(run(found.hidden, found.readout, "tanh", x), run(hidden, readout, "tanh", x))


def test_unread_units_are_dropped_also_after_merging():
    hidden, readout = random_layers(np.random.default_rng(1), 3, 6, 2)
    readout.weight[:, 4] = 0
    hidden.weight[2], hidden.bias[2] = hidden.weight[0], hidden.bias[0]
    readout.weight[:, 2] = -readout.weight[:, 0]
    found = reduce_units(hidden, readout, activation="relu", tolerance=0.0)
    assert found is not None
    assert found.unread == (0, 4)
    assert found.kept.tolist() == [1, 3, 5]


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("shape", [(4, 3, 2), (1, 1, 1), (3, 0, 2), (50, 600, 5), (2, 5, 3)])
@pytest.mark.parametrize("tolerance", [0.0, 1e-4])
def test_random_layers_say_nothing(activation, shape, tolerance):
    rng = np.random.default_rng(5)
    hidden, readout = random_layers(rng, *shape)
    ranges = ranges_on(hidden, rng.normal(size=(300, shape[0])) * 5)
    assert reduce_units(hidden, readout, activation=activation, tolerance=tolerance, ranges=ranges) is None


def test_without_inputs_there_are_no_ranges():
    hidden, readout = random_layers(np.random.default_rng(5), 3, 4, 2)
    assert ranges_on(hidden, np.zeros((0, 3))) is None
    assert reduce_units(hidden, readout, activation="relu", tolerance=0.0, ranges=None) is None


def test_nan_is_refused():
    hidden, readout = random_layers(np.random.default_rng(5), 3, 4, 2)
    readout.bias[1] = np.nan
    with pytest.raises(BadInput, match=r"readout bias: NaN or infinite at \[1\]"):
        reduce_units(hidden, readout, activation="relu", tolerance=0.0)
