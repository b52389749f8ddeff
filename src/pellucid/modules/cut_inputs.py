"""What a cut tree can be made from: networkx graphs, sparse matrices, and objects with an `adjacency`, as matrices."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import scipy.sparse
from jaxtyping import Float64, Int32, Int64

from pellucid.errors import BadInput

BAD_WEIGHTS = "graph: weights are negative, NaN or infinite; pass sizes: |w| or w² of finite weights"


@runtime_checkable
class Adjacent(Protocol):
    """A graph that holds its weights as a sparse matrix, such as a `pellucid.modules.unitgraph.UnitGraph`."""

    @property
    def adjacency(self) -> object:
        """The weights, a scipy sparse matrix."""


@dataclass(frozen=True)
class Weights:
    """A weighted graph by rows: the neighbours of node `i` are `heads[starts[i]:starts[i + 1]]`, in ascending order."""

    nodes: Sequence[Hashable]
    by_position: bool
    """Whether nodes go by their position, too."""
    starts: Int64[np.ndarray, "bounds"]
    heads: Int32[np.ndarray, "arcs"]
    weights: Float64[np.ndarray, "arcs"]


def weights_of(graph: object) -> Weights:
    """The rows of a graph.

    Args:
        graph: a networkx graph, not directed, its edges weighted by "weight" (1 where missing; parallel edges add
            up); a scipy sparse matrix; or an object that has one as its `adjacency`, and may have names of its nodes
            as `units`.

    Raises:
        BadInput: it is none of these; the matrix is not square or not of real numbers.
    """
    networkx = sys.modules.get("networkx")
    if networkx is not None and isinstance(graph, networkx.Graph):
        return _from_networkx(graph)
    matrix = graph.adjacency if isinstance(graph, Adjacent) else graph
    units = getattr(graph, "units", None)
    if not scipy.sparse.issparse(matrix):
        raise BadInput(
            f"graph: {type(graph).__name__} is no graph that cuts can be found in; "
            "pass a networkx graph, a scipy sparse matrix or a unit graph"
        )
    rows = _from_matrix(matrix)
    return rows if units is None else replace(rows, nodes=tuple(units))


def _from_matrix(matrix: Any) -> Weights:
    """The rows of a matrix, which stays as it is."""
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise BadInput(f"graph: a matrix of shape {matrix.shape} is no graph; pass one row and one column per node")
    if matrix.dtype.kind not in "buif":
        raise BadInput(f"graph: weights of type {matrix.dtype} have no order; pass real numbers")
    rows = scipy.sparse.csr_array(matrix)
    if not rows.has_canonical_format:
        rows = rows.copy()
        rows.sum_duplicates()
    return Weights(
        range(rows.shape[0]),
        True,
        np.require(rows.indptr, np.int64, ["C", "W"]),
        np.require(rows.indices, np.int32, ["C", "W"]),
        np.require(rows.data, np.float64, ["C", "W"]),
    )


def _from_networkx(graph: Any) -> Weights:
    """The rows of a networkx graph."""
    if graph.is_directed():
        raise BadInput("graph: directed edges have no cut tree; pass graph.to_undirected()")
    nodes = tuple(graph.nodes)
    places = {node: place for place, node in enumerate(nodes)}
    edges = tuple(graph.edges(data="weight", default=1))
    try:
        weights = np.array([weight for _, _, weight in edges], np.float64)
    except (TypeError, ValueError) as error:
        raise BadInput(f"graph: an edge has a weight that is no number ({error}); pass real numbers") from error
    if not np.all((weights >= 0) & (weights < np.inf)):
        raise BadInput(BAD_WEIGHTS)
    tails = np.array([places[tail] for tail, _, _ in edges], np.int64)
    heads = np.array([places[head] for _, head, _ in edges], np.int64)
    both = (np.concatenate([tails, heads]), np.concatenate([heads, tails]))
    matrix = scipy.sparse.coo_array((np.concatenate([weights, weights]), both), shape=(len(nodes), len(nodes)))
    return replace(_from_matrix(matrix), nodes=nodes, by_position=False)
