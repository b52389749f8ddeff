"""The cut tree of a weighted graph: all its minimum cuts between two nodes, in one tree (Gomory & Hu 1961).

The minimum cut between two nodes is the smallest edge on the way between them, and what is left of the tree on either
side of that edge are the two sides of such a cut. Found by degree certificates, contraction and few real flows: see
`pellucid.modules.gomory_hu`. In a dense graph almost every minimum cut is around a single node; where that holds for
all of them, the tree says no more than the degrees do, and says so.
"""

from __future__ import annotations

import operator
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, SupportsIndex

import numpy as np
from jaxtyping import Float64, Int64

from pellucid.errors import BadInput
from pellucid.modules import compiled, flows, gomory_hu, nets
from pellucid.modules.compiled import sources
from pellucid.modules.cut_inputs import BAD_WEIGHTS, weights_of

if TYPE_CHECKING:
    import networkx

_FAULTS = {
    nets.NOT_SYMMETRIC: "graph: the matrix is not symmetric; pass matrix + matrix.T, which adds both directions",
    nets.BAD_WEIGHT: BAD_WEIGHTS,
    nets.NO_EDGES: "graph: no edges of positive weight, so there is nothing to cut; check how the graph was made",
    nets.TOO_LARGE: "graph: the weights at a node add up to infinity; divide all weights by a constant",
}

_grown = gomory_hu.grower(sources(compiled, nets, flows, gomory_hu))


@dataclass(frozen=True, eq=False)
class CutTree:
    """All minimum cuts of a graph between two nodes.

    Attributes:
        nodes: what the nodes are called: the nodes of a networkx graph, the units of a unit graph, else 0, 1, ...
        parents: for each node the next one on the way to the root of the tree, by position; -1 at the root, which is
            the first node of the largest degree.
        cuts: the minimum cut between a node and its parent; 0 at the root.
        depths: how many steps a node is from the root.
        certified: how many of the n - 1 cuts were proved minimal by degrees alone.
        flows: how many took a maximum flow.
        pendants: how many are the only edge on which something hangs, and were contracted beforehand.
        contractions: how many sides of more than one node were contracted and searched on their own.
        only_degrees: whether the minimum cut between any two nodes is the smaller of their degrees.
        by_position: whether nodes may be given by position, too.
    """

    nodes: Sequence[Hashable] = field(repr=False)
    parents: Int64[np.ndarray, " nodes"] = field(repr=False)
    cuts: Float64[np.ndarray, " nodes"] = field(repr=False)
    depths: Int64[np.ndarray, " nodes"] = field(repr=False)
    certified: int
    flows: int
    pendants: int
    contractions: int
    only_degrees: bool
    by_position: bool = True

    def minimum_cut(self, u: Hashable, v: Hashable) -> float:
        """The least total weight of edges that part `u` from `v`.

        Raises:
            BadInput: one of them is no node, or they are the same.
        """
        return float(self.cuts[self._narrowest(u, v)])

    def sides(self, u: Hashable, v: Hashable) -> tuple[frozenset[Hashable], frozenset[Hashable]]:
        """A minimum cut: the nodes on the side of `u`, those on the side of `v`. Raises BadInput like `minimum_cut`."""
        below = np.zeros(len(self.nodes), bool)
        below[self._narrowest(u, v)] = True
        for node in self._downwards:
            below[node] |= self.parents[node] >= 0 and below[self.parents[node]]
        within = below == below[self._place(u)]
        return self._named(within), self._named(~within)

    def all_pairs(self) -> Float64[np.ndarray, "nodes nodes"]:
        """The minimum cut between any two nodes, by position; infinite on the diagonal. 8 n² bytes."""
        values = np.full((len(self.nodes), len(self.nodes)), np.inf)
        for count, node in enumerate(self._downwards[1:], start=1):
            before = self._downwards[:count]
            values[node, before] = np.minimum(values[self.parents[node], before], self.cuts[node])
            values[before, node] = values[node, before]
        return values

    def networkx(self) -> networkx.Graph:
        """The tree as a networkx graph; "weight" is the cut that an edge stands for."""
        import networkx

        tree = networkx.Graph()
        tree.add_nodes_from(self.nodes)
        for node in self._downwards[1:].tolist():
            tree.add_edge(self.nodes[int(self.parents[node])], self.nodes[node], weight=float(self.cuts[node]))
        return tree

    def __str__(self) -> str:
        found = f"{self.certified:,} cuts certified, {self.flows:,} by flow, {self.pendants:,} pendant"
        text = f"cut tree of {len(self.nodes):,} nodes ({found}, {self.contractions:,} contractions)"
        return f"{text}; this tree holds only degrees" if self.only_degrees else text

    @cached_property
    def _downwards(self) -> Int64[np.ndarray, " nodes"]:
        """The nodes by position, each after its parent."""
        return np.argsort(self.depths, kind="stable")

    @cached_property
    def _places(self) -> Mapping[Hashable, int]:
        """The positions of the nodes."""
        return {node: place for place, node in enumerate(self.nodes)}

    def _place(self, node: Hashable) -> int:
        """The position of a node."""
        if self.by_position and isinstance(node, SupportsIndex) and 0 <= operator.index(node) < len(self.nodes):
            return operator.index(node)
        if node not in self._places:
            raise BadInput(f"node: {node!r} is not in the tree; pass one of its {len(self.nodes)} nodes")
        return self._places[node]

    def _narrowest(self, u: Hashable, v: Hashable) -> int:
        """The node whose edge to its parent is the first smallest one between `u` and `v`, by position."""
        first, second = self._place(u), self._place(v)
        if first == second:
            raise BadInput(f"node: {u!r} cannot be cut from itself; pass two different nodes")
        passed = []
        while first != second:
            lower = first if self.depths[first] >= self.depths[second] else second
            passed.append(lower)
            first, second = (int(self.parents[end]) if end == lower else end for end in (first, second))
        return min(passed, key=lambda node: self.cuts[node])

    def _named(self, chosen: np.ndarray) -> frozenset[Hashable]:
        """The nodes that are chosen."""
        return frozenset(self.nodes[place] for place in np.flatnonzero(chosen).tolist())


def cut_tree(graph: object) -> CutTree:
    """The cut tree of a graph: cut-equivalent, so that each edge gives a minimum cut's size and its sides.

    Weights are put on a grid of 2⁻⁶¹ of the largest degree, and all else is exact: sums of whole numbers come out as
    they are, others to the rounding of the grid. The same graph gives the same edges. Loops and zeros are left out;
    between parts that are not connected the cut is 0. The first call of all compiles, half a minute; later processes
    find the compiled code on disk.

    Args:
        graph: a networkx graph, not directed, weighted by "weight" (1 where missing; parallel edges add up); a scipy
            sparse matrix, symmetric up to rounding (1e-12); or an object that has one as its `adjacency`, such as a
            unit graph.

    Raises:
        BadInput: weights are negative, NaN or infinite, or add up to infinity; there is a single node, or no edge; the
            graph is directed; the matrix is not square, not symmetric or not real.
    """
    rows = weights_of(graph)
    if len(rows.nodes) < 2:
        raise BadInput(f"graph: nothing to cut in a graph of {len(rows.nodes)} nodes; pass at least two")
    fault, power, parents, cuts, depths, counts, only_degrees = _grown(rows.starts, rows.heads, rows.weights)
    if fault != nets.SOUND:
        raise BadInput(_FAULTS[fault])
    certified, flowed, pendants, contractions = (int(count) for count in counts)
    return CutTree(
        nodes=rows.nodes,
        parents=parents,
        cuts=np.ldexp(cuts.astype(np.float64), -power),
        depths=depths,
        certified=certified,
        flows=flowed,
        pendants=pendants,
        contractions=contractions,
        only_degrees=bool(only_degrees),
        by_position=rows.by_position,
    )
