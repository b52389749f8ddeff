"""Plain n-cut (Shi & Malik 2000), as Filan et al. (2021, "Clusterability in neural networks") take it to networks.

The leading eigenvectors of D^-½ A D^-½ place each unit, k-means groups the places. Kept as a baseline: on layered
graphs it likes to cut between two layers.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from scipy.sparse.linalg import eigsh

from pellucid.errors import BadInput
from pellucid.modules.grouping import Grouping, connected, relabelled
from pellucid.modules.unitgraph import UnitGraph

_DENSE = 600
_RESTARTS = 10
_ROUNDS = 50


def n_cut(graph: UnitGraph, parts: int = 2, seed: int = 0) -> Grouping:
    """Groups of units by normalised spectral clustering.

    Raises:
        BadInput: no edges, or not between 2 and the number of connected units parts.
    """
    used = connected(graph)
    if not 2 <= parts <= len(used):
        raise BadInput(f"n-cut parts {len(used)} connected units into 2 to {len(used)} groups, not {parts}")
    matrix = graph.adjacency[used][:, used].tocsr()
    root = 1 / np.sqrt(np.asarray(matrix.sum(1)).ravel())
    scaled = sparse.diags(root) @ matrix @ sparse.diags(root)
    if len(used) <= _DENSE or parts >= len(used) - 1:
        vectors = np.linalg.eigh(scaled.toarray())[1][:, ::-1][:, :parts]
    else:
        start = np.random.default_rng(0).standard_normal(len(used))
        values, vectors = eigsh(scaled, k=parts, which="LA", v0=start)
        vectors = vectors[:, np.argsort(-values, kind="stable")]
    labels = np.full(graph.size, -1)
    labels[used] = k_means(vectors * root[:, None], parts, seed)
    return relabelled(graph, labels, "n-cut")


def n_cut_value(adjacency: sparse.csr_matrix, labels: Int[np.ndarray, " units"]) -> float:
    """The sum over groups of the edges that leave the group over all its edges: 0 for none, at most groups − 1."""
    total = 0.0
    for label in np.unique(labels[labels >= 0]):
        inside = labels == label
        volume = float(adjacency[inside].sum())
        total += (volume - float(adjacency[inside][:, inside].sum())) / volume if volume else 0.0
    return total


def k_means(points: Float[np.ndarray, "points axes"], count: int, seed: int) -> Int[np.ndarray, " points"]:
    """Lloyd's algorithm from ten k-means++ starts; the labels of the tightest."""
    rng = np.random.default_rng(seed)
    best: tuple[float, Int[np.ndarray, " points"]] | None = None
    for _ in range(_RESTARTS):
        labels, spread = _lloyd(points, _spread_out(points, count, rng))
        if best is None or spread < best[0]:
            best = spread, labels
    assert best is not None
    return best[1]


def _spread_out(
    points: Float[np.ndarray, "points axes"], count: int, rng: np.random.Generator
) -> Float[np.ndarray, "centres axes"]:
    centres = [points[rng.integers(len(points))]]
    for _ in range(count - 1):
        far = np.min([((points - centre) ** 2).sum(1) for centre in centres], axis=0)
        chance = far / far.sum() if far.sum() > 0 else np.full(len(points), 1 / len(points))
        centres.append(points[rng.choice(len(points), p=chance)])
    return np.array(centres)


def _lloyd(
    points: Float[np.ndarray, "points axes"], centres: Float[np.ndarray, "centres axes"]
) -> tuple[Int[np.ndarray, " points"], float]:
    labels = np.full(len(points), -1)
    for _ in range(_ROUNDS):
        distances = ((points[:, None, :] - centres[None]) ** 2).sum(2)
        nearest = distances.argmin(1)
        if np.array_equal(nearest, labels):
            break
        labels = nearest
        centres = np.array(
            [points[labels == k].mean(0) if (labels == k).any() else centre for k, centre in enumerate(centres)]
        )
    return labels, float(((points - centres[labels]) ** 2).sum())
