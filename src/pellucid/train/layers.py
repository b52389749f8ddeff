"""Which units the rows and columns of a network's weights belong to.

The survey of units (`pellucid.modules.survey`) says which linear maps lie between blocks of units, but not which
parameter a map was made of. So it is run on stand-ins: every entry of a weight holds its own number, and the maps that
come out tell by these numbers where each row and column went, through reshapes, slices and transposes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import nn

from pellucid.errors import BadInput
from pellucid.ir.graph import Graph, Weight, leaves
from pellucid.modules.linear_maps import Chain, Dense, Positions, Scale, Take
from pellucid.modules.survey import UnitPlan, unit_plan
from pellucid.modules.unit_flows import UnitBlock

_LARGEST = 1 << 24
"""Whole numbers that single precision holds."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A weight between units: `rows[i]` is the node of the unit graph that row i writes to, `columns[j]` the one that
    column j reads. Further axes of the weight are the kernel of a convolution."""

    name: str
    weight: nn.Parameter = field(repr=False)
    rows: Int[torch.Tensor, " out"]
    columns: Int[torch.Tensor, " in"]

    def crossing(self, labels: Int[torch.Tensor, " units"]) -> Bool[torch.Tensor, "out in *kernel"]:
        """Which entries lie between regions; units of nobody (negative labels) are apart from all others."""
        rows, columns = labels[self.rows][:, None], labels[self.columns][None, :]
        apart = (rows != columns) | (rows < 0)
        return apart.reshape(*apart.shape, *(1 for _ in self.weight.shape[2:])).to(self.weight.device)


def layers_of(graph: Graph, model: nn.Module) -> tuple[Layer, ...]:
    """The weights of a model that lie between two units each, in the network's order.

    Weights that a residual stream or a norm over features keeps apart from the units they serve are left out, and those
    that read or write a single unit, which every region has to share; and large tables that are read by index, of which
    clusters of tokens are the units.

    Raises:
        BadInput: a weight has more entries than can be told apart.
    """
    tables = {arg.name for node in graph.block.nodes if node.op == "embedding" for arg in leaves(node)
              if isinstance(arg, Weight)}  # fmt: skip
    parameters = {
        name: weight
        for name, weight in model.named_parameters()
        if name in graph.weights and weight.ndim >= 2 and not (name in tables and weight.numel() >= _LARGEST)
    }
    found: dict[str, Layer] = {}
    for names in in_groups(parameters):
        numbered, offsets = stand_ins(graph, {name: parameters[name] for name in names})
        plan = unit_plan(numbered)
        for name, rows, columns in _told(plan, parameters, offsets):
            found.setdefault(name, Layer(name, parameters[name], rows, columns))
    return tuple(found[name] for name in parameters if name in found)


def in_groups(parameters: Mapping[str, nn.Parameter]) -> list[list[str]]:
    """Names of parameters, together as many as can be numbered at once."""
    groups: list[list[str]] = [[]]
    room = _LARGEST
    for name, weight in parameters.items():
        size = weight.shape[0] * weight.shape[1]
        if size >= _LARGEST:
            raise BadInput(f"the weight {name!r} has {size:,} entries; at most {_LARGEST - 1:,} can be told apart")
        if size >= room:
            groups.append([])
            room = _LARGEST
        groups[-1].append(name)
        room -= size
    return groups


def stand_ins(graph: Graph, parameters: Mapping[str, nn.Parameter]) -> tuple[Graph, dict[str, int]]:
    """The graph with numbers from 1 in place of some weights, zeros in place of others, and each one's first number."""
    weights, offsets, first = dict(graph.weights), {}, 1
    for name, weight in graph.weights.items():
        if weight.ndim < 2 or not weight.is_floating_point():
            continue
        weights[name] = torch.zeros(weight.shape)
        if name in parameters:
            size = weight.shape[0] * weight.shape[1]
            numbers = torch.arange(first, first + size, dtype=torch.float32).reshape(weight.shape[:2])
            weights[name].flatten(2)[..., 0].copy_(numbers) if weight.ndim > 2 else weights[name].copy_(numbers)
            offsets[name] = first
            first += size
    return graph.with_changes(weights=weights), offsets


def _told(
    plan: UnitPlan, parameters: Mapping[str, nn.Parameter], offsets: Mapping[str, int]
) -> list[tuple[str, Int[torch.Tensor, " out"], Int[torch.Tensor, " in"]]]:
    """Names of weights with the nodes of their rows and columns."""
    starts = [0]
    for block in plan.blocks:
        starts.append(starts[-1] + block.size)
    found = []
    for reader, readings in enumerate(plan.readings):
        for reading in readings:
            for term in reading.flow.terms:
                split = _around(term.chain)
                if split is None:
                    continue
                matrix, before = split
                name = _name_of(matrix, parameters, offsets)
                written = _written(before, plan.blocks[term.block], starts[term.block], matrix.shape[1])
                if name is None or written is None or 1 in (plan.blocks[reader].size, plan.blocks[term.block].size):
                    continue
                each = reading.flow.entries // plan.blocks[reader].size
                read = starts[reader] + torch.arange(reading.flow.entries) // each
                if len(read) == matrix.shape[0]:
                    found.append((name, *_by_parameter(matrix, parameters[name], offsets[name], read, written)))
    return found


def _around(chain: Chain) -> tuple[Float[torch.Tensor, "out in"], Chain] | None:
    """The one matrix of a chain that is otherwise scaled only on the outside, and the maps before it."""
    places = [i for i, step in enumerate(chain) if isinstance(step, Dense)]
    if len(places) != 1 or not all(isinstance(step, Scale) for step in chain[: places[0]]):
        return None
    dense = chain[places[0]]
    assert isinstance(dense, Dense)
    return (dense.weight.T if dense.turned else dense.weight), chain[places[0] + 1 :]


def _name_of(
    matrix: Float[torch.Tensor, "out in"], parameters: Mapping[str, nn.Parameter], offsets: Mapping[str, int]
) -> str | None:
    """The parameter whose entries a matrix holds, each once."""
    low, high = int(matrix.min()), int(matrix.max())
    for name, first in offsets.items():
        size = parameters[name].shape[0] * parameters[name].shape[1]
        if low == first and high == first + size - 1 and matrix.numel() == size:
            return name
    return None


def _written(before: Sequence[object], block: UnitBlock, start: int, columns: int) -> Int[torch.Tensor, " in"] | None:
    """The node behind each column of a matrix, through maps that move entries without mixing them."""
    places = torch.arange(columns)
    for step in before:
        if isinstance(step, Take):
            places = step.positions[places]
        elif isinstance(step, Positions):
            inner = columns // (step.outer * step.size)
            places = places // inner % step.size
        elif not isinstance(step, Scale):
            return None
    if block.kind == "token" or (len(places) and int(places.max()) >= block.size * block.width):
        return None
    return start + places // block.width


def _by_parameter(
    matrix: Float[torch.Tensor, "out in"],
    weight: nn.Parameter,
    first: int,
    read: Int[torch.Tensor, " out"],
    written: Int[torch.Tensor, " in"],
) -> tuple[Int[torch.Tensor, " rows"], Int[torch.Tensor, " columns"]]:
    """Nodes of the parameter's own rows and columns, from those of the matrix that holds its numbers."""
    numbers = matrix.long() - first
    rows, columns = numbers // weight.shape[1], numbers % weight.shape[1]
    upright = bool((rows == rows[:, :1]).all())
    if upright:
        return read[torch.argsort(rows[:, 0])], written[torch.argsort(columns[0])]
    return written[torch.argsort(rows[0])], read[torch.argsort(columns[:, 0])]
