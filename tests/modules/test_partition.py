"""The hierarchy of a network's own modules: each node once, names as in the network, kinds as a person would say."""

from __future__ import annotations

import re
from collections import Counter

import pytest
import torch
from modules.planted_graphs import gap, graph_of, mlp, step
from torch import nn
from torch.nn import functional as F

from pellucid.ir.graph import Block, CalledModule, Graph
from pellucid.ir.interpret import run_functions, run_graph
from pellucid.ir.regions import RegionTree
from pellucid.lift.trace import trace
from pellucid.modules.partition import kind_of, partition
from pellucid.modules.structure import structure


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 8), nn.Linear(8, 4)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(4, 12), nn.Linear(4, 4)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.out(F.scaled_dot_product_attention(q, k, v))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.attention, self.mlp = nn.LayerNorm(4), Attention(), Mlp()

    def forward(self, x):
        x = x + self.attention(self.norm(x))
        return x + self.mlp(x)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.layers, self.head = nn.Embedding(9, 4), nn.ModuleList([Layer(), Layer()]), nn.Linear(4, 9)

    def forward(self, ids):
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


class Named(nn.Module):
    """A part called like the root, called twice, and a part whose name no function may have."""

    def __init__(self):
        super().__init__()
        self.network = Mlp()
        self.add_module("my layer", Mlp())

    def forward(self, x):
        return self.network(self.network(getattr(self, "my layer")(x)))


class Bare(nn.Module):
    """Layers that only hold weights; the network's own forward uses them."""

    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([self.Holder(), self.Holder()])

    def forward(self, x):
        for layer in self.layers:
            x = x + torch.tanh(layer.one(x) * layer.two(x))
        return x


class Loops(nn.Module):
    """Two recurrences, one over the outputs of the other, written in one forward."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.GRUCell(4, 4), nn.Linear(8, 4)

    def forward(self, x):
        h, seen = torch.zeros(x.shape[0], 4), []
        for t in range(x.shape[1]):
            h = self.one(x[:, t], h)
            seen.append(h)
        y, g, made = torch.stack(seen, 1), torch.zeros(x.shape[0], 4), []
        for t in range(y.shape[1]):
            g = torch.tanh(self.two(torch.cat([y[:, t], g], 1)))
            made.append(g)
        return torch.stack(made, 1)


IDS = torch.arange(10).reshape(2, 5) % 9
NETWORKS = {
    "model": (Model, IDS),
    "named": (Named, torch.randn(3, 4)),
    "bare": (Bare, torch.randn(3, 4)),
    "loops": (Loops, torch.randn(3, 4, 4)),
    "flat": (lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)), torch.randn(3, 4)),
    "images": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)
        ),
        torch.randn(3, 1, 8, 8),
    ),
}


@pytest.fixture(scope="module")
def traced() -> dict[str, tuple[Graph, RegionTree]]:
    torch.manual_seed(0)
    found = {}
    for name, (make, inputs) in NETWORKS.items():
        graph = trace(make(), (inputs,))
        found[name] = (graph, partition(graph))
    return found


def outline(tree: RegionTree) -> dict[str, str]:
    return {region.name: region.kind for region in tree.walk()}


def all_ids(block: Block) -> list[str]:
    inner = [name for node in block.nodes if node.body is not None for name in all_ids(node.body)]
    return [node.id for node in block.nodes] + inner


@pytest.mark.parametrize("name", NETWORKS)
def test_every_node_is_in_one_region_and_the_program_is_the_network(traced, name):
    graph, tree = traced[name]
    assert tree.origin == "nesting"
    counts = Counter(node for region in tree.walk() for node in region.nodes)
    assert counts == Counter(all_ids(graph.block))
    names = [region.name for region in tree.walk()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.@/-]*", region) for region in names)
    inputs = [NETWORKS[name][1]]
    assert gap(run_functions(structure(graph, tree), inputs), run_graph(graph, inputs)) < 1e-6


def test_modules_become_regions_and_single_nodes_dissolve(traced):
    assert outline(traced["model"][1]) == {
        "network": "network",
        "layers.0": "layer",
        "layers.0.attention": "attention",
        "layers.0.mlp": "mlp",
        "layers.1": "layer",
        "layers.1.attention": "attention",
        "layers.1.mlp": "mlp",
    }


def test_the_functions_of_a_transformer_pass_one_value(traced):
    program = structure(*traced["model"])
    for name in ("layers.0", "layers.0.attention", "layers.1.mlp"):
        assert (len(program[name].inputs), len(program[name].outputs)) == (1, 1)


def test_names_are_distinct_and_fit_for_functions(traced):
    assert outline(traced["named"][1]) == {
        "network": "network", "my_layer": "mlp", "network_2": "mlp", "network@1": "mlp",
    }  # fmt: skip


def test_containers_that_are_never_called(traced):
    graph, tree = traced["bare"]
    assert [*outline(tree)] == ["network", "layers.0", "layers.1"]
    assert tree.root.nodes == ()
    ops = {node.id: node.op for node in graph.block.nodes}
    assert [ops[node] for node in tree.root.children[0].nodes] == ["linear", "linear", "mul", "tanh", "add"]


def test_the_step_of_a_loop_is_a_region(traced):
    kinds = outline(traced["loops"][1])
    assert [name for name, kind in kinds.items() if kind == "step"] == ["one.step", "step"]
    assert kinds["one"] == "recurrent"


def test_a_flat_chain_is_cut_at_its_layers(traced):
    tree = traced["images"][1]
    assert [(region.name, len(region.nodes)) for region in tree.root.children] == [("conv2d_0", 5), ("linear_5", 1)]
    assert outline(traced["flat"][1]) == {"network": "network", "linear_0": "layer", "linear_2": "layer"}


def test_a_graph_without_modules():
    tree = partition(mlp())
    assert [region.name for region in tree.root.children] == ["linear_1", "linear_2", "linear_3"]
    branched = graph_of({"x": (3,)}, [step("a", "relu", "@x"), step("y", "add", "@a", "@x")], ["y"], {})
    assert partition(branched).root.nodes == ("a", "y")


def test_a_shell_around_one_region_dissolves():
    graph = mlp()
    scopes = {
        "": CalledModule("Net", ""),
        "shell": CalledModule("Shell", ""),
        "shell.core": CalledModule("Core", "shell"),
    }
    nodes = tuple(node.with_changes(scope="shell.core") for node in graph.block.nodes)
    block = Block(graph.block.inputs, nodes, graph.block.outputs)
    tree = partition(graph.with_changes(block=block, modules=scopes))
    assert [*outline(tree)] == ["network", "shell.core"]


@pytest.mark.parametrize(
    ("class_name", "kind"),
    [
        ("LlamaAttention", "attention"),
        ("LlamaMLP", "mlp"),
        ("GPT2Block", "layer"),
        ("LlamaRMSNorm", "norm"),
        ("GRUCell", "recurrent"),
        ("RotaryEmbedding", "embedding"),
        ("TextEncoder", "text_encoder"),
        ("0", "layer"),
        ("", "layer"),
    ],
)
def test_kinds(class_name, kind):
    assert kind_of(class_name) == kind
