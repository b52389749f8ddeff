"""Boolean expressions: constructors keep the meaning, tables are checked, text is over integers 0 and 1."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.code.expressions.boolean import (
    AtLeast,
    Const,
    Not,
    Var,
    Xor,
    agrees,
    as_table,
    conjunction,
    disjunction,
    evaluate,
    fold,
    negation,
    parity,
    rename,
    restrict,
    rows,
    size,
    support,
    text,
)
from pellucid.errors import BadInput

A, B, C = Var(0), Var(1), Var(2)
ALL = rows(3)


def test_constructors_flatten_and_simplify():
    assert conjunction(A, conjunction(B, C), Const(True), A) == conjunction(A, B, C)
    assert conjunction(A, Const(False)) == Const(False)
    assert disjunction(Const(False), B) == B
    assert parity(A, Not(B), A) == Not(B)
    assert parity(A, Const(True)) == Not(A)
    assert parity(Not(A), Not(parity(B, C))) == Xor((A, B, C))
    assert negation(Not(A)) == A


def test_negated_threshold_is_a_threshold():
    at_least = AtLeast(2, (1, 1, 1), (A, B, C))
    assert np.array_equal(evaluate(negation(at_least), ALL), ~evaluate(at_least, ALL))
    assert text(at_least, "abc") == "a + b + c >= 2"
    assert text(negation(at_least), "abc") == "a + b + c <= 1"


def test_text_and_size():
    assert text(disjunction(conjunction(A, B), conjunction(C, parity(A, B))), "abc") == "(a & b) | (c & (a ^ b))"
    assert text(Not(parity(A, B)), "abc") == "a == b"
    assert text(Not(parity(A, B, C)), "abc") == "a ^ b ^ c ^ 1"
    assert text(conjunction(A, Not(B)), "abc") == "a & (1 - b)"
    assert size(parity(A, B, C)) == 20
    assert size(Not(A)) > size(A)


@pytest.mark.parametrize("values", [[0, 1, 1], [0, 2], [0] * 2**13])
def test_tables_that_are_none_are_refused(values):
    with pytest.raises(BadInput, match="truth table"):
        as_table(values)


def test_support_drops_what_need_not_matter():
    on_b = as_table(evaluate(B, ALL).astype(int))
    assert support(on_b) == (1,)
    assert restrict(on_b, (1,)).tolist() == [0, 1]
    assert fold(on_b, 1) is None
    with pytest.raises(BadInput, match="depends on variable 1"):
        restrict(on_b, (0,))
    half_known = np.where(ALL[:, 0], on_b, -1).astype(np.int8)
    assert support(half_known) == (1,)


def test_rename_and_agrees():
    swapped = rename(conjunction(A, Not(B)), lambda i: Var(1 - i))
    assert agrees(swapped, as_table([0, 0, 1, 0]))
    assert not agrees(swapped, as_table([0, 1, 0, 0]))
    assert agrees(swapped, as_table([-1, -1, 1, -1]))
