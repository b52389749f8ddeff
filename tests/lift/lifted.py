"""What the tests of lifting share: an oracle that runs graphs, and the comparison of a graph with its network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from pellucid.ir.graph import Block, Graph, Node, Ref, Weight
from pellucid.ir.primitives import implementation
from pellucid.ir.program import Program
from pellucid.lift.trace import trace

torch.set_num_threads(1)  # many small operations: threads only wait for each other

EXACT = 1e-5


def evaluate(
    block: Block, given: Mapping[str, object], weights: Mapping[str, torch.Tensor], program: Program | None = None
) -> dict[str, object]:
    """All values of a block: an oracle beside the interpreter, and faster under the type checker."""
    values = dict(given)

    def resolve(arg: object) -> object:
        if isinstance(arg, tuple):
            return tuple(resolve(part) for part in arg)
        return values[arg.name] if isinstance(arg, Ref) else weights[arg.name] if isinstance(arg, Weight) else arg

    for node in block.nodes:
        args = [resolve(arg) for arg in node.args]
        if node.op == "call":
            body = program.functions[node.function].readings[0].body
            inner = evaluate(body, dict(zip(body.inputs, args, strict=True)), weights, program)
            made = tuple(inner[name] for name in body.outputs)
        elif node.op == "scan":
            made = _scan(node, args, weights, program)
        else:
            result = implementation(node.op)(*args, **{name: resolve(arg) for name, arg in node.kwargs})
            made = result if isinstance(result, tuple | list) else (result,)
        values.update(zip(node.outputs, made, strict=True))
    return values


def _scan(node: Node, args: Sequence, weights: Mapping[str, torch.Tensor], program: Program | None) -> tuple:
    states, sequences, fixed = args
    axis, made = node.option("axis", 1), []
    for t in range(sequences[0].shape[axis]):
        elements = [sequence.select(axis, t) for sequence in sequences]
        given = dict(zip(node.body.inputs, [*states, *elements, *fixed], strict=True))
        inner = evaluate(node.body, given, weights, program)
        results = [inner[name] for name in node.body.outputs]
        states, each = results[: len(states)], results[len(states) :]
        made.append(each)
    return (*states, *(torch.stack(column, axis) for column in zip(*made, strict=True)))


def run(graph: Graph, inputs: Sequence) -> list:
    """The outputs of a graph."""
    values = evaluate(graph.block, dict(zip(graph.block.inputs, inputs, strict=True)), graph.weights)
    return [values[name] for name in graph.block.outputs]


def gap(found: Sequence, expected: Sequence) -> float:
    """The largest difference between two lists of tensors, relative to the largest entry of each."""
    assert [(a.shape, a.dtype) for a in found] == [(b.shape, b.dtype) for b in expected]
    worst = 0.0
    for a, b in zip(found, expected, strict=True):
        same = (a == b) | ((a != a) & (b != b))
        if not bool(same.all()):
            scale = b[b.isfinite()].double().abs().max().clamp_min(1e-6)
            worst = max(worst, float((a.double() - b.double())[~same].abs().max() / scale))
    return worst


def network_outputs(module: nn.Module, args: Sequence, kwargs: Mapping) -> list[torch.Tensor]:
    """The tensors that a module returns."""
    with torch.no_grad():
        returned = module.eval()(*args, **kwargs)
    if isinstance(returned, dict):
        returned = {key: value for key, value in returned.items() if isinstance(value, torch.Tensor | tuple | list)}
    return [leaf for leaf in tree_leaves(returned) if isinstance(leaf, torch.Tensor)]


def lifted(module: nn.Module, *shapes: Sequence | Mapping) -> Graph:
    """The graph of a module, traced on the first inputs, after it has been found equal to the module on all of them.

    Inputs are a tuple of arguments or a mapping of named ones.
    """
    calls = [((), shape) if isinstance(shape, Mapping) else (tuple(shape), {}) for shape in shapes]
    args, kwargs = calls[0]
    graph = trace(module, args, kwargs)
    for args, kwargs in calls:
        leaves = [leaf for leaf in tree_leaves(args) if isinstance(leaf, torch.Tensor)]
        inputs = [kwargs[name] for name in graph.block.inputs] if kwargs else leaves
        difference = gap(run(graph, inputs), network_outputs(module, args, kwargs))
        assert difference < EXACT, f"{difference:.1e} at {[tuple(value.shape) for value in inputs]}"
    return graph


def ops(graph: Graph) -> Counter:
    """How often each operation occurs, in loops too."""

    def walk(block: Block) -> list[str]:
        return [op for node in block.nodes for op in (node.op, *(walk(node.body) if node.body else ()))]

    return Counter(walk(graph.block))


class Net(nn.Module):
    """A module from a function of itself and its inputs, with weights, buffers and parts by keyword."""

    def __init__(self, compute, **parts):
        super().__init__()
        self.compute = compute
        for name, part in parts.items():
            if isinstance(part, torch.Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, *args):
        return self.compute(self, *args)


def weight(*shape: int) -> nn.Parameter:
    """A random parameter."""
    return nn.Parameter(torch.randn(*shape))
