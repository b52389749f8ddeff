"""The null model: the same layers with their weights permuted.

Between every two layers the weights are dealt out anew. Where most are present, what is permuted is each weight over
what its two units lead one to expect, so that strong units stay strong; where few are, edges keep one end and swap the
other, so that every unit keeps as many as it had, of about the same strength.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from pellucid.errors import BadInput

SHUFFLES = 20
"""Fewest shuffles that a z-score is taken from."""

_DENSE = 0.5


@dataclass(frozen=True)
class AgainstNull:
    """A value beside the same value on shuffled weights: z = (value − mean) / deviation."""

    value: float
    mean: float
    deviation: float
    shuffles: int

    @property
    def z(self) -> float:
        """How many deviations above the mean."""
        away = self.value - self.mean
        return away / self.deviation if self.deviation > 0 else float(np.sign(away)) * float("inf") if away else 0.0


def against(value: float, shuffled: list[float]) -> AgainstNull:
    """A value beside those of a null. Raises BadInput for fewer than `SHUFFLES`."""
    if len(shuffled) < SHUFFLES:
        raise BadInput(f"a null of {len(shuffled)} shuffles tells no z-score; take at least {SHUFFLES}")
    return AgainstNull(value, float(np.mean(shuffled)), float(np.std(shuffled, ddof=1)), len(shuffled))


def shuffled(
    adjacency: sparse.csr_matrix, block_of: Int[np.ndarray, " units"], rng: np.random.Generator
) -> sparse.csr_matrix:
    """The graph with the weights between each pair of blocks permuted; symmetric as before, blocks in order."""
    upper = sparse.triu(adjacency, 1).tocoo()
    sizes, firsts = np.bincount(block_of), np.searchsorted(block_of, np.arange(int(block_of.max()) + 1))
    number = block_of[upper.row].astype(np.int64) * len(sizes) + block_of[upper.col]
    order = np.argsort(number, kind="stable")
    rows, columns, values = [], [], []
    for edges in np.split(order, np.flatnonzero(np.diff(number[order])) + 1):
        own, other = (int(block_of[ends[edges[0]]]) for ends in (upper.row, upper.col)) if len(edges) else (0, 0)
        i, j, weights = upper.row[edges] - firsts[own], upper.col[edges] - firsts[other], upper.data[edges]
        room = sizes[own] * sizes[other] if own != other else sizes[own] * (sizes[own] - 1) // 2
        if len(edges) >= _DENSE * room:
            i, j, weights = _dealt(i, j, weights, (int(sizes[own]), int(sizes[other])), own == other, rng)
        else:
            means = np.bincount(j, weights) / np.maximum(np.bincount(j), 1)
            swapped = rng.permutation(len(j))
            weights = weights / means[j] * means[j[swapped]]
            j = j[swapped]
        rows.append(i + firsts[own])
        columns.append(j + firsts[other])
        values.append(weights)
    row, column, value = np.concatenate(rows), np.concatenate(columns), np.concatenate(values)
    kept = row != column
    half = sparse.coo_matrix((value[kept], (row[kept], column[kept])), adjacency.shape).tocsr()
    return (half + half.T).tocsr()


def _dealt(
    rows: Int[np.ndarray, " edges"],
    columns: Int[np.ndarray, " edges"],
    weights: Float[np.ndarray, " edges"],
    shape: tuple[int, int],
    within: bool,
    rng: np.random.Generator,
) -> tuple[Int[np.ndarray, " dealt"], Int[np.ndarray, " dealt"], Float[np.ndarray, " dealt"]]:
    """The weights of one pair of blocks, each over its expectation, in another order, absent ones included."""
    block = np.zeros(shape)
    block[rows, columns] = weights
    if within:
        block = block + block.T
    expectation = np.outer(block.sum(1), block.sum(0)) / block.sum()
    here = expectation > 0
    if within:
        here &= np.triu(np.ones(shape, dtype=bool), 1)
    dealt = rng.permutation(block[here] / expectation[here]) * expectation[here]
    i, j = np.nonzero(here)
    return i[dealt > 0], j[dealt > 0], dealt[dealt > 0]
