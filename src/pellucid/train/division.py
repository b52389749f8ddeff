"""Which region each unit belongs to, found from the weights as they are now."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import nn

from pellucid.errors import BadInput
from pellucid.ir.graph import Graph
from pellucid.modules.corrected import corrected, modularity
from pellucid.modules.grouping import NOBODY, connected
from pellucid.modules.spectral import Stop, spectral
from pellucid.modules.unitgraph import UnitGraph, unit_graph

_ROUNDS = 10


@dataclass(frozen=True, eq=False)
class Division:
    """The region of each unit, from 0; -1 is nobody's. `z`: deviations of the first split above shuffled weights."""

    labels: Int[np.ndarray, " units"]
    z: float = float("nan")

    @property
    def count(self) -> int:
        """How many regions."""
        return int(self.labels.max()) + 1

    def tensor(self) -> Int[torch.Tensor, " units"]:
        """The labels for torch."""
        return torch.from_numpy(self.labels.astype(np.int64))


def live_units(graph: Graph, model: nn.Module) -> UnitGraph:
    """The unit graph of a traced model with the weights that it has now."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    weights = {name: tensors.get(name, weight).detach().cpu() for name, weight in graph.weights.items()}
    return unit_graph(graph.with_changes(weights=weights))


def divide(units: UnitGraph, parts: int, seed: int = 0) -> Division:
    """The layer-corrected spectral split into so many regions.

    Raises:
        BadInput: fewer than two parts, or more than connected units.
    """
    if parts < 2:
        raise BadInput(f"a division into {parts} part parts nothing; give at least 2 parts")
    found = spectral(units, Stop(parts=parts), seed)
    if found.count < parts:
        raise BadInput(
            f"the network falls into {found.count} of {parts} parts; ask for fewer, or train it longer first"
        )
    return Division(found.labels, found.null.z if found.null else float("nan"))


def evened(units: UnitGraph, division: Division) -> Division:
    """The division nearby whose regions have as many units of each block as one another.

    Block after block, units with the clearest pull beyond expectation choose first, until regions are full; this goes
    on while regions keep more together. The pattern of an attention head goes where its head goes.
    """
    used = connected(units)
    graph = corrected(units.adjacency[used][:, used].tocsr(), units.block_of[used])
    best, quality, labels = division.labels, -np.inf, division.labels.copy()
    for _ in range(_ROUNDS):
        for block, *following in _led(units):
            pulls = np.zeros((units.size, division.count))
            for region in range(division.count):
                pulls[used, region] = graph.times((labels[used] == region).astype(float))
            labels[block] = _seated(pulls[block] + sum(pulls[other] for other in following))
            for other in following:
                labels[other] = labels[block]
        after = modularity(graph, labels[used])
        if after <= quality + 1e-12:
            break
        best, quality = labels.copy(), after
    return Division(best, division.z)


def _led(units: UnitGraph) -> list[list[slice]]:
    """The nodes of each block, with those of its patterns behind those of heads."""
    nodes = {block.name: slice(*units.starts[b : b + 2]) for b, block in enumerate(units.blocks)}
    led = {name: name.removesuffix(".pattern") for name in nodes if name.removesuffix(".pattern") in nodes}
    return [
        [nodes[name], *(nodes[other] for other, head in led.items() if head == name and other != name)]
        for name in nodes
        if led.get(name, name) == name
    ]


def _seated(pulls: Float[np.ndarray, "units regions"]) -> Int[np.ndarray, " units"]:
    """A region for each unit, as many units for each as can be; those with the clearest preference choose first."""
    size, count = pulls.shape
    room = np.array([size // count + (region < size % count) for region in range(count)])
    ordered = np.sort(pulls, 1)
    labels = np.zeros(size, dtype=np.int64)
    for unit in np.argsort(ordered[:, -2] - ordered[:, -1], kind="stable"):
        labels[unit] = np.argmax(np.where(room > 0, pulls[unit], -np.inf))
        room[labels[unit]] -= 1
    return labels


def given(labels: Int[np.ndarray, " units"], size: int) -> Division:
    """A division from outside.

    Raises:
        BadInput: not one label per unit, no two regions, or an empty one.
    """
    labels = np.asarray(labels, dtype=np.int64)
    if labels.shape != (size,):
        raise BadInput(f"the partition labels {labels.size} units, the network has {size}")
    regions = np.unique(labels[labels >= 0])
    if len(regions) < 2:
        raise BadInput(f"the partition has {len(regions)} region with units; it takes at least two")
    empty = np.setdiff1d(np.arange(regions.max() + 1), regions)
    if len(empty):
        raise BadInput(f"region {empty[0]} of the partition is empty; number regions from 0 without gaps")
    return Division(np.where(labels < 0, NOBODY, labels))


def settle(units: UnitGraph, division: Division) -> Division:
    """The division after each layer in turn has gone where its weights pull it beyond expectation.

    Stops when no unit moves, when regions would keep less together, or before one would become empty. Units without
    edges keep their region.
    """
    used = connected(units)
    graph = corrected(units.adjacency[used][:, used].tocsr(), units.block_of[used])
    labels, count = division.labels[used].copy(), division.count
    quality = modularity(graph, labels)
    stops = np.append(graph.starts[1:], len(labels))
    for _ in range(_ROUNDS):
        moved = labels.copy()
        for start, stop in zip(graph.starts, stops, strict=True):
            pulls = np.stack([graph.times((moved == region).astype(float))[start:stop] for region in range(count)])
            moved[start:stop] = np.where(np.ptp(pulls, axis=0) > 0, pulls.argmax(0), moved[start:stop])
        after = modularity(graph, moved)
        if after <= quality + 1e-12 or len(np.unique(moved[moved >= 0])) < count:
            break
        labels, quality = moved, after
    whole = division.labels.copy()
    whole[used] = labels
    return Division(whole, division.z)
