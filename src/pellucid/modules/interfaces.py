"""How large the interfaces between modules are: in weights, and in bits of activation.

In weights: the sums of edges between modules, beside what the layers alone lead one to expect. In bits: what the units
of one module would have to send another, sample by sample, so that what the other hears is off by at most 1% of its
power: the rate of a Gaussian source at a distortion (reverse water-filling; Cover & Thomas 2006, ch. 10), with the
connections taken to be orthogonal.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from pellucid.errors import BadInput
from pellucid.ir.graph import Graph
from pellucid.modules.activity import Samples, entries_of, entry_axes
from pellucid.modules.corrected import corrected, modularity
from pellucid.modules.grouping import Grouping, connected
from pellucid.modules.hierarchy import quotient
from pellucid.modules.ncut import n_cut_value
from pellucid.modules.severing import run
from pellucid.modules.unitgraph import UnitGraph

DISTORTION = 0.01
"""The share of the power of what a module hears by which a message may be off."""


@dataclass(frozen=True, eq=False)
class Interface:
    """The interfaces of a partition, in weights.

    Attributes:
        between: the sums of the edges between each two modules.
        crossing: the share of all edges that lies between modules.
        expected: that share, were only the degrees of the units and their layers at work.
        n_cut: the sum over modules of the edges that leave it over all its edges.
        modularity: the share within modules beyond expectation.
    """

    between: Float[np.ndarray, "modules modules"] = field(repr=False)
    crossing: float
    expected: float
    n_cut: float
    modularity: float


def interface(graph: UnitGraph, grouping: Grouping) -> Interface:
    """The interfaces of a partition, in weights. Units that belong to nobody are left out."""
    used = connected(graph)
    used = used[grouping.labels[used] >= 0]
    labels, matrix = grouping.labels[used], graph.adjacency[used][:, used].tocsr()
    alive = np.flatnonzero(np.asarray(matrix.sum(1)).ravel() > 0)
    between = quotient(matrix, labels)
    crossing = float(between.sum() / matrix.sum())
    gain = modularity(corrected(matrix[alive][:, alive].tocsr(), graph.block_of[used][alive]), labels[alive])
    return Interface(between, crossing, crossing + gain, n_cut_value(matrix, labels), gain)


def interface_bits(
    graph: Graph, units: UnitGraph, grouping: Grouping, samples: Samples, distortion: float = DISTORTION
) -> Float[np.ndarray, "writers readers"]:
    """Bits for each sample and position that each module would have to send each other.

    Args:
        graph, units, grouping: the network, its unit graph weighted by "absolute" or "squared", its modules.
        samples: inputs of the graph, one sequence of tensors a call.
        distortion: the share of the power of what a module hears by which a message may be off.

    Raises:
        BadInput: another weighting, or no samples.
    """
    if units.weighting not in ("absolute", "squared"):
        raise BadInput(f"bits are measured on weights, not on edges weighted by {units.weighting!r}; take 'absolute'")
    if not samples:
        raise BadInput("no samples; bits are measured on at least one call")
    squares = units.adjacency.copy()
    squares.data = squares.data if units.weighting == "squared" else squares.data**2
    covariances = _covariances(graph, units, samples)
    count = grouping.count
    powers: list[list[list[np.ndarray]]] = [[[] for _ in range(count)] for _ in range(count)]
    heard = np.zeros(count)
    for b, covariance in covariances.items():
        start, stop = units.starts[b], units.starts[b + 1]
        own, width = grouping.labels[start:stop], units.blocks[b].width
        for reader in range(count):
            later = np.flatnonzero((grouping.labels == reader) & (units.block_of > b))
            gain = np.sqrt(np.repeat(np.asarray(squares[start:stop][:, later].sum(1)).ravel(), width))
            message = covariance * gain[:, None] * gain[None, :]
            heard[reader] += float(np.trace(message))
            for writer in range(count):
                sent = np.flatnonzero(np.repeat(own == writer, width))
                if writer != reader and len(sent):
                    powers[writer][reader].append(np.linalg.eigvalsh(message[np.ix_(sent, sent)]))
    return np.array(
        [
            [
                _rate(np.concatenate(found), distortion * heard[reader]) if found else 0.0
                for reader, found in enumerate(row)
            ]
            for row in powers
        ]
    )


def _covariances(graph: Graph, units: UnitGraph, samples: Samples) -> dict[int, Float[np.ndarray, "entries entries"]]:
    """The covariance of what each block writes, over samples and positions."""
    chosen = [b for b, block in enumerate(units.blocks) if block.claimable and block.kind != "output"]
    sums = {b: (0, np.zeros(()), np.zeros(())) for b in chosen}
    for values in samples:
        env = run(graph, values)
        for b in chosen:
            entries = entries_of(env[units.blocks[b].value], entry_axes(units.blocks[b])).numpy()
            seen, total, products = sums[b]
            sums[b] = (seen + len(entries), total + entries.sum(0), products + entries.T @ entries)
    return {b: products / seen - np.outer(total, total) / seen**2 for b, (seen, total, products) in sums.items()}


def _rate(powers: Float[np.ndarray, " directions"], allowed: float) -> float:
    """Bits to send independent Gaussians with these variances so that the sum of the errors is as allowed."""
    powers = np.sort(np.maximum(powers, 0))
    if powers.sum() <= allowed or allowed <= 0:
        return 0.0
    below = np.concatenate(([0.0], np.cumsum(powers)[:-1]))
    levels = (allowed - below) / np.arange(len(powers), 0, -1)
    # the water stands at the first level that does not rise above the power it covers
    first = int(np.flatnonzero(levels <= powers)[0])
    return float(0.5 * np.log2(powers[first:] / levels[first]).sum())
