"""From groups of units to the regions that a program is built on.

Each group becomes a region that claims its hidden units. Inputs and outputs are claimed where no edge crosses between
groups at them, so that a module that has its inputs or outputs to itself is called with them alone; elsewhere they stay
with the whole network. Three groups and more are nested by the Gomory–Hu tree of the quotient graph: a set of groups
that one small cut severs from all others becomes a region around them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pellucid.errors import BadInput
from pellucid.ir.regions import Region, RegionTree, Unit
from pellucid.modules.grouping import Grouping
from pellucid.modules.hierarchy import quotient, severed_sets
from pellucid.modules.unitgraph import UnitGraph

HIDDEN = ("neuron", "channel", "state", "head")
"""Kinds of units that a region computes itself."""


def region_tree(graph: UnitGraph, grouping: Grouping) -> RegionTree:
    """The regions of a grouping; groups that hold no unit that can be claimed are left to the network.

    Raises:
        BadInput: no group holds such a unit.
    """
    claimed = [b for b in range(len(graph.blocks)) if _is_claimed(graph, grouping, b)]
    leaves: dict[int, Region] = {}
    for group in range(grouping.count):
        units = tuple(unit for b in claimed for unit in _claims(graph, grouping, b, group))
        if units:
            leaves[group] = Region(f"module_{len(leaves) + 1}", "module", units=units)
    if not leaves:
        kinds = ", ".join(sorted({block.kind for block in graph.blocks}))
        raise BadInput(f"none of the units ({kinds}) can be divided between regions; decompile without --modules")
    children = _nested(leaves, severed_sets(quotient(graph.adjacency, grouping.labels)))
    return RegionTree(Region("network", "network", children=children), grouping.method)


def _is_claimed(graph: UnitGraph, grouping: Grouping, number: int) -> bool:
    block = graph.blocks[number]
    if not block.claimable or block.kind in HIDDEN:
        return block.claimable
    return block.kind in ("input", "output") and graph.complete and not _crosses(graph, grouping, number)


def _crosses(graph: UnitGraph, grouping: Grouping, number: int) -> bool:
    """Whether an edge joins a unit of a block with one of another group."""
    start, stop = graph.starts[number], graph.starts[number + 1]
    edges = graph.adjacency[start:stop].tocoo()
    return bool((grouping.labels[edges.row + start] != grouping.labels[edges.col]).any())


def _claims(graph: UnitGraph, grouping: Grouping, number: int, group: int) -> Sequence[Unit]:
    start, block = graph.starts[number], graph.blocks[number]
    indices = np.flatnonzero(grouping.labels[start : start + block.size] == group)
    return [Unit(block.value, block.axis, tuple(int(i) for i in indices))] if len(indices) else []


def _nested(leaves: dict[int, Region], sets: Sequence[frozenset[int]]) -> tuple[Region, ...]:
    """The regions with one around each set, smallest sets first; of two sets one holds the other or they are apart."""
    tops = {frozenset([group]): region for group, region in leaves.items()}
    for members in sorted(sets, key=lambda found: (len(found), sorted(found))):
        inside = [held for held in tops if held <= members]
        if len(inside) < 2 or len(inside) == len(tops):
            continue
        children = tuple(tops.pop(held) for held in inside)
        name = "_".join(("modules", *(child.name.split("_", 1)[1] for child in children)))
        tops[members & frozenset(leaves)] = Region(name, "modules", children=children)
    return tuple(tops.values())
