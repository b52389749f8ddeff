"""What the modules that a program is built on are worth, from the network and inputs alone, without targets.

Each figure stands beside that of random modules of equal sizes, layer by layer (see `measures` for all that can be
measured with targets). Units that no module holds, such as inputs that all read, count for none. Where modules were
looked for and none were found, the figures are those of the best split in two, so that networks can be compared.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float

from pellucid.errors import BadInput
from pellucid.ir.graph import Graph, weights_read
from pellucid.ir.interpret import Values
from pellucid.ir.notes import PARAMETERS, ModuleMeasure
from pellucid.ir.regions import NO_JOINT, RegionTree
from pellucid.modules.grouping import NOBODY, Grouping, connected
from pellucid.modules.interfaces import interface, interface_bits
from pellucid.modules.null import SHUFFLES, against
from pellucid.modules.severing import ablated_outputs, parted, run, severed_outputs
from pellucid.modules.specialisation import random_grouping, shared_information
from pellucid.modules.spectral import Stop, spectral
from pellucid.modules.unitgraph import UnitGraph, unit_graph


def worth(graph: Graph, tree: RegionTree, values: Values, seed: int = 0) -> tuple[ModuleMeasure, ...]:
    """The measures of a hierarchy of modules; none where none was looked for, or no edge lies between units.

    Args:
        graph: the network.
        tree: its regions, which claim units.
        values: inputs of the graph, one call.
        seed: of the random modules and of shuffles.
    """
    joints = any(region.units for region in tree.walk())
    if not joints and NO_JOINT not in tree.origin:
        return ()
    units = unit_graph(graph)
    if len(connected(units)) < 2:
        return ()
    halved = spectral(units, Stop(parts=2), seed)
    own = grouping_of(units, tree) if joints else halved
    claimed = np.flatnonzero(own.labels >= 0)
    if own.count < 2 or units.adjacency[claimed][:, claimed].sum() == 0:
        return ()
    other = random_grouping(units, own, seed)
    sizes = [interface(units, grouping) for grouping in (own, other)]
    z = halved.null.z if halved.null else 0.0
    found = [
        ModuleMeasure(PARAMETERS, _parameters(graph)),
        ModuleMeasure("modules", own.count if joints else 1),
        ModuleMeasure("weight between modules", sizes[0].crossing, sizes[1].crossing, "share"),
        ModuleMeasure("n-cut", sizes[0].n_cut, sizes[1].n_cut),
        ModuleMeasure("modularity of the first split above shuffled weights", z, unit="z"),
    ]
    try:
        return (*found, *_in_use(graph, units, own, other, values, seed))
    except BadInput as error:
        return (*found, ModuleMeasure(f"bits and severing: not measured, {error}", float("nan")))


def _parameters(graph: Graph) -> int:
    return sum(graph.weights[name].numel() for name in weights_read(graph.block))


def grouping_of(units: UnitGraph, tree: RegionTree) -> Grouping:
    """The innermost region of each unit; units that none claims are nobody's."""
    labels = np.full(units.size, NOBODY)
    leaves = [region for region in tree.walk() if region.units]
    for number, region in enumerate(leaves):
        for unit in region.units:
            for block, start in zip(units.blocks, units.starts, strict=False):
                if (block.value, block.axis) == (unit.value, unit.axis):
                    labels[start + np.array(unit.indices, dtype=np.int64)] = number
    return Grouping(labels, tree.origin)


def _in_use(
    graph: Graph, units: UnitGraph, own: Grouping, other: Grouping, values: Values, seed: int
) -> tuple[ModuleMeasure, ...]:
    """Bits across, what is left of the outputs when modules are cut apart, and whether modules serve other outputs."""
    bits = [float(interface_bits(graph, units, grouping, [values]).sum()) for grouping in (own, other)]
    lost = [_lost(graph, units, grouping, values) for grouping in (own, other)]
    shuffled = [random_grouping(units, own, seed + draw) for draw in range(SHUFFLES)]
    null = [shared_information(_damage(graph, units, grouping, values)) for grouping in shuffled]
    score = against(shared_information(_damage(graph, units, own, values)), null)
    return (
        ModuleMeasure("activation between modules", bits[0], bits[1], "bits a sample"),
        ModuleMeasure("outputs' variance lost when modules are cut apart", lost[0], lost[1], "share"),
        ModuleMeasure("specialisation: information of module and output", score.value, score.mean, "share"),
        ModuleMeasure("specialisation above random modules", score.z, unit="z"),
    )


def _lost(graph: Graph, units: UnitGraph, grouping: Grouping, values: Values) -> float:
    """The mean squared change of the outputs over their variance."""
    cut = severed_outputs(graph, values, parted(graph, units, grouping, [values]), grouping.count)
    return float(np.mean(np.concatenate(_changes(graph, values, cut))))


def _damage(graph: Graph, units: UnitGraph, grouping: Grouping, values: Values) -> Float[np.ndarray, "modules outputs"]:
    """What each output loses when each module is held at its mean."""
    held = parted(graph, units, grouping, [values])
    return np.array(
        [
            np.concatenate(_changes(graph, values, ablated_outputs(graph, values, held, group)))
            for group in range(grouping.count)
        ]
    )


def _changes(graph: Graph, values: Values, others: tuple[torch.Tensor, ...]) -> list[Float[np.ndarray, " outputs"]]:
    """For each entry of the last axis of each output its mean squared change over the variance of them all."""
    outputs = run(graph, values)
    changes = []
    for name, other in zip(graph.block.outputs, others, strict=True):
        before, after = (value.double().reshape(-1, value.shape[-1]) for value in (outputs[name], other))
        variance = before.var(0, correction=0).mean().clamp_min(1e-30)
        changes.append(((before - after).square().mean(0) / variance).numpy())
    return changes
