"""Graphs written by hand, whose value types come from running them at two batch sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from lifted import evaluate

from pellucid.ir.graph import Block, Graph, Node, Ref, ValueType, Weight
from pellucid.ir.program import Program


def graph_of(
    inputs: Mapping[str, tuple[int, ...]],
    nodes: Sequence[Node],
    outputs: Sequence[str],
    weights: Mapping[str, torch.Tensor],
) -> Graph:
    """A graph of float inputs whose first axis is "batch"; `inputs` gives their other axes."""
    block = Block(tuple(inputs), tuple(nodes), tuple(outputs))
    seen = [_types(block, inputs, weights, batch) for batch in (2, 3)]
    values = {name: _merged(kind, seen[1][name]) for name, kind in seen[0].items()}
    return Graph(block, values, dict(weights))


def _types(
    block: Block, inputs: Mapping[str, tuple[int, ...]], weights: Mapping[str, torch.Tensor], batch: int
) -> dict[str, ValueType]:
    given = {name: torch.randn(batch, *axes) for name, axes in inputs.items()}
    return {name: _type(value) for name, value in evaluate(block, given, weights).items()}


def _type(value: object) -> ValueType:
    if not isinstance(value, torch.Tensor):
        return ValueType("int")
    return ValueType(str(value.dtype).removeprefix("torch."), tuple(value.shape))


def outputs_of(what: Graph | Program, inputs: Sequence[torch.Tensor]) -> list[object]:
    """What a graph, or a program by its exact readings, computes."""
    program = what if isinstance(what, Program) else None
    block = what.block if program is None else program.functions[program.entry].readings[0].body
    values = evaluate(block, dict(zip(block.inputs, inputs, strict=True)), what.weights, program)
    return [values[name] for name in block.outputs]


def _merged(one: ValueType, other: ValueType) -> ValueType:
    pairs = zip(one.axes, other.axes, strict=True)
    return ValueType(one.dtype, tuple(a if a == b else "batch" if a == 2 else f"{a // 2}*batch" for a, b in pairs))


def weights_of(seed: int = 0, **shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Random weights by name; `_` in a keyword stands for `.`; names ending in var are positive."""
    generator = torch.Generator().manual_seed(seed)
    made = {name.replace("_", "."): torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return {name: tensor.abs() + 0.5 if name.endswith("var") else tensor for name, tensor in made.items()}


def step(name: str, op: str, *args: object) -> Node:
    """A node; strings that start with "$" are weights, with "@" values."""
    return Node((name,), op, tuple(_arg(arg) for arg in args))  # type: ignore[misc]


def _arg(arg: object) -> object:
    if isinstance(arg, tuple):
        return tuple(_arg(part) for part in arg)
    if isinstance(arg, str) and arg[:1] in ("$", "@"):
        return Weight(arg[1:]) if arg[0] == "$" else Ref(arg[1:])
    return arg


def mlp(hidden: int = 6, second: int = 5) -> Graph:
    """linear, relu, linear, tanh, linear."""
    weights = weights_of(
        a_weight=(hidden, 4), a_bias=(hidden,), b_weight=(second, hidden), b_bias=(second,), c_weight=(3, second),
        c_bias=(3,),
    )  # fmt: skip
    nodes = [
        step("a", "linear", "@x", "$a.weight", "$a.bias"),
        step("h", "relu", "@a"),
        step("b", "linear", "@h", "$b.weight", "$b.bias"),
        step("g", "tanh", "@b"),
        step("y", "linear", "@g", "$c.weight", "$c.bias"),
    ]
    return graph_of({"x": (4,)}, nodes, ["y"], weights)


def gated(hidden: int = 6) -> Graph:
    """x + down(silu(gate(x)) * up(x)) over positions, without biases."""
    weights = weights_of(g_weight=(hidden, 4), u_weight=(hidden, 4), d_weight=(4, hidden))
    nodes = [
        step("gate", "linear", "@x", "$g.weight", None),
        step("act", "silu", "@gate"),
        step("up", "linear", "@x", "$u.weight", None),
        step("prod", "mul", "@act", "@up"),
        step("down", "linear", "@prod", "$d.weight", None),
        step("y", "add", "@x", "@down"),
    ]
    return graph_of({"x": (5, 4)}, nodes, ["y"], weights)


def cnn(channels: int = 6) -> Graph:
    """A convolution with norm and pooling, a depthwise one, then one with stride and a head, beside a flat head."""
    weights = weights_of(
        a_weight=(channels, 2, 3, 3), a_bias=(channels,), n_weight=(channels,), n_bias=(channels,), n_mean=(channels,),
        n_var=(channels,), d_weight=(channels, 1, 3, 3), d_bias=(channels,), b_weight=(4, channels, 3, 3), b_bias=(4,),
        y_weight=(3, 4), y_bias=(3,), z_weight=(2, channels * 16), z_bias=(2,),
    )  # fmt: skip
    nodes = [
        step("a", "conv2d", "@x", "$a.weight", "$a.bias", (1, 1), (1, 1), (1, 1), 1),
        step("n", "batch_norm", "@a", "$n.weight", "$n.bias", "$n.mean", "$n.var", 1e-5),
        step("h", "relu", "@n"),
        step("p", "max_pool2d", "@h", (2, 2), (2, 2), (0, 0)),
        step("d", "conv2d", "@p", "$d.weight", "$d.bias", (1, 1), (1, 1), (1, 1), channels),
        step("b", "conv2d", "@d", "$b.weight", "$b.bias", (2, 2), (1, 1), (1, 1), 1),
        step("r", "gelu", "@b", "none"),
        step("m", "mean", "@r", (2, 3), False),
        step("y", "linear", "@m", "$y.weight", "$y.bias"),
        step("f", "flatten", "@d", 1, -1),
        step("z", "linear", "@f", "$z.weight", "$z.bias"),
    ]
    return graph_of({"x": (2, 8, 8)}, nodes, ["y", "z"], weights)


def conv_line(channels: int = 5) -> Graph:
    """Two 1-d convolutions around a sigmoid, then the positions averaged."""
    weights = weights_of(a_weight=(channels, 2, 3), a_bias=(channels,), b_weight=(3, channels, 3), b_bias=(3,))
    nodes = [
        step("a", "conv1d", "@x", "$a.weight", "$a.bias", 1, 1, 1, 1),
        step("h", "sigmoid", "@a"),
        step("b", "conv1d", "@h", "$b.weight", "$b.bias", 2, 0, 1, 1),
        step("y", "mean", "@b", (-1,), False),
    ]
    return graph_of({"x": (2, 9)}, nodes, ["y"], weights)


def given(graph: Graph, batch: int = 3, seed: int = 1) -> list[torch.Tensor]:
    """Random inputs of a graph."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn([batch if axis == "batch" else int(axis) for axis in graph.values[name].axes], generator=generator)
        for name in graph.block.inputs
    ]


def gap(found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> float:
    """The largest difference between two lists of outputs, relative to the largest entry of each."""
    assert len(found) == len(expected)
    pairs = [*zip(found, expected, strict=True)]
    assert all(a.shape == b.shape for a, b in pairs)
    return max(float((a - b).abs().max() / b.abs().max().clamp_min(1e-6)) for a, b in pairs)
