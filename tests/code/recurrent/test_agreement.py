"""Drawing, querying and comparing: the judge of the searches is tested to reject."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from planted import loop, sequences

from pellucid.code.expressions.expression import Name, linear
from pellucid.code.recurrent.agreement import check_function, compare, draw, drift, enumerate_all, observe
from pellucid.code.recurrent.steps import StepProgram, assign
from pellucid.errors import BadInput

TOTAL = StepProgram(
    ("x",),
    ("y",),
    (("s", Fraction(0)),),
    (assign("s", linear([(1, Name("s")), (1, Name("x"))])), assign("y", Name("s"))),
)


def test_observe_finds_alphabet_or_ranges():
    bits = observe(sequences(0, 1, 2))
    assert bits.symbols == ((0, 0), (0, 1), (1, 0), (1, 1))
    assert bits.length == 10
    wide = observe(sequences(0, 99, 1, n=300))
    assert wide.symbols is None
    assert wide.channels == (tuple(range(100)),)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((0, 10, 1)), "non-empty"),
        (np.full((3, 4, 1), 0.5), "not integers"),
        (np.full((3, 4, 1), np.nan), "not integers"),
    ],
)
def test_inputs_that_cannot_be_read_are_refused(x, message):
    with pytest.raises(BadInput, match=message):
        observe(x)


def test_functions_that_cannot_be_read_are_refused():
    inputs = observe(sequences(0, 1))
    rng = np.random.default_rng(0)
    with pytest.raises(BadInput, match="evaluation mode"):
        check_function(lambda x: x + rng.normal(size=x.shape), inputs)
    with pytest.raises(BadInput, match="later steps"):
        check_function(lambda x: x[:, ::-1], inputs)
    with pytest.raises(BadInput, match="one output per step"):
        check_function(lambda x: x[:, :1], inputs)
    with pytest.raises(BadInput, match="not finite"):
        check_function(lambda x: np.full(x.shape, np.inf), inputs)
    check_function(lambda x: np.cumsum(x, 1), inputs)


def test_drawn_sequences_stay_in_the_domain_and_repeat():
    inputs = observe(sequences(-2, 2, 2))
    x = draw(inputs, np.random.default_rng(1), 100, 7)
    assert x.shape == (100, 7, 2)
    assert {tuple(step) for step in x.reshape(-1, 2).tolist()} <= set(inputs.symbols)
    assert np.array_equal(x, draw(inputs, np.random.default_rng(1), 100, 7))


def test_all_sequences_are_enumerated_once():
    every = enumerate_all(observe(sequences(0, 1)), 2**10)
    assert every.shape == (1024, 10, 1)
    assert len(np.unique(every.reshape(1024, -1), axis=0)) == 1024
    assert enumerate_all(observe(sequences(0, 1)), 100).shape == (64, 6, 1)
    assert enumerate_all(observe(sequences(0, 99)), 2**16) is None


def test_comparison_rejects_one_wrong_step_and_says_where():
    x = sequences(0, 9, n=20)
    y = np.cumsum(x, 1).astype(float)
    good = compare(y, y + 0.3, x)
    assert (good.mismatches, good.example) == (0, None)
    assert good.typical_gap == pytest.approx(0.3)
    wrong = y.copy()
    wrong[7, 4, 0] += 1
    bad = compare(y, wrong, x)
    assert bad.mismatches == 1
    assert bad.example.steps == tuple(map(tuple, x[7, :5].tolist()))
    assert bad.example.program - bad.example.network == 1


def test_explained_tells_meaning_from_rounding():
    x = sequences(0, 1, n=200)
    flat = 0.2 * np.random.default_rng(0).normal(size=x.shape)
    assert compare(flat, np.zeros(x.shape), x).explained <= 0.01
    assert compare(x + 0.05 * flat, x.astype(float), x).explained > 0.99
    assert compare(np.full(x.shape, 0.3), np.zeros(x.shape), x).explained < 0
    assert compare(np.full(x.shape, 3.0), np.full(x.shape, 3.0), x).explained == 1


def test_drift_finds_the_length_at_which_they_part():
    leaky = loop(lambda s, x: ([0.999 * s[0] + x], 0.999 * s[0] + x), 0.0)
    measured = drift(leaky, TOTAL, observe(sequences(0, 9)), limit=60, n=16)
    assert 5 < measured.agree_up_to < 30
    assert len(measured.example.steps) == measured.agree_up_to + 1
    assert abs(measured.example.network - measured.example.program) >= 0.5
    gaps = [gap for _, gap in measured.gaps]
    assert gaps == sorted(gaps)
    assert measured.gaps[-1][0] == 60


def test_drift_counts_overflow_as_parting():
    wild = loop(lambda s, x: ([s[0] * 1e40 + x], s[0] * 1e40 + x), 0.0)
    measured = drift(wild, TOTAL, observe(sequences(1, 9)), limit=60, n=4)
    assert measured.agree_up_to == 1
    assert measured.gaps[-1][1] == np.inf
    same = drift(lambda x: np.cumsum(x, 1), TOTAL, observe(sequences(0, 9)), limit=60, n=4)
    assert (same.agree_up_to, same.example) == (60, None)
