"""A weighted graph less what its layers alone explain.

Between two layers, units of large degree share large weights whatever the modules are. So from the block of each pair
of layers its rank-1 expectation is taken away: B = A − r cᵀ / s, with r and c the sums over rows and columns of the
block and s its total (Newman's modularity, 2006, pair by pair). B is never formed: it is a sparse matrix and, for each
unit, its sums into the other layers. Nothing is left that favours a cut between two layers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse


@dataclass(frozen=True, eq=False)
class CorrectedGraph:
    """B = A − expectation, of units in the order of their blocks.

    `into[i, b]` is the sum of the edges of unit i into block b, `starts` the first unit of each block.
    """

    adjacency: sparse.csr_matrix = field(repr=False)
    starts: Int[np.ndarray, " blocks"]
    block_of: Int[np.ndarray, " units"]
    into: Float[np.ndarray, "units blocks"] = field(repr=False)
    share: Float[np.ndarray, "units blocks"] = field(repr=False)

    @property
    def degrees(self) -> Float[np.ndarray, " units"]:
        """The sum of the edges of each unit."""
        return np.asarray(self.into.sum(1))

    @property
    def volume(self) -> float:
        """The sum of all degrees."""
        return float(self.into.sum())

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """The units of each block."""
        stops = np.append(self.starts[1:], len(self.block_of))
        return tuple(slice(int(start), int(stop)) for start, stop in zip(self.starts, stops, strict=True))

    @cached_property
    def rows(self) -> tuple[sparse.csr_matrix, ...]:
        """The edges of the units of each block."""
        return tuple(self.adjacency[units] for units in self.slices)

    def sums(self, number: int, x: Float[np.ndarray, " units"]) -> Float[np.ndarray, " blocks"]:
        """What block `number` sends into each block, each unit weighted by x."""
        return np.asarray(x[self.slices[number]] @ self.into[self.slices[number]])

    def pull(
        self, number: int, x: Float[np.ndarray, " units"], sums: Float[np.ndarray, "blocks blocks"]
    ) -> Float[np.ndarray, " block"]:
        """B times a vector, for the units of block `number`; `sums` has a row of `sums` for each block."""
        return np.asarray(self.rows[number] @ x - self.share[self.slices[number]] @ sums[:, number])

    def times(self, x: Float[np.ndarray, " units"]) -> Float[np.ndarray, " units"]:
        """B times a vector."""
        sums = np.array([self.sums(number, x) for number in range(len(self.starts))])
        expected = [self.share[units] @ sums[:, number] for number, units in enumerate(self.slices)]
        return np.asarray(self.adjacency @ x - np.concatenate(expected))

    def dense(self) -> Float[np.ndarray, "units units"]:
        """B as a whole."""
        own = self.block_of
        expectation = self.share[:, own] * self.into[:, own].T
        return np.asarray(self.adjacency.toarray() - expectation)

    def quality(self, sides: Float[np.ndarray, " units"]) -> float:
        """How much two sides (+1 and −1) keep together beyond expectation: 0 for none, 1 for two equal worlds."""
        return float(sides @ self.times(sides)) / self.volume


def corrected(adjacency: sparse.csr_matrix, block_of: Int[np.ndarray, " units"]) -> CorrectedGraph:
    """The graph less the expectation of each pair of blocks; units come block after block, each with an edge."""
    changes = np.flatnonzero(np.diff(block_of)) + 1
    starts = np.concatenate(([0], changes)).astype(np.int64)
    order = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(block_of))))
    member = sparse.csr_matrix((np.ones(len(order)), (np.arange(len(order)), order)))
    into = np.asarray((adjacency @ member).todense())
    totals = np.add.reduceat(into, starts, axis=0)
    share = into / np.where(totals > 0, totals, 1.0)[order]
    return CorrectedGraph(adjacency, starts, order, into, share)


def modularity(graph: CorrectedGraph, labels: Int[np.ndarray, " units"]) -> float:
    """The share of all edges that lies within groups, less the share expected there."""
    total = 0.0
    for label in np.unique(labels):
        inside = (labels == label).astype(float)
        total += float(inside @ graph.times(inside))
    return total / graph.volume
