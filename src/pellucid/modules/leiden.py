"""Leiden communities (Traag, Waltman & van Eck 2019) of the unit graph, by modularity. Kept as a baseline.

Needs the extra "leiden" (igraph and leidenalg).
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from pellucid.errors import BadInput
from pellucid.modules.grouping import Grouping, connected, relabelled
from pellucid.modules.unitgraph import UnitGraph


def leiden(graph: UnitGraph, resolution: float = 1.0, seed: int = 0) -> Grouping:
    """Groups of units by the Leiden algorithm; their number follows from `resolution`.

    Raises:
        BadInput: no edges, or the extra is not installed.
    """
    try:
        import igraph
        import leidenalg
    except ImportError:
        raise BadInput("Leiden needs igraph and leidenalg; pip install 'pellucid[leiden]'") from None
    used = connected(graph)
    edges = sparse.triu(graph.adjacency[used][:, used], 1).tocoo()
    network = igraph.Graph(len(used), list(zip(edges.row.tolist(), edges.col.tolist(), strict=True)))
    found = leidenalg.find_partition(
        network, leidenalg.RBConfigurationVertexPartition, weights=edges.data.tolist(), n_iterations=-1, seed=seed,
        resolution_parameter=resolution,
    )  # fmt: skip
    labels = np.full(graph.size, -1)
    labels[used] = found.membership
    return relabelled(graph, labels, "leiden")
