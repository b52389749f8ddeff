"""Whether modules do different things: what each loses when one is gone, class by class or task by task.

A network can be cut into circuits that all serve everything (arXiv 2502.02470). So each module is held at its mean, and
the damage to each class is measured. Were damage spread over classes alike for all modules, module and class would be
independent; the score is their mutual information, as a share of the largest possible, beside random modules of the
same sizes, layer by layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int

from pellucid.errors import BadInput
from pellucid.ir.graph import Graph
from pellucid.ir.interpret import Values
from pellucid.modules.grouping import NOBODY, Grouping
from pellucid.modules.null import SHUFFLES, AgainstNull, against
from pellucid.modules.severing import Parted, ablated_outputs, parted, run
from pellucid.modules.unitgraph import UnitGraph

Loss = Callable[[Sequence[torch.Tensor]], Float[torch.Tensor, " samples"]]
"""From the outputs of a network to the loss of each sample."""


@dataclass(frozen=True, eq=False)
class Specialisation:
    """The mean rise of the loss of each class when each module is ablated, and its score beside random modules."""

    damage: Float[np.ndarray, "modules classes"]
    score: AgainstNull


def specialisation(
    graph: Graph,
    units: UnitGraph,
    grouping: Grouping,
    values: Values,
    classes: Int[torch.Tensor, " samples"],
    loss: Loss,
    *,
    shuffles: int = SHUFFLES,
    seed: int = 0,
) -> Specialisation:
    """How far modules serve different classes.

    Args:
        graph, units, grouping: the network, its unit graph, its modules.
        values: inputs of the graph, one call.
        classes: the class or task of each sample, from 0.
        loss: the loss of each sample from the network's outputs.
        shuffles: random partitions of equal sizes to compare with, at least 20.
        seed: of these.

    Raises:
        BadInput: fewer than two modules or classes, a class without samples, or too few shuffles.
    """
    count = int(classes.max()) + 1 if len(classes) else 0
    if grouping.count < 2 or count < 2:
        raise BadInput(f"{grouping.count} modules and {count} classes; specialisation needs at least two of each")
    if int(torch.bincount(classes, minlength=count).min()) == 0:
        raise BadInput("a class has no samples; number the classes from 0 and give samples of each")
    if shuffles < SHUFFLES:
        raise BadInput(f"a null of {shuffles} shuffles tells no z-score; take at least {SHUFFLES}")
    held = parted(graph, units, grouping, [values])
    outputs = run(graph, values)
    before = loss([outputs[name] for name in graph.block.outputs])

    def damage_of(held: Mapping[str, Sequence[Parted]]) -> Float[np.ndarray, "modules classes"]:
        rows = [loss(ablated_outputs(graph, values, held, group)) - before for group in range(grouping.count)]
        return np.array([[float(row[classes == c].mean()) for c in range(count)] for row in rows])

    rng = np.random.default_rng(seed)
    damage = damage_of(held)
    null = [shared_information(damage_of(_mixed(held, rng))) for _ in range(shuffles)]
    return Specialisation(damage, against(shared_information(damage), null))


def shared_information(damage: Float[np.ndarray, "modules classes"]) -> float:
    """Mutual information of module and class where damage is done, over the most there could be; 0 without damage."""
    joint = np.maximum(damage, 0)
    if joint.sum() == 0:
        return 0.0
    joint = joint / joint.sum()
    apart = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    some = joint > 0
    return float((joint[some] * np.log(joint[some] / apart[some])).sum() / math.log(min(joint.shape)))


def _mixed(held: Mapping[str, Sequence[Parted]], rng: np.random.Generator) -> dict[str, list[Parted]]:
    """The groups dealt out anew within each value."""
    return {
        name: [replace(part, groups=part.groups[torch.from_numpy(rng.permutation(len(part.groups)))]) for part in parts]
        for name, parts in held.items()
    }


def random_grouping(units: UnitGraph, grouping: Grouping, seed: int = 0) -> Grouping:
    """Random groups of the same sizes, block by block: the control of every measure of a partition."""
    rng = np.random.default_rng(seed)
    labels = grouping.labels.copy()
    for start, stop in zip(units.starts, units.starts[1:], strict=False):
        used = np.flatnonzero(labels[start:stop] != NOBODY) + start
        labels[used] = rng.permutation(labels[used])
    return Grouping(labels, f"random, sizes of {grouping.method}")
