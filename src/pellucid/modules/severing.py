"""What a network still does when its modules no longer hear each other, or when one of them is gone.

All modules run side by side, each in a world of its own: there the units of all others are held at their mean over the
data. One more world is that of the readers that belong to nobody, like a shared head: it hears each unit as it is in
the world of its own module. So exactly the edges between modules are cut, in whatever way they pass: through weights,
norms or a residual stream.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int

from pellucid.errors import BadInput, CannotRun
from pellucid.ir.graph import Graph
from pellucid.ir.interpret import Scope, Values, run_node
from pellucid.modules.activity import Samples, entry_axes
from pellucid.modules.grouping import NOBODY, Grouping
from pellucid.modules.unit_flows import UnitBlock
from pellucid.modules.unitgraph import UnitGraph


@dataclass(frozen=True, eq=False)
class Parted:
    """Units along one axis of a value, with the group of each, and the value's means over the data, ready to spread."""

    axis: int
    groups: Int[torch.Tensor, " units"]
    means: Float[torch.Tensor, "..."]

    def spread(self, rank: int) -> Int[torch.Tensor, "..."]:
        """The groups along their axis of a value of `rank` axes."""
        return self.groups.reshape([-1 if axis == self.axis else 1 for axis in range(rank)])


def parted(graph: Graph, units: UnitGraph, grouping: Grouping, samples: Samples) -> dict[str, list[Parted]]:
    """The values that hold grouped units.

    Raises:
        BadInput: no samples, or units inside a loop, whose edges to themselves cannot be reached.
    """
    if not samples:
        raise BadInput("no samples; the means of the units are taken over at least one call")
    chosen = [b for b, block in enumerate(units.blocks) if _can_be_held(block)]
    totals: dict[int, tuple[torch.Tensor, int]] = {}
    for values in samples:
        env = run(graph, values)
        for b in chosen:
            value = env[units.blocks[b].value].detach().double()
            places = [axis for axis in range(value.ndim) if axis not in entry_axes(units.blocks[b])]
            total, count = totals.get(b, (torch.zeros(()), 0))
            totals[b] = (total + value.sum(places, keepdim=True), count + math.prod(value.shape[i] for i in places))
    found: dict[str, list[Parted]] = {}
    for b in chosen:
        groups = torch.from_numpy(grouping.labels[units.starts[b] : units.starts[b + 1]].copy())
        total, count = totals[b]
        found.setdefault(units.blocks[b].value, []).append(Parted(units.blocks[b].axis, groups, total / count))
    return found


def _can_be_held(block: UnitBlock) -> bool:
    if block.kind == "state":
        raise BadInput(f"the units of {block.name!r} are the state of a loop; their edges to themselves cannot be cut")
    return block.kind in ("input", "neuron", "channel", "head", "output") and block.claimable


def severed_outputs(graph: Graph, values: Values, held: Mapping[str, Sequence[Parted]], count: int) -> tuple[Any, ...]:
    """The outputs of a graph when `count` groups of units do not hear each other."""
    samples = max(len(value) for value in values)
    worlds = count + 1
    stacked = [
        value.repeat(worlds, *(1 for _ in value.shape[1:])) if len(value) == samples else value for value in values
    ]

    def change(name: str, value: torch.Tensor) -> torch.Tensor:
        for part in held.get(name, ()):
            if len(value) != worlds * samples:
                raise CannotRun(f"the value {name!r} has no axis of samples; its units cannot be severed")
            value = _in_worlds(value, part, worlds)
        return value

    env = run(graph, stacked, change)
    return tuple(_common(env[name], worlds, samples) for name in graph.block.outputs)


def _common(output: torch.Tensor, worlds: int, samples: int) -> torch.Tensor:
    return output[-samples:] if len(output) == worlds * samples else output


def _in_worlds(value: torch.Tensor, part: Parted, worlds: int) -> torch.Tensor:
    """Each world's own units as they are, others' at their mean; in the last one each from its own world."""
    each = value.reshape(worlds, -1, *value.shape[1:]).clone()
    means, groups = part.means.to(value.dtype), part.spread(value.ndim)
    common = each[-1]
    for world in range(worlds - 1):
        common = torch.where(groups == world, each[world], common)
        each[world] = torch.where((groups == world) | (groups == NOBODY), each[world], means)
    each[-1] = common
    return each.reshape(value.shape)


def ablated_outputs(graph: Graph, values: Values, held: Mapping[str, Sequence[Parted]], group: int) -> tuple[Any, ...]:
    """The outputs of a graph when the units of one group are held at their means; inputs and outputs are left alone."""
    ends = {*graph.block.inputs, *graph.block.outputs}

    def change(name: str, value: torch.Tensor) -> torch.Tensor:
        for part in held.get(name, ()) if name not in ends else ():
            value = torch.where(part.spread(value.ndim) == group, part.means.to(value.dtype), value)
        return value

    env = run(graph, values, change)
    return tuple(env[name] for name in graph.block.outputs)


def run(graph: Graph, values: Values, change: Any = None) -> dict[str, Any]:
    """All values of a graph, each changed as it is made."""

    def no_functions(name: str, _: Values) -> Values:
        raise CannotRun(f"a graph calls no functions, but a node calls {name!r}")

    scope = Scope(graph.weights, no_functions)
    env = dict(zip(graph.block.inputs, values, strict=True))
    with torch.no_grad():
        for name in graph.block.inputs if change is not None else ():
            env[name] = change(name, env[name])
        for node in graph.block.nodes:
            for name, value in zip(node.outputs, run_node(node, env, scope), strict=True):
                env[name] = change(name, value) if change is not None and isinstance(value, torch.Tensor) else value
    return env
