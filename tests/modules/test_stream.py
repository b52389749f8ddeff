"""Flat residual networks are cut at their stream; others are not."""

from __future__ import annotations

import torch
from torch import nn

from pellucid.lift.trace import trace
from pellucid.modules.partition import partition
from pellucid.modules.stream import stream_parts
from pellucid.modules.structure import structure


class Flat(nn.Module):
    """An embedding, an attention, an MLP and a read-out in one forward; `residual` False leaves out the stream."""

    def __init__(self, residual: bool = True, layers: int = 1):
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.residual, self.layers = residual, layers
        for name, shape in (("embed", (7, 8)), ("move", (8, 8)), ("up", (16, 8)), ("down", (8, 16)), ("out", (5, 8))):
            setattr(self, name, nn.Parameter(torch.randn(shape, generator=draw)))
        self.bias = nn.Parameter(torch.randn(8, generator=draw))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed[tokens] + self.bias
        for _ in range(self.layers):
            mixed = torch.softmax(x @ x.transpose(-1, -2), -1) @ nn.functional.linear(x, self.move)
            x = x + mixed if self.residual else mixed
            hidden = nn.functional.linear(torch.relu(nn.functional.linear(x, self.up)), self.down)
            x = x + hidden + self.bias if self.residual else hidden
        return nn.functional.linear(x[:, -1], self.out)


TOKENS = torch.tensor([[0, 1, 2], [3, 4, 5], [6, 0, 1], [2, 3, 6], [1, 1, 1]])


def graph_of(network):
    return trace(network.eval(), (TOKENS,))


def test_parts_are_those_between_the_additions_and_equal_the_network():
    network = Flat(layers=2)
    graph = graph_of(network)
    program = structure(graph, partition(graph))
    names = ["embedding", "attention_0", "mlp_0", "attention_1", "mlp_1", "readout"]
    assert [name for name in program.functions if name != program.entry] == names
    with torch.no_grad():
        assert torch.allclose(program(TOKENS), network(TOKENS), atol=1e-5)


def test_constants_and_additions_stay_with_the_caller():
    graph = graph_of(Flat())
    inside = {name for part in stream_parts(graph) for name in part.nodes}
    outside = [node for node in graph.block.nodes if node.id not in inside]
    assert [node.op for node in outside] == ["add"] * 3
    assert "add" in {node.op for node in graph.block.nodes if node.id in stream_parts(graph)[0].nodes}


def test_kinds():
    kinds = [part.kind for part in stream_parts(graph_of(Flat()))]
    assert kinds == ["embedding", "attention", "mlp", "readout"]


def test_no_parts_without_a_stream():
    assert stream_parts(graph_of(Flat(residual=False))) == []
    chain = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    assert stream_parts(trace(chain.eval(), (torch.randn(5, 4),))) == []
