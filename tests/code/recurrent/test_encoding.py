"""Machines become the programs that a person would write."""

from __future__ import annotations

import numpy as np
import pytest
from planted import adder, loop, sequences

from pellucid.code.recurrent.agreement import observe
from pellucid.code.recurrent.automaton import Machine, learn
from pellucid.code.recurrent.encoding import encode
from pellucid.code.recurrent.steps import program_text, run


def alternates(lags):
    def step(s, x):
        past = [x, *s]
        return past[:lags], np.logical_and.reduce([(a != b) & (b >= 0) for a, b in zip(past, s, strict=False)]) * 1

    return loop(step, *[-1] * lags)


CASES = {
    "adder": (adder(2), sequences(0, 1, 2), ["s = 0", "y = s ^ a ^ b", "s = s + a + b >= 2"]),
    "adder in base 5": (adder(5), sequences(0, 4, 2), ["s = 0", "t = s + a + b", "y = t % 5", "s = t >= 5"]),
    "counter": (loop(lambda s, x: ([(s[0] + x) % 6], (s[0] + x) % 6), 0), sequences(0, 5),
                ["s = 0", "s = (s + x) % 6", "y = s"]),
    "division": (loop(lambda s, x: ([(2 * s[0] + x) % 5], (2 * s[0] + x) // 5), 0), sequences(0, 1),
                 ["s = 0", "t = 2 * s + x", "y = t // 5", "s = t % 5"]),
    "parity": (loop(lambda s, x: ([s[0] ^ x], s[0] ^ x), 0), sequences(0, 1), ["s = 0", "s = s ^ x", "y = s"]),
    "parity of 3": (loop(lambda s, x: ([x, s[0]], x ^ s[0] ^ s[1]), 0, 0), sequences(0, 1),
                    ["x1 = 0", "x2 = 0", "y = x ^ x1 ^ x2", "x2 = x1", "x1 = x"]),
    "equal": (loop(lambda s, x: ([x], (x == s[0]) * 1), -1), sequences(0, 1), ["x1 = -1", "y = x == x1", "x1 = x"]),
    "alternate": (alternates(2), sequences(0, 1),
                  ["x1 = -1", "x2 = -1", "y = (x != x1) & (x == x2)", "x2 = x1", "x1 = x"]),
    "maximum": (loop(lambda s, x: ([np.maximum(s[0], x)], np.maximum(s[0], x)), 0), sequences(0, 9),
                ["s = 0", "s = max(s, x)", "y = s"]),
    "maximum of both signs": (loop(lambda s, x: ([np.maximum(s[0], x)], np.maximum(s[0], x)), -99), sequences(-5, 5),
                              ["s = -5", "s = max(s, x)", "y = s"]),
    "change": (loop(lambda s, x: ([x], abs(x - s[0])), 0), sequences(0, 7), ["x1 = 0", "y = abs(x - x1)", "x1 = x"]),
    "dithering": (loop(lambda s, x: ([s[0] + x - 8 * (s[0] + x >= 4)], (s[0] + x >= 4) * 1), 0), sequences(0, 7),
                  ["s = 4", "y = (s + x) // 8", "s = (s + x) % 8"]),
    "position": (loop(lambda s, x: ([1 - s[0]], s[0]), 0), sequences(0, 1), ["s = 0", "y = s", "s = 1 - s"]),
    "no memory": (loop(lambda s, a, b: (s, (a & b, 1 - a)), 0), sequences(0, 1, 2), ["y1 = a & b", "y2 = 1 - a"]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_planted_programs_come_back(name):
    f, x, lines = CASES[name]
    learned = learn(f, observe(x), budget=60.0)
    outputs = ("y",) if learned.machine.tables[1].shape[2] == 1 else ("y1", "y2")
    found = encode(learned.machine, learned.access, ("x",) if x.shape[2] == 1 else ("a", "b"), outputs, budget=60.0)
    assert found.program is not None, found.trail
    written = [
        line.strip() for line in program_text(found.program).splitlines() if line.strip()[:3] not in ("for", "yie")
    ]
    assert written == lines
    longer = np.random.default_rng(1).choice(np.unique(x), (50, 60, x.shape[2]))
    assert np.array_equal(run(found.program, longer), f(longer))


def random_machine(states, symbols, seed):
    rng = np.random.default_rng(seed)
    following = rng.integers(states, size=(states, symbols))
    following[:, 0] = (np.arange(states) + 1) % states
    out = rng.integers(3, size=(states, symbols, 1))
    access = tuple((0,) * s for s in range(states))
    vectors = tuple((i,) for i in range(symbols))
    tables = tuple(map(tuple, following.tolist())), tuple(tuple(map(tuple, row)) for row in out.tolist())
    return Machine(vectors, *tables), access


def test_machines_without_rhyme_are_tables_up_to_64_rows():
    machine, access = random_machine(7, 3, 0)
    found = encode(machine, access, ("x",), ("y",), budget=60.0)
    assert "{(0, 0):" in program_text(found.program)
    words = np.random.default_rng(1).integers(3, size=(100, 30))
    assert np.array_equal(run(found.program, words[..., None]), machine.walk(words)[1])


def test_beyond_64_rows_there_is_no_program():
    machine, access = random_machine(13, 5, 0)
    found = encode(machine, access, ("x",), ("y",), budget=60.0)
    assert found.program is None
    assert {outcome for _, outcome in found.trail} == {"no"}
