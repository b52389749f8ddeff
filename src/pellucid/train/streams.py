"""The cut where units meet only through a residual stream: what one block writes and another reads, as one product.

The edge between two units is the norm of the product of reading weights, norm gains and writing weights, as in the unit
graph. Between two blocks the term is the absolute edges between regions over all edges, with that total held. A step
takes the gradient of a few pairs of blocks in turn, times the number of pairs over theirs, so that no more than one
product is in memory and all pairs count alike in the long run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import nn

from pellucid.ir.graph import Graph
from pellucid.modules.linear_maps import rows_through
from pellucid.modules.survey import UnitPlan, unit_plan
from pellucid.modules.unitgraph import UnitGraph
from pellucid.train.layers import Layer

_SMALL = 1e-12


@dataclass(frozen=True)
class Passage:
    """A pair of blocks, by their numbers and by their nodes in the unit graph."""

    reader: int
    writer: int
    rows: range = field(repr=False)
    columns: range = field(repr=False)


def passages_of(graph: Graph, layers: Sequence[Layer]) -> tuple[Passage, ...]:
    """The pairs of blocks that no weight of `layers` lies between; single units belong to all and do not count."""
    plan = unit_plan(graph)
    starts = np.cumsum([0, *(block.size for block in plan.blocks)])
    direct = {frozenset((int(layer.rows[0]), int(layer.columns[0]))) for layer in layers}
    found = []
    for reader, readings in enumerate(plan.readings):
        for writer in sorted({term.block for reading in readings for term in reading.flow.terms} - {reader}):
            rows, columns = (range(starts[block], starts[block + 1]) for block in (reader, writer))
            if min(len(rows), len(columns)) > 1 and frozenset((rows[0], columns[0])) not in direct:
                found.append(Passage(reader, writer, rows, columns))
    return tuple(found)


def crossed(graph: Graph, passages: Sequence[Passage]) -> tuple[Passage, ...]:
    """The pairs that stay when a stream is allotted: those whose writer is looked up in a table or is an input."""
    blocks = unit_plan(graph).blocks
    return tuple(passage for passage in passages if blocks[passage.writer].kind in ("token", "input"))


def live_plan(graph: Graph, model: nn.Module) -> UnitPlan:
    """The units of a graph and the maps between them, made of a model's own parameters, for autograd."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with torch.enable_grad():
        return unit_plan(graph.with_changes(weights={name: tensors.get(name, w) for name, w in graph.weights.items()}))


def edges(plan: UnitPlan, passage: Passage) -> Float[torch.Tensor, "readers writers"]:
    """The edges of one pair of blocks, differentiable."""
    block, source = plan.blocks[passage.reader], plan.blocks[passage.writer]
    squares = torch.zeros(block.size, source.size)
    for reading in plan.readings[passage.reader]:
        entries = reading.flow.entries
        parts = [
            rows_through(term.chain, 0, entries, entries) for term in reading.flow.terms if term.block == passage.writer
        ]
        if parts:
            grouped = torch.stack(parts).sum(0).reshape(block.size, entries // block.size, source.size, source.width)
            squares = squares + grouped.square().sum((1, 3))
    return (squares + _SMALL).sqrt()


def add_stream_gradient(
    plan: UnitPlan,
    model: nn.Module,
    passages: Sequence[Passage],
    labels: Int[torch.Tensor, " units"],
    strength: float,
) -> None:
    """Add `strength` times the gradient of the sum of these pairs' terms to that of all matrices of a model."""
    matrices = [weight for weight in model.parameters() if weight.ndim >= 2 and weight.grad is not None]
    for passage in passages:
        with torch.enable_grad():
            sizes = edges(plan, passage)
            term = (sizes * _apart(passage, labels)).sum() / sizes.detach().sum()
        for weight, slope in zip(
            matrices, torch.autograd.grad(term, matrices, retain_graph=True, allow_unused=True), strict=True
        ):
            if slope is not None and weight.grad is not None:
                weight.grad.add_(slope, alpha=strength)


def shares(units: UnitGraph, passages: Sequence[Passage], labels: Int[torch.Tensor, " units"]) -> list[float]:
    """The share of each pair's edges that crosses between regions."""
    found = []
    for passage in passages:
        sizes = torch.from_numpy(units.adjacency[passage.rows][:, passage.columns].toarray())
        total = float(sizes.sum())
        found.append(float((sizes * _apart(passage, labels)).sum()) / total if total else 0.0)
    return found


def _apart(passage: Passage, labels: Int[torch.Tensor, " units"]) -> Float[torch.Tensor, "readers writers"]:
    """1 where a unit of one region reads one of another."""
    rows = labels[passage.rows.start : passage.rows.stop][:, None]
    columns = labels[passage.columns.start : passage.columns.stop][None, :]
    return ((rows != columns) | (rows < 0)).float()
