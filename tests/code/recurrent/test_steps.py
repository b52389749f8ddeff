"""Step programs run, print, and keep their meaning when tidied and shared."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from pellucid.code.expressions.expression import Name, call, linear, number
from pellucid.code.recurrent.steps import Assign, StepProgram, assign, program_bits, program_text, run, share, tidy

S, X = Name("s"), Name("x")


def program(*body, state=(("s", Fraction(0)),)):
    return StepProgram(("x",), ("y",), state, body)


def test_body_runs_in_order_and_blocks_at_once():
    swap = StepProgram(("x",), ("y",), (("a", Fraction(0)), ("b", Fraction(1))), (
        Assign(("a", "b"), (Name("b"), linear([(1, Name("a")), (1, Name("b"))]))), assign("y", Name("a")),
    ))  # fmt: skip
    assert run(swap, np.zeros((1, 8, 1)))[0, :, 0].tolist() == [1, 1, 2, 3, 5, 8, 13, 21]


def test_text_is_the_loop():
    total = program(assign("s", linear([(1, S), (1, X)])), assign("y", S))
    assert program_text(total) == "s = 0\nfor x in steps:\n    s = s + x\n    y = s\n    yield y"


def test_large_numbers_stay_exact():
    doubling = program(assign("s", linear([(2, S), (1, X)])), assign("y", call("mod", S, number(7))))
    x = np.random.default_rng(0).integers(0, 2, (3, 200, 1))
    expected = [[int("".join(map(str, row[: t + 1, 0])), 2) % 7 for t in range(200)] for row in x]
    assert run(doubling, x)[..., 0].tolist() == expected


def test_fractions_are_reals():
    decay = program(assign("s", linear([(Fraction(1, 2), S), (1, X)])), assign("y", S))
    assert run(decay, np.ones((1, 4, 1)))[0, :, 0].tolist() == [1, 1.5, 1.75, 1.875]


def test_tidy_drops_what_nothing_reads():
    state = (("s", Fraction(0)), ("z", Fraction(3)))
    kept = tidy(program(assign("z", X), assign("s", X), assign("y", S), state=state))
    assert kept.state == (("s", Fraction(0)),)
    assert [step.targets for step in kept.body] == [("s",), ("y",)]


def test_common_parts_are_computed_once_where_that_is_shorter():
    long = linear([(2, S), (1, X)])
    twice = program(assign("y", call("floordiv", long, number(5))), assign("s", call("mod", long, number(5))))
    shared = share(twice)
    assert program_text(shared).splitlines()[2:5] == ["    t = 2 * s + x", "    y = t // 5", "    s = t % 5"]
    assert program_bits(shared) < program_bits(twice)
    x = np.random.default_rng(0).integers(0, 2, (50, 20, 1))
    assert np.array_equal(run(shared, x), run(twice, x))


def test_nothing_is_shared_across_a_change_of_the_state():
    long = linear([(2, S), (1, X)], 1)
    body = (assign("s", call("mod", long, number(5))), assign("y", call("floordiv", long, number(5))))
    assert share(program(*body)) == program(*body)
