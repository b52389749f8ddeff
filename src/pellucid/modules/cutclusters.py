"""Cut clustering (Flake, Tarjan & Tsioutsiouliklis 2004). Kept as a baseline.

A sink is joined to every unit by an edge of weight alpha. Without the sink, the cut tree of the whole falls into the
clusters: no part of a cluster is joined to the rest of it by less than alpha times its size. The larger alpha, the more
clusters, each within one of those before.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int
from scipy import sparse

from pellucid.errors import BadInput
from pellucid.modules.corrected import corrected, modularity
from pellucid.modules.cuttree import cut_tree
from pellucid.modules.grouping import Grouping, connected, relabelled
from pellucid.modules.unitgraph import UnitGraph

STEPS = 16
"""Values of alpha that are tried."""


def cut_clusters(graph: UnitGraph, parts: int | None = None) -> Grouping:
    """Groups of units by cut clustering.

    Args:
        graph: the unit graph.
        parts: the smallest alpha that gives at least so many clusters is taken; None: of `STEPS` values of alpha the
            one whose clusters keep most weight inside beyond what layers alone explain.

    Raises:
        BadInput: no edges, or more parts than connected units.
    """
    used = connected(graph)
    if parts is not None and not 1 <= parts <= len(used):
        raise BadInput(f"{len(used)} connected units cannot be clustered into {parts} parts")
    matrix = graph.adjacency[used][:, used].tocsr()
    degrees = np.asarray(matrix.sum(1)).ravel()
    low, high = float(degrees.min()) / len(used), 2 * float(degrees.max())
    found = _with_parts(matrix, parts, low, high) if parts is not None else _most_modular(graph, used, low, high)
    labels = np.full(graph.size, -1)
    labels[used] = found
    return relabelled(graph, labels, "cut-clusters")


def clusters_at(adjacency: sparse.csr_matrix, alpha: float) -> Int[np.ndarray, " units"]:
    """The cluster of each unit at one alpha."""
    size = adjacency.shape[0]
    sink = sparse.csr_matrix(np.full((size, 1), alpha))
    tree = cut_tree(sparse.bmat([[adjacency, sink], [sink.T, None]], format="csr"))
    ends = np.arange(size + 1)
    kept = (tree.parents >= 0) & (tree.parents != size) & (ends != size)
    joined = sparse.csr_matrix((np.ones(kept.sum()), (ends[kept], tree.parents[kept])), (size + 1, size + 1))
    return np.asarray(sparse.csgraph.connected_components(joined, directed=False)[1][:size])


def _with_parts(adjacency: sparse.csr_matrix, parts: int, low: float, high: float) -> Int[np.ndarray, " units"]:
    """The clusters at the smallest alpha found that gives enough of them, by halving the interval."""
    best = clusters_at(adjacency, high)
    for _ in range(STEPS):
        middle = float(np.sqrt(low * high))
        found = clusters_at(adjacency, middle)
        if len(np.unique(found)) >= parts:
            best, high = found, middle
        else:
            low = middle
    return best


def _most_modular(
    graph: UnitGraph, used: Int[np.ndarray, " used"], low: float, high: float
) -> Int[np.ndarray, " used"]:
    matrix = graph.adjacency[used][:, used].tocsr()
    less = corrected(matrix, graph.block_of[used])
    tried = [clusters_at(matrix, float(alpha)) for alpha in np.geomspace(low, high, STEPS)]
    return max(tried, key=lambda labels: modularity(less, labels))
