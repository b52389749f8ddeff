"""Every method by its name, and programs that are built on what it finds: exact, with the modules as functions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from modules.planted_graphs import cnn, gap, gated, given, graph_of, mlp, outputs_of, step, weights_of
from modules.planted_modules import planted, two_worlds
from modules.test_unitgraph import Attention, Residual, looped

from pellucid.errors import BadInput
from pellucid.ir.graph import calls_made
from pellucid.lift.trace import trace
from pellucid.modules.grouping import relabelled
from pellucid.modules.methods import METHODS, group_units, regions_by
from pellucid.modules.ncut import n_cut, n_cut_value
from pellucid.modules.partition import partition
from pellucid.modules.regions import region_tree
from pellucid.modules.stability import adjusted_rand
from pellucid.modules.structure import structure
from pellucid.modules.unitgraph import unit_graph


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_tells_two_worlds_apart(method: str):
    graph, truth = planted([20, 20, 20], 2, 0.0)
    parts = 2 if method != "leiden" else None
    found = group_units(graph, method, parts=parts)
    assert adjusted_rand(found.labels, truth) == 1.0
    assert found.method == method
    assert np.array_equal(group_units(graph, method, parts=parts).labels, found.labels)


def test_plain_n_cut_cuts_between_layers_where_the_corrected_split_does_not():
    graph, truth = planted([60, 60, 4, 60, 60], 2, 0.6)
    assert adjusted_rand(n_cut(graph).labels, truth) < 0.1
    assert adjusted_rand(group_units(graph, "spectral", parts=2).labels, truth) > 0.9


def test_the_value_of_an_n_cut():
    graph, truth = planted([6, 6], 2, 0.5)
    matrix = graph.adjacency.toarray()
    inside = truth == 0
    cut = matrix[inside][:, ~inside].sum()
    assert n_cut_value(graph.adjacency, truth) == pytest.approx(
        cut / matrix[inside].sum() + cut / matrix[~inside].sum()
    )


@pytest.mark.parametrize("noise", [0.0, 0.05])
@pytest.mark.parametrize("method", sorted(METHODS))
def test_programs_on_found_regions_are_exact(method: str, noise: float):
    graph, _ = two_worlds(noise)
    tree = regions_by(method, parts=2 if method != "leiden" else None)(graph)
    program = structure(graph, tree)
    inputs = given(graph)
    assert gap(outputs_of(program, inputs), outputs_of(graph, inputs)) < 1e-5


def test_worlds_that_share_nothing_become_two_functions_that_share_nothing():
    graph, truth = two_worlds()
    tree = regions_by("spectral", parts=2)(graph)
    assert tree.origin == "spectral"
    for region in tree.root.children:
        claimed = {unit.value: unit.indices for unit in region.units}
        assert set(claimed) == {"x", "h", "g", "y"}
        assert len({i % 2 for indices in claimed.values() for i in indices}) == 1
    program = structure(graph, tree)
    assert [*program.functions] == ["network", "module_1", "module_2"]
    for name in ("module_1", "module_2"):
        assert program[name].inputs == ("x",)
        assert [program.values[value].axes for value in program[name].outputs] == [("batch", 2)]
    assert program.ledger.parameter_count < sum(tensor.numel() for tensor in graph.weights.values())
    assert truth.sum() == 13


def test_regions_that_hear_each_other_are_cut_into_segments_without_circles():
    graph, _ = two_worlds(0.05)
    program = structure(graph, regions_by("spectral", parts=2)(graph))
    calls = calls_made(program["network"].reading().body)
    assert len(calls) == len(set(calls)) > 2
    claimed = {unit.value for region in program.regions.root.children for unit in region.units}
    assert claimed == {"h", "g"}, "inputs and outputs that both worlds read stay with the network"


@pytest.mark.parametrize("make", [mlp, cnn, gated])
@pytest.mark.parametrize("parts", [2, 3])
def test_any_network_in_parts(make, parts: int):
    graph = make()
    program = structure(graph, regions_by("spectral", parts=parts)(graph))
    inputs = given(graph)
    assert gap(outputs_of(program, inputs), outputs_of(graph, inputs)) < 1e-5


@pytest.mark.parametrize("model", [Attention, Residual])
def test_networks_with_a_stream(model):
    torch.manual_seed(0)
    inputs = torch.randint(0, 12, (2, 5)) if model is Attention else torch.randn(3, 8)
    graph = trace(model(), (inputs,))
    program = structure(graph, regions_by("spectral", parts=2)(graph))
    assert gap(outputs_of(program, [inputs]), outputs_of(graph, [inputs])) < 1e-5


def test_a_recurrent_layer_whose_states_are_parted():
    torch.manual_seed(0)

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.out = torch.nn.LSTM(3, 6, batch_first=True), torch.nn.Linear(6, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.layer(x)[0])

    x = torch.randn(2, 5, 3)
    graph = trace(Net(), (x,))
    program = structure(graph, regions_by("spectral", parts=2)(graph))
    assert len(program.functions) == 3
    assert gap(outputs_of(program, [x]), outputs_of(graph, [x])) < 1e-5


def test_a_network_without_joints_keeps_its_nesting():
    graph = mlp()
    tree = regions_by("spectral")(graph)
    assert tree.root == partition(graph).root
    assert tree.origin == "nesting, for spectral found no joint"
    assert regions_by("nesting") is partition


def test_groups_without_units_to_claim_are_left_to_the_network():
    graph = mlp()
    units = unit_graph(graph)
    labels = np.zeros(units.size, dtype=int)
    labels[0] = 1
    tree = region_tree(units, relabelled(units, labels, "mine"))
    assert [region.name for region in tree.root.children] == ["module_1"]


def test_what_cannot_be_done():
    graph, _ = planted([4, 4], 2, 0.1)
    with pytest.raises(BadInput, match="unknown method 'magic'; take one of nesting, spectral"):
        regions_by("magic")
    with pytest.raises(BadInput, match="unknown method 'magic'"):
        group_units(graph, "magic")
    with pytest.raises(BadInput, match="number of parts itself"):
        group_units(graph, "leiden", parts=2)
    with pytest.raises(BadInput, match="not 1"):
        group_units(graph, "n-cut", parts=1)
    weights = weights_of(a_weight=(3, 2))
    flat = graph_of({"x": (2,)}, [step("y", "linear", "@x", "$a.weight", None)], ["y"], weights)
    with pytest.raises(BadInput, match="nothing to partition"):
        regions_by("spectral")(flat)
    with pytest.raises(BadInput, match=r"none of the units \(input, output, state\) can be divided"):
        regions_by("spectral", parts=2)(looped())
