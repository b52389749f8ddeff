"""The whole reading: planted networks come back exactly, controls come back empty, the given networks are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from planted import adder, loop, random_network, sequences, step_adder, tanh_parity

from pellucid.code.recurrent.agreement import compare, draw, observe
from pellucid.code.recurrent.state import StateOptions, prove, read_state
from pellucid.code.recurrent.steps import program_text, run
from pellucid.errors import BadInput

GIVEN = Path(__file__).parents[3] / "../shared/data/rnn_algorithmic"
PROGRAMS = {
    "identity": ["y = x"],
    "prev1": ["x1 = 0", "y = x1", "x1 = x"],
    "prev2": ["x1 = 0", "x2 = 0", "y = x2", "x2 = x1", "x1 = x"],
    "sum_last2": ["x1 = 0", "y = x + x1", "x1 = x"],
    "sum": ["running_total = 0", "running_total = running_total + x", "y = running_total"],
}


def lines(program):
    return [line.strip() for line in program_text(program).splitlines() if line.strip()[:3] not in ("for", "yie")]


def network(path):
    """h = MLP([h, x]), y = MLP(h), ReLU inside, as the data's description has it."""
    arrays = dict(np.load(path))

    def mlp(name, h):
        for i in range(sum(key.startswith(f"{name}|mlp|") and key.endswith("weight") for key in arrays)):
            h = np.maximum(h, 0) if i else h
            h = h @ arrays[f"{name}|mlp|{i}|weight"].T + arrays[f"{name}|mlp|{i}|bias"]
        return h

    def f(x):
        x = x.astype(np.float32)
        h, y = np.zeros((len(x), arrays["hmlp|mlp|0|weight"].shape[1] - x.shape[2]), np.float32), []
        for t in range(x.shape[1]):
            h = mlp("hmlp", np.concatenate([h, x[:, t]], 1))
            y.append(mlp("ymlp", h))
        return np.stack(y, 1).astype(np.float64)

    return f, arrays["test_x"].astype(np.int64)[..., None], arrays["test_y"].astype(np.int64)[..., None]


@pytest.mark.skipif(not GIVEN.is_dir(), reason="data absent")
@pytest.mark.parametrize("name", PROGRAMS)
def test_given_networks_are_read_without_weights(name):
    f, x, y = network(GIVEN / f"rnn_{name}_numerical.npz")
    found = read_state(f, x)
    assert lines(found.program) == PROGRAMS[name]
    assert np.array_equal(run(found.program, x), y)
    fresh = draw(observe(x), np.random.default_rng(77), 10_000, 10)
    assert compare(f(fresh), run(found.program, fresh), fresh).mismatches == 0
    long = draw(observe(x), np.random.default_rng(78), 1000, 100)
    assert (compare(f(long), run(found.program, long), long).mismatches == 0) == (name != "sum")
    assert (found.drift.agree_up_to == found.drift.limit) == (name != "sum")
    if name == "sum":
        assert 20 < found.drift.agree_up_to < 100
        assert len(found.drift.example.steps) == found.drift.agree_up_to + 1
        assert found.response.markov[9, 0, 0] == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize("f", [adder(2), step_adder])
def test_binary_adder_is_read_and_proved(f):
    found = read_state(f, sequences(0, 1, 2))
    assert lines(found.program) == ["carry = 0", "y = carry ^ a ^ b", "carry = carry + a + b >= 2"]
    assert found.machine.states == 2
    assert (found.every.exhaustive, found.every.length, found.every.mismatches) == (True, 8, 0)
    assert prove(f, found.program, observe(sequences(0, 1, 2)), limit=300).length == 4


def test_the_shortest_of_several_readings_wins():
    parity = read_state(tanh_parity, sequences(0, 1))
    assert lines(parity.program) == ["parity = 0", "parity = parity ^ x", "y = parity"]
    majority = read_state(loop(lambda s, x: ([s[0] + 2 * x - 1], (s[0] + 2 * x > 1) * 1), 0), sequences(0, 1))
    assert lines(majority.program)[-1] == "y = balance >= 1"
    assert any("states" in outcome for _, outcome in majority.trail)


def test_an_output_that_ignores_its_input_is_read_over_one_symbol():
    found = read_state(loop(lambda s, x: ([(s[0] + 1) % 3], s[0]), 0), sequences(0, 99))
    assert lines(found.program) == ["residue = 0", "y = residue", "residue = (residue + 1) % 3"]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("low", "high", "channels"), [(0, 1, 1), (0, 1, 2), (-5, 5, 1), (0, 99, 1)])
def test_random_weights_have_no_program(seed, low, high, channels):
    found = read_state(random_network(seed, 6, channels), sequences(low, high, channels), StateOptions(budget=20.0))
    assert found.program is None
    assert found.bits == float("inf")
    assert len(found.trail) >= 2


def test_what_agrees_by_rounding_only_is_refused():
    vague = loop(lambda s, x: ([0.5 * s[0] + 0.3 * x], 0.5 * s[0] + 0.3 * x - 0.2), 0.0)
    found = read_state(vague, sequences(0, 1))
    assert found.program is None
    assert any("by rounding only" in outcome for _, outcome in found.trail)


def test_same_input_same_reading():
    first, second = (read_state(step_adder, sequences(0, 1, 2)) for _ in range(2))
    assert first.program == second.program
    assert first.trail == second.trail
    assert first.drift == second.drift


def test_bad_functions_are_refused():
    with pytest.raises(BadInput, match="evaluation mode"):
        read_state(lambda x: x + np.random.random(x.shape), sequences(0, 1))
    with pytest.raises(BadInput, match="not integers"):
        read_state(lambda x: x, sequences(0, 1) + 0.5)


def test_a_network_that_wavers_and_leaves_its_task_beyond_the_usual_length_is_read_and_says_so():
    task = loop(lambda s, x: ([(s[0] + x) % 3], (s[0] + x) % 3), 0)

    def wavering(x):
        steps = np.arange(x.shape[1])[None, :, None]
        return task(x) + 0.15 * np.sin(3 * x.cumsum(1)) + np.where(steps >= 12, 0.9, 0.0)

    found = read_state(wavering, sequences(0, 2))
    assert lines(found.program) == ["residue = 0", "residue = (residue + x) % 3", "y = residue"]
    assert found.drift.agree_up_to == 12
    assert found.given.mismatches == found.fresh.mismatches == 0
