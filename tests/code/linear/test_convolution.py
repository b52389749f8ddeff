"""Planted convolutions come back exactly; what is not a convolution does not."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pellucid.code.linear.convolution import dense_matrix, find_convolution, matrix_of
from pellucid.errors import BadInput

F32 = np.float32


def torch_matrix(kernel, in_shape, stride, padding, dilation, groups):
    size = int(np.prod(in_shape))
    basis = torch.eye(size).reshape(size, *in_shape)
    function = torch.nn.functional.conv1d if kernel.ndim == 3 else torch.nn.functional.conv2d
    out = function(basis, torch.from_numpy(kernel), None, stride, padding, dilation, groups)
    return out.flatten(1).T.numpy()


def plant(rng, out_channels, in_shape, size, groups=1):
    return rng.normal(size=(out_channels, in_shape[0] // groups, *size)).astype(F32)


LAYOUTS = [
    # out channels, in shape, kernel, stride, padding, dilation, groups
    (1, (1, 28, 28), (3, 3), (1, 1), (1, 1), (1, 1), 1),
    (1, (1, 28, 28), (5, 5), (2, 2), (2, 2), (1, 1), 1),
    (4, (3, 12, 12), (3, 3), (1, 1), (0, 0), (1, 1), 1),
    (4, (2, 13, 13), (3, 3), (2, 2), (1, 1), (1, 1), 1),
    (3, (2, 15, 15), (3, 3), (3, 3), (2, 2), (1, 1), 1),
    (2, (3, 10, 14), (5, 3), (1, 2), (2, 1), (1, 1), 1),
    (2, (1, 14, 9), (1, 4), (1, 1), (0, 3), (1, 1), 1),
    (5, (2, 16, 16), (3, 3), (1, 1), (2, 2), (2, 2), 1),
    (4, (4, 10, 10), (3, 3), (1, 1), (1, 1), (1, 1), 4),
    (6, (4, 10, 10), (3, 3), (2, 2), (1, 1), (1, 1), 2),
    (8, (3, 16, 16), (4, 4), (4, 4), (0, 0), (1, 1), 1),
    (3, (2, 64), (1,), (1,), (0,), (1,), 1),
    (1, (1, 100), (5,), (1,), (2,), (1,), 1),
    (4, (3, 40), (5,), (2,), (4,), (1,), 1),
    (2, (3, 41), (3,), (3,), (0,), (1,), 1),
    (2, (2, 50), (3,), (1,), (4,), (4,), 1),
    (6, (6, 20), (3,), (1,), (1,), (1,), 6),
]


@pytest.mark.parametrize(("out", "in_shape", "size", "stride", "padding", "dilation", "groups"), LAYOUTS)
def test_planted_convolution_is_recovered_exactly(out, in_shape, size, stride, padding, dilation, groups):
    kernel = plant(np.random.default_rng(7), out, in_shape, size, groups)
    matrix = torch_matrix(kernel, in_shape, stride, padding, dilation, groups)
    bias = np.repeat(np.arange(out, dtype=F32), matrix.shape[0] // out)
    found = find_convolution(matrix, bias, budget=0.0)
    assert found is not None
    assert found.kernel.tobytes() == kernel.tobytes()
    assert found.kernel.shape == kernel.shape
    assert (found.in_shape, found.out_shape[0]) == (in_shape, out)
    assert (found.stride, found.padding, found.groups) == (stride, padding, groups)
    assert all(d == e or k == 1 for d, e, k in zip(found.dilation, dilation, size, strict=True))
    assert found.bias is not None
    assert found.bias.tolist() == list(range(out))
    assert found.dense_bias is None
    assert found.residual == 0
    assert np.array_equal(matrix_of(found), matrix)


@pytest.mark.parametrize(("out", "in_shape", "size", "stride", "padding", "dilation", "groups"), LAYOUTS)
def test_dense_matrix_is_torchs(out, in_shape, size, stride, padding, dilation, groups):
    kernel = plant(np.random.default_rng(3), out, in_shape, size, groups)
    ours = dense_matrix(kernel, in_shape, stride, padding, dilation, groups)
    assert np.array_equal(ours, torch_matrix(kernel, in_shape, stride, padding, dilation, groups))


@st.composite
def convolutions(draw):
    spatial = draw(st.integers(1, 2))
    longest = 12 if spatial == 2 else 40
    in_shape = (draw(st.integers(1, 3)), *(draw(st.integers(7, longest)) for _ in range(spatial)))
    size = tuple(draw(st.integers(1, 4)) for _ in range(spatial))
    stride = tuple(draw(st.integers(1, 3)) for _ in range(spatial))
    padding = tuple(draw(st.integers(0, k - 1)) for k in size)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return plant(rng, draw(st.integers(1, 4)), in_shape, size), in_shape, stride, padding


@settings(max_examples=50, deadline=None)
@given(convolutions())
def test_any_planted_convolution_is_rebuilt_bitwise_and_never_longer(planted):
    kernel, in_shape, stride, padding = planted
    matrix = dense_matrix(kernel, in_shape, stride, padding)
    found = find_convolution(matrix, budget=0.0)
    assert found is not None
    assert np.array_equal(matrix_of(found), matrix)
    assert found.kernel.size <= kernel.size
    if found.in_shape == in_shape and found.kernel.shape == kernel.shape and found.padding == padding:
        assert np.array_equal(found.kernel, kernel)


def occurrences(row, column, matrix, in_shape, kernel, stride, padding):
    """How many entries of the matrix show the same kernel number, or the same zero, as this one."""
    out_shape = [
        (size + 2 * pad - taps) // step + 1
        for size, pad, taps, step in zip(in_shape[1:], padding, kernel.shape[2:], stride, strict=True)
    ]
    count = 1
    outs, ins = np.unravel_index(row, (len(kernel), *out_shape))[1:], np.unravel_index(column, in_shape)[1:]
    for out, place, size_out, size, step in zip(outs, ins, out_shape, in_shape[1:], stride, strict=True):
        count *= sum(0 <= place + step * (other - out) < size for other in range(size_out))
    return count


@settings(max_examples=50, deadline=None)
@given(convolutions(), st.data())
def test_one_changed_entry_is_rejected(planted, data):
    kernel, in_shape, stride, padding = planted
    matrix = dense_matrix(kernel, in_shape, stride, padding)
    row, column = (data.draw(st.integers(0, size - 1)) for size in matrix.shape)
    assume(occurrences(row, column, matrix, in_shape, kernel, stride, padding) > 1)
    matrix[row, column] += F32(0.5)
    assert find_convolution(matrix, budget=0.0) is None


@pytest.mark.parametrize(("row", "column"), [(0, 0), (100, 77), (255, 191), (127, 0), (63, 64)])
@pytest.mark.parametrize("change", [0.5, 1e-3, -1.0])
def test_a_matrix_one_entry_off_is_rejected(row, column, change):
    matrix = dense_matrix(plant(np.random.default_rng(1), 4, (3, 8, 8), (3, 3)), (3, 8, 8), (1, 1), (1, 1))
    matrix[row, column] += F32(change)
    assert find_convolution(matrix, budget=0.0) is None
    assert find_convolution(matrix, budget=1e-4) is None


def test_a_kernel_wider_than_the_image_is_no_finding():
    assert find_convolution(np.ones((64, 64), F32), budget=0.0) is None
    toeplitz = np.random.default_rng(0).normal(size=39)[np.arange(20)[:, None] - np.arange(20) + 19]
    assert find_convolution(toeplitz, budget=0.0) is None


def test_noise_within_the_budget_is_averaged_out_and_beyond_it_rejected():
    rng = np.random.default_rng(5)
    kernel = plant(rng, 4, (2, 12, 12), (3, 3))
    matrix = dense_matrix(kernel, (2, 12, 12), (1, 1), (1, 1))
    noisy = matrix + rng.uniform(-1e-3, 1e-3, matrix.shape).astype(F32)
    found = find_convolution(noisy, budget=1.5e-3)
    assert found is not None
    assert np.abs(found.kernel - kernel).max() < 3e-4
    assert found.residual == pytest.approx(np.abs(matrix_of(found) - noisy).max(), rel=1e-3)
    assert 5e-4 < found.residual <= 1.5e-3
    assert find_convolution(noisy, budget=5e-4) is None
    assert find_convolution(noisy, budget=0.0) is None


def test_one_entry_off_within_the_budget_is_a_convolution_with_that_residual():
    matrix = dense_matrix(plant(np.random.default_rng(1), 1, (1, 12, 12), (3, 3)), (1, 12, 12), (1, 1), (1, 1))
    matrix[40, 100] = F32(0.01)
    found = find_convolution(matrix, budget=0.02)
    assert found is not None
    assert found.residual == pytest.approx(0.01)


def test_a_bias_that_is_not_constant_per_channel_stays_dense():
    matrix = dense_matrix(plant(np.random.default_rng(1), 2, (1, 8, 8), (3, 3)), (1, 8, 8), (1, 1), (1, 1))
    bias = np.zeros(128, F32)
    bias[5] = 1
    found = find_convolution(matrix, bias, budget=0.0)
    assert found is not None
    assert found.bias is None
    assert np.array_equal(found.dense_bias, bias)
    within = find_convolution(matrix, bias, budget=1.0)
    assert within is None or within.bias is not None


def test_kernel_rows_of_zeros_at_the_edge_still_rebuild_the_matrix():
    kernel = plant(np.random.default_rng(1), 2, (1, 12, 12), (3, 3))
    kernel[:, :, 2] = 0
    kernel[:, :, :, 0] = 0
    matrix = dense_matrix(kernel, (1, 12, 12), (2, 1), (1, 1))
    found = find_convolution(matrix, budget=0.0)
    assert found is not None
    assert np.array_equal(matrix_of(found), matrix)


@pytest.mark.parametrize("shape", [(784, 784), (64, 96), (2048, 768), (10, 64), (7, 5), (8, 8)])
@pytest.mark.parametrize("budget", [0.0, 1e-3])
def test_random_dense_matrices_are_rejected(shape, budget):
    assert find_convolution(np.random.default_rng(2).normal(size=shape).astype(F32), budget=budget) is None


@pytest.mark.parametrize("size", [12, 36, 64, 100, 784])
def test_permutations_and_diagonals_are_rejected(size):
    rng = np.random.default_rng(size)
    permutation = np.eye(size, dtype=F32)[rng.permutation(size)]
    assert find_convolution(permutation, budget=0.0) is None
    assert find_convolution(permutation * rng.normal(size=size).astype(F32), budget=0.0) is None
    assert find_convolution(np.diag(rng.normal(size=size)), budget=0.0) is None


@pytest.mark.parametrize("density", [0.01, 0.05, 0.5])
def test_sparse_zero_one_matrices_are_rejected(density):
    matrix = (np.random.default_rng(4).random((144, 120)) < density).astype(F32)
    assert find_convolution(matrix, budget=0.0) is None
    assert find_convolution(matrix, budget=1e-3) is None


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (1, 1), (1, 7), (7, 1), (2, 2)])
def test_odd_shapes_say_nothing(shape):
    rng = np.random.default_rng(0)
    for budget in (0.0, 1e-3, 10.0):
        assert find_convolution(np.zeros(shape), rng.normal(size=shape[0]), budget=budget) is None
        assert find_convolution(rng.normal(size=shape), budget=budget) is None


def test_nan_is_refused_in_one_line():
    matrix = np.ones((4, 4))
    matrix[1, 2] = np.nan
    with pytest.raises(BadInput, match=r"convolution weight: NaN or infinite at \[1, 2\]"):
        find_convolution(matrix, budget=0.0)


def test_large_matrices_take_seconds():
    kernel = plant(np.random.default_rng(1), 8, (3, 16, 16), (3, 3))
    matrix = dense_matrix(kernel, (3, 16, 16), (1, 1), (1, 1))
    start = time.process_time()
    found = find_convolution(matrix, budget=0.0)
    assert found is not None
    assert np.array_equal(found.kernel, kernel)
    assert time.process_time() - start < 10
