"""Truth tables come back as the expression they were planted from, or a shorter one; covers are minimal."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.code.expressions.boolean import agrees, as_table, evaluate, rows, size, text
from pellucid.code.expressions.boolean_cover import (
    affine,
    cover,
    primes,
    reed_muller,
    sum_of_monomials,
    sum_of_products,
)
from pellucid.code.expressions.boolean_search import decompose, minimise, threshold
from pellucid.code.expressions.formulas import formula, formulas, shortest


def table(f, n, care=lambda *_: True):
    return as_table([int(f(*row)) if care(*row) else -1 for row in rows(n).astype(int).tolist()])


@pytest.mark.parametrize(
    ("f", "n", "expected"),
    [
        (lambda a, b, c: a ^ b ^ c, 3, "a ^ b ^ c"),
        (lambda a, b, c: a + b + c >= 2, 3, "a + b + c >= 2"),
        (lambda a, b, c, d, e: a + b + c + d + e >= 3, 5, "a + b + c + d + e >= 3"),
        (lambda a, b, c, d, e: 2 * a - b + c + d - e >= 2, 5, "2 * a - b + c + d - e >= 2"),
        (lambda a, b: 1 - (a | b), 2, "1 - (a | b)"),
        (lambda *v: sum(v) % 2, 8, "a ^ b ^ c ^ d ^ e ^ f ^ g ^ h"),
        (lambda a, b, c, d, e, f: (a & b) | ((c ^ d) & (e | f)), 6, "(a & b) | ((c ^ d) & (e | f))"),
        (lambda *v: (v[0] & v[1]) ^ (v[2] & v[3]) ^ (v[4] & v[5]), 6, "(a & b) ^ (c & d) ^ (e & f)"),
        (lambda a, b, c: 1, 3, "1"),
        (lambda a, b, c: b, 3, "b"),
    ],
)
def test_planted_functions_come_back(f, n, expected):
    assert text(minimise(table(f, n)).expr, "abcdefgh") == expected


def test_majority_without_thresholds_is_a_formula_of_five_leaves():
    code, bits = shortest(table(lambda a, b, c: a + b + c >= 2, 3))
    assert bits == 36
    assert agrees(formula(code), table(lambda a, b, c: a + b + c >= 2, 3))


def test_what_does_not_matter_makes_it_shorter():
    assert text(minimise(table(lambda a, b, c: a ^ b ^ c, 3, lambda a, b, c: c == 0)).expr, "abc") == "a ^ b"
    free = minimise(table(lambda *_: 0, 3, lambda *_: False))
    assert text(free.expr, "abc") == "0"


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(0, 2**32), st.booleans())
def test_every_table_is_met_wherever_it_matters(n, seed, partly):
    rng = np.random.default_rng(seed)
    values = as_table(rng.integers(-1 if partly else 0, 2, 2**n))
    found = minimise(values)
    assert agrees(found.expr, values)
    assert found.bits == size(found.expr) <= size(sum_of_products(cover(values)))


def test_formulas_reach_every_function_of_four_variables():
    known = formulas(7)
    assert (known.level <= 7).sum() == 2**16 - 2
    counts = [int((known.level == r).sum()) for r in range(8)]
    assert counts == [8, 60, 456, 2474, 10624, 24184, 24640, 3088], "Knuth 4A, 7.1.2, without the two constants"
    rng = np.random.default_rng(0)
    for code in rng.integers(1, 2**16 - 1, 50):
        assert evaluate(formula(int(code)), rows(4)).tolist() == [bool(int(code) >> k & 1) for k in range(16)]


@pytest.mark.parametrize("seed", range(4))
def test_cover_is_as_small_as_any(seed):
    values = as_table(np.random.default_rng(seed).integers(0, 2, 8))
    cubes, cost = primes(values), lambda chosen: sum(1 + mask.bit_count() for _, mask in chosen)
    covering = (
        chosen
        for k in range(len(cubes) + 1)
        for chosen in itertools.combinations(cubes, k)
        if agrees(sum_of_products(chosen), values)
    )
    assert cost(cover(values)) == min(map(cost, covering))


def test_greedy_cover_still_covers():
    values = as_table(np.random.default_rng(1).integers(0, 2, 2**7))
    assert agrees(sum_of_products(cover(values, nodes=1)), values)


def test_threshold_finds_the_smallest_weights_and_refuses_the_rest():
    found = threshold(table(lambda a, b, c, d: 3 * a + 2 * b + c - d >= 3, 4))
    assert found is not None
    assert sum(map(abs, found.weights)) <= 7
    assert agrees(found, table(lambda a, b, c, d: 3 * a + 2 * b + c - d >= 3, 4))
    assert threshold(table(lambda a, b: a ^ b, 2)) is None
    assert threshold(table(lambda a, b, c, d: (a & b) | (c & d), 4)) is None
    assert threshold(table(lambda a, b: 1, 2)) is None


def test_normal_forms():
    values = table(lambda a, b, c: a ^ (b & c), 3)
    assert reed_muller(values) == (0b001, 0b110)
    assert agrees(sum_of_monomials(reed_muller(values)), values)
    assert affine(values) is None
    assert text(affine(table(lambda a, b, c: a ^ c ^ 1, 3)), "abc") == "a == c"
    some = table(lambda a, b, c: a ^ c ^ 1, 3, lambda a, b, c: b)
    assert agrees(affine(some), some)


def test_decomposition_writes_a_comparison_of_numbers_bit_by_bit():
    bigger = table(lambda a, b, c, d, e, f: a + 2 * b + 4 * c > d + 2 * e + 4 * f, 6)
    assert agrees(decompose(bigger), bigger)
    assert minimise(bigger).bits < 100


def test_out_of_time_the_first_forms_still_answer():
    found = minimise(as_table(np.random.default_rng(0).integers(0, 2, 2**6)), budget=0.0)
    assert any("out of time" in outcome for _, outcome in found.trail)
