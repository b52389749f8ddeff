"""Planted parts of networks, written by hand in the usual ways, are recognised, and near misses are not."""

from __future__ import annotations

import math

import pytest
import torch
from lifted import Net, gap, lifted, ops, run, weight
from torch import nn
from torch.nn import functional as F

from pellucid.ir.graph import Block, Graph, Node, Ref, ValueType, Weight
from pellucid.lift.recognise import RULES, recognise

DIM = 8


def batches(*shapes: tuple[int, int]) -> list[tuple[torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(batch, length, DIM, generator=generator),) for batch, length in shapes]


def recognised(compute, **parts) -> Graph:
    torch.manual_seed(0)
    return lifted(Net(compute, **parts), *batches((4, 5), (2, 3), (1, 9)))


def one(graph: Graph) -> Node:
    (node,) = graph.block.nodes
    return node


# ---- dense layers

DENSE = {
    "x @ W.T + b": lambda net, x: x @ net.w.T + net.b,
    "x @ W.t() + b": lambda net, x: torch.matmul(x, net.w.t()) + net.b,
    "b + x @ W.transpose": lambda net, x: net.b + x @ net.w.transpose(0, 1),
    "F.linear": lambda net, x: F.linear(x, net.w, net.b),
}


@pytest.mark.parametrize("name", DENSE)
def test_dense_layers_written_out(name):
    node = one(recognised(DENSE[name], w=weight(6, DIM), b=weight(6)))
    assert (node.op, node.args) == ("linear", (Ref("args_0"), Weight("w"), Weight("b")))


def test_a_dense_layer_without_bias():
    assert one(recognised(lambda net, x: x @ net.w.T, w=weight(6, DIM))).args[2] is None


AFFINE = {
    "x @ W + b": lambda net, x: x @ net.w + net.b,
    "addmm over flattened positions": lambda net, x: torch.addmm(net.b, x.view(-1, x.size(-1)), net.w).view(
        *x.size()[:-1], 6
    ),
}


@pytest.mark.parametrize("name", AFFINE)
def test_dense_layers_the_other_way_round(name):
    node = one(recognised(AFFINE[name], w=weight(DIM, 6), b=weight(6)))
    assert (node.op, node.args) == ("affine", (Ref("args_0"), Weight("w"), Weight("b")))


def test_a_product_over_halves_of_the_features_is_no_layer_over_positions():
    graph = recognised(
        lambda net, x: torch.addmm(net.b, x.view(-1, 4), net.w).view(x.size(0), x.size(1), 12),
        w=weight(4, 6), b=weight(6),
    )  # fmt: skip
    assert ops(graph)["reshape"] == 2


def test_a_product_of_two_values_is_no_layer():
    assert ops(recognised(lambda net, x: x @ x.transpose(1, 2) + net.b, b=weight(1)))["linear"] == 0


# ---- norms and activations


def centred(x):
    return x - x.mean(-1, keepdim=True)


LAYER_NORMS = {
    "var and sqrt": lambda net, x: (
        centred(x) / torch.sqrt(x.var(-1, keepdim=True, unbiased=False) + 1e-5) * net.g + net.b
    ),
    "squares and rsqrt": lambda net, x: (
        net.g * (centred(x) * torch.rsqrt((centred(x) ** 2).mean(-1, keepdim=True) + 1e-5)) + net.b
    ),
    "nn": lambda net, x: F.layer_norm(x, (DIM,), net.g, net.b, 1e-5),
}


@pytest.mark.parametrize("name", LAYER_NORMS)
def test_layer_norms(name):
    node = one(recognised(LAYER_NORMS[name], g=weight(DIM), b=weight(DIM)))
    assert (node.op, node.args) == ("layer_norm", (Ref("args_0"), (DIM,), Weight("g"), Weight("b"), 1e-5))


def test_an_unbiased_variance_is_no_layer_norm():
    graph = recognised(
        lambda net, x: centred(x) / torch.sqrt(x.var(-1, keepdim=True) + 1e-5) * net.g + net.b,
        g=weight(DIM),
        b=weight(DIM),
    )
    assert ops(graph)["layer_norm"] == 0


RMS_NORMS = {
    "rsqrt": lambda net, x: net.g * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)),
    "sqrt": lambda net, x: x / torch.sqrt((x**2).mean(-1, keepdim=True) + 1e-6) * net.g,
    "nn": lambda net, x: F.rms_norm(x, (DIM,), net.g, 1e-6),
}


@pytest.mark.parametrize("name", RMS_NORMS)
def test_root_mean_square_norms(name):
    node = one(recognised(RMS_NORMS[name], g=weight(DIM)))
    assert (node.op, node.args) == ("rms_norm", (Ref("args_0"), Weight("g"), 1e-6))


def test_a_mean_over_another_axis_is_no_norm():
    graph = recognised(lambda net, x: net.g * (x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-6)), g=weight(DIM))
    assert ops(graph)["rms_norm"] == 0


ACTIVATIONS = {
    "gelu by halves": (lambda net, x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2))), "gelu", ("none",)),
    "gelu by sqrt(.5)": (lambda net, x: x * (0.5 * (1.0 + torch.erf(x * math.sqrt(0.5)))), "gelu", ("none",)),
    "gelu by tanh": (
        lambda net, x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))), "gelu", ("tanh",),
    ),
    "silu": (lambda net, x: torch.sigmoid(x) * x, "silu", ()),
}  # fmt: skip


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    compute, op, options = ACTIVATIONS[name]
    node = one(recognised(compute))
    assert (node.op, node.args) == (op, (Ref("args_0"), *options))


def test_nearly_gelu_is_not_gelu():
    graph = recognised(lambda net, x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.045 * x**3))))
    assert ops(graph)["gelu"] == 0
    assert ops(recognised(lambda net, x: x * torch.sigmoid(1.702 * x)))["silu"] == 0


def test_gated_mlp_and_residual_sum_stay_what_they_are():
    graph = recognised(
        lambda net, x: x + net.down(F.silu(net.gate(x)) * net.up(x)),
        gate=nn.Linear(DIM, 6), up=nn.Linear(DIM, 6), down=nn.Linear(6, DIM),
    )  # fmt: skip
    assert [node.op for node in graph.block.nodes] == ["linear", "silu", "linear", "mul", "linear", "add"]


# ---- attention


def heads(net, x, n=2):
    batch, length, dim = x.shape
    return [part.view(batch, length, n, dim // n).transpose(1, 2) for part in net.qkv(x).split(dim, -1)]


def merged(x):
    return x.transpose(1, 2).contiguous().view(x.shape[0], x.shape[2], -1)


def scores(q, k):
    return q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])


def plain(net, x):
    q, k, v = heads(net, x)
    return merged(torch.softmax(scores(q, k), -1) @ v)


def multiplied(net, x):
    q, k, v = heads(net, x)
    return merged(F.softmax(q @ k.mT * 0.5, dim=-1) @ v)


def unscaled(net, x):
    q, k, v = heads(net, x)
    return merged(F.softmax(torch.matmul(q, k.transpose(2, 3)), dim=3) @ v)


def stored_triangle(net, x):
    q, k, v = heads(net, x)
    length = x.shape[1]
    blocked = net.mask[:, :, :length, :length] == 0
    return merged(torch.softmax(scores(q, k).masked_fill(blocked, float("-inf")), -1) @ v)


def computed_triangle(net, x):
    q, k, v = heads(net, x)
    length = x.shape[1]
    blocked = torch.ones(length, length, dtype=torch.bool).triu(1)
    return merged(torch.softmax(scores(q, k).masked_fill(blocked, float("-inf")), -1) @ v)


def added_triangle(net, x):
    q, k, v = heads(net, x)
    length = x.shape[1]
    mask = torch.full((length, length), float("-inf")).triu(1)
    return merged(torch.softmax(scores(q, k) + mask, -1) @ v)


def torchs_own(net, x):
    return merged(F.scaled_dot_product_attention(*heads(net, x), is_causal=True))


def window(net, x):
    """Positions see themselves and the nine before: as far as a short trace shows, a triangle."""
    q, k, v = heads(net, x)
    i = torch.arange(x.shape[1])
    near = (i[:, None] >= i) & (i[:, None] - i < 10)
    return merged(F.scaled_dot_product_attention(q, k, v, attn_mask=near))


def window_the_other_way_round(net, x):
    q, k, v = heads(net, x)
    i = torch.arange(x.shape[1])
    near = (i[:, None] >= i) & (i - i[:, None] > -20.0)
    return merged(F.scaled_dot_product_attention(q, k, v, attn_mask=near))


def stored_window(net, x):
    q, k, v = heads(net, x)
    length = x.shape[1]
    return merged(torch.softmax(scores(q, k).masked_fill(net.band[:length, :length] == 0, float("-inf")), -1) @ v)


def padded(net, x):
    """Blocked where the input itself says so."""
    q, k, v = heads(net, x)
    return merged(F.scaled_dot_product_attention(q, k, v, attn_mask=(x[:, None, None, :, 0] < 9)))


def finite(net, x):
    q, k, v = heads(net, x)
    length = x.shape[1]
    blocked = net.mask[:, :, :length, :length] == 0
    return merged(torch.softmax(scores(q, k).masked_fill(blocked, -1e9), -1) @ v)


ATTENTION = {
    plain: (False, False), multiplied: (False, False), unscaled: (False, False), stored_triangle: (True, False),
    computed_triangle: (True, False), added_triangle: (True, False), torchs_own: (True, False), window: (False, True),
    window_the_other_way_round: (False, True), stored_window: (False, True), padded: (False, True),
    finite: (False, True),
}  # fmt: skip
"""Ways to write attention: whether it is causal, and whether it keeps a mask."""


@pytest.mark.parametrize("compute", ATTENTION, ids=lambda compute: compute.__name__)
def test_attention(compute):
    mask = torch.tril(torch.ones(1, 1, 40, 40))
    torch.manual_seed(0)
    net = Net(compute, qkv=nn.Linear(DIM, 3 * DIM), mask=mask, band=mask[0, 0] - torch.tril(mask[0, 0], -20))
    graph = lifted(net, *batches((3, 5), (2, 3), (2, 40)))
    causal, masked = ATTENTION[compute]
    (node,) = (node for node in graph.block.nodes if node.op == "attention")
    assert (node.args[4], node.args[3] is not None) == (causal, masked)
    assert (ops(graph)["split_heads"], ops(graph)["merge_heads"]) == (3, 1)
    assert not {"softmax", "matmul", "masked_fill"} & set(ops(graph))


def test_softmax_over_the_queries_is_no_attention():
    graph = recognised(lambda net, x: torch.softmax(x @ x.transpose(1, 2), 1) @ x)
    assert ops(graph)["attention"] == 0


GROUPED = {
    "expand": lambda x: x[:, :, None].expand(-1, -1, 2, -1, -1).reshape(x.shape[0], 4, x.shape[2], 2),
    "repeat_interleave": lambda x: x.repeat_interleave(2, dim=1),
}


@pytest.mark.parametrize("name", GROUPED)
def test_grouped_queries(name):
    def compute(net, x):
        batch, length, _ = x.shape
        q = net.q(x).view(batch, length, 4, 2).transpose(1, 2)
        k, v = (GROUPED[name](part(x).view(batch, length, 2, 2).transpose(1, 2)) for part in (net.k, net.v))
        return merged(F.scaled_dot_product_attention(q, k, v, is_causal=True))

    graph = recognised(compute, q=nn.Linear(DIM, 8), k=nn.Linear(DIM, 4), v=nn.Linear(DIM, 4))
    (node,) = (node for node in graph.block.nodes if node.op == "attention")
    assert [graph.values[arg.name].axes[1] for arg in node.args[:3]] == [4, 2, 2]
    assert ops(graph)["repeat_heads"] == 0


def test_heads_in_turns_are_no_groups():
    """k1 k2 k1 k2 pairs queries with other keys than k1 k1 k2 k2."""

    def compute(net, x):
        batch, length, _ = x.shape
        q = net.q(x).view(batch, length, 4, 2).transpose(1, 2)
        k, v = (part(x).view(batch, length, 2, 2).transpose(1, 2).repeat(1, 2, 1, 1) for part in (net.k, net.v))
        return merged(F.scaled_dot_product_attention(q, k, v))

    graph = recognised(compute, q=nn.Linear(DIM, 8), k=nn.Linear(DIM, 4), v=nn.Linear(DIM, 4))
    assert ops(graph)["repeat"] == 2


def test_rotary_embedding():
    def compute(net, x):
        batch, length, _ = x.shape
        q = net.q(x).view(batch, length, 2, 4).transpose(1, 2)
        angles = torch.arange(length).float()[None, :, None] * net.speeds
        angles = torch.cat([angles, angles], -1)
        turned = torch.cat((-q[..., 2:], q[..., :2]), -1)
        return q * angles.cos().unsqueeze(1) + turned * angles.sin().unsqueeze(1)

    graph = recognised(compute, q=nn.Linear(DIM, DIM), speeds=torch.tensor([1.0, 0.1]))
    assert graph.block.nodes[-1].op == "rotary"


# ---- tables


def test_rows_of_a_table():
    ids = [(torch.randint(0, 16, shape),) for shape in ((4, 5), (2, 3))]
    graph = lifted(
        Net(lambda net, i: net.table[i] + net.place[torch.arange(i.shape[1])], table=weight(16, 4), place=weight(9, 4)),
        *ids,
    )
    assert ops(graph)["embedding"] == 2


def test_rows_counted_from_the_end_stay_an_index():
    net = Net(lambda net, i: net.table[i - 5], table=weight(16, 4))
    graph = lifted(net, (torch.randint(5, 10, (2, 3)),), (torch.randint(0, 5, (2, 3)),))
    assert [node.op for node in graph.block.nodes] == ["sub", "index"]


def test_a_table_of_numbers_stays_an_index():
    assert (
        ops(lifted(Net(lambda net, i: net.table[i], table=weight(16)), (torch.randint(0, 16, (2, 3)),)))["index"] == 1
    )


# ---- as a pass


def planted() -> Graph:
    """Two heads split, attended and merged, a gelu and a norm, by hand, at sizes that collide: every axis is 2 or 4."""
    wide, split = ValueType("float32", (2, 2, 4)), ValueType("float32", (2, 2, 2, 2))
    square = ValueType("float32", (2, 2, 2, 2))
    nodes = (
        Node(("r",), "reshape", (Ref("x"), (2, 2, 2, 2))),
        Node(("h",), "transpose", (Ref("r"), 1, 2)),
        Node(("t",), "transpose", (Ref("h"), 2, 3)),
        Node(("s",), "matmul", (Ref("h"), Ref("t"))),
        Node(("d",), "div", (Ref("s"), 1.5)),
        Node(("p",), "softmax", (Ref("d"), -1)),
        Node(("o",), "matmul", (Ref("p"), Ref("h"))),
        Node(("b",), "transpose", (Ref("o"), 1, 2)),
        Node(("m",), "reshape", (Ref("b"), (2, 2, 4))),
        Node(("e",), "erf", (Ref("f"),)),
        Node(("y",), "mul", (Ref("half"), Ref("up"))),
    )
    before = (Node(("f",), "mul", (Ref("m"), math.sqrt(0.5))), Node(("half",), "mul", (Ref("m"), 0.5)))
    order = (*nodes[:9], *before, nodes[9], Node(("up",), "add", (Ref("e"), 1.0)), nodes[10])
    values = {name: wide for name in ("x", "m", "e", "f", "half", "up", "y")}
    values |= {name: split for name in ("r", "h", "o", "b")} | {name: square for name in ("t", "s", "d", "p")}
    return Graph(Block(("x",), order, ("y",)), values, {})


def test_the_pass_keeps_what_is_computed():
    graph = planted()
    changed = recognise(graph)
    assert [node.op for node in changed.block.nodes] == ["split_heads", "attention", "merge_heads", "gelu"]
    for seed in range(5):
        x = torch.randn(2, 2, 4, generator=torch.Generator().manual_seed(seed))
        assert gap(run(changed, [x]), run(graph, [x])) < 1e-6


def test_nothing_is_left_to_recognise_after_the_pass():
    changed = recognise(planted())
    assert recognise(changed) == changed


def test_rules_work_inside_loops():
    body = Block(
        ("h", "x_t"),
        (
            Node(("g",), "sigmoid", (Ref("x_t"),)),
            Node(("s",), "mul", (Ref("x_t"), Ref("g"))),
            Node(("n",), "add", (Ref("h"), Ref("s"))),
        ),
        ("n",),
    )
    state, wide = ValueType("float32", (2, 4)), ValueType("float32", (2, 3, 4))
    scan = Node(("last",), "scan", ((Ref("h0"),), (Ref("x"),), ()), (("axis", 1),), body=body)
    values = {name: state for name in ("h", "x_t", "g", "s", "n", "last", "h0")} | {"x": wide}
    graph = Graph(Block(("x", "h0"), (scan,), ("last",)), values, {})
    changed = recognise(graph)
    assert ops(changed) == {"scan": 1, "silu": 1, "add": 1}
    inputs = [torch.randn(2, 3, 4), torch.randn(2, 4)]
    assert gap(run(changed, inputs), run(graph, inputs)) < 1e-6


def test_joining_with_nothing_falls_away():
    values = {name: ValueType("float32", (2, 3)) for name in ("x", "c", "y")}
    nodes = (Node(("c",), "concat", ((Weight("empty"), Ref("x")), 1)), Node(("y",), "relu", (Ref("c"),)))
    graph = Graph(Block(("x",), nodes, ("y", "c")), values, {"empty": torch.zeros(2, 0)})
    changed = recognise(graph)
    x = torch.randn(2, 3)
    assert gap(run(changed, [x]), run(graph, [x])) == 0.0
    assert "empty" not in str(changed.block)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_rule_alone_keeps_what_is_computed(rule):
    graph = planted()
    x = torch.randn(2, 2, 4)
    assert gap(run(recognise(graph, (rule,)), [x]), run(graph, [x])) < 1e-6
