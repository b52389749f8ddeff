"""Bilinear layers, units whose value is a product of two linear ones, parted by the features that go together in them.

An output of such a layer is a sum of xᵀ B x over features x: the matrices B, one for each reader of the units, are put
to LSRDR (see `lsrdr`), whose cluster projections group the features. Each unit then goes with the features it reads,
each reader with the units.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from pellucid.errors import BadInput
from pellucid.ir.graph import Graph, Ref
from pellucid.modules.grouping import Grouping, relabelled
from pellucid.modules.linear_maps import rows_through
from pellucid.modules.lsrdr import feature_clusters
from pellucid.modules.survey import UnitPlan, unit_plan
from pellucid.modules.unit_flows import Reading
from pellucid.modules.unitgraph import UnitGraph, sum_of


@dataclass(frozen=True, eq=False)
class BilinearLayer:
    """units = (left · features) ⊙ (right · features), read by `readers`; the numbers of the blocks of both."""

    features: int
    units: int
    left: Float[np.ndarray, "units features"]
    right: Float[np.ndarray, "units features"]
    readers: Float[np.ndarray, "readers units"]

    def matrices(self) -> Float[np.ndarray, "readers features features"]:
        """The symmetric matrix of each reader."""
        made = np.einsum("oh,hi,hj->oij", self.readers, self.left, self.right, optimize=True)
        return np.asarray((made + made.transpose(0, 2, 1)) / 2)


def bilinear_layers(graph: Graph) -> list[BilinearLayer]:
    """The bilinear layers of a network, those with one block of features alone."""
    plan = unit_plan(graph)
    makers = {node.id: node for node in graph.block.nodes}
    found: list[BilinearLayer] = []
    for number, (block, readings) in enumerate(zip(plan.blocks, plan.readings, strict=True)):
        node = makers.get(block.value)
        writers = {term.block for reading in readings for term in reading.flow.terms}
        product = node is not None and node.op == "mul" and len(readings) == 2
        if not product or node is None or len(writers) != 1:
            continue
        if tuple(arg.name for arg in node.args if isinstance(arg, Ref)) != tuple(reading.value for reading in readings):
            continue
        (writer,) = writers
        sides = [_signed(plan, number, writer, [reading]) for reading in readings]
        below = [
            _signed(plan, reader, number, reads)
            for reader, reads in enumerate(plan.readings)
            if reader != number and any(term.block == number for reading in reads for term in reading.flow.terms)
        ]
        found.append(BilinearLayer(writer, number, sides[0], sides[1], np.concatenate(below)))
    return found


def _signed(
    plan: UnitPlan, reader: int, writer: int, readings: list[Reading] | tuple[Reading, ...]
) -> Float[np.ndarray, "rows columns"]:
    """The maps from one block to another, with their signs, one under the other."""
    rows = []
    for reading in readings:
        terms = [term for term in reading.flow.terms if term.block == writer]
        size = reading.flow.entries
        if terms:
            rows.append(sum_of([rows_through(term.chain, 0, size, size) for term in terms]))
    return torch.cat(rows).double().detach().numpy()


def bilinear_groups(graph: Graph, units: UnitGraph, parts: int | None = None, seed: int = 0) -> Grouping:
    """Groups of units around the clusters of features of a network's first bilinear layer, two unless told otherwise.

    Raises:
        BadInput: the network has no bilinear layer, or see `lsrdr.feature_clusters`.
    """
    layers = bilinear_layers(graph)
    if not layers:
        raise BadInput("the network has no bilinear layer, which LSRDR is for; take the method 'spectral'")
    layer = layers[0]
    features = feature_clusters(layer.matrices(), parts or 2, seed)
    labels = np.full(units.size, -1)
    labels[units.starts[layer.features] : units.starts[layer.features + 1]] = features
    strength = layer.left**2 + layer.right**2
    shares = np.stack([strength[:, features == k].sum(1) for k in range(int(features.max()) + 1)], 1)
    labels[units.starts[layer.units] : units.starts[layer.units + 1]] = shares.argmax(1)
    return relabelled(units, _followed(units, labels), "lsrdr")


def _followed(units: UnitGraph, labels: Int[np.ndarray, " units"]) -> Int[np.ndarray, " units"]:
    """Labels with the units of all other blocks in the groups that they have most edges with, block by block."""
    labels = labels.copy()
    for start, stop in zip(units.starts, units.starts[1:], strict=False):
        if (labels[start:stop] < 0).all():
            rows = units.adjacency[start:stop]
            sums = np.stack([np.asarray(rows[:, labels == k].sum(1)).ravel() for k in range(int(labels.max()) + 1)], 1)
            labels[start:stop] = np.where(sums.sum(1) > 0, sums.argmax(1), -1)
    return labels
