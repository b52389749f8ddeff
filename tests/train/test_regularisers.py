"""Baselines: each does to weights what its paper says."""

import numpy as np
import torch
from scipy import sparse
from train.planted_blocks import merged, network

import pellucid
from pellucid.modules.unitgraph import UnitGraph
from pellucid.train.division import live_units
from pellucid.train.layers import layers_of
from pellucid.train.regularisers import BrainInspired, NormalisedCut, TopShare, _swapped


def parts_of(model):
    graph = pellucid.trace(model, (torch.zeros(2, 12),))
    layers = layers_of(graph, model)
    for layer in layers:
        layer.weight.grad = torch.zeros_like(layer.weight)
    return graph, layers


def second_eigenvalue(weights, layers):
    size = 46
    adjacency = torch.zeros(size, size, dtype=torch.float64)
    for layer, weight in zip(layers, weights, strict=True):
        adjacency[layer.rows[:, None], layer.columns[None, :]] = weight.double().abs()
    adjacency = adjacency + adjacency.T
    root = adjacency.sum(1).rsqrt()
    return torch.linalg.eigvalsh(torch.eye(size) - root[:, None] * adjacency * root[None, :])[1]


def test_the_gradient_of_the_normalised_cut_is_autograds():
    torch.manual_seed(1)
    model = network()
    graph, layers = parts_of(model)
    NormalisedCut(model, graph, layers, 2.0).add()
    weights = [layer.weight.detach().clone().requires_grad_() for layer in layers]
    slopes = torch.autograd.grad(2 * second_eigenvalue(weights, layers), weights)
    for layer, slope in zip(layers, slopes, strict=True):
        torch.testing.assert_close(layer.weight.grad, slope, atol=2e-5, rtol=1e-3)


def test_only_the_largest_weights_stay():
    model = network()
    _, layers = parts_of(model)
    before = [layer.weight.detach().abs().flatten() for layer in layers]
    rule = TopShare([layer.weight for layer in layers], 0.25, 2)
    rule.shrink(0.1)
    assert [int((layer.weight != 0).sum()) for layer in layers] == [120, 160, 20]
    rule.shrink(0.1)
    rule.shrink(0.1)
    assert [int((layer.weight != 0).sum()) for layer in layers] == [48, 64, 8]
    for layer, sizes in zip(layers, before, strict=True):
        kept = layer.weight.detach().abs().flatten()
        assert kept[kept > 0].min() >= sizes[kept == 0].max()


def wires(units: UnitGraph, places):
    edges = sparse.triu(units.adjacency).tocoo()
    return float((edges.data * np.abs(places[edges.row] - places[edges.col])).sum())


def test_swaps_shorten_wires_and_stay_in_their_layer():
    model, owners = merged(0.05)
    graph, layers = parts_of(model)
    units = live_units(graph, model)
    rule = BrainInspired(model, graph, layers, 1.0, every=1)
    before = rule.places.numpy().copy()
    for _ in range(6):
        rule.add()
    after = rule.places.numpy()
    assert wires(units, after) < 0.75 * wires(units, before)
    for start, stop in zip(units.starts, units.starts[1:], strict=False):
        assert sorted(after[start:stop]) == sorted(before[start:stop])
    hidden = np.arange(12, 44)
    gap = after[hidden][owners[hidden].numpy() == 0].mean() - after[hidden][owners[hidden].numpy() == 1].mean()
    assert abs(gap) > 0.15
    assert (_swapped(units, after, 0) == after).all()


def test_long_wires_lose_more():
    model = network()
    graph, layers = parts_of(model)
    rule = BrainInspired(model, graph, layers, 1.0)
    before = layers[1].weight.detach().clone()
    rule.shrink(0.02)
    lost = (before - layers[1].weight.detach()).abs()
    distance = (rule.places[layers[1].rows][:, None] - rule.places[layers[1].columns][None, :]).abs().float()
    torch.testing.assert_close(lost, torch.minimum(before.abs(), 0.02 * (0.1 + distance)), atol=1e-6, rtol=0)
