"""Planted products of narrow matrices come back; full-rank matrices do not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.code.linear.rank import find_low_rank
from pellucid.errors import BadInput


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 4), st.integers(12, 30), st.integers(12, 30), st.sampled_from([np.float32, np.float64]), st.data()
)
def test_a_planted_product_is_found_with_its_rank(rank, out, inputs, dtype, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    weight = (rng.normal(size=(out, rank)) @ rng.normal(size=(rank, inputs))).astype(dtype)
    found = find_low_rank(weight, budget=0.0)
    assert found is not None
    assert found.left.shape == (out, rank)
    assert found.right.shape == (rank, inputs)
    assert found.left.dtype == dtype
    assert found.residual == np.abs(found.left @ found.right - weight).max()
    assert found.residual <= np.finfo(dtype).eps * 30 * np.linalg.norm(weight, 2)
    assert found.bits < 32 * weight.size


def test_noise_above_the_budget_is_rank_and_below_it_is_not():
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(40, 3)) @ rng.normal(size=(3, 50)) + rng.uniform(-1e-4, 1e-4, (40, 50))
    assert find_low_rank(weight, budget=1e-7) is None
    found = find_low_rank(weight, budget=2e-4)
    assert found is not None
    assert found.left.shape[1] == 3
    assert found.residual <= 2e-4


def test_the_rank_is_the_smallest_within_the_budget():
    rng = np.random.default_rng(0)
    left, right = np.linalg.qr(rng.normal(size=(40, 40)))[0], np.linalg.qr(rng.normal(size=(40, 40)))[0]
    weight = (left * 0.5 ** np.arange(40)) @ right
    found = find_low_rank(weight, budget=1e-3)
    assert found is not None
    rank = found.left.shape[1]
    less = np.abs(found.left[:, : rank - 1] @ found.right[: rank - 1] - weight).max()
    assert found.residual <= 1e-3 < less


@pytest.mark.parametrize("shape", [(64, 64), (100, 3), (2, 2), (1, 1), (1, 9), (9, 1), (0, 4), (4, 0), (0, 0)])
@pytest.mark.parametrize("budget", [0.0, 1e-3])
def test_full_rank_matrices_say_nothing(shape, budget):
    assert find_low_rank(np.random.default_rng(1).normal(size=shape), budget=budget) is None


def test_low_rank_that_saves_nothing_says_nothing():
    rng = np.random.default_rng(1)
    assert find_low_rank(rng.normal(size=(8, 4)) @ rng.normal(size=(4, 8)), budget=0.0) is None


def test_zeros_are_no_product():
    assert find_low_rank(np.zeros((9, 9)), budget=0.0) is None
    assert find_low_rank(np.full((9, 9), 0.1), budget=0.2) is None


def test_nan_is_refused():
    with pytest.raises(BadInput, match="low-rank weight"):
        find_low_rank(np.full((3, 3), np.nan), budget=0.0)
