"""Units in groups: what every method of partition returns, before regions are made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from pellucid.errors import BadInput
from pellucid.modules.null import AgainstNull
from pellucid.modules.unitgraph import UnitGraph

NOBODY = -1
"""The label of units that belong to no group: they have no edges."""


@dataclass(frozen=True, eq=False)
class Grouping:
    """A label for each unit of a graph, from 0 in the order of each group's first unit.

    `null` is the first split beside shuffled weights, for methods that measure it.
    """

    labels: Int[np.ndarray, " units"]
    method: str
    null: AgainstNull | None = None

    @property
    def count(self) -> int:
        """How many groups."""
        return int(self.labels.max()) + 1


def connected(graph: UnitGraph) -> Int[np.ndarray, " used"]:
    """The units that have edges. Raises BadInput for a graph with fewer than two of them."""
    if graph.size < 2:
        raise BadInput(f"a graph of {graph.size} unit cannot be parted; give a network with hidden units")
    used = np.flatnonzero(np.asarray(graph.adjacency.sum(1)).ravel() > 0)
    if len(used) < 2:
        raise BadInput(f"the graph of {graph.size} units has no edges; there is nothing to part")
    return used


def grouped(
    graph: UnitGraph, parts: Sequence[Int[np.ndarray, " _"]], method: str, null: AgainstNull | None = None
) -> Grouping:
    """A grouping from lists of units, numbered in the order of their first unit; the others belong to nobody.

    Raises:
        BadInput: an empty part, a unit in two parts, or one that the graph does not have.
    """
    labels = np.full(graph.size, NOBODY)
    for part in parts:
        if not len(part):
            raise BadInput(f"the partition {method!r} has an empty part; leave it out")
        if part.min() < 0 or part.max() >= graph.size:
            raise BadInput(f"the partition {method!r} names unit {part.max()} of a graph of {graph.size}")
        if (labels[part] != NOBODY).any():
            raise BadInput(f"the partition {method!r} has unit {part[labels[part] != NOBODY][0]} in two parts")
        labels[part] = part.min()
    _, numbered = np.unique(labels, return_inverse=True)
    return Grouping(numbered - int((labels == NOBODY).any()), method, null)


def relabelled(graph: UnitGraph, labels: Int[np.ndarray, " units"], method: str) -> Grouping:
    """A grouping from any labels; negative ones are nobody's. Raises BadInput when there is no group at all."""
    if labels.shape != (graph.size,):
        raise BadInput(f"the partition {method!r} labels {labels.size} units, the graph has {graph.size}")
    if (labels < 0).all():
        raise BadInput(f"the partition {method!r} has no part; each unit is nobody's")
    return grouped(graph, [np.flatnonzero(labels == label) for label in np.unique(labels[labels >= 0])], method)
