"""The loss in a loop of one's own: finds planted parts, cuts them, refuses what cannot be parted."""

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score
from torch import nn
from torch.nn.functional import mse_loss
from train.planted_blocks import ORDER, batch, merged

from pellucid import BadInput
from pellucid.train import Modularity
from pellucid.train.division import Division, live_units, settle
from pellucid.train.regularisers import Sparsity

EXAMPLE = (torch.zeros(2, 12),)


@pytest.mark.parametrize("noise", [0.03, 0.3])
def test_planted_parts_are_found(noise):
    model, owners = merged(noise)
    modularity = Modularity(model, EXAMPLE)
    modularity.refresh()
    assert adjusted_rand_score(owners, modularity.division.labels) == 1.0
    assert 0 < modularity.interface < 1.2 * noise
    assert modularity.z > 4


def test_units_settle_where_they_belong():
    model, owners = merged(0.1)
    modularity = Modularity(model, EXAMPLE)
    wrong = owners.numpy().copy()
    wrong[[1, 14, 20, 30, 40]] = 1 - wrong[[1, 14, 20, 30, 40]]
    right = settle(live_units(modularity.graph, model), Division(wrong))
    assert (right.labels == owners.numpy()).all()


@pytest.mark.parametrize("form", [{"strength": 0.3}, {"strength": 0.0, "decay": 3.0}])
def test_a_loop_of_ones_own(form):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 2))
    optimiser = torch.optim.Adam(model.parameters(), 0.02)
    modularity = Modularity(model, EXAMPLE, start=150, every=20, **form)
    sparsity = Sparsity(modularity.weights, 0.15)
    generator = torch.Generator().manual_seed(0)
    for step in range(300):
        (inputs,), targets = batch(generator, 128)
        loss = mse_loss(model(inputs), targets)
        optimiser.zero_grad()
        loss.backward()
        modularity.add()
        optimiser.step()
        modularity.shrink(0.02)
        if step < 150:
            assert modularity.division is None
            sparsity.shrink(0.02)
    assert modularity.interface < 0.02
    assert adjusted_rand_score((ORDER >= 6).numpy(), modularity.division.labels[:12]) == 1.0
    modularity.sever()
    assert modularity.interface == 0.0
    (inputs,), targets = batch(generator, 512)
    assert mse_loss(model(inputs), targets) < 0.1 * targets.var()


def test_what_is_cut_stays_zero_after_a_step():
    model, _ = merged(0.3)
    modularity = Modularity(model, EXAMPLE)
    modularity.refresh()
    modularity.sever()
    optimiser = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for _ in range(2):
        model(torch.randn(32, 12)).square().mean().backward()
        modularity.add()
        optimiser.step()
        assert modularity.interface > 0
        modularity.shrink(0.1)
        assert modularity.interface == 0.0


def test_without_gradients_nothing_breaks():
    model, _ = merged(0.3)
    modularity = Modularity(model, EXAMPLE)
    modularity.add()
    assert modularity.interface > 0


def test_state_goes_over():
    model, _ = merged(0.3)
    one, other = Modularity(model, EXAMPLE, start=3), Modularity(model, EXAMPLE, start=3)
    for _ in range(5):
        one.add()
    other.load_state_dict(one.state_dict())
    assert (other.division.labels == one.division.labels).all()
    assert other.z == one.z
    slopes = []
    for each in (one, other):
        for layer in each.layers:
            layer.weight.grad = torch.zeros_like(layer.weight)
        each.add()
        slopes.append([layer.weight.grad for layer in each.layers])
    assert slopes[0][0].any()
    assert all(torch.equal(a, b) for a, b in zip(*slopes, strict=True))


def test_convolutions_are_parted():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 4))
    for layer in (model[0], model[2]):
        out, into = layer.weight.shape[:2]
        layer.weight.data[(torch.arange(out)[:, None] % 2) != (torch.arange(into)[None, :] % 2)] *= 0.05
    model[5].weight.data.unflatten(1, (8, 4))[(torch.arange(4)[:, None] % 2) != (torch.arange(8)[None, :] % 2)] *= 0.05
    modularity = Modularity(model, (torch.zeros(2, 4, 6, 6),))
    modularity.refresh()
    assert adjusted_rand_score(np.arange(24) % 2, modularity.division.labels) == 1.0
    modularity.sever()
    assert (model[2].weight[0, 1] == 0).all()
    assert (model[2].weight[0, 2] != 0).all()


def test_partitions_that_are_none():
    modularity = Modularity(merged(0.3)[0], EXAMPLE)
    with pytest.raises(BadInput, match="no partition to cut"):
        modularity.sever()
    with pytest.raises(BadInput, match="region 1 of the partition is empty"):
        modularity.adopt(np.arange(48) % 2 * 2)
    with pytest.raises(BadInput, match="at least two"):
        modularity.adopt(np.zeros(48, dtype=int))
    with pytest.raises(BadInput, match="labels 5 units, the network has 48"):
        modularity.adopt(np.arange(5))


@pytest.mark.parametrize("options", [{"parts": 1}, {"every": 0}, {"start": -1}, {"strength": float("nan")}])
def test_options_out_of_range(options):
    with pytest.raises(BadInput):
        Modularity(merged(0.3)[0], EXAMPLE, **options)


def test_a_model_with_nothing_to_part():
    with pytest.raises(BadInput, match="nothing to"):
        Modularity(nn.Linear(1, 1), (torch.zeros(2, 1),))
    dead = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    for weight in dead.parameters():
        weight.data.zero_()
    with pytest.raises(BadInput, match="zero"):
        Modularity(dead, (torch.zeros(2, 4),)).refresh()
