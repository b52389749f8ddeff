"""Planted functions are read as code through all methods together; random networks are not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from network_planted import code, dense, has_code, off, read
from torch import nn

from pellucid.code.black_box import AFFINE, CONSTANT
from pellucid.code.finite import FINITE
from pellucid.code.methods import METHODS
from pellucid.ir.validate import validate


def bits(count):
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=count)))


def trained(network, inputs, targets, loss, steps=300, rate=0.03):
    optimiser = torch.optim.Adam(network.parameters(), rate)
    for _ in range(steps):
        error = loss(network(inputs), targets)
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
    return network.eval()


def mlp(*sizes, seed=0, activation=nn.Tanh):
    torch.manual_seed(seed)
    layers = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), activation())]
    return nn.Sequential(*layers[:-1])


def test_the_order_is_fixed_and_names_are_unique():
    names = [method.name for method in METHODS]
    assert len(set(names)) == len(names)
    assert names[0] == "constant"


def differs(low, high, noise):
    """`high` where two bits differ, `low` where not, by rectified units, with noise on the weights."""
    rng = np.random.default_rng(0)
    hidden = np.array([[1.0, -1], [-1, 1], [0.5, 0.5], [0, 1], [1, 1]])
    out = np.array([[high - low, high - low, 0, 0, 0]])
    return nn.Sequential(
        dense(hidden + noise * rng.standard_normal(hidden.shape), noise * rng.standard_normal(5)),
        nn.ReLU(),
        dense(out + noise * rng.standard_normal(out.shape), np.array([low])),
    )


def test_exclusive_or_by_rounding():
    network, inputs = differs(0.0, 1.0, 0.01), bits(2)
    program = read(network, inputs)
    reading = code(program)
    assert reading.summary == "gives input_0 ^ input_1, on all 4 inputs from 0 to 1"
    assert (reading.measure, reading.budget) == ("rounded", 0.0)
    assert program.ledger.share("weights") == 0
    assert torch.equal(program(inputs), network(inputs).round().detach())
    validate(program)


def test_one_logit_is_read_as_two_levels_with_their_spread():
    network, inputs = differs(-7.3, 7.3, 0.01), bits(2)
    program = read(network, inputs, (FINITE,))
    reading = code(program)
    assert reading.summary == "positive where input_0 ^ input_1, on all 4 inputs from 0 to 1"
    assert 0.001 < off(program, network, inputs) <= reading.budget < 0.1
    validate(program)


def test_a_majority_by_the_largest_output():
    inputs = bits(5)
    targets = (inputs.sum(1) >= 3).long()
    program = read(trained(mlp(5, 16, 2), inputs, targets, nn.functional.cross_entropy), inputs.repeat(4, 1))
    reading = code(program)
    assert "input_0 + input_1 + input_2 + input_3 + input_4 >= 3, on all 32 inputs from 0 to 1" in reading.summary
    assert reading.measure == "decision"
    assert torch.equal(program(inputs).argmax(-1), targets)
    assert program(inputs).shape == (32, 2)
    validate(program)


class Sum(nn.Module):
    """Two tokens to the logits of something."""

    def __init__(self, size):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(size, 16)
        self.hidden = nn.Linear(32, 64)
        self.out = nn.Linear(64, size)

    def forward(self, x):
        return self.out(torch.relu(self.hidden(self.embed(x).flatten(1))))


def test_modular_addition_of_tokens():
    inputs = torch.tensor(list(itertools.product(range(7), repeat=2)))[torch.randperm(49)]
    network = trained(Sum(7), inputs, inputs.sum(1) % 7, nn.functional.cross_entropy, 200, 0.01)
    program = read(network, inputs)
    assert code(program).summary == "the largest output is number (x_0 + x_1) % 7, on all 49 inputs from 0 to 6"
    assert torch.equal(program(inputs).argmax(-1), inputs.sum(1) % 7)


class Polynomial(nn.Module):
    """3x² - x of each token, from a table."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(50, 1)
        with torch.no_grad():
            self.table.weight.copy_((3 * torch.arange(50.0) ** 2 - torch.arange(50.0))[:, None])

    def forward(self, x):
        return self.table(x).squeeze(-1)


def test_a_finite_function_position_by_position():
    network = Polynomial()
    program = read(network, torch.randint(0, 50, (40, 6)), (FINITE,))
    assert code(program).measure == "difference"
    assert off(program, network, torch.randint(0, 50, (5, 9))) < 1e-6


def test_continuous_inputs_are_no_finite_function():
    inputs = torch.randn(100, 2)
    assert has_code(read(mlp(2, 4, 2), inputs, (FINITE,))) == []


def test_outputs_that_only_round_to_zero_are_no_constant():
    network = mlp(3, 4, 1)
    with torch.no_grad():
        network[2].weight *= 0.05
        network[2].bias *= 0.05
    assert has_code(read(network, bits(3), (CONSTANT, FINITE))) == []


def test_few_rows_that_happen_to_lie_near_whole_numbers_are_not_believed():
    network = dense(np.array([[0.8, 0.9]]), np.array([0.1]))
    assert has_code(read(network, bits(2), (FINITE,))) == []


class Dead(nn.Module):
    """Says the same whatever it is given."""

    def __init__(self, out):
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = nn.Linear(30, 8), nn.Linear(8, out)

    def forward(self, x):
        return self.two(torch.relu(self.one(x) - 1000))


@pytest.mark.parametrize("out", [1, 4])
@pytest.mark.parametrize("shape", [(50, 30), (20, 5, 30)])
def test_a_constant_network(out, shape):
    network, inputs = Dead(out), torch.randn(shape)
    program = read(network, inputs)
    assert code(program).summary == "a constant"
    assert program.ledger.share("weights") == 0
    assert off(program, network, inputs) < 1e-6
    assert off(program, network, torch.randn(3, *shape[1:])) < 1e-6


class Affine(nn.Module):
    """3a - c + 1 and b/2 - 1/3 in rectified disguise."""

    def __init__(self):
        super().__init__()
        matrix = np.array([[3.0, 0, -1, 0], [0, 0.5, 0, 0]])
        self.one = dense(np.concatenate([np.eye(4), -np.eye(4)]))
        self.two = dense(np.concatenate([matrix, -matrix], 1), np.array([1, -1 / 3]))

    def forward(self, x):
        return self.two(torch.relu(self.one(x)))


def test_an_affine_network():
    network, inputs = Affine(), torch.randn(200, 4)
    program = read(network, inputs)
    assert code(program).summary == "2 affine formulas"
    assert "return stack((3 * x[:, 0] - x[:, 2] + 1, (3 * x[:, 1] - 2) / 6), -1)" in program.text(1)
    assert off(program, network, torch.randn(50, 4)) < 1e-6
    validate(program)


def test_a_nearly_affine_network_says_how_far_it_is_off():
    network, inputs = Affine(), torch.randn(300, 4)
    with torch.no_grad():
        network.two.weight += 5e-4 * torch.randn(network.two.weight.shape, generator=torch.Generator().manual_seed(0))
    program = read(network, inputs, (AFFINE,))
    reading = code(program)
    assert "of the largest output on the inputs seen" in reading.summary
    assert 1e-4 < off(program, network, inputs) <= reading.budget == 1e-2


class Between(nn.Module):
    """2a - b/4 at each place, in rectified disguise."""

    def __init__(self):
        super().__init__()
        self.one = dense(np.concatenate([np.eye(2), -np.eye(2)]))
        self.two = dense(np.array([[2, -0.25, -2, 0.25]]))

    def forward(self, a, b):
        return self.two(torch.relu(self.one(torch.stack([a, b], -1)))).squeeze(-1)


def test_a_formula_of_several_inputs_that_holds_at_each_place():
    inputs = (torch.randn(40, 3), torch.randn(40, 3))
    program = read(Between(), inputs, (AFFINE,))
    assert code(program).summary == "1 affine formula"
    assert "return 2 * a - 0.25 * b" in program.text(1)
    assert torch.allclose(program(*inputs), Between()(*inputs), atol=1e-6)


def test_a_nearly_affine_network_of_arbitrary_numbers_stays_weights():
    class Bent(nn.Module):
        def forward(self, x):
            return 0.0231 * x[:, :1] - 0.0352 * x[:, 1:] - 0.0961 + 1e-4 * torch.relu(x[:, :1] - 0.5)

    assert read(Bent(), torch.randn(200, 2))["network"].chosen == "weights"


@pytest.mark.parametrize("seed", range(3))
def test_random_networks_have_no_code(seed):
    network = mlp(6, 16, 8, 3, seed=seed, activation=nn.ReLU)
    program = read(network, torch.randn(300, 6))
    assert has_code(program) == []
    assert program.ledger.share("code") == 0


def test_the_same_network_gives_the_same_code():
    network, inputs = Affine(), torch.randn(200, 4)
    first, second = read(network, inputs), read(network, inputs)
    assert first.functions == second.functions
