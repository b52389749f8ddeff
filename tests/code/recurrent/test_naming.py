"""State variables are called by what they hold; names that fit several, or none, are not given."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from pellucid.code.expressions.expression import Name, call, linear, number
from pellucid.code.recurrent.naming import with_names
from pellucid.code.recurrent.steps import Assign, StepProgram, assign, program_text, run
from pellucid.code.recurrent.writing import block_of
from pellucid.ir.graph import Block
from pellucid.ir.naming import given_name

S, X, A, B = map(Name, ("s", "x", "a", "b"))
TOTAL = linear([(1, S), (1, A), (1, B)])
CASES = {
    "running_total": (("x",), linear([(1, S), (1, X)]), 0),
    "balance": (("x",), linear([(1, S), (2, X)], -1), 0),
    "counted": (("x",), linear([(1, S), (1, call("eq", X, number(2)))]), 0),
    "position": (("x",), linear([(1, S)], 1), 0),
    "odd": (("x",), linear([(-1, S)], 1), 0),
    "highest": (("x",), call("max", S, X), -5),
    "lowest": (("x",), call("min", S, X), 5),
    "parity": (("a", "b"), call("xor", S, call("and", A, B)), 0),
    "residue": (("x",), call("mod", linear([(2, S), (1, X)]), number(7)), 0),
    "carry": (("a", "b"), call("ge", TOTAL, number(4)), 0),
    "s": (("x",), linear([(3, S), (1, X)]), 0),
}


def single(inputs, update, start):
    return StepProgram(inputs, ("y",), (("s", Fraction(start)),), (assign("s", update), assign("y", S)))


@pytest.mark.parametrize("name", CASES)
def test_a_variable_is_called_by_what_it_holds(name):
    program = single(*CASES[name])
    named = with_names(program)
    assert named.state[0][0] == name
    x = np.random.default_rng(0).integers(0, 2, (20, 8, len(program.inputs)))
    assert np.array_equal(run(named, x), run(program, x))


@pytest.mark.parametrize("name", ["running_total", "counted", "parity", "carry"])
def test_another_start_is_another_meaning(name):
    inputs, update, _ = CASES[name]
    assert with_names(single(inputs, update, 3)).state[0][0] == "s"


def test_values_of_the_step_are_looked_through():
    body = (assign("t", TOTAL), assign("y", call("mod", Name("t"), number(5))),
            assign("s", call("ge", Name("t"), number(5))))  # fmt: skip
    named = with_names(StepProgram(("a", "b"), ("y",), (("s", Fraction(0)),), body))
    assert program_text(named).splitlines()[0] == "carry = 0"


def test_totals_of_totals_and_names_that_fit_several():
    add = lambda to, part: assign(to, linear([(1, Name(to)), (1, Name(part))]))  # noqa: E731
    state = (("s1", Fraction(0)), ("s2", Fraction(0)))
    moving = StepProgram(("x",), ("y",), state, (add("s1", "x"), add("s2", "s1"), assign("y", Name("s2"))))
    assert [name for name, _ in with_names(moving).state] == ["running_total", "sum_of_totals"]
    two = StepProgram(("a", "b"), ("y",), state, (add("s1", "a"), add("s2", "b"), assign("y", Name("s2"))))
    assert with_names(two) == two


def test_names_of_operations_are_replaced():
    update = linear([(1, Name("total")), (1, X)])
    program = StepProgram(
        ("x",), ("y",), (("total", Fraction(0)),), (assign("total", update), assign("y", Name("total")))
    )
    assert with_names(program).state[0][0] == "running_total"


def test_names_in_use_and_variables_set_twice_are_left():
    taken = StepProgram(
        ("x",),
        ("running_total",),
        (("s", Fraction(0)),),
        (assign("s", CASES["running_total"][1]), assign("running_total", S)),
    )
    assert with_names(taken) == taken
    twice = single(*CASES["running_total"])
    twice = StepProgram(twice.inputs, twice.outputs, twice.state, (*twice.body, Assign(("s",), (number(0),))))
    assert with_names(twice) == twice


def test_operations_that_are_words_of_python_make_no_names():
    block = block_of(single(*CASES["parity"]), "x", "y")

    def names(inside: Block) -> list[str]:
        found = [name for node in inside.nodes for name in node.outputs]
        return found + [name for node in inside.nodes if node.body for name in names(node.body)]

    assert all(name.isidentifier() and name not in ("and", "or", "not", "in") for name in names(block))
    assert "both" in names(block)


@pytest.mark.parametrize("name", CASES)
def test_the_printer_keeps_the_names(name):
    assert given_name(name) == name
