"""Matrices planted in networks come back as what they are, put back into the network; changed ones do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from network_planted import code, dense, has_code, off, read
from torch import nn

from pellucid.code.linear import layers, matrices
from pellucid.code.linear.convolution import dense_matrix
from pellucid.code.linear.layers import LOW_RANK, MATRICES, SCALES, UNITS
from pellucid.ir.bits import block_bits
from pellucid.ir.interpret import run_functions
from pellucid.ir.validate import validate

ALL = (MATRICES, LOW_RANK, SCALES, UNITS)


def ops(reading):
    return [node.op for node in reading.body.nodes]


def check(program, network, inputs, budget=1e-5):
    """The program is valid, equals the network, and its code readings are shorter than what they stand for."""
    validate(program)
    assert off(program, network, inputs) < budget
    for name in has_code(program):
        reading = code(program, name)
        assert reading.bits == block_bits(reading.body, program.weights)


CONVOLUTIONS = [
    ((3, 1, 5), (1, 32), (1,), (2,)),
    ((4, 2, 3), (2, 24), (2,), (1,)),
    ((4, 2, 3, 3), (2, 8, 8), (1, 1), (1, 1)),
    ((3, 1, 3, 3), (1, 12, 12), (2, 2), (1, 1)),
    ((3, 1, 3, 2), (1, 12, 9), (2, 1), (0, 1)),
]


@pytest.mark.parametrize(("kernel", "image", "stride", "padding"), CONVOLUTIONS)
def test_the_kernel_of_a_dense_convolution_comes_back_bitwise(kernel, image, stride, padding):
    rng = np.random.default_rng(0)
    planted = rng.standard_normal(kernel).astype(np.float32)
    matrix = dense_matrix(planted, image, stride, padding)
    bias = rng.standard_normal(kernel[0]).repeat(len(matrix) // kernel[0])
    network = nn.Sequential(dense(matrix, bias), nn.ReLU(), nn.Linear(len(matrix), 5))
    inputs = torch.randn(100, matrix.shape[1])
    program = read(network, inputs, ALL)
    reading = code(program, "linear_0")
    assert f"conv{len(stride)}d" in ops(reading)
    assert np.array_equal(program.weights["0.weight.kernel"].numpy(), planted)
    assert reading.summary.startswith(f"a convolution: {kernel[0]} channels")
    assert reading.bits < program["linear_0"].readings[0].bits / 10
    assert "linear_2" not in has_code(program)
    check(program, network, inputs)


def test_a_convolution_along_each_of_many_positions():
    kernel = np.random.default_rng(1).standard_normal((2, 1, 3)).astype(np.float32)
    network = dense(dense_matrix(kernel, (1, 16), (1,), (1,)))
    inputs = torch.randn(30, 7, 16)
    program = read(network, inputs, ALL)
    assert "conv1d" in ops(code(program))
    check(program, network, inputs)
    check(program, network, torch.randn(3, 11, 16))


@pytest.mark.parametrize("change", [1e-2, -1.0])
def test_a_matrix_with_one_entry_changed_is_no_convolution(change):
    kernel = np.random.default_rng(0).standard_normal((4, 2, 3, 3)).astype(np.float32)
    matrix = dense_matrix(kernel, (2, 8, 8), (1, 1), (1, 1))
    row, column = np.argwhere(matrix)[len(np.argwhere(matrix)) // 2]
    matrix[row, column] += change
    program = read(dense(matrix), torch.randn(50, 128), ALL)
    assert "conv2d" not in (ops(code(program)) if has_code(program) else [])


def scattered_blocks(rng, count, height, width):
    matrix = np.zeros((count * height, count * width))
    for i in range(count):
        matrix[i * height : (i + 1) * height, i * width : (i + 1) * width] = rng.standard_normal((height, width))
    return matrix[rng.permutation(len(matrix))][:, rng.permutation(matrix.shape[1])]


@pytest.mark.parametrize("count", [2, 4, 24])
def test_blocks_under_a_permutation(count):
    rng = np.random.default_rng(0)
    matrix = scattered_blocks(rng, count, 6, 8)
    network = dense(matrix, rng.standard_normal(len(matrix)))
    inputs = torch.randn(60, matrix.shape[1])
    program = read(network, inputs, ALL)
    assert code(program).summary == f"{count} blocks of 6×8"
    assert code(program).bits < program[program.entry].readings[0].bits * 1.6 / count
    check(program, network, inputs)


def test_a_permuted_diagonal_with_unused_rows_and_columns():
    rng = np.random.default_rng(2)
    matrix = np.zeros((30, 40))
    matrix[rng.permutation(30)[:20], rng.permutation(40)[:20]] = rng.standard_normal(20)
    network = dense(matrix, rng.standard_normal(30))
    inputs = torch.randn(60, 40)
    program = read(network, inputs, ALL)
    assert code(program).summary == "20 blocks of 1×1, 10 zero rows, 20 zero columns"
    check(program, network, inputs)


def test_low_rank():
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((40, 2)) @ rng.standard_normal((2, 30))
    network = dense(matrix, rng.standard_normal(40))
    inputs = torch.randn(60, 30)
    program = read(network, inputs, ALL)
    assert code(program).summary == "a product of two narrow matrices, rank 2"
    assert program.weights["weight.left"].shape == (40, 2)
    check(program, network, inputs)


def test_the_rank_screen_turns_away_full_rank_and_lets_low_rank_pass():
    rng = np.random.default_rng(0)
    full = rng.standard_normal((300, 200)).astype(np.float32)
    assert matrices._is_full(full, 1e-5)
    low = (rng.standard_normal((300, 100)) @ rng.standard_normal((100, 200))).astype(np.float32)
    assert not matrices._is_full(low, 1e-5 * float(np.abs(low).max()))


def planted_integers(rng, sizes, denominator):
    first = rng.integers(-3, 4, (sizes[1], sizes[0])), rng.integers(-2, 3, sizes[1])
    second = rng.integers(-3, 4, (sizes[2], sizes[1])), rng.integers(-2, 3, sizes[2])
    first[0][:, 0] = rng.choice([1, -1], sizes[1])
    scale, order = np.exp(rng.standard_normal(sizes[1])), rng.permutation(sizes[1])
    hidden = dense((first[0] * scale[:, None])[order], (first[1] * scale)[order])
    readout = dense((second[0] / denominator / scale)[:, order], second[1] / denominator)
    return nn.Sequential(hidden, nn.ReLU(), readout), (first[0][order], second[0][:, order])


def test_integers_hidden_by_scales_and_a_permutation_become_formulas():
    network, _ = planted_integers(np.random.default_rng(0), (4, 3, 2), 3)
    inputs = torch.randn(200, 4)
    program = read(network, inputs, ALL)
    reading = code(program)
    assert "the scales of 3 hidden units taken out" in reading.summary
    assert program.ledger.share("weights") == 0
    assert set(ops(reading)) <= {"select", "mul", "add", "sub", "neg", "div", "relu", "stack"}
    check(program, network, inputs)


def test_large_hidden_integers_are_stored_as_such():
    network, (first, second) = planted_integers(np.random.default_rng(1), (20, 30, 10), 3)
    inputs = torch.randn(200, 20)
    program = read(network, inputs, ALL)
    stored = program.weights["0.weight.whole"]
    assert stored.dtype == torch.int8
    assert np.array_equal(stored.numpy(), first)
    assert np.array_equal(program.weights["2.weight.whole"].numpy(), second)
    assert code(program).bits < 8 * (first.size + second.size + 40) + 700
    check(program, network, inputs)


def test_a_convolution_of_integers_stores_its_kernel_as_such():
    kernel = np.random.default_rng(0).integers(-2, 3, (6, 4, 3, 3)).astype(np.float32)
    network = dense(dense_matrix(kernel, (4, 6, 6), (1, 1), (1, 1)))
    program = read(network, torch.randn(60, 144), ALL)
    assert program.weights["weight.kernel"].dtype == torch.int8
    check(program, network, torch.randn(60, 144), 1e-6)


def idle_units(rng):
    """Twelve hidden units, of which 1 is dead, 1 constant, 2 unread and 3 duplicates."""
    weight, bias = rng.standard_normal((12, 6)), rng.standard_normal(12)
    weight[3], bias[3] = 2 * weight[1], 2 * bias[1]
    weight[4], bias[4] = weight[1], bias[1]
    weight[8], bias[8] = weight[2] / 3, bias[2] / 3
    bias[5] = -60
    weight[7], bias[7] = 0, 0.5
    out = rng.standard_normal((3, 12))
    out[:, 9:11] = 0
    return dense(weight, bias), dense(out, rng.standard_normal(3))


def test_idle_units_are_dropped_from_two_layers_together():
    hidden, readout = idle_units(np.random.default_rng(0))
    network, inputs = nn.Sequential(hidden, nn.ReLU(), readout), torch.randn(500, 6)
    program = read(network, inputs, ALL)
    said = "7 of 12 units dropped: 1 dead, 1 constant, 2 unread, 3 duplicate on the inputs seen"
    assert code(program).summary == said
    assert program.weights["0.weight.kept"].shape == (5, 6)
    check(program, network, inputs)


def test_where_little_is_saved_by_merging_functions_idle_units_are_dropped_from_one():
    rng = np.random.default_rng(0)
    weight, bias = rng.standard_normal((12, 20)), rng.standard_normal(12)
    weight[3], bias[3] = 2 * weight[1], 2 * bias[1]
    bias[5] = -90
    network, inputs = nn.Sequential(dense(weight, bias), nn.ReLU(), nn.Linear(12, 4)), torch.randn(500, 20)
    program = read(network, inputs, ALL)
    assert has_code(program) == ["linear_0"]
    assert code(program, "linear_0").summary == "2 of 12 units dropped: 1 dead, 1 duplicate on the inputs seen"
    assert program.notes.trail[0].outcome.endswith("too little to merge 2 functions")
    check(program, network, inputs)


def test_a_unit_that_is_only_nearly_dead_stays():
    rng = np.random.default_rng(0)
    weight, bias = rng.standard_normal((12, 6)), rng.standard_normal(12)
    inputs = torch.randn(300, 6)
    bias[5] = -float((inputs.numpy() @ weight[5]).max()) - 0.01
    network = nn.Sequential(dense(weight, bias), nn.ReLU(), nn.Linear(12, 3))
    assert has_code(read(network, inputs, ALL)) == []


def test_units_and_convolutions_go_together():
    rng = np.random.default_rng(3)
    kernel = rng.standard_normal((2, 1, 3, 3))
    matrix = dense_matrix(kernel, (1, 8, 8), (1, 1), (1, 1))
    hidden, bias = rng.standard_normal((16, len(matrix))), rng.standard_normal(16)
    hidden[4], bias[4] = hidden[2], bias[2]
    network = nn.Sequential(
        dense(matrix), nn.ReLU(), dense(hidden, bias), nn.Tanh(), dense(rng.standard_normal((5, 16)))
    )
    inputs = torch.randn(200, 64)
    program = read(network, inputs, ALL)
    assert "1 of 16 units dropped: 1 duplicate" in code(program).summary
    assert "0: a convolution: 2 channels, 3×3, stride 1, padding 1" in code(program).summary
    check(program, network, inputs)


def test_zero_matrices_leave_their_bias_or_nothing():
    network = nn.Sequential(dense(np.zeros((30, 20)), np.arange(30)), nn.Tanh(), nn.Linear(30, 4))
    inputs = torch.randn(60, 5, 20)
    program = read(network, inputs, (MATRICES,))
    assert code(program, "linear_0").summary == "its bias alone"
    check(program, network, inputs)
    network = dense(np.zeros((30, 20)))
    assert code(read(network, inputs, (MATRICES,))).summary == "zero"
    assert torch.equal(read(network, inputs, (MATRICES,))(inputs), network(inputs).detach())


class Written(nn.Module):
    """x @ W + b, or x @ W, with W as [in, out]."""

    def __init__(self, matrix, bias):
        super().__init__()
        self.matrix = nn.Parameter(torch.tensor(matrix.T, dtype=torch.float32).contiguous())
        self.bias = nn.Parameter(torch.randn(len(matrix))) if bias else None

    def forward(self, x):
        return torch.tanh(x @ self.matrix if self.bias is None else torch.addmm(self.bias, x, self.matrix))


@pytest.mark.parametrize("bias", [True, False])
def test_matrices_written_the_other_way_round(bias):
    network, inputs = Written(scattered_blocks(np.random.default_rng(0), 4, 6, 8), bias), torch.randn(60, 32)
    program = read(network, inputs, ALL)
    assert code(program).summary == "4 blocks of 6×8"
    check(program, network, inputs)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions(dtype):
    kernel = np.random.default_rng(0).integers(-2, 3, (6, 4, 3, 3)).astype(np.float32)
    network = dense(dense_matrix(kernel, (4, 6, 6), (1, 1), (1, 1))).to(dtype)
    inputs = torch.randn(60, 144, dtype=dtype)
    program = read(network, inputs, ALL)
    assert code(program).method == "convolution"
    (found,), wanted = run_functions(program, [inputs]), network(inputs).detach()
    assert found.dtype == dtype
    assert float((found - wanted).abs().max() / wanted.abs().max()) < (0.02 if dtype == torch.bfloat16 else 1e-12)


class Tied(nn.Module):
    """A block-diagonal table that embeds tokens and reads them out."""

    def __init__(self):
        super().__init__()
        rng = np.random.default_rng(0)
        table = scattered_blocks(rng, 4, 6, 8)
        self.embed = nn.Embedding(*table.shape)
        self.read = dense(table)
        self.embed.weight = self.read.weight

    def forward(self, x):
        return self.read(torch.tanh(self.embed(x)))


def test_a_matrix_that_has_to_be_kept_for_others_is_left_alone():
    tokens = torch.randint(0, 24, (60, 5))
    assert has_code(read(Tied(), tokens, ALL)) == []
    untied = Tied()
    untied.read.weight = nn.Parameter(untied.read.weight.detach().clone())
    assert has_code(read(untied, tokens, ALL)) != []


class Twice(nn.Module):
    """The same block-diagonal matrix in two places."""

    def __init__(self):
        super().__init__()
        self.one = nn.Sequential(dense(scattered_blocks(np.random.default_rng(0), 4, 6, 6)), nn.Tanh())

    def forward(self, x):
        return self.one(torch.sin(self.one(x)))


def test_a_matrix_used_twice_is_stored_once():
    inputs = torch.randn(60, 24)
    network = Twice()
    program = read(network, inputs, ALL)
    assert len(has_code(program)) >= 1
    assert [name for name in program.weights if name.endswith((".blocks", ".blocks_2"))] == ["one.0.weight.blocks"]
    check(program, network, inputs)


def test_random_networks_have_no_code():
    for seed in range(3):
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 16), nn.Tanh(), nn.Linear(16, 4))
        program = read(network, torch.randn(400, 12), ALL)
        assert has_code(program) == []
        assert {note.method for note in program.notes.trail} == {"matrices", "units"}


def test_large_matrices_are_not_looked_through_and_that_is_said(monkeypatch):
    monkeypatch.setattr(layers, "MOST_ENTRIES", 100)
    program = read(nn.Linear(20, 20), torch.randn(60, 20), (MATRICES,))
    (note,) = program.notes.trail
    assert note.outcome == "the matrix is not shorter in another form; 1 of more than 100 entries not looked at"
