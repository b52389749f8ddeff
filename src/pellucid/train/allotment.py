"""Severing units that meet in a residual stream: each region gets coordinates of the stream for itself.

The edge between two units through a stream is a product, so no single weight can be cut. But a stream is a sum, and its
coordinates can be allotted: units of a region write only to its coordinates, and their writing sums to zero there, so
that the centring of a layer norm spreads nothing to the others; they read only its coordinates. Then every product
between regions is zero. What is left in common is the table that inputs are looked up in, which writes to all
coordinates, what does not depend on the inputs, and the scale of the norms.

Which matrix is a side of the stream, and on which axis its units lie, is told by stand-ins (see `layers`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import nn

from pellucid.errors import BadInput
from pellucid.ir.graph import Graph
from pellucid.modules.linear_maps import Centre, Chain, Dense, Scale, rows_through, through
from pellucid.modules.survey import UnitPlan, unit_plan
from pellucid.train.layers import in_groups, stand_ins

_NONE = -1


@dataclass(frozen=True, eq=False)
class Side:
    """A matrix between units and a stream.

    Attributes:
        name, weight: the parameter.
        axis: the axis along which its units lie; the other one is the stream's.
        units: the node of the unit graph at each place of that axis.
        writes: whether the units write to the stream through it, else they read.
    """

    name: str
    weight: nn.Parameter = field(repr=False)
    axis: int
    units: Int[torch.Tensor, " places"]
    writes: bool

    @property
    def width(self) -> int:
        """How many coordinates the stream has."""
        return int(self.weight.shape[1 - self.axis])

    def by_unit(self) -> Float[torch.Tensor, "places coordinates"]:
        """The weight with its units as rows; a view."""
        return self.weight.detach() if self.axis == 0 else self.weight.detach().T


def sides_of(graph: Graph, model: nn.Module) -> tuple[Side, ...]:
    """The matrices through which units read and write a residual stream; tables of inputs are left out.

    Raises:
        BadInput: between a writer and a reader lies more than norms, or a matrix does not face the stream whole.
    """
    parameters = {name: w for name, w in model.named_parameters() if name in graph.weights and w.ndim == 2}
    found: dict[tuple[str, bool], Side] = {}
    for names in in_groups(parameters):
        numbered, offsets = stand_ins(graph, {name: parameters[name] for name in names})
        for name, numbers, nodes, writes in _faces(unit_plan(numbered), parameters, offsets):
            side = _side(name, parameters[name], numbers - offsets[name], nodes, writes)
            found[name, writes] = _together(found.get((name, writes)), side)
    if len({side.width for side in found.values()}) > 1:
        raise BadInput("the network has streams of several widths; keep the weak loss to the end")
    return tuple(found.values())


def _faces(
    plan: UnitPlan, parameters: Mapping[str, nn.Parameter], offsets: Mapping[str, int]
) -> Sequence[tuple[str, Int[torch.Tensor, "places coordinates"], Int[torch.Tensor, " places"], bool]]:
    """Names of parameters, the numbers of their entries by unit and coordinate, the units, and whether they write."""
    starts = np.cumsum([0, *(block.size for block in plan.blocks)])
    found = []
    for reader, readings in enumerate(plan.readings):
        for reading in readings:
            for term in reading.flow.terms:
                dense = [i for i, step in enumerate(term.chain) if isinstance(step, Dense)]
                if len(dense) < 2:
                    continue
                _no_more_than_norms(term.chain[dense[0] + 1 : dense[-1]])
                entries = reading.flow.entries
                reads = rows_through(term.chain[: dense[0] + 1], 0, entries, entries)
                sides = [(reads, reader, False)]
                if plan.blocks[term.block].kind not in ("token", "input"):
                    sides.append((through(torch.eye(reads.shape[1]), term.chain[dense[-1] :]).T, term.block, True))
                for numbers, block, writes in sides:
                    name = _owner(numbers, parameters, offsets)
                    if name is not None:
                        nodes = int(starts[block]) + torch.arange(len(numbers)) // (
                            len(numbers) // plan.blocks[block].size
                        )
                        found.append((name, numbers.long(), nodes, writes))
    return found


def _no_more_than_norms(between: Chain) -> None:
    if not all(isinstance(step, Scale | Centre) for step in between):
        raise BadInput("between units that meet in a stream lies more than norms; keep the weak loss to the end")


def _owner(
    numbers: Float[torch.Tensor, "places coordinates"],
    parameters: Mapping[str, nn.Parameter],
    offsets: Mapping[str, int],
) -> str | None:
    """The parameter that all these entries are of; None where they are not numbered this time."""
    low, high = int(numbers.min()), int(numbers.max())
    inside = [name for name, first in offsets.items() if first <= low and high < first + parameters[name].numel()]
    return inside[0] if inside else None


def _side(
    name: str,
    weight: nn.Parameter,
    places: Int[torch.Tensor, "places coordinates"],
    nodes: Int[torch.Tensor, " places"],
    writes: bool,
) -> Side:
    """A side from the positions of its entries within its parameter; it may cover a part of the parameter's units."""
    rows, columns = places // weight.shape[1], places % weight.shape[1]
    axis = 0 if bool((rows == rows[:, :1]).all()) else 1
    own, stream = (rows, columns) if axis == 0 else (columns, rows)
    order = torch.arange(weight.shape[1 - axis])
    whole = len(order) == places.shape[1] and bool((stream == order).all()) and bool((own == own[:, :1]).all())
    if not whole:
        raise BadInput(f"the weight {name!r} does not face the residual stream whole; keep the weak loss to the end")
    units = torch.full((weight.shape[axis],), _NONE)
    units[own[:, 0]] = nodes
    return Side(name, weight, axis, units, writes)


def _together(known: Side | None, other: Side) -> Side:
    """One side of what two readings tell of it."""
    if known is None:
        return other
    return Side(
        known.name, known.weight, known.axis, torch.where(other.units >= 0, other.units, known.units), known.writes
    )


# ---- allotment


def allotted(
    sides: Sequence[Side], labels: Int[torch.Tensor, " units"], count: int
) -> Int[torch.Tensor, " coordinates"]:
    """The region of each coordinate: as many for each as it has units on average over sides, where it is most at home.

    At home means that a large share of a side's squared weights at the coordinate is the region's.

    Raises:
        BadInput: fewer than two coordinates for a region.
    """
    weight, units = torch.zeros(count, sides[0].width), torch.zeros(count)
    for side in sides:
        squares, total = side.by_unit().float().square(), float(side.by_unit().float().square().sum())
        own = labels[side.units]
        for region in range(count):
            units[region] += float((own == region).float().mean())
            if total:
                weight[region] += squares[own == region].sum(0) / total
    sizes = _rounded(units / units.sum() * sides[0].width)
    if int(sizes.min()) < 2:
        raise BadInput(
            f"a stream of {sides[0].width} coordinates leaves a region with fewer than two; take fewer parts"
        )
    owners = torch.full((sides[0].width,), _NONE)
    lead = weight / weight.sum(0).clamp_min(1e-30)
    for region in torch.argsort(sizes, stable=True).tolist():
        free = torch.nonzero(owners == _NONE)[:, 0]
        best = torch.argsort(lead[region, free], descending=True, stable=True)[: int(sizes[region])]
        owners[free[best]] = region
    return owners


def _rounded(shares: Float[torch.Tensor, " regions"]) -> Int[torch.Tensor, " regions"]:
    """Whole numbers with the same sum, the largest remainders rounded up."""
    whole = shares.floor().long()
    missing = round(float(shares.sum())) - int(whole.sum())
    whole[torch.argsort(shares - whole, descending=True, stable=True)[:missing]] += 1
    return whole


@torch.no_grad()
def keep_apart(
    sides: Sequence[Side], labels: Int[torch.Tensor, " units"], owners: Int[torch.Tensor, " coordinates"]
) -> None:
    """Set to zero what units read and write outside their region's coordinates; what they write there sums to zero.

    Units of nobody read and write nothing.
    """
    for side in sides:
        weight = side.by_unit()
        regions = torch.where(side.units >= 0, labels[side.units], _NONE)
        own = (regions[:, None] == owners[None, :]) & (regions[:, None] >= 0)
        weight.masked_fill_(~own.to(weight.device), 0.0)
        if side.writes:
            counts = own.sum(1, keepdim=True).clamp_min(1).to(weight)
            weight.sub_(own.to(weight) * (weight.sum(1, keepdim=True) / counts))
