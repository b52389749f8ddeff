"""How much two partitions agree, and whether a partition survives a little noise on the weights.

Agreement is the adjusted Rand index (Hubert & Arabie 1985): 1 for the same groups, 0 for chance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import numpy as np
from jaxtyping import Int
from scipy import sparse

from pellucid.errors import BadInput
from pellucid.modules.grouping import Grouping
from pellucid.modules.unitgraph import UnitGraph


def adjusted_rand(one: Int[np.ndarray, " units"], other: Int[np.ndarray, " others"]) -> float:
    """The adjusted Rand index of two labellings of the same units. Raises BadInput for different lengths or none."""
    if len(one) != len(other) or not len(one):
        raise BadInput(f"labels of {len(one)} and {len(other)} units cannot be compared; label the same units")
    _, rows = np.unique(one, return_inverse=True)
    _, columns = np.unique(other, return_inverse=True)
    table = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(table, (rows, columns), 1)

    def pairs(counts: np.ndarray) -> float:
        return float((counts * (counts - 1) / 2).sum())

    both, left, right = pairs(table), pairs(table.sum(1)), pairs(table.sum(0))
    expected = left * right / max(pairs(np.array([len(one)])), 1.0)
    most = (left + right) / 2
    return 1.0 if most == expected else (both - expected) / (most - expected)


def stability(
    graph: UnitGraph, method: Callable[[UnitGraph, int], Grouping], seeds: int = 5, noise: float = 0.1
) -> tuple[float, ...]:
    """The agreement of each two of the partitions found on noisy copies of a graph.

    Args:
        graph: the unit graph.
        method: from a graph and a seed to groups.
        seeds: how many copies.
        noise: each edge is multiplied by the exponential of a normal number with this deviation.
    """
    if seeds < 2:
        raise BadInput(f"stability compares at least two partitions, not {seeds}; give seeds=2 or more")
    found = [method(noisy(graph, noise, seed), seed).labels for seed in range(seeds)]
    return tuple(adjusted_rand(one, other) for one, other in combinations(found, 2))


def noisy(graph: UnitGraph, noise: float, seed: int) -> UnitGraph:
    """The graph with every edge larger or smaller by chance."""
    half = sparse.triu(graph.adjacency, 1).tocsr()
    half.data = half.data * np.exp(noise * np.random.default_rng(seed).standard_normal(len(half.data)))
    return replace(graph, adjacency=(half + half.T).tocsr())
