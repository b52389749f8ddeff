"""Planted blocks come back under any order of rows and columns; a matrix of one piece does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.code.linear.blocks import find_blocks, matrix_of
from pellucid.errors import BadInput


def plant(rng, sizes, zero_rows=0, zero_columns=0):
    """A shuffled block-diagonal matrix and the (rows, columns) of its blocks as sets."""
    shape = (sum(o for o, _ in sizes) + zero_rows, sum(i for _, i in sizes) + zero_columns)
    row_order, column_order = rng.permutation(shape[0]), rng.permutation(shape[1])
    matrix, groups, top, left = np.zeros(shape), set(), 0, 0
    for out, inputs in sizes:
        rows, columns = row_order[top : top + out], column_order[left : left + inputs]
        matrix[np.ix_(rows, columns)] = rng.uniform(0.5, 1.5, (out, inputs)) * rng.choice([-1, 1], (out, inputs))
        groups.add((frozenset(rows.tolist()), frozenset(columns.tolist())))
        top, left = top + out, left + inputs
    return matrix, groups, set(row_order[top:].tolist()), set(column_order[left:].tolist())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=3, max_size=6),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(0, 2**32),
)
def test_planted_blocks_are_found_whatever_the_order(sizes, zero_rows, zero_columns, seed):
    matrix, groups, rows, columns = plant(np.random.default_rng(seed), sizes, zero_rows, zero_columns)
    found = find_blocks(matrix, tolerance=0.0)
    assert found is not None
    assert {(frozenset(b.rows.tolist()), frozenset(b.columns.tolist())) for b in found.blocks} == groups
    assert set(found.zero_rows.tolist()) == rows
    assert set(found.zero_columns.tolist()) == columns
    assert [b.rows[0] for b in found.blocks] == sorted(b.rows[0] for b in found.blocks)
    assert np.array_equal(matrix_of(found), matrix)
    assert found.residual == 0


def test_small_entries_between_blocks_need_the_tolerance():
    rng = np.random.default_rng(0)
    matrix, groups, _, _ = plant(rng, [(4, 6), (5, 3)])
    noisy = np.where(matrix == 0, rng.uniform(-1e-4, 1e-4, matrix.shape), matrix)
    assert find_blocks(noisy, tolerance=1e-6) is None
    found = find_blocks(noisy, tolerance=1e-3)
    assert found is not None
    assert len(found.blocks) == len(groups)
    assert found.residual == np.abs(matrix_of(found) - noisy).max()
    assert 0 < found.residual <= 1e-4


def test_the_bits_are_those_of_the_blocks_and_of_naming_them():
    matrix, *_ = plant(np.random.default_rng(0), [(4, 6), (5, 3)])
    found = find_blocks(matrix, tolerance=0.0)
    assert found is not None
    assert found.bits == 32 * (24 + 15) + 18 * 2


def test_unused_inputs_and_constant_outputs():
    matrix = np.random.default_rng(0).normal(size=(6, 8))
    matrix[2] = 0
    matrix[:, [1, 7]] = 0
    found = find_blocks(matrix, tolerance=0.0)
    assert found is not None
    assert found.zero_rows.tolist() == [2]
    assert found.zero_columns.tolist() == [1, 7]
    assert len(found.blocks) == 1


def test_a_zero_matrix_has_no_blocks():
    found = find_blocks(np.zeros((3, 2)), tolerance=0.0)
    assert found is not None
    assert found.blocks == ()
    assert found.zero_rows.tolist() == [0, 1, 2]
    assert np.array_equal(matrix_of(found), np.zeros((3, 2)))


@pytest.mark.parametrize("shape", [(64, 64), (3, 50), (1, 1), (5, 1), (1, 5), (0, 4), (4, 0), (0, 0)])
@pytest.mark.parametrize("tolerance", [0.0, 1e-6])
def test_a_matrix_of_one_piece_says_nothing(shape, tolerance):
    assert find_blocks(np.random.default_rng(1).normal(size=shape), tolerance=tolerance) is None


def test_one_entry_between_two_blocks_joins_them():
    matrix, *_ = plant(np.random.default_rng(0), [(4, 4), (4, 4)])
    matrix[tuple(np.argwhere(matrix == 0)[5])] = 1e-9
    assert find_blocks(matrix, tolerance=0.0) is None


def test_infinity_is_refused():
    with pytest.raises(BadInput, match="block weight"):
        find_blocks(np.array([[1.0, np.inf]]), tolerance=0.0)
