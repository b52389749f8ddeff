"""Attention divided between regions by heads: each part has its own projections, and the sum is what it was."""

from __future__ import annotations

import pytest
import torch
from modules.planted_graphs import gap, given, graph_of, outputs_of, step, weights_of

from pellucid.ir.graph import Graph
from pellucid.ir.regions import Region, RegionTree, Unit
from pellucid.modules.split import split_units
from pellucid.modules.structure import structure


def attention(heads: int = 4, shared: int = 1, fused: bool = False) -> Graph:
    """x + o(attention(q x, k x, v x)) with heads of 3 features; `shared` heads for each of keys and values."""
    width, few = heads * 3, heads * 3 // shared
    shapes = {"q": (width, 6), "k": (few, 6), "v": (few, 6), "o": (6, width), "f": (width + 2 * few, 6)}
    weights = weights_of(**shapes)
    if fused:
        joint = step("s", "split", "@f", (width, few, few), 2).with_changes(outputs=("q", "k", "v"))
        nodes = [step("f", "linear", "@x", "$f", None), joint]
    else:
        nodes = [step(name, "linear", "@x", f"${name}", None) for name in "qkv"]
    nodes += [
        step("qh", "split_heads", "@q", heads),
        step("kh", "split_heads", "@k", heads // shared),
        step("vh", "split_heads", "@v", heads // shared),
        step("a", "attention", "@qh", "@kh", "@vh", None, True, None),
        step("m", "merge_heads", "@a"),
        step("o", "linear", "@m", "$o", None),
        step("y", "add", "@x", "@o"),
    ]
    read = {leaf for node in nodes for leaf in weights if f"'{leaf}'" in repr(node.args)}
    return graph_of({"x": (5, 6)}, nodes, ["y"], {name: weights[name] for name in read})


def parts(*claims: tuple[int, ...]) -> RegionTree:
    regions = (Region(f"part_{i}", "module", units=(Unit("a", 1, heads),)) for i, heads in enumerate(claims))
    return RegionTree(Region("network", "network", children=tuple(regions)), "test")


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("shared", [1, 2])
@pytest.mark.parametrize("claims", [((0, 1), (2, 3)), ((2, 3),), ((0, 3), (1, 2)), ((0,), (1, 2, 3))])
def test_any_heads_in_any_parts(claims: tuple[tuple[int, ...], ...], shared: int, fused: bool):
    graph = attention(shared=shared, fused=fused)
    program = structure(graph, parts(*claims))
    inputs = given(graph)
    assert gap(outputs_of(program, inputs), outputs_of(graph, inputs)) < 1e-5


def test_each_part_projects_for_itself():
    graph = attention()
    split, left = split_units(graph, parts((0, 2), (1, 3)))
    nodes = {node.id: node for node in split.block.nodes}
    (first, _) = left.root.children
    ops = [nodes[name].op for name in first.nodes]
    assert ops == [*["linear"] * 3, *["split_heads"] * 3, "attention", "merge_heads", "linear"]
    rows = [0, 1, 2, 6, 7, 8]
    assert torch.equal(split.weights[nodes[first.nodes[0]].args[1].name], graph.weights["q"][rows])
    assert torch.equal(split.weights[nodes[first.nodes[8]].args[1].name], graph.weights["o"][:, rows])
    assert nodes[first.nodes[3]].args[1] == 2
    assert not any(node.op in ("take", "concat") for node in split.block.nodes)


def test_heads_that_share_keys_are_divided_only_together():
    whole, _ = split_units(attention(shared=2), parts((0, 1), (2, 3)))
    assert sum(node.op == "attention" for node in whole.block.nodes) == 2
    torn, _ = split_units(attention(shared=2), parts((0,), (1, 2, 3)))
    assert sum(node.op == "attention" for node in torn.block.nodes) == 1


def test_a_mask_for_each_head_stays_whole():
    masked = graph_of(
        {"q": (2, 3, 3), "mask": (2, 3, 3)},
        [step("a", "attention", "@q", "@q", "@q", "@mask", False, None), step("y", "merge_heads", "@a")],
        ["y"],
        {},
    )
    program = structure(masked, parts((0,), (1,)))
    inputs = given(masked)
    assert gap(outputs_of(program, inputs), outputs_of(masked, inputs)) < 1e-5
