"""The layer-corrected spectral split: a network cut where its weights part, however its layers lie.

Plain normalised cuts cut between layers. Here the leading eigenvectors of D^-½ (A − Σ r cᵀ/s) D^-½ (see `corrected`)
give two sides, layer by layer each unit then goes to the side that it is more with than expected, and the better of
a few starts is kept. Both sides are split again while a split beats the same split of shuffled weights (see `null`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, eigsh

from pellucid.errors import BadInput
from pellucid.modules.corrected import CorrectedGraph, corrected
from pellucid.modules.grouping import Grouping, connected, grouped
from pellucid.modules.null import SHUFFLES, AgainstNull, against, shuffled
from pellucid.modules.unitgraph import UnitGraph

STARTS = 3
"""Eigenvectors that a split starts from."""

_DENSE = 600
_ROUNDS = 30


@dataclass(frozen=True)
class Stop:
    """When to stop splitting.

    Attributes:
        parts: split into exactly so many, best split first, whatever the null says; None: as the null says.
        z: a split has to lie so many deviations above shuffled weights.
        gain: and its quality has to be so many times theirs; every trained layer differs a little from a shuffled one,
            and with enough weights a little is significant.
        shuffles: how often the weights are shuffled, at least 20.
        smallest: fewest units of a part.
        most: no more parts than that.
    """

    parts: int | None = None
    z: float = 4.0
    gain: float = 1.25
    shuffles: int = SHUFFLES
    smallest: int = 4
    most: int = 16


@dataclass(frozen=True, eq=False)
class Split:
    """Two sides (+1, −1) of some units, their quality, and the same on shuffled weights."""

    sides: Float[np.ndarray, " units"]
    quality: float
    null: AgainstNull | None = None


def spectral(graph: UnitGraph, stop: Stop | None = None, seed: int = 0) -> Grouping:
    """Groups of units by the layer-corrected spectral split, recursive.

    Args:
        graph: the unit graph.
        stop: when to stop; by default when the null explains the best split.
        seed: of the shuffles.

    Raises:
        BadInput: fewer than two units with edges, fewer than 20 shuffles, or more parts than units.
    """
    stop = stop or Stop()
    if stop.shuffles < SHUFFLES:
        raise BadInput(f"a null of {stop.shuffles} shuffles tells no z-score; take at least {SHUFFLES}")
    used = connected(graph)
    if stop.parts is not None and not 1 <= stop.parts <= len(used):
        raise BadInput(f"{len(used)} connected units cannot be split into {stop.parts} parts")
    waiting = [(used, _best(graph, used, stop, seed))]
    done: list[Int[np.ndarray, " _"]] = []
    found: AgainstNull | None = waiting[0][1].null
    while waiting and len(waiting) + len(done) < (stop.parts or stop.most):
        place = max(range(len(waiting)), key=lambda i: _worth(graph, *waiting[i]))
        units, split = waiting.pop(place)
        halves = [units[split.sides > 0], units[split.sides < 0]]
        if not _accepted(split, halves, stop):
            done.append(units)
            continue
        for half in halves:
            waiting.append((half, _best(graph, half, stop, seed + len(done) + len(waiting))))
    return grouped(graph, [*done, *(units for units, _ in waiting)], "spectral", found)


def _worth(graph: UnitGraph, units: Int[np.ndarray, " part"], split: Split) -> float:
    """How much a split would gain over the whole graph."""
    return split.quality * float(graph.adjacency[units][:, units].sum())


def _accepted(split: Split, halves: list[Int[np.ndarray, " _"]], stop: Stop) -> bool:
    if stop.parts is not None:
        return min(map(len, halves)) > 0
    if split.null is None or min(map(len, halves)) < stop.smallest:
        return False
    return split.null.z >= stop.z and split.null.value >= stop.gain * split.null.mean


def _best(graph: UnitGraph, units: Int[np.ndarray, " part"], stop: Stop, seed: int) -> Split:
    """The best split of some units, beside that of their shuffled weights."""
    part = graph.adjacency[units][:, units].tocsr()
    blocks = graph.block_of[units]
    alive = np.flatnonzero(np.asarray(part.sum(1)).ravel() > 0)
    if len(alive) < 2:
        return Split(np.ones(len(units)), 0.0)
    inner, own = part[alive][:, alive].tocsr(), blocks[alive]
    split = bisected(inner, own)
    null = None
    if stop.parts is None or len(units) == len(connected(graph)):
        rng = np.random.default_rng(seed)
        values = [_quality_of_shuffled(inner, own, rng) for _ in range(stop.shuffles)]
        null = against(split.quality, values)
    sides = np.ones(len(units))
    sides[alive] = split.sides
    return Split(sides, split.quality, null)


def _quality_of_shuffled(
    adjacency: sparse.csr_matrix, block_of: Int[np.ndarray, " units"], rng: np.random.Generator
) -> float:
    other = shuffled(adjacency, block_of, rng)
    alive = np.flatnonzero(np.asarray(other.sum(1)).ravel() > 0)
    return bisected(other[alive][:, alive].tocsr(), block_of[alive]).quality


def bisected(adjacency: sparse.csr_matrix, block_of: Int[np.ndarray, " units"]) -> Split:
    """Two sides of a graph whose units, block after block, all have edges."""
    graph = corrected(adjacency, block_of)
    best: Split | None = None
    for start in _leading(graph).T:
        sides = settled(graph, np.where(start >= 0, 1.0, -1.0))
        quality = graph.quality(sides)
        if best is None or quality > best.quality + 1e-12:
            best = Split(sides, quality)
    assert best is not None
    return best


def _leading(graph: CorrectedGraph) -> Float[np.ndarray, "units starts"]:
    """The leading eigenvectors of D^-½ B D^-½, best first, each with its largest entry positive."""
    root = 1 / np.sqrt(graph.degrees)
    size, count = len(root), min(STARTS, len(root) - 1)
    if size <= _DENSE:
        vectors = np.linalg.eigh(root[:, None] * graph.dense() * root[None, :])[1][:, ::-1][:, :count]
    else:
        operator = LinearOperator((size, size), matvec=lambda x: root * graph.times(root * x.ravel()), dtype=float)
        start = np.random.default_rng(0).standard_normal(size)
        values, vectors = eigsh(operator, k=count, which="LA", v0=start, tol=1e-3)
        vectors = vectors[:, np.argsort(-values, kind="stable")]
    largest = np.abs(vectors).argmax(0)
    return np.asarray(vectors * np.where(vectors[largest, np.arange(count)] < 0, -1.0, 1.0))


def settled(graph: CorrectedGraph, sides: Float[np.ndarray, " units"]) -> Float[np.ndarray, " units"]:
    """Sides after each layer in turn has gone where it is better off, until none moves or quality falls."""
    quality = graph.quality(sides)
    for _ in range(_ROUNDS):
        moved = sides.copy()
        sums = np.array([graph.sums(number, moved) for number in range(len(graph.slices))])
        for number, units in enumerate(graph.slices):
            pull = graph.pull(number, moved, sums)
            moved[units] = np.where(pull == 0, moved[units], np.sign(pull))
            sums[number] = graph.sums(number, moved)
        after = graph.quality(moved)
        if after <= quality + 1e-12:
            break
        sides, quality = moved, after
    return sides
