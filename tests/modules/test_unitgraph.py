"""Unit graphs: edges are the maps that the network itself computes between what units write and what others read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from modules.planted_graphs import cnn, conv_line, gated, given, graph_of, mlp, step, weights_of
from scipy import sparse
from torch import nn

from pellucid.errors import BadInput
from pellucid.ir.graph import Block, Graph, Node, Ref, ValueType, Weight
from pellucid.lift.trace import trace
from pellucid.modules.unitgraph import UnitGraph, unit_graph


def between(graph: UnitGraph, one: str, other: str) -> np.ndarray:
    """The edges between two blocks, rows for the first."""
    names = [block.name for block in graph.blocks]
    i, j = names.index(one), names.index(other)
    part = graph.adjacency[graph.starts[i] : graph.starts[i + 1], graph.starts[j] : graph.starts[j + 1]]
    return part.toarray()


def kinds(graph: UnitGraph) -> dict[str, tuple[str, int]]:
    return {block.name: (block.kind, block.size) for block in graph.blocks}


def numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def test_a_perceptron_is_its_weights():
    graph = mlp()
    units = unit_graph(graph)
    assert kinds(units) == {"x": ("input", 4), "h": ("neuron", 6), "g": ("neuron", 5), "y": ("output", 3)}
    assert np.allclose(between(units, "h", "x"), numpy(graph.weights["a.weight"].abs()))
    assert np.allclose(between(units, "y", "g"), numpy(graph.weights["c.weight"].abs()))
    assert between(units, "x", "g").sum() == 0
    assert abs(units.adjacency - units.adjacency.T).max() == 0
    assert units.adjacency.dtype == np.float64
    assert len(units.units) == units.size == 18
    assert units.units[4] == "h[0]"
    assert units.complete


def test_squares():
    graph = mlp()
    units = unit_graph(graph, "squared")
    assert np.allclose(between(units, "g", "h"), numpy(graph.weights["b.weight"] ** 2))


def test_activation_scales_by_how_far_the_writer_varies():
    graph, (x,) = mlp(), given(mlp(), batch=50)
    units = unit_graph(graph, "activation", samples=[[x[:20]], [x[20:]]])
    hidden = torch.relu(x @ graph.weights["a.weight"].T + graph.weights["a.bias"])
    wanted = graph.weights["b.weight"].abs() * hidden.std(0, correction=0)
    assert np.allclose(between(units, "g", "h"), numpy(wanted), rtol=1e-4)


def test_gradient_scales_by_how_far_the_output_follows_the_reader():
    weights = weights_of(a_weight=(3, 2), a_bias=(3,), c_weight=(1, 3))
    nodes = [
        step("a", "linear", "@x", "$a.weight", "$a.bias"),
        step("h", "tanh", "@a"),
        step("y", "linear", "@h", "$c.weight", None),
    ]
    graph = graph_of({"x": (2,)}, nodes, ["y"], weights)
    (x,) = given(graph, batch=40)
    units = unit_graph(graph, "gradient", samples=[[x]])
    slope = (1 - torch.tanh(x @ weights["a.weight"].T + weights["a.bias"]) ** 2) * weights["c.weight"][0]
    wanted = weights["a.weight"].abs() * x.std(0, correction=0) * slope.square().mean(0).sqrt()[:, None]
    assert np.allclose(between(units, "h", "x"), numpy(wanted), rtol=1e-4)


def test_a_gated_product_is_one_neuron_that_reads_twice():
    graph = gated()
    units = unit_graph(graph)
    assert kinds(units) == {"x": ("input", 4), "prod": ("neuron", 6), "y": ("output", 4)}
    gate, up = graph.weights["g.weight"], graph.weights["u.weight"]
    assert np.allclose(between(units, "prod", "x"), numpy((gate**2 + up**2).sqrt()))
    assert np.allclose(between(units, "y", "x"), np.eye(4)), "the residual stream passes the input on"


def test_channels_norms_and_positions():
    graph = cnn()
    units = unit_graph(graph)
    assert [block.kind for block in units.blocks] == ["input", "channel", "channel", "output", "output"]
    gain = graph.weights["n.weight"].abs() / (graph.weights["n.var"] + 1e-5).sqrt()
    kernel = graph.weights["a.weight"].flatten(2).norm(dim=2)
    assert np.allclose(between(units, "h", "x"), numpy(gain[:, None] * kernel), rtol=1e-4)
    depthwise = graph.weights["d.weight"].flatten(1).norm(dim=1)
    flat = graph.weights["z.weight"].reshape(2, 6, 16).norm(dim=2) * depthwise
    assert np.allclose(between(units, "z", "h"), numpy(flat), rtol=1e-4)
    assert unit_graph(conv_line()).blocks[1].kind == "channel"


class Residual(nn.Module):
    """Two blocks of an MLP behind layer norms on one stream, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(8) for _ in range(3)])
        self.ups = nn.ModuleList([nn.Linear(8, 5) for _ in range(2)])
        self.downs = nn.ModuleList([nn.Linear(5, 8) for _ in range(2)])
        self.head = nn.Linear(8, 3)
        for norm in self.norms:
            nn.init.normal_(norm.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for norm, up, down in zip(self.norms, self.ups, self.downs, strict=False):
            x = x + down(torch.relu(up(norm(x))))
        return self.head(self.norms[2](x))


def test_the_stream_is_contracted_with_norm_gains_folded_in():
    torch.manual_seed(0)
    model = Residual()
    units = unit_graph(trace(model, (torch.randn(3, 8),)))
    assert [block.kind for block in units.blocks] == ["input", "neuron", "neuron", "output"]
    centre = torch.eye(8) - 1 / 8
    read = model.ups[1].weight @ torch.diag(model.norms[1].weight) @ centre
    names = [block.name for block in units.blocks]
    assert np.allclose(between(units, names[2], names[1]), numpy((read @ model.downs[0].weight).abs()), atol=1e-6)
    assert np.allclose(between(units, names[2], names[0]), numpy(read.abs()), atol=1e-6)
    head = model.head.weight @ torch.diag(model.norms[2].weight) @ centre
    assert np.allclose(between(units, names[3], names[1]), numpy((head @ model.downs[0].weight).abs()), atol=1e-6)


class Attention(nn.Module):
    """One layer of attention with shared key heads on a stream of embeddings."""

    def __init__(self, vocabulary: int = 12) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, 8)
        self.q, self.k, self.v = nn.Linear(8, 8), nn.Linear(8, 4), nn.Linear(8, 4)
        self.o = nn.Linear(8, 8, bias=False)
        self.head = nn.Linear(8, vocabulary, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids)
        q, k, v = (part.unflatten(2, (-1, 2)).transpose(1, 2) for part in (self.q(x), self.k(x), self.v(x)))
        k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.head(x + self.o(mixed.transpose(1, 2).flatten(2)))


def test_heads_read_by_values_and_patterns_by_queries_and_keys():
    torch.manual_seed(0)
    model = Attention()
    units = unit_graph(trace(model, (torch.randint(0, 12, (2, 5)),)))
    token, head, pattern, out = (block.name for block in units.blocks)
    assert [block.kind for block in units.blocks] == ["token", "head", "pattern", "output"]
    embed = model.embed.weight
    values = (model.v.weight @ embed.T).reshape(2, 2, 12).repeat_interleave(2, 0)
    assert np.allclose(between(units, head, token), numpy(values.norm(dim=1)), atol=1e-6)
    queries = (model.q.weight @ embed.T).reshape(4, 2, 12)
    keys = (model.k.weight @ embed.T).reshape(2, 2, 12).repeat_interleave(2, 0)
    wanted = (queries.square().sum(1) + keys.square().sum(1)).sqrt()
    assert np.allclose(between(units, pattern, token), numpy(wanted), atol=1e-6)
    written = (model.head.weight @ model.o.weight).reshape(12, 4, 2).norm(dim=2)
    assert np.allclose(between(units, out, head), numpy(written), atol=1e-6)
    steering = between(units, pattern, head)
    assert np.allclose(steering, np.diag(numpy(wanted.max(1)[0]))), "a pattern steers its own head"


def test_a_large_vocabulary_is_a_few_clusters():
    torch.manual_seed(0)
    centres = torch.randn(6, 8)
    model = Attention(1200)
    model.embed.weight.data = centres[torch.arange(1200) % 6] + 0.01 * torch.randn(1200, 8)
    model.head.weight = model.embed.weight
    units = unit_graph(trace(model, (torch.randint(0, 1200, (2, 5)),)), clusters=12)
    tokens = [block for block in units.blocks if block.kind == "token"]
    assert len(tokens) == 2
    for block in tokens:
        assert sorted(row for cluster in block.members for row in cluster) == [*range(1200)]
        assert all(len({row % 6 for row in cluster}) == 1 for cluster in block.members)
        assert not block.claimable


@pytest.mark.parametrize(("kind", "gates"), [("RNN", 1), ("LSTM", 4), ("GRU", 3)])
def test_recurrent_states_read_themselves(kind: str, gates: int):
    torch.manual_seed(0)
    layer = getattr(nn, kind)(3, 4, batch_first=True)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.out = layer, nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.layer(x)[0])

    units = unit_graph(trace(Net(), (torch.randn(2, 5, 3),)))
    x, state, _ = (block.name for block in units.blocks)
    assert units.blocks[1].kind == "state"
    into = layer.weight_ih_l0.reshape(gates, 4, 3).norm(dim=0)
    assert np.allclose(between(units, state, x), numpy(into), atol=1e-6)
    own = numpy(layer.weight_hh_l0.reshape(gates, 4, 4).norm(dim=0))
    np.fill_diagonal(own, 0)
    assert np.allclose(between(units, state, state), own + own.T, atol=1e-6), "both directions, no loops"


def looped() -> Graph:
    """h = tanh(W x_t + V h), the states stacked and read by a linear layer."""
    body = Block(
        ("h_before", "x_t"),
        (
            Node(("wx",), "linear", (Ref("x_t"), Weight("w"), None)),
            Node(("vh",), "linear", (Ref("h_before"), Weight("v"), None)),
            Node(("sum",), "add", (Ref("wx"), Ref("vh"))),
            Node(("h",), "tanh", (Ref("sum"),)),
        ),
        ("h", "h"),
    )
    nodes = (
        Node(("n",), "size", (Ref("x"), 0)),
        Node(("h0",), "zeros", ((Ref("n"), 3),)),
        Node(("last", "all"), "scan", ((Ref("h0"),), (Ref("x"),), ()), (("axis", 1),), body=body),
        Node(("y",), "linear", (Ref("all"), Weight("u"), None)),
    )
    state = ValueType("float32", ("batch", 3))
    values = {name: state for name in ("h_before", "wx", "vh", "sum", "h", "last", "h0")}
    wide = {name: ValueType("float32", ("batch", "seq", size)) for name, size in (("x", 2), ("all", 3), ("y", 2))}
    values |= {"x_t": ValueType("float32", ("batch", 2)), "n": ValueType("int"), **wide}
    return Graph(Block(("x",), nodes, ("y",)), values, weights_of(w=(3, 2), v=(3, 3), u=(2, 3)))


def test_the_state_of_a_loop_is_what_the_loop_makes_of_it():
    graph = looped()
    units = unit_graph(graph)
    assert [(block.kind, block.size) for block in units.blocks] == [("input", 2), ("state", 3), ("output", 2)]
    state = units.blocks[1].name
    own = numpy(graph.weights["v"].abs())
    np.fill_diagonal(own, 0)
    assert np.allclose(between(units, state, state), own + own.T)
    assert np.allclose(between(units, "y", state), numpy(graph.weights["u"].abs()))
    assert not units.blocks[1].claimable


def test_what_no_output_depends_on_is_left_out():
    weights = weights_of(a_weight=(4, 3), a_bias=(4,), d_weight=(5, 3), y_weight=(2, 4))
    nodes = [
        step("a", "linear", "@x", "$a.weight", "$a.bias"),
        step("h", "relu", "@a"),
        step("d", "linear", "@x", "$d.weight", None),
        step("dead", "relu", "@d"),
        step("y", "linear", "@h", "$y.weight", None),
    ]
    units = unit_graph(graph_of({"x": (3,)}, nodes, ["y"], weights))
    assert [block.name for block in units.blocks] == ["x", "h", "y"]


def test_the_strongest_edges_of_each_pair_are_kept():
    graph = mlp(hidden=20, second=10)
    units, whole = unit_graph(graph, strongest=1.0), unit_graph(graph)
    kept, every = between(units, "g", "h"), between(whole, "g", "h")
    assert (kept > 0).sum() == 20
    assert kept[kept > 0].min() >= np.sort(every.ravel())[-20]
    assert not units.complete


def test_the_same_network_gives_the_same_graph():
    one, other = unit_graph(gated()), unit_graph(gated())
    assert (one.adjacency != other.adjacency).nnz == 0
    assert one.blocks == other.blocks


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        ([[0.0, -1.0], [-1.0, 0.0]], "negative"),
        ([[0.0, float("nan")], [float("nan"), 0.0]], "NaN or Inf"),
        ([[0.0, float("inf")], [float("inf"), 0.0]], "NaN or Inf"),
        ([[0.0, 1.0], [2.0, 0.0]], "undirected"),
        ([[1.0, 1.0], [1.0, 0.0]], "diagonal"),
        ([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]], "2 rows"),
    ],
)
def test_graphs_that_are_none(matrix: list[list[float]], words: str):
    blocks = (unit_graph(mlp()).blocks[0].__class__("h", "neuron", 2),)
    with pytest.raises(BadInput, match=words) as raised:
        UnitGraph(sparse.csr_matrix(matrix), blocks)
    assert "\n" not in str(raised.value)


def test_networks_without_hidden_units_or_weights():
    weights = weights_of(a_weight=(4, 3), a_bias=(4,))
    linear = graph_of({"x": (3,)}, [step("y", "linear", "@x", "$a.weight", "$a.bias")], ["y"], weights)
    with pytest.raises(BadInput, match="nothing to partition"):
        unit_graph(linear)
    graph = mlp()
    with pytest.raises(BadInput, match="no edges"):
        unit_graph(graph.with_changes(weights={name: tensor * 0 for name, tensor in graph.weights.items()}))
    broken = {name: tensor * (float("nan") if name == "b.weight" else 1) for name, tensor in graph.weights.items()}
    with pytest.raises(BadInput, match="'h' and 'g' are NaN or Inf"):
        unit_graph(graph.with_changes(weights=broken))


def test_weightings_that_cannot_be():
    with pytest.raises(BadInput, match="unknown weighting 'cubed'"):
        unit_graph(mlp(), "cubed")
    with pytest.raises(BadInput, match="give samples"):
        unit_graph(mlp(), "activation")


class Indexed(nn.Module):
    """A table with tokens along its last axis, read by index, and a layer that reads it again from the other side."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(6, 9))
        self.up, self.down = nn.Linear(6, 5), nn.Linear(5, 6)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.table.T[ids]
        return (x + self.down(torch.relu(self.up(x)))) @ self.table


def test_a_table_read_by_index_is_an_embedding():
    torch.manual_seed(0)
    model = Indexed()
    units = unit_graph(trace(model, (torch.randint(0, 9, (4, 3)),)))
    token, hidden, out = (block.name for block in units.blocks)
    assert [block.kind for block in units.blocks] == ["token", "neuron", "output"]
    assert np.allclose(between(units, hidden, token), numpy((model.up.weight @ model.table).abs()), atol=1e-6)
    assert np.allclose(between(units, out, token), numpy((model.table.T @ model.table).abs()), atol=1e-6)


def test_padded_images_have_channels():
    model = nn.Sequential(
        nn.ZeroPad2d(1), nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 1)
    )
    units = unit_graph(trace(model, (torch.randn(2, 2, 8, 8),)))
    assert [(block.kind, block.size) for block in units.blocks] == [
        ("input", 2),
        ("channel", 4),
        ("channel", 3),
        ("output", 2),
    ]
