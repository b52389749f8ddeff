"""Measures of modules: zero where there is no interface, by hand where there is one, random partitions beside them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from modules.planted_graphs import given, graph_of, step
from modules.planted_modules import planted, two_worlds

from pellucid.errors import BadInput
from pellucid.modules.grouping import relabelled
from pellucid.modules.hierarchy import quotient
from pellucid.modules.interfaces import interface, interface_bits
from pellucid.modules.methods import group_units
from pellucid.modules.specialisation import random_grouping, shared_information, specialisation
from pellucid.modules.stability import adjusted_rand, noisy, stability
from pellucid.modules.unitgraph import unit_graph


def test_the_interface_in_weights():
    graph, truth = planted([10, 10], 2, 0.3)
    found = interface(graph, relabelled(graph, truth, "truth"))
    matrix = graph.adjacency.toarray()
    across = matrix[truth == truth[0]][:, truth != truth[0]].sum()
    assert found.between[0, 1] == found.between[1, 0] == pytest.approx(across)
    assert found.crossing == pytest.approx(2 * across / matrix.sum())
    assert found.expected == pytest.approx(0.5, abs=0.05)
    assert found.modularity == pytest.approx(found.expected - found.crossing)


def test_a_random_partition_has_the_expected_interface():
    graph, truth = planted([60, 60], 2, 0.3)
    grouping = relabelled(graph, truth, "truth")
    found = [interface(graph, random_grouping(graph, grouping, seed)).modularity for seed in range(5)]
    assert abs(np.mean(found)) < 0.01
    assert interface(graph, grouping).modularity > 0.2


def test_units_of_nobody_are_left_out():
    graph, truth = planted([10, 10], 2, 0.3)
    labels = truth.copy()
    labels[:3] = -1
    assert quotient(graph.adjacency, labels).sum() < quotient(graph.adjacency, truth).sum()
    assert interface(graph, relabelled(graph, labels, "mine")).crossing > 0


def test_bits_of_a_gaussian_by_hand():
    """One unit sends to one unit of another module that also hears its own: ½ log2 of signal over allowed error."""
    weights = {"a.weight": torch.eye(2), "b.weight": torch.tensor([[1.0, 0.0], [2.0, 1.0]])}
    nodes = [
        step("a", "linear", "@x", "$a.weight", None),
        step("h", "relu", "@a"),
        step("b", "linear", "@h", "$b.weight", None),
        step("g", "relu", "@b"),
        step("y", "linear", "@g", "$a.weight", None),
    ]
    graph = graph_of({"x": (2,)}, nodes, ["y"], weights)
    x = 5 + torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
    units = unit_graph(graph)
    labels = np.array([0, 1, 0, 1, 0, 1, 0, 1])
    bits = interface_bits(graph, units, relabelled(units, labels, "mine"), [[x]], distortion=0.01)
    h = x.double().relu()
    g = (h @ weights["b.weight"].double().T).relu()
    heard = 4 * h[:, 0].var() + h[:, 1].var() + x[:, 1].double().var() + g[:, 1].var()
    assert bits[0, 1] == pytest.approx(0.5 * math.log2(4 * float(h[:, 0].var()) / (0.01 * float(heard))), rel=1e-3)
    assert bits[1, 0] == 0


def test_no_bits_where_nothing_crosses():
    graph, truth = two_worlds()
    units = unit_graph(graph)
    grouping = relabelled(units, truth, "truth")
    inputs = [given(graph, batch=60)]
    assert interface_bits(graph, units, grouping, inputs).sum() == 0
    assert interface_bits(graph, units, random_grouping(units, grouping), inputs).sum() > 1


def tasks(graph, batch: int = 200):
    """Samples of two tasks: the first asks for the even outputs, the second for the odd ones."""
    (x,) = given(graph, batch=batch)
    classes = torch.arange(batch) % 2
    from pellucid.ir.interpret import run_graph

    (wanted,) = run_graph(graph, [x])

    def loss(outputs):
        wrong = (outputs[0] - wanted).square()
        return torch.where(classes == 0, wrong[:, ::2].sum(1), wrong[:, 1::2].sum(1))

    return [x], classes, loss


def test_two_worlds_specialise_completely():
    graph, truth = two_worlds()
    units = unit_graph(graph)
    values, classes, loss = tasks(graph)
    found = specialisation(graph, units, relabelled(units, truth, "truth"), values, classes, loss)
    assert found.score.value == pytest.approx(1.0, abs=0.01)
    assert found.score.z > 3
    assert found.damage[0, 1] == pytest.approx(0, abs=1e-6) == found.damage[1, 0]


def test_random_modules_do_not_specialise():
    graph, truth = two_worlds()
    units = unit_graph(graph)
    values, classes, loss = tasks(graph)
    other = random_grouping(units, relabelled(units, truth, "truth"), 5)
    found = specialisation(graph, units, other, values, classes, loss)
    assert abs(found.score.z) < 3
    assert found.score.value < 0.5


def test_shared_information():
    assert shared_information(np.eye(3)) == pytest.approx(1)
    assert shared_information(np.ones((3, 2))) == pytest.approx(0)
    assert shared_information(-np.ones((2, 2))) == 0


def test_agreement():
    one = np.array([0, 0, 1, 1, 2, 2])
    assert adjusted_rand(one, np.array([5, 5, 3, 3, 9, 9])) == 1
    assert adjusted_rand(one, np.array([0, 1, 0, 1, 0, 1])) < 0.1
    rng = np.random.default_rng(0)
    chance = [adjusted_rand(rng.integers(0, 3, 300), rng.integers(0, 3, 300)) for _ in range(20)]
    assert abs(np.mean(chance)) < 0.02
    # ten pairs of five units: together in both 2, in the first 4, in the second 4; expected 1.6
    found = adjusted_rand(np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 1]))
    assert found == pytest.approx((2 - 1.6) / (4 - 1.6))


def test_planted_modules_are_stable_and_none_are_not():
    graph, _ = planted([30, 30, 20], 2, 0.3)
    flat, _ = planted([30, 30, 20], 1, 1.0)

    def halves(graph, seed):
        return group_units(graph, parts=2, seed=seed)

    assert stability(graph, halves, seeds=3) == (1.0, 1.0, 1.0)
    assert max(stability(flat, halves, seeds=3, noise=0.5)) < 0.5
    assert abs(noisy(graph, 0.1, 1).adjacency - noisy(graph, 0.1, 1).adjacency.T).max() == 0


def test_what_cannot_be_measured():
    graph, truth = two_worlds()
    units = unit_graph(graph)
    grouping = relabelled(units, truth, "truth")
    values, classes, loss = tasks(graph, 20)
    with pytest.raises(BadInput, match="at least two of each"):
        specialisation(graph, units, relabelled(units, truth * 0, "one"), values, classes, loss)
    with pytest.raises(BadInput, match="at least two of each"):
        specialisation(graph, units, grouping, values, classes * 0, loss)
    with pytest.raises(BadInput, match="class has no samples"):
        specialisation(graph, units, grouping, values, classes * 2, loss)
    with pytest.raises(BadInput, match="null of 3 shuffles"):
        specialisation(graph, units, grouping, values, classes, loss, shuffles=3)
    with pytest.raises(BadInput, match="no samples"):
        interface_bits(graph, units, grouping, [])
    with pytest.raises(BadInput, match="'activation'"):
        interface_bits(graph, unit_graph(graph, "activation", samples=[values]), grouping, [values])
    with pytest.raises(BadInput, match="at least two partitions"):
        stability(units, lambda graph, seed: grouping, seeds=1)
    with pytest.raises(BadInput, match="same units"):
        adjusted_rand(truth, truth[:3])
