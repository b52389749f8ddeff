"""Attention in one piece is divided into heads that add up to it, and only where that is what it computes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pellucid.ir.interpret import run_functions
from pellucid.ir.regions import Region, RegionTree
from pellucid.lift.trace import trace
from pellucid.modules.heads import head_regions, split_heads
from pellucid.modules.structure import structure

HEADS, SIZE, WIDTH = 3, 4, 10


class Attention(nn.Module):
    """Heads as the first axis of their weights; `mixed` adds the heads to each other before the output matrix."""

    def __init__(self, mixed: bool = False, share: float = 0.7):
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        for name in ("query", "key", "value"):
            setattr(self, name, nn.Parameter(torch.randn(HEADS, SIZE, WIDTH, generator=draw)))
        self.out = nn.Parameter(torch.randn(WIDTH, HEADS * SIZE, generator=draw))
        self.mixed, self.share = mixed, share

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (torch.einsum("hkd,bpd->bhpk", w, x) for w in (self.query, self.key, self.value))
        pattern = torch.softmax(q @ k.transpose(-1, -2) / 2, -1) * self.share + (1 - self.share)
        moved = (pattern @ v).transpose(1, 2)
        moved = moved + moved.sum(2, keepdim=True) if self.mixed else moved
        return moved.flatten(2) @ self.out.T


X = torch.randn(5, 6, WIDTH, generator=torch.Generator().manual_seed(1))


def tree_of(graph):
    region = Region("attention", "attention", tuple(node.id for node in graph.block.nodes))
    heads = head_regions(graph, region)
    return RegionTree(
        Region("network", "network", (), (), (Region("attention", "attention", region.nodes, (), heads),)), ""
    )


@pytest.mark.parametrize("share", [0.7, 1.0])
def test_heads_add_up_to_the_attention(share):
    network = Attention(share=share).eval()
    graph = trace(network, (X,))
    tree = tree_of(graph)
    program = structure(graph, tree)
    heads = [name for name in program.functions if "head_" in name]
    assert heads == [f"attention.head_{h}" for h in range(HEADS)]
    assert torch.allclose(program(X), network(X), atol=1e-4)
    assert sum(weight.numel() for weight in program.weights.values()) == sum(w.numel() for w in network.parameters())


def test_each_head_is_that_head():
    network = Attention().eval()
    program = structure(graph := trace(network, (X,)), tree_of(graph))
    seen = {}

    def without(head):
        return {f"attention.head_{head}": lambda values: [torch.zeros_like(values[0])]}

    for head in range(HEADS):
        alone = Attention().eval()
        alone.out.data[:, head * SIZE : (head + 1) * SIZE] = 0
        seen[head] = alone(X)
        (found,) = run_functions(program, [X], "weights", replace=without(head))
        assert torch.allclose(found, seen[head], atol=1e-4)
    assert not torch.allclose(seen[0], seen[1], atol=1e-2)


def test_heads_that_meet_before_the_output_matrix_stay_together():
    graph = trace(Attention(mixed=True).eval(), (X,))
    assert head_regions(graph, Region("attention", "attention", tuple(n.id for n in graph.block.nodes))) == ()


def test_nothing_changes_where_no_head_is_asked_for():
    graph = trace(Attention().eval(), (X,))
    tree = RegionTree(Region("network", "network"), "")
    assert split_heads(graph, tree) == (graph, tree)
