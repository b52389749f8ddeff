"""Machines are learned exactly, minimal and in breadth-first order; what is no small machine is refused."""

from __future__ import annotations

import numpy as np
import pytest
from planted import adder, loop, random_network, sequences, step_adder, tanh_parity

from pellucid.code.recurrent.agreement import observe
from pellucid.code.recurrent.automaton import learn

CASES = {
    "adder": (adder(2), sequences(0, 1, 2), 2),
    "threshold units": (step_adder, sequences(0, 1, 2), 2),
    "tanh units": (tanh_parity, sequences(0, 1), 2),
    "adder in base 7": (adder(7), sequences(0, 6, 2), 2),
    "counter mod 3": (loop(lambda s, x: ([(s[0] + x) % 3], (s[0] + x) % 3), 0), sequences(0, 2), 3),
    "division by 7": (loop(lambda s, x: ([(2 * s[0] + x) % 7], (2 * s[0] + x) // 7), 0), sequences(0, 1), 7),
    "delay by 2": (loop(lambda s, x: ([x, s[0]], s[1]), 0, 0), sequences(0, 1), 4),
    "maximum": (loop(lambda s, x: ([np.maximum(s[0], x)], np.maximum(s[0], x)), 0), sequences(0, 9), 10),
    "two outputs": (loop(lambda s, x: ([s[0] ^ x], (s[0], x)), 0), sequences(0, 1), 2),
    "no memory": (loop(lambda s, a, b: (s, a & b), 0), sequences(0, 1, 2), 1),
}


@pytest.mark.parametrize("name", CASES)
def test_planted_machines_come_back_minimal(name):
    f, x, states = CASES[name]
    found = learn(f, observe(x), budget=60.0)
    assert found.machine is not None, found.trail
    assert found.machine.states == states
    assert found.agreement.mismatches == 0
    words = np.random.default_rng(9).integers(len(found.machine.symbols), size=(200, 40))
    _, y = found.machine.walk(words)
    assert np.array_equal(np.rint(f(np.array(found.machine.symbols)[words].astype(float))), y)


def test_equal_functions_give_equal_machines():
    first, second = (learn(f, observe(sequences(0, 1, 2)), seed=seed) for f, seed in ((adder(2), 0), (step_adder, 5)))
    assert first.machine == second.machine
    assert first.machine.next == ((0, 0, 0, 1), (0, 1, 1, 1))
    assert first.machine.out == (((0,), (1,), (1,), (0,)), ((1,), (0,), (0,), (1,)))
    assert first.access == ((), (3,))


def test_agreement_on_short_alphabets_is_over_all_words():
    found = learn(tanh_parity, observe(sequences(0, 1)))
    assert found.agreement.exhaustive
    assert found.agreement.sequences == 1024


def test_deep_states_are_found_through_counterexamples():
    f = loop(lambda s, x: ([np.minimum(s[0] + x, 6)], (s[0] + x >= 6) * 1), 0)
    found = learn(f, observe(sequences(0, 1)))
    assert found.machine.states == 7
    assert len(found.trail) > 1


def hashed(x):
    """Outputs shuffled over all prefixes: no machine of few states has them."""
    code, y = np.zeros(len(x), dtype=np.int64), []
    for t in range(x.shape[1]):
        code = (code * 6364136223846793005 + x[:, t, 0].astype(np.int64) + 1442695040888963407) & (2**62 - 1)
        y.append((code >> 40) % 2)
    return np.stack(y, 1)[..., None].astype(float)


@pytest.mark.parametrize(
    ("f", "x", "reason"),
    [
        (np.cumsum, sequences(0, 1), "more than 64 states"),
        (hashed, sequences(0, 1), "more than 64 states"),
        (np.cumsum, sequences(0, 99), "too many different inputs"),
        (random_network(0, 4, 1), sequences(-5, 5), "more than 64 states"),
    ],
)
def test_what_is_no_small_machine_is_refused(f, x, reason):
    g = (lambda x: np.cumsum(x, 1)) if f is np.cumsum else f
    found = learn(g, observe(x), budget=60.0)
    assert found.machine is None
    assert reason in found.trail[-1][1]


def test_out_of_time_is_said():
    found = learn(CASES["maximum"][0], observe(sequences(0, 9)), budget=0.0)
    assert found.machine is None
    assert "out of time" in found.trail[-1][1]
