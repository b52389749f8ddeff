"""What the modules of a network are worth, measured: never one number alone.

Each figure of a partition stands beside the same figure of random modules of equal sizes, layer by layer. A partition
is good where weights and bits across its interfaces are few, the network loses little when they are cut, each module
matters to something else, noise does not move it, and shuffled weights have nothing like it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int

from pellucid.ir.graph import Graph
from pellucid.ir.interpret import Values
from pellucid.modules.corrected import corrected, modularity
from pellucid.modules.grouping import Grouping, connected
from pellucid.modules.interfaces import Interface, interface, interface_bits
from pellucid.modules.null import SHUFFLES, AgainstNull, against, shuffled
from pellucid.modules.severing import parted, run, severed_outputs
from pellucid.modules.specialisation import Loss, Specialisation, random_grouping, specialisation
from pellucid.modules.stability import stability
from pellucid.modules.unitgraph import UnitGraph

Partitioner = Callable[[UnitGraph, int], Grouping]
"""From a unit graph and a seed to groups."""


@dataclass(frozen=True, eq=False)
class Severed:
    """The mean loss of the network as it is, and when its modules no longer hear each other."""

    before: float
    after: float


@dataclass(frozen=True, eq=False)
class Measured:
    """The measures of one partition.

    Attributes:
        interface: sizes in weights.
        bits: what modules would have to send each other, over all pairs, for each sample and position.
        severed: the loss before and after the interfaces are cut.
        specialisation: damage by module and class, with its null; None without classes.
    """

    interface: Interface
    bits: float
    severed: Severed
    specialisation: Specialisation | None = None


@dataclass(frozen=True, eq=False)
class Report:
    """A partition beside random modules of its sizes, how stable it is, and its modularity beside shuffled weights."""

    found: Measured
    random: Measured
    stable: tuple[float, ...]
    null: AgainstNull

    def lines(self) -> tuple[str, ...]:
        """Each measure in one line, the random partition's in brackets."""
        one, other = self.found, self.random
        text = [
            f"weight between modules: {one.interface.crossing:.1%} [{other.interface.crossing:.1%}]",
            f"n-cut: {one.interface.n_cut:.3f} [{other.interface.n_cut:.3f}]",
            f"bits between modules: {one.bits:.1f} [{other.bits:.1f}]",
            f"loss when cut apart: {one.severed.after:.4g} [{other.severed.after:.4g}], whole {one.severed.before:.4g}",
            f"agreement under noise: {min(self.stable):.2f} … {max(self.stable):.2f}",
            f"modularity: {self.null.value:.3f}, of shuffled weights {self.null.mean:.3f}, z = {self.null.z:.1f}",
        ]
        if one.specialisation is not None and other.specialisation is not None:
            score = one.specialisation.score
            text.append(f"specialisation: {score.value:.3f} [{score.mean:.3f}], z = {score.z:.1f}")
        return tuple(text)


def measure(
    graph: Graph,
    units: UnitGraph,
    partitioner: Partitioner,
    values: Values,
    loss: Loss,
    classes: Int[torch.Tensor, " samples"] | None = None,
    seed: int = 0,
) -> Report:
    """Find modules and measure them.

    Args:
        graph, units: the network and its unit graph, weighted by "absolute" or "squared".
        partitioner: finds the modules, also in noisy and shuffled graphs.
        values: inputs of the graph, one call, that the modules were not chosen on.
        loss: the loss of each sample from the network's outputs.
        classes: the class or task of each sample, for specialisation.
        seed: of everything drawn.

    Raises:
        BadInput: see `parted`, `interface_bits` and `specialisation`.
    """
    grouping = partitioner(units, seed)
    other = random_grouping(units, grouping, seed)
    found, control = (
        Measured(
            interface(units, one),
            float(interface_bits(graph, units, one, [values]).sum()),
            severed_loss(graph, units, one, values, loss),
            specialisation(graph, units, one, values, classes, loss, seed=seed) if classes is not None else None,
        )
        for one in (grouping, other)
    )
    return Report(found, control, stability(units, partitioner), against_shuffled(units, grouping, partitioner, seed))


def severed_loss(graph: Graph, units: UnitGraph, grouping: Grouping, values: Values, loss: Loss) -> Severed:
    """The mean loss before and after the interfaces between modules are cut."""
    outputs = run(graph, values)
    before = loss([outputs[name] for name in graph.block.outputs])
    after = loss(severed_outputs(graph, values, parted(graph, units, grouping, [values]), grouping.count))
    return Severed(float(before.mean()), float(after.mean()))


def against_shuffled(
    units: UnitGraph, grouping: Grouping, partitioner: Partitioner, seed: int = 0, shuffles: int = SHUFFLES
) -> AgainstNull:
    """The modularity of a partition beside that of the partitions found in shuffled weights."""
    rng = np.random.default_rng(seed)
    others = [replace(units, adjacency=shuffled(units.adjacency, units.block_of, rng)) for _ in range(shuffles)]
    return against(_modularity(units, grouping), [_modularity(one, partitioner(one, seed)) for one in others])


def _modularity(units: UnitGraph, grouping: Grouping) -> float:
    used = connected(units)
    matrix = units.adjacency[used][:, used].tocsr()
    return modularity(corrected(matrix, units.block_of[used]), grouping.labels[used])
