"""One way in to every method of partition, by name, all with one result: a tree of regions to build a program on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from pellucid.errors import BadInput
from pellucid.ir.graph import Graph
from pellucid.ir.regions import NO_JOINT, RegionTree
from pellucid.modules.activity import Samples
from pellucid.modules.bilinear import bilinear_groups
from pellucid.modules.cutclusters import cut_clusters
from pellucid.modules.grouping import Grouping
from pellucid.modules.leiden import leiden
from pellucid.modules.ncut import n_cut
from pellucid.modules.partition import partition
from pellucid.modules.regions import region_tree
from pellucid.modules.spectral import Stop, spectral
from pellucid.modules.unitgraph import UnitGraph, unit_graph

NESTING = "nesting"
"""The network's own nesting of modules, which needs no unit graph."""

BILINEAR = "lsrdr"
"""LSRDR, which needs the signs of a bilinear layer's weights beside the unit graph."""

Method = Callable[[UnitGraph, int | None, int], Grouping]
"""From a unit graph, the number of parts (None: as the method finds them) and a seed to groups."""


def _spectral(graph: UnitGraph, parts: int | None, seed: int) -> Grouping:
    return spectral(graph, Stop(parts=parts), seed)


def _n_cut(graph: UnitGraph, parts: int | None, seed: int) -> Grouping:
    return n_cut(graph, 2 if parts is None else parts, seed)


def _leiden(graph: UnitGraph, parts: int | None, seed: int) -> Grouping:
    if parts is not None:
        raise BadInput("Leiden finds the number of parts itself; leave it out, or take the method 'spectral'")
    return leiden(graph, seed=seed)


def _cut_clusters(graph: UnitGraph, parts: int | None, seed: int) -> Grouping:
    return cut_clusters(graph, parts)


METHODS: Mapping[str, Method] = {
    "spectral": _spectral,
    "n-cut": _n_cut,
    "leiden": _leiden,
    "cut-clusters": _cut_clusters,
}
"""Methods by name: the layer-corrected spectral split, and baselines to compare it with."""


def group_units(graph: UnitGraph, method: str = "spectral", *, parts: int | None = None, seed: int = 0) -> Grouping:
    """The units of a graph in groups, by a named method.

    Raises:
        BadInput: an unknown method, or one that cannot make so many parts of this graph.
    """
    if method not in METHODS:
        raise BadInput(f"unknown method {method!r}; take one of {', '.join(METHODS)}")
    return METHODS[method](graph, parts, seed)


def regions_by(
    method: str = "spectral",
    *,
    weighting: str = "absolute",
    parts: int | None = None,
    seed: int = 0,
    samples: Samples | None = None,
) -> Callable[[Graph], RegionTree]:
    """What `decompile` takes as `regions`: from a graph to the regions that a named method finds in it.

    Where a method finds a single module, the network's own nesting is returned, and its origin says so.

    Args:
        method: "spectral", "n-cut", "leiden", "cut-clusters", "lsrdr" (bilinear layers), or "nesting".
        weighting: how the edges between units are weighted, see `unit_graph`.
        parts: how many regions; None: as many as the method finds.
        seed: of everything drawn.
        samples: inputs of the graph, for weightings that are measured.

    Raises:
        BadInput: an unknown method; when called, a network with nothing to partition.
    """
    if method == NESTING:
        return partition
    if method not in (*METHODS, BILINEAR):
        raise BadInput(f"unknown method {method!r}; take one of {NESTING}, {', '.join(METHODS)}, {BILINEAR}")

    def regions(graph: Graph) -> RegionTree:
        units = unit_graph(graph, weighting, samples=samples)
        if method == BILINEAR:
            groups = bilinear_groups(graph, units, parts, seed)
        else:
            groups = group_units(units, method, parts=parts, seed=seed)
        if groups.count > 1:
            return region_tree(units, groups)
        return replace(partition(graph), origin=f"{NESTING}, for {method} {NO_JOINT}")

    return regions
