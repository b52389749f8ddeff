"""Severing and ablating modules does what editing the weights does, and nothing where there is no interface."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from modules.planted_graphs import cnn, gap, given, mlp, outputs_of
from modules.planted_modules import two_worlds
from modules.test_unitgraph import Residual, looped

from pellucid.errors import BadInput
from pellucid.ir.graph import Graph
from pellucid.lift.trace import trace
from pellucid.modules.grouping import Grouping, relabelled
from pellucid.modules.severing import ablated_outputs, parted, severed_outputs
from pellucid.modules.specialisation import random_grouping
from pellucid.modules.unitgraph import UnitGraph, unit_graph


def labelled(graph: Graph, truth: np.ndarray) -> tuple[UnitGraph, Grouping]:
    units = unit_graph(graph)
    return units, relabelled(units, truth, "truth")


def test_worlds_that_share_nothing_lose_nothing():
    graph, truth = two_worlds()
    units, grouping = labelled(graph, truth)
    inputs = given(graph, batch=7)
    held = parted(graph, units, grouping, [inputs])
    assert gap(list(severed_outputs(graph, inputs, held, 2)), outputs_of(graph, inputs)) < 1e-6


def test_severing_is_holding_what_crosses_at_its_mean():
    """By hand: weights across set to zero, their mean contribution added to the bias."""
    graph, truth = two_worlds(0.5)
    units, grouping = labelled(graph, truth)
    (x,) = inputs = given(graph, batch=9)
    weights = {name: tensor.clone() for name, tensor in graph.weights.items()}
    value, state = x, graph.weights
    means = [x.mean(0)]
    for name, bend in (("a", torch.relu), ("b", torch.tanh)):
        value = bend(value @ state[f"{name}.weight"].T + state[f"{name}.bias"])
        means.append(value.mean(0))
    for name, mean in zip("abc", means, strict=True):
        weight = weights[f"{name}.weight"]
        across = (torch.arange(len(weight))[:, None] - torch.arange(weight.shape[1])[None]) % 2 == 1
        weights[f"{name}.bias"] += (weight * across) @ mean
        weight[across] = 0
    wanted = outputs_of(graph.with_changes(weights=weights), inputs)
    held = parted(graph, units, grouping, [inputs])
    assert gap(list(severed_outputs(graph, inputs, held, 2)), wanted) < 1e-5
    assert gap(outputs_of(graph, inputs), wanted) > 0.05


def test_means_are_taken_over_all_calls():
    graph, truth = two_worlds(0.5)
    units, grouping = labelled(graph, truth)
    (x,) = given(graph, batch=10)
    one, other = parted(graph, units, grouping, [[x]]), parted(graph, units, grouping, [[x[:3]], [x[3:]]])
    assert torch.allclose(one["h"][0].means, other["h"][0].means)
    assert [*one] == ["x", "h", "g", "y"]


def test_ablation_holds_one_module_at_its_mean():
    graph, truth = two_worlds()
    units, grouping = labelled(graph, truth)
    inputs = given(graph, batch=9)
    held = parted(graph, units, grouping, [inputs])
    (out,), (full,) = ablated_outputs(graph, inputs, held, 0), outputs_of(graph, inputs)
    assert torch.allclose(out[:, 1::2], full[:, 1::2], atol=1e-6)
    assert out[:, ::2].std(0).max() < 1e-6


def test_readers_that_belong_to_nobody_hear_every_module():
    graph, truth = two_worlds()
    truth[-4:] = -1
    truth[:6] = -1
    units, grouping = labelled(graph, truth)
    inputs = given(graph, batch=5)
    held = parted(graph, units, grouping, [inputs])
    assert gap(list(severed_outputs(graph, inputs, held, 2)), outputs_of(graph, inputs)) < 1e-6


def test_a_residual_stream_is_severed_writer_by_writer():
    torch.manual_seed(0)
    model, x = Residual(), torch.randn(6, 8)
    graph = trace(model, (x,))
    units = unit_graph(graph)
    labels = np.full(units.size, -1)
    labels[units.nodes("neuron")] = [0] * 5 + [1] * 5
    grouping = relabelled(units, labels, "layers")
    held = parted(graph, units, grouping, [[x]])
    (found,) = severed_outputs(graph, [x], held, 2)
    with torch.no_grad():
        first = torch.relu(model.ups[0](model.norms[0](x)))
        alone = x + model.downs[0](first.mean(0).expand_as(first))
        second = torch.relu(model.ups[1](model.norms[1](alone)))
        stream = x + model.downs[0](first) + model.downs[1](second)
        wanted = model.head(model.norms[2](stream))
    assert torch.allclose(found, wanted, atol=1e-5)


def test_channels():
    graph = cnn()
    units = unit_graph(graph)
    labels = np.full(units.size, -1)
    labels[units.nodes("channel")] = np.arange(len(units.nodes("channel"))) % 2
    grouping = relabelled(units, labels, "mine")
    inputs = given(graph)
    held = parted(graph, units, grouping, [inputs])
    found = severed_outputs(graph, inputs, held, 2)
    assert [tensor.shape for tensor in found] == [tensor.shape for tensor in outputs_of(graph, inputs)]
    whole = parted(graph, units, relabelled(units, np.where(labels < 0, -1, 0), "one"), [inputs])
    assert gap(list(severed_outputs(graph, inputs, whole, 1)), outputs_of(graph, inputs)) < 1e-6


def test_random_modules_have_the_same_sizes_layer_by_layer():
    graph, truth = two_worlds()
    units, grouping = labelled(graph, truth)
    other = random_grouping(units, grouping, 1)
    for start, stop in zip(units.starts, units.starts[1:], strict=False):
        assert sorted(other.labels[start:stop]) == sorted(grouping.labels[start:stop])
    assert not np.array_equal(other.labels, grouping.labels)


def test_what_cannot_be_severed():
    graph, grouping = mlp(), None
    units = unit_graph(graph)
    grouping = relabelled(units, np.arange(units.size) % 2, "mine")
    with pytest.raises(BadInput, match="no samples"):
        parted(graph, units, grouping, [])
    graph = looped()
    units = unit_graph(graph)
    grouping = relabelled(units, np.arange(units.size) % 2, "mine")
    with pytest.raises(BadInput, match="state of a loop"):
        parted(graph, units, grouping, [[torch.randn(2, 4, 2)]])
