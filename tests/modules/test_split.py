"""Units divided between regions: the graph computes what it did, each part in the region that claims it."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given as sampled
from hypothesis import settings
from hypothesis import strategies as st
from modules.planted_graphs import cnn, conv_line, gap, gated, given, graph_of, mlp, outputs_of, step, weights_of

from pellucid.errors import BadInput
from pellucid.ir.graph import Graph, Ref
from pellucid.ir.interpret import run_functions, run_graph
from pellucid.ir.regions import Region, RegionTree, Unit
from pellucid.modules.split import split_units
from pellucid.modules.structure import structure

CLAIMABLE = {
    "mlp": (mlp, {"a": 1, "h": 1, "b": 1, "g": 1, "y": 1, "x": 1}),
    "gated": (gated, {"gate": 2, "act": 2, "up": 2, "prod": 2, "down": -1, "y": 2, "x": -1}),
    "cnn": (cnn, {"a": 1, "n": 1, "h": 1, "p": 1, "d": 1, "b": 1, "r": -3, "m": 1, "y": 1, "f": 1, "z": 1, "x": 1}),
    "conv_line": (conv_line, {"a": 1, "h": 1, "b": 1, "y": 1}),
}


def tree_of(*regions: Region, nodes: tuple[str, ...] = ()) -> RegionTree:
    return RegionTree(Region("network", "network", nodes, children=regions), "test")


def claims(name: str, *units: tuple[str, int, tuple[int, ...]]) -> Region:
    return Region(name, "module", units=tuple(Unit(*unit) for unit in units))


def ids_of(tree: RegionTree) -> dict[str, tuple[str, ...]]:
    return {region.name: region.nodes for region in tree.walk()}


def by_id(graph: Graph) -> dict[str, object]:
    return {node.id: node for node in graph.block.nodes}


def test_without_units_nothing_changes():
    graph, tree = mlp(), tree_of(Region("A", "module", ("a", "h")))
    assert split_units(graph, tree) == (graph, tree)


def test_a_hidden_layer_in_two_parts():
    graph = mlp()
    tree = tree_of(claims("A", ("h", 1, (0, 3, 5))), claims("B", ("h", 1, (1, 2, 4))))
    split, left = split_units(graph, tree)
    assert not any(region.units for region in left.walk())
    nodes = by_id(split)
    assert [nodes[name].op for name in ids_of(left)["A"]] == ["linear", "relu", "linear"]
    first = nodes[ids_of(left)["A"][0]]
    weight, bias = split.weights[first.args[1].name], split.weights[first.args[2].name]
    assert torch.equal(weight, graph.weights["a.weight"][[0, 3, 5]])
    assert torch.equal(bias, graph.weights["a.bias"][[0, 3, 5]])
    contribution = nodes[ids_of(left)["B"][2]]
    assert torch.equal(split.weights[contribution.args[1].name], graph.weights["b.weight"][:, [1, 2, 4]])
    assert contribution.args[2] is None, "the bias is added once, outside the parts"
    assert gap(run_graph(split, given(split)), run_graph(graph, given(graph))) < 1e-5


def test_the_slices_are_copies_and_tile_the_weights():
    graph = mlp()
    tree = tree_of(claims("A", ("h", 1, (0, 3)), ("g", 1, (1,))), claims("B", ("h", 1, (1, 2)), ("g", 1, (0, 2))))
    split, _ = split_units(graph, tree)
    before, after = (sum(tensor.numel() for tensor in each.weights.values()) for each in (graph, split))
    assert before == after
    for name in split.weights.keys() - graph.weights.keys():
        split.weights[name].zero_()
    assert graph.weights["a.weight"].abs().sum() > 0


def test_a_part_that_nothing_reads_is_left_out():
    graph = mlp()
    dead, live = (1, 2), (0, 3, 4, 5)
    graph.weights["b.weight"][:, dead] = 0
    before = run_graph(graph, given(graph))
    split, left = split_units(graph, tree_of(claims("A", ("h", 1, live)), claims("B", ("h", 1, dead))))
    assert "B" not in ids_of(left)
    assert all("[1]" not in name for name in split.weights)
    assert gap(run_graph(split, given(split)), before) < 1e-5


def test_units_that_nobody_claims_belong_to_the_root():
    split, left = split_units(mlp(), tree_of(claims("A", ("h", 1, (2,)))))
    nodes = by_id(split)
    rest = [name for name in ids_of(left)["network"] if nodes[name].op == "relu"]
    assert [split.values[name].axes for name in rest] == [("batch", 5)]


def test_the_rest_stays_with_the_region_that_held_the_node():
    outer = Region("outer", "module", ("a", "h"), children=(claims("inner", ("h", 1, (0, 1))),))
    split, left = split_units(mlp(), tree_of(outer))
    nodes = by_id(split)
    assert sorted(nodes[name].op for name in ids_of(left)["outer"]) == ["linear", "linear", "relu"]
    assert "a" not in nodes


def test_a_gated_product_takes_both_factors_apart():
    split, left = split_units(
        gated(), tree_of(claims("A", ("prod", 2, (0, 4))), claims("B", ("prod", 2, (1, 2, 3, 5))))
    )
    nodes = by_id(split)
    assert sorted(nodes[name].op for name in ids_of(left)["A"]) == ["linear", "linear", "linear", "mul", "silu"]
    assert not any(node.op in ("take", "concat") for node in split.block.nodes)


def test_channels_go_through_norm_pooling_and_depthwise_convolution():
    split, left = split_units(cnn(), tree_of(claims("A", ("h", 1, (0, 1))), claims("B", ("h", 1, (2, 3, 4, 5)))))
    nodes = by_id(split)
    ops = [nodes[name].op for name in ids_of(left)["A"]]
    assert ops == ["conv2d", "batch_norm", "relu", "max_pool2d", "conv2d", "conv2d", "flatten", "linear"]
    depthwise = nodes[ids_of(left)["A"][4]]
    assert depthwise.args[6] == 2
    assert not any(node.op == "take" for node in split.block.nodes)


def test_two_layers_connect_part_to_part():
    graph = mlp()
    tree = tree_of(
        claims("A", ("h", 1, (0, 1, 2)), ("g", 1, (0, 1))), claims("B", ("h", 1, (3, 4, 5)), ("g", 1, (2, 3, 4)))
    )
    split, _ = split_units(graph, tree)
    blocks = [tensor.shape for name, tensor in split.weights.items() if name.startswith("b.weight")]
    assert sorted(map(tuple, blocks)) == [(2, 3), (2, 3), (3, 3), (3, 3)]


def test_what_reads_the_whole_value_gets_it_in_order():
    weights = weights_of(a_weight=(4, 3), a_bias=(4,))
    nodes = [step("a", "linear", "@x", "$a.weight", "$a.bias"), step("s", "softmax", "@a", -1), step("t", "exp", "@a")]
    graph = graph_of({"x": (3,)}, nodes, ["s", "a", "t"], weights)
    split, left = split_units(graph, tree_of(claims("A", ("a", 1, (2, 0)))))
    assert "s" in by_id(split)
    assert gap(run_graph(split, given(split)), run_graph(graph, given(graph))) < 1e-6
    assert {"a", "t"} <= set(ids_of(left)["network"])


def test_a_value_nobody_can_divide_is_taken_apart_after_it_is_made():
    weights = weights_of(n_weight=(4,), n_bias=(4,), y_weight=(3, 4), y_bias=(3,))
    nodes = [
        step("n", "layer_norm", "@x", (4,), "$n.weight", "$n.bias", 1e-5),
        step("y", "linear", "@n", "$y.weight", "$y.bias"),
    ]
    graph = graph_of({"x": (4,)}, nodes, ["y"], weights)
    split, left = split_units(graph, tree_of(claims("A", ("n", -1, (1, 3))), claims("B", ("n", 1, (0,)))))
    assert [by_id(split)[name].op for name in ids_of(left)["A"]] == ["take", "linear"]
    assert gap(run_graph(split, given(split)), run_graph(graph, given(graph))) < 1e-6


def test_a_conv1d_layout_and_a_shared_weight():
    weights = weights_of(a_weight=(3, 4), a_bias=(4,), y_weight=(4, 3), y_bias=(3,))
    nodes = [
        step("a", "affine", "@x", "$a.weight", "$a.bias"),
        step("h", "gelu", "@a", "tanh"),
        step("b", "affine", "@h", "$y.weight", "$y.bias"),
        step("a2", "affine", "@b", "$a.weight", "$a.bias"),
        step("y", "affine", "@a2", "$y.weight", "$y.bias"),
    ]
    graph = graph_of({"x": (2, 3)}, nodes, ["y"], weights)
    split, _ = split_units(graph, tree_of(claims("A", ("h", 2, (0, 3))), claims("B", ("a2", 2, (1,)))))
    assert gap(run_graph(split, given(split)), run_graph(graph, given(graph))) < 1e-5
    assert "a.weight" not in split.weights


def test_weights_that_vary_by_unit_are_cut_too():
    weights = weights_of(a_weight=(4, 3), a_bias=(4,), s=(4,), t=(1,))
    nodes = [
        step("a", "linear", "@x", "$a.weight", "$a.bias"),
        step("m", "mul", "@a", "$s"),
        step("k", "add", "@m", "$t"),
        step("c", "clip", "@k", -1.0, 1.0),
        step("y", "maximum", "@c", "@x4"),
    ]
    graph = graph_of({"x": (3,), "x4": (4,)}, nodes, ["y"], weights)
    split, _ = split_units(graph, tree_of(claims("A", ("c", 1, (0, 2)))))
    assert sum(node.op == "clip" for node in split.block.nodes) == 2
    assert gap(run_graph(split, given(split)), run_graph(graph, given(graph))) < 1e-6


@settings(max_examples=30, deadline=None, derandomize=True)
@sampled(st.sampled_from(sorted(CLAIMABLE)), st.integers(0, 2**32 - 1))
def test_any_division_computes_the_same(which: str, seed: int):
    make, axes = CLAIMABLE[which]
    graph, rng = make(), random.Random(seed)
    names = ["A", "B", "C"][: rng.randint(1, 3)]
    units: dict[str, list[Unit]] = {name: [] for name in names}
    for value in rng.sample(sorted(axes), rng.randint(1, 3)):
        size = graph.values[value].axes[axes[value]]
        owner = [rng.choice([*names, None]) for _ in range(size)]
        for name in names:
            indices = [i for i in range(size) if owner[i] == name]
            rng.shuffle(indices)
            units[name].append(Unit(value, axes[value], tuple(indices)))
    held = [name for name in names if any(unit.indices for unit in units[name])]
    tree = tree_of(*(Region(name, "module", units=tuple(units[name])) for name in held))
    inputs = given(graph)
    expected = outputs_of(graph, inputs)
    assert gap(outputs_of(split_units(graph, tree)[0], inputs), expected) < 1e-5
    assert gap(outputs_of(structure(graph, tree), inputs), expected) < 1e-5


def test_the_regions_become_functions_with_small_interfaces():
    graph = mlp(hidden=40, second=8)
    tree = tree_of(claims("A", ("h", 1, tuple(range(0, 40, 2)))), claims("B", ("h", 1, tuple(range(1, 40, 2)))))
    program = structure(graph, tree)
    assert set(program.functions) == {"network", "A", "B"}
    for name in ("A", "B"):
        function = program[name]
        assert function.inputs == ("x",)
        assert [program.values[value].axes for value in function.outputs] == [("batch", 8)]
    assert gap(run_functions(program, given(graph)), run_graph(graph, given(graph))) < 1e-5
    assert all(isinstance(arg, Ref) for node in program["network"].reading().body.nodes[:2] for arg in node.args)


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        (("nothing", 1, (0,)), "'nothing'"),
        (("h", 1, (0, 6)), "unit 6"),
        (("h", 1, (-1,)), "unit -1"),
        (("h", 0, (0,)), "axis 0"),
        (("h", 2, (0,)), "axis 2"),
        (("h", -3, (0,)), "axis -3"),
    ],
)
def test_units_that_do_not_exist(unit, words):
    with pytest.raises(BadInput, match=words) as raised:
        split_units(mlp(), tree_of(claims("A", unit)))
    assert "'A'" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_positions_of_a_sequence_are_no_units():
    with pytest.raises(BadInput, match="features or channels"):
        split_units(gated(), tree_of(claims("A", ("act", 1, (0,)))))


@pytest.mark.parametrize("other", ["A", "B"])
def test_a_unit_claimed_twice(other):
    first = claims("A", ("h", 1, (0, 1)), *([("h", 1, (1,))] if other == "A" else []))
    tree = tree_of(first, *([claims("B", ("h", -1, (1, 2)))] if other == "B" else []))
    with pytest.raises(BadInput, match=f"unit 1 of 'h' is claimed by 'A' and '{other}'"):
        split_units(mlp(), tree)


def test_a_reshape_that_names_the_batch():
    weights = weights_of(a_weight=(4, 2, 3, 3), a_bias=(4,), y_weight=(3, 4), y_bias=(3,))
    nodes = [
        step("a", "conv2d", "@x", "$a.weight", "$a.bias", (1, 1), (0, 0), (1, 1), 1),
        step("p", "adaptive_avg_pool2d", "@a", (1, 1)),
        step("n", "size", "@x", 0),
        step("f", "reshape", "@p", ("@n", 4)),
        step("y", "linear", "@f", "$y.weight", "$y.bias"),
    ]
    graph = graph_of({"x": (2, 5, 5)}, nodes, ["y"], weights)
    split, _ = split_units(graph, tree_of(claims("A", ("a", 1, (0, 2))), claims("B", ("a", 1, (1, 3)))))
    assert gap(run_graph(split, given(split)), run_graph(graph, given(graph))) < 1e-5
    assert sum(node.op == "flatten" for node in split.block.nodes) == 2
