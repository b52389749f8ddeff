"""From exported programs to graphs: operations, types, names, changes in place."""

from __future__ import annotations

import pytest
import torch
from lifted import Net, gap, lifted, ops, run, weight
from torch import nn
from torch.export import Dim, export
from torch.nn import functional as F

from pellucid.errors import CannotTrace
from pellucid.ir.graph import Graph, Ref, Weight
from pellucid.ir.primitives import TORCH, opaque
from pellucid.lift.functional import changes_in_place, functional_twin, made_functional, shares_memory
from pellucid.lift.importing import import_exported
from pellucid.lift.trace import trace

X = [(torch.randn(4, 5, 8),), (torch.randn(2, 3, 8),)]


def exported(module: nn.Module, *inputs: torch.Tensor) -> torch.export.ExportedProgram:
    shapes = tuple(dict.fromkeys(range(value.ndim), Dim.AUTO) for value in inputs)
    nested = (shapes,) if isinstance(module, Net) else shapes
    return export(module.eval(), inputs, dynamic_shapes=nested, strict=False)


def imported(module: nn.Module, *inputs: torch.Tensor) -> Graph:
    return import_exported(exported(module, *inputs), module)


# ---- operations

PRIMITIVE = {
    "elementwise": lambda net, x: x.exp() + x.abs().log1p().sqrt() - x.sigmoid() * x.tanh() / x.cos() ** 2,
    "activations": lambda net, x: F.leaky_relu(x, 0.2) + F.elu(x) + F.softplus(x) + F.relu6(F.hardswish(x)),
    "comparison and choice": lambda net, x: torch.where((x > 0) & (x < 1) | (x >= 2), x, -x).masked_fill(x == 0, 1.0),
    "variance, biased and not": lambda net, x: x.var(-1, unbiased=False) + x.var(-1) + x.var(-1, correction=0),
    "sums in another type": lambda net, x: x.sum(-1, dtype=torch.float64) + x.softmax(-1, dtype=torch.float64).mean(-1),
    "logic of numbers": lambda net, x: torch.logical_and(x.int(), x > 1) | torch.logical_or(x, x > 3),
    "types": lambda net, x: x.double().half().to(net.b).float() + x.type_as(net.b).long(),
    "axes": lambda net, x: x.mT.flip(1).transpose(0, 1).permute(2, 1, 0).unsqueeze(-1).squeeze(-1),
    "shapes": lambda net, x: x.unflatten(-1, (2, 4)).flatten(-2).reshape(x.shape[0], -1, 2).view(x.shape),
    "parts": lambda net, x: torch.cat([a * b for a, b in zip((x * net.g).chunk(2, -1), x.split([4, 4], -1))], -1),  # noqa: B905
    "positions": lambda net, x: x.cumsum(1) + torch.diff(x, dim=1, prepend=x[:, :1]) + x[:, -1:] + x[:, ::2][:, :1],
    "extremes": lambda net, x: x.amax((1, 2), keepdim=True) - x.amin(-1, keepdim=True) + x.argmax(-1, keepdim=True),
    "bounds": lambda net, x: x.clamp(-1, 1) + x.clamp(min=0) + torch.minimum(x, -x) + torch.max(x, 2 * x),
    "padding": lambda net, x: F.pad(x, (1, 2), value=3.0),
    "norms by group": lambda net, x: F.group_norm(x.transpose(1, 2), 2, net.g, net.h),
}  # fmt: skip


@pytest.mark.parametrize("name", PRIMITIVE)
def test_what_the_primitives_know(name):
    net = Net(PRIMITIVE[name], b=torch.ones(1, dtype=torch.float64), g=weight(8), h=weight(8))
    graph = lifted(net, *X)
    allowed = {"aten.log1p.default", "aten.logical_and.default", "aten.logical_or.default"}
    assert {op for op in ops(graph) if op not in TORCH} <= allowed


OPAQUE = {
    "mish": (lambda net, x: F.mish(x), "aten.mish.default"),
    "glu": (lambda net, x: F.glu(x), "aten.glu.default"),
    "roll": (lambda net, x: torch.roll(x, 1, 1), "aten.roll.default"),
    "top entries": (lambda net, x: x.topk(2, -1)[0], "aten.topk.default"),
    "a type as an argument": (lambda net, x: torch.zeros_like(x, dtype=torch.float64) + x, "aten.zeros_like.default"),
    "a norm of two axes": (lambda net, x: F.rms_norm(x, (5, 8), net.w, 1e-5), "aten.rms_norm.default"),
    "a norm with torch's own eps": (lambda net, x: F.rms_norm(x, (8,), net.v), "aten.rms_norm.default"),
    "an index of a maximum": (lambda net, x: x.max(-1).values, "aten.max.dim"),
    "scatter": (lambda net, x: torch.zeros_like(x).scatter_add(1, (x > 0).long(), x), "aten.scatter_add.default"),
}


@pytest.mark.parametrize("name", OPAQUE)
def test_an_operation_nobody_recognised_stays_and_runs(name):
    compute, op = OPAQUE[name]
    graph = lifted(Net(compute, w=weight(5, 8), v=weight(8)), X[0], (torch.randn(2, 5, 8),))
    assert ops(graph)[op] == 1
    assert opaque(op)


def test_layers_of_images():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding="same", dilation=2), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(8, 8, 3, groups=8, stride=2, padding=1), nn.AvgPool2d(2), nn.Conv2d(8, 4, 1), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Dropout(), nn.Linear(4, 2),
    )  # fmt: skip
    net[1].running_mean.normal_()
    graph = lifted(net, (torch.randn(3, 3, 16, 16),), (torch.randn(1, 3, 16, 16),), (torch.randn(2, 3, 24, 20),))
    kinds = ["conv2d", "batch_norm", "relu", "max_pool2d", "conv2d", "avg_pool2d", "conv2d", "adaptive_avg_pool2d"]
    assert [node.op for node in graph.block.nodes] == [*kinds, "flatten", "linear"]


def test_layers_of_images_that_stay_opaque_run():
    net = nn.Sequential(
        nn.AvgPool2d(3, ceil_mode=True), nn.ConvTranspose2d(2, 3, 2, 2), nn.Upsample(scale_factor=2),
        nn.PixelShuffle(1), nn.Conv2d(3, 4, (2, 3), padding="same"), nn.ReflectionPad2d(1), nn.AdaptiveMaxPool2d(2),
    )  # fmt: skip
    lifted(net, (torch.randn(3, 2, 8, 8),), (torch.randn(1, 2, 10, 8),))


def test_layers_of_sequences():
    net = nn.Sequential(nn.Conv1d(4, 8, 3, padding="same"), nn.ReLU(), nn.Conv1d(8, 8, 4, stride=2), nn.AvgPool1d(2))
    graph = lifted(net, (torch.randn(3, 4, 20),), (torch.randn(1, 4, 31),))
    assert ops(graph)["conv1d"] == 2


RECURRENT = {
    "rnn": (nn.RNN(8, 6, 2, batch_first=True, bidirectional=True, nonlinearity="relu"), "recurrent"),
    "gru": (nn.GRU(8, 6, bias=False, batch_first=True), "recurrent"),
    "lstm": (nn.LSTM(8, 6, 2, batch_first=True), "recurrent"),
    "lstm with projected states": (nn.LSTM(8, 6, batch_first=True, proj_size=3), "aten.lstm.input"),
}


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers(name):
    layer, op = RECURRENT[name]
    assert ops(lifted(Net(lambda net, x: net.layer(x), layer=layer), *X))[op] == 1


# ---- values


def test_no_ops_are_not_there():
    graph = lifted(Net(lambda net, x: F.dropout(x + 0, 0.5, False).contiguous().float().expand(x.shape) * 1 + 0.5), *X)
    assert [node.op for node in graph.block.nodes] == ["add"]


def test_adding_nothing_that_changes_the_type_or_shape_is_kept():
    assert ops(lifted(Net(lambda net, i: i + 0.0), (torch.arange(6).reshape(2, 3),)))["add"] == 1
    assert (
        ops(lifted(Net(lambda net, x: x[:, :1] + net.zero, zero=torch.zeros(3, 1)), (torch.randn(3, 4),)))["add"] == 1
    )


def test_symbols_and_fixed_sizes():
    graph = imported(Net(lambda net, x: net.l(x).reshape(x.shape[0], x.shape[1] * 2, 3), l=nn.Linear(8, 6)), X[0][0])
    assert graph.values["args_0"].axes == ("batch", "seq", 8)
    assert graph.values[graph.block.outputs[0]].axes == ("batch", "2*seq", 3)


def test_the_size_of_a_fixed_axis_is_a_number():
    graph = lifted(Net(lambda net, x: net.l(x).sum(-1) / x.size(-1), l=nn.Linear(8, 6)), *X)
    assert graph.block.nodes[-1].args[1] == 8
    assert ops(graph)["size"] == 0


def test_arithmetic_on_sizes():
    graph = lifted(Net(lambda net, x: x / max(x.shape[1], 4) + x.shape[1] ** 0.5 - x.shape[0] // 2 * 3), *X)
    assert ops(graph)["size"] == 2


def test_names_scopes_and_sources():
    class Inner(nn.Module):
        def __init__(self):
            super().__init__()
            self.dense = nn.Linear(8, 8)

        def forward(self, x):
            return torch.tanh(self.dense(x))

    net = Net(lambda net, x: net.part(net.part(x)), part=Inner())
    graph = imported(net, X[0][0])
    assert [(node.op, node.scope) for node in graph.block.nodes] == [
        ("linear", "part.dense"), ("tanh", "part"), ("linear", "part.dense@1"), ("tanh", "part@1"),
    ]  # fmt: skip
    assert graph.modules["part.dense@1"].parent == "part@1"
    assert (graph.modules[""].kind, graph.modules["part"].kind) == ("Net", "Inner")
    assert graph.block.nodes[1].source.startswith("test_importing.py:")
    assert set(graph.weights) == {"part.dense.weight", "part.dense.bias"}


def test_what_nothing_reads_is_dropped():
    net = Net(lambda net, x: (net.a(x), net.b(x))[0], a=nn.Linear(8, 2), b=nn.Linear(8, 2))
    graph = imported(net, X[0][0])
    assert set(graph.weights) == {"a.weight", "a.bias"}
    assert ops(graph) == {"linear": 1}


def test_tied_weights_have_one_name():
    net = Net(lambda net, i: net.o(torch.tanh(net.e(i))), e=nn.Embedding(11, 8), o=nn.Linear(8, 11, bias=False))
    net.o.weight = net.e.weight
    graph = lifted(net, (torch.randint(0, 11, (4, 5)),), (torch.randint(0, 11, (2, 3)),))
    assert len(graph.weights) == 1


OUTPUTS = {
    "an input": (lambda net, x: (x, x * 2), 2),
    "one value twice": (lambda net, x: [x * 2] * 2, 2),
    "nested": (lambda net, x: {"a": x * 2, "b": (x + 1, [x - 1, None, 3])}, 3),
    "truth values": (lambda net, x: x > 0, 1),
    "whole numbers": (lambda net, x: x.argmax(-1), 1),
    "infinities": (lambda net, x: torch.where(x > 0, x, float("-inf")), 1),
    "not a number": (lambda net, x: torch.where(x > 0, x, float("nan")), 1),
    "a size beside a tensor": (lambda net, x: (x * 2, x.shape[1]), 1),
    "complex numbers": (lambda net, x: torch.fft.rfft(x), 1),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs(name):
    compute, count = OUTPUTS[name]
    graph = lifted(Net(compute), *X) if name != "complex numbers" else imported(Net(compute), X[0][0])
    assert len(graph.block.outputs) == len(set(graph.block.outputs)) == count
    assert not set(graph.block.outputs) & set(graph.block.inputs)


def test_a_weight_as_an_output():
    with pytest.raises(CannotTrace, match="returns its weight 'w' as it is"):
        imported(Net(lambda net, x: (x * 2, net.w), w=weight(3)), X[0][0])


def test_no_tensor_as_an_output():
    with pytest.raises(CannotTrace, match="returns no tensor"):
        imported(Net(lambda net, x: x.shape[0]), X[0][0])


# ---- changes in place


def written(net, x):
    y = x * 2
    y[:, 0] = 1.0
    y[..., 1:3] += x[..., :2]
    return y


def through_a_view(net, x):
    y = x.clone()
    y[:, 0].mul_(3)
    return y + 1


def a_view_of_what_changes(net, x):
    y = x.clone()
    part = y[:, 0]
    y.mul_(3)
    return part + 1


ALIASED = [written, through_a_view, a_view_of_what_changes]


@pytest.mark.parametrize("compute", ALIASED, ids=lambda compute: compute.__name__)
def test_changes_that_others_see(compute):
    lifted(Net(compute), *X)


def test_a_change_that_torch_itself_exports_wrongly_is_refused():
    """Dropout in eval mode returns its input itself, which its schema does not say."""

    def compute(net, x):
        y = x * 1.5
        z = F.dropout(y, 0.5, False)
        z.add_(1.0)
        return y + z

    with pytest.raises(CannotTrace, match="differs from the network"):
        trace(Net(compute), X[0])


def test_changes_nobody_else_sees_are_read_as_they_are():
    net = nn.Sequential(nn.Linear(8, 8), nn.LeakyReLU(0.2, inplace=True), nn.ELU(inplace=True), nn.Mish(inplace=True))
    program = exported(net, X[0][0])
    assert changes_in_place(program)
    assert not shares_memory(program)
    assert [node.op for node in lifted(net, *X).block.nodes] == ["linear", "leaky_relu", "elu", "aten.mish.default"]


def test_shared_memory_is_noticed():
    for compute in (written, through_a_view, a_view_of_what_changes, lambda net, x: x.add_(1)):
        program = exported(Net(compute), X[0][0])
        assert shares_memory(program)
        assert not changes_in_place(made_functional(program))


def test_twins():
    schema = torch.ops.aten.add_.Tensor._schema
    assert functional_twin(schema) == "add"
    assert functional_twin(torch.ops.aten.relu.default._schema) is None
    assert functional_twin(torch.ops.aten.__iand__.Tensor._schema) is None


def test_the_inputs_of_the_caller_are_left_alone():
    (x,) = X[0]
    before = x.clone()
    graph = lifted(nn.Sequential(nn.ReLU(inplace=True), nn.Linear(8, 2)), (x.clone(),))
    assert torch.equal(x, before)
    program = imported(nn.Sequential(nn.Linear(8, 2)), x)
    run(program, [x])
    assert torch.equal(x, before)
    assert ops(graph)["relu"] == 1


def test_a_buffer_that_counts():
    def compute(net, x):
        net.seen += 1
        return x * net.seen

    with pytest.raises(CannotTrace, match=r"changes 'seen' while it runs; call \.eval\(\)"):
        import_exported(made_functional(exported(Net(compute, seen=torch.zeros(())), X[0][0])), nn.Identity())


def test_running_statistics():
    def compute(net, x):
        return F.batch_norm(x, net.m, net.v, training=True)

    with pytest.raises(CannotTrace, match="changes 'm' while it runs"):
        imported(Net(compute, m=torch.zeros(8), v=torch.ones(8)), torch.randn(4, 8))


def test_statistics_of_the_batch_alone_are_computed():
    lifted(nn.Sequential(nn.BatchNorm1d(8, track_running_stats=False)), (torch.randn(4, 8),), (torch.randn(7, 8),))


# ---- blocks of their own


def test_gradient_modes_and_autocast_are_looked_through():
    def compute(net, x):
        with torch.no_grad():
            y = x * 2
            z = y + x
        with torch.enable_grad():
            y = y * z
        with torch.autocast("cpu", enabled=False):
            return net.l(y)

    graph = lifted(Net(compute, l=nn.Linear(8, 2)), *X)
    assert ops(graph) == {"mul": 2, "add": 1, "linear": 1}


def test_autocast_that_is_on():
    def compute(net, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return net.l(x)

    with pytest.raises(CannotTrace, match="autocast is on"):
        imported(Net(compute, l=nn.Linear(8, 2)), X[0][0])


def test_control_flow_of_torch():
    def compute(net, x):
        return torch.cond(x.sum() > 0, lambda x: x * 2, lambda x: x + 1, (x,))

    with pytest.raises(CannotTrace, match="control flow 'cond'"):
        imported(Net(compute), X[0][0])


def test_an_import_is_repeatable():
    net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    one, other = imported(net, X[0][0]), imported(net, X[0][0])
    assert one.block == other.block
    assert dict(one.values) == dict(other.values)
    assert one.block.nodes[0].args == (Ref("input"), Weight("0.weight"), Weight("0.bias"))
    assert gap(run(one, list(X[0])), run(other, list(X[0]))) == 0.0
