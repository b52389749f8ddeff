"""Code lengths against codes written out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.code.expressions.bits import (
    floats_bits,
    index_bits,
    integers_bits,
    matrix_bits,
    natural_bits,
    naturals_bits,
    require_finite,
)
from pellucid.errors import BadInput


def gamma(number):
    """The Elias gamma code of a positive number, as text."""
    binary = f"{number:b}"
    return "0" * (len(binary) - 1) + binary


@given(st.integers(0, 10**12))
def test_naturals_are_gamma_coded(number):
    assert natural_bits(number) == len(gamma(number + 1))


@given(st.lists(st.integers(-(2**40), 2**40), max_size=20))
def test_integers_are_folded_and_gamma_coded(numbers):
    folded = [2 * -n if n < 0 else 2 * n + 1 for n in numbers]
    assert integers_bits(np.array(numbers, np.int64)) == sum(len(gamma(n)) for n in folded)


def test_lists_floats_and_indices():
    assert naturals_bits([0, 1, 5]) == 1 + 3 + 5
    assert floats_bits(np.zeros((3, 4))) == 384
    assert [index_bits(count) for count in (0, 1, 2, 3, 4, 5)] == [0, 0, 1, 2, 2, 3]


def test_a_matrix_is_dense_or_a_list_of_entries():
    matrix = np.zeros((8, 8))
    assert matrix_bits(matrix) == 0
    matrix[1, 2] = 1
    assert matrix_bits(matrix) == 32 + 6
    assert matrix_bits(matrix, budget=1.0) == 0
    assert matrix_bits(np.ones((8, 8))) == 64 * 32


def test_the_first_bad_number_is_named():
    with pytest.raises(BadInput, match=r"^fc1: NaN or infinite at \[0, 1\]; [^\n]*$"):
        require_finite("fc1", np.array([[0, np.inf], [np.nan, 0]]))
    require_finite("fc1", np.zeros((0, 3)))
