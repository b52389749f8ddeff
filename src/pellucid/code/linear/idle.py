"""Units that say nothing of their own, taken out of a draft: `linear.units` on its layers.

What a unit does is seen on the inputs of the function. Others will come, so it counts as dead or constant only

1. if it is so on all inputs in the box of those seen, by interval arithmetic; or
2. with a margin, if what goes into it took many different values. One that knows a few levels may know another.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Shaped

from pellucid.code.linear.dense import (
    ACTIVATIONS,
    KEPT,
    Chain,
    Dense,
    are_apart,
    ends,
    is_own,
    layer_of,
    pairs,
    replaced,
)
from pellucid.code.linear.layer import Layer
from pellucid.code.linear.rewriting import Draft, Rewrite
from pellucid.code.linear.units import Activation, Ranges, ReducedUnits, ranges_within, reduce_units
from pellucid.code.propose import Part
from pellucid.code.recurrent.writing import Writer
from pellucid.errors import CannotRun
from pellucid.ir.graph import Node, Ref, ValueType, Weight
from pellucid.ir.interpret import Scope, Values, run_block

Tensor = Shaped[torch.Tensor, "..."]

MOST_ENTRIES = 1_000_000
"""Units of larger layers are not compared with each other."""

TOLERANCE = 2e-6
"""How far a unit may be off its duplicate, as a share of the largest in-weight."""

FEWEST_ROWS = 64
"""A unit counts as dead or constant only if it was seen on so many inputs."""

MOST_ROWS = 4096
"""It is looked at on no more than so many."""

MARGIN = 0.25
"""Pre-activations may move so much further, as a share of how far they were seen to move."""

ROUNDING = 1e-5
"""Pre-activations this close, as a share of their size, are one level."""

UINT8 = 256
"""Places up to here take one byte."""


def _pairs(draft: Draft) -> list[Chain]:
    """Two layers and what is between them, small enough to compare their units."""
    return [
        pair
        for pair in pairs(draft, ACTIVATIONS)
        if max(dense.entries for dense in pair.layers) <= MOST_ENTRIES and are_apart(draft, pair.layers)
    ]


def without_idle_units(draft: Draft, part: Part) -> Draft:
    """The draft without units that are dead, constant, unread or duplicates of others.

    First those between two layers; then those that go out of the body, in whose place copies and constants go out.
    """
    tried: set[tuple[str, ...]] = set()
    while True:
        waiting = (pair for pair in _pairs(draft) if _names(pair) not in tried)
        pair = next((pair for pair in waiting if all(is_own(part.program, dense) for dense in pair.layers)), None)
        if pair is None:
            break
        tried.add(_names(pair))
        found = _idle(draft, part, pair, layer_of(pair.layers[1]))
        if found is not None and len(found.kept):
            draft = _reduced(draft, pair, found)
    for end in ends(draft):
        dense = end.layers[0]
        if dense.entries > MOST_ENTRIES or not is_own(part.program, dense) or not are_apart(draft, end.layers):
            continue
        units = len(dense.weight)
        found = _idle(draft, part, end, Layer(np.eye(units), np.zeros(units)))
        if found is not None and len(found.kept):
            draft = _spread(draft, end, found)
    return draft


def _idle(draft: Draft, part: Part, chain: Chain, readout: Layer) -> ReducedUnits | None:
    hidden = layer_of(chain.layers[0])
    ranges = _ranges(draft, part, chain.layers[0], hidden)
    activation = cast(Activation, chain.activation)
    return reduce_units(hidden, readout, activation=activation, tolerance=TOLERANCE, ranges=ranges)


def _names(pair: Chain) -> tuple[str, ...]:
    return tuple(dense.node.id for dense in pair.layers)


def _ranges(draft: Draft, part: Part, dense: Dense, layer: Layer) -> Ranges | None:
    """Pre-activations seen on the part's inputs, and a margin; None where too few were seen."""
    seen: list[Tensor] = []

    def no_calls(name: str, _: Values) -> Values:
        raise CannotRun(f"a draft calls {name!r}")

    def keep(name: str, value: object) -> None:
        if name == dense.source and isinstance(value, torch.Tensor):
            seen.append(value)

    with torch.no_grad():
        for call in part.inputs:
            for name, value in zip(draft.block.inputs, call, strict=True):
                keep(name, value)
            if dense.source not in draft.block.inputs:
                run_block(draft.block, call, Scope(draft.weights, no_calls, keep))
    rows = _rows(seen)
    return None if rows is None or len(rows) < FEWEST_ROWS else _believed(layer, rows)


def _believed(layer: Layer, rows: Float[np.ndarray, "rows in"]) -> Ranges:
    """How far pre-activations may reach: as far as in the box of these inputs, and, where they vary, little beyond."""
    box = ranges_within(layer, rows.min(axis=0), rows.max(axis=0))
    values = np.sort(rows @ layer.weight.T.astype(np.float64) + layer.bias, axis=0)
    reach = values[-1] - values[0]
    levels = 1 + (np.diff(values, axis=0) > ROUNDING * np.maximum(reach, np.abs(values).max(axis=0))).sum(axis=0)
    margin = np.where(2 * levels > len(rows), MARGIN * reach, np.inf)
    low, high = np.maximum(box.low, values[0] - margin), np.minimum(box.high, values[-1] + margin)
    return Ranges(low, high, proved=False)


def _rows(values: list[Tensor]) -> Float[np.ndarray, "rows columns"] | None:
    """All rows of some tensors, thinned out."""
    if not values:
        return None
    rows = torch.cat([value.detach().double().reshape(-1, value.shape[-1]) for value in values])
    step = max(1, len(rows) // MOST_ROWS)
    array: Float[np.ndarray, "rows columns"] = rows[::step].numpy()
    return array


def _kept(
    draft: Draft, chain: Chain, found: ReducedUnits
) -> tuple[list[Node], dict[str, Tensor], dict[str, ValueType]]:
    """The first layer with the units that are left, and the activation behind it; their weights and types."""
    dense = chain.layers[0]
    names = [dense.target, *(node.id for node in chain.between)]
    fresh = {name: _fresh(draft, f"{name}_kept") for name in names}
    hidden = replaced(draft, dense, found.hidden, KEPT)
    nodes = [hidden.nodes[0].with_changes(outputs=(fresh[dense.target],))]
    for node in chain.between:
        nodes.append(node.with_changes(outputs=(fresh[node.id],), args=(Ref(fresh[dense.target]), *node.args[1:])))
    types = {fresh[name]: _narrowed(draft.values[name], len(found.kept)) for name in names if name in draft.values}
    return nodes, dict(hidden.weights), types


def _reduced(draft: Draft, pair: Chain, found: ReducedUnits) -> Draft:
    """Two layers with fewer units between them."""
    before, after = pair.layers
    nodes, weights, types = _kept(draft, pair, found)
    readout = replaced(draft, after, found.readout, KEPT)
    nodes.append(Node((after.target,), "linear", (Ref(nodes[-1].id), *readout.nodes[0].args[1:])))
    rewrite = Rewrite(tuple(nodes), {**weights, **readout.weights}, _units_text(before, found), "units")
    names = (before.target, *(node.id for node in pair.between), after.target)
    return draft.rewritten(names, rewrite, values={**draft.values, **types})


def _spread(draft: Draft, end: Chain, found: ReducedUnits) -> Draft:
    """A layer with fewer units, whose values are put where all of them were: copied, multiplied, or a constant."""
    (dense,) = end.layers
    nodes, weights, types = _kept(draft, end, found)
    writer = Writer(taken=draft.taken() | {node.id for node in nodes}, nodes=nodes)
    still = ~found.readout.weight.any(axis=1)
    places = np.where(still, len(found.kept), np.abs(found.readout.weight).argmax(axis=1))
    value = writer.node("pad", Ref(nodes[-1].id), (0, 1)) if still.any() else Ref(nodes[-1].id)

    def stored(array: np.ndarray, suffix: str, dtype: torch.dtype) -> Weight:
        tensor = torch.from_numpy(array).to(dtype)
        name = draft.weight_name(f"{dense.weight_name}{suffix}", tensor)
        weights[name] = tensor
        return Weight(name)

    narrow = torch.uint8 if len(found.kept) < UINT8 else torch.int32
    value = writer.node("take", value, writer.node("cast", stored(places, ".units", narrow), "int64"), -1)
    factors = np.where(still, 1.0, found.readout.weight.sum(axis=1))
    if (factors != 1).any():
        value = writer.node("mul", value, stored(factors, ".factors", dense.dtype))
    if found.readout.bias.any():
        value = writer.node("add", value, stored(found.readout.bias, ".constants", dense.dtype))
    names = (dense.target, *(node.id for node in end.between))
    *most, last = writer.nodes
    nodes = [*most, last.with_changes(outputs=(names[-1],))]
    rewrite = Rewrite(tuple(nodes), weights, _units_text(dense, found), "units")
    return draft.rewritten(names, rewrite, values={**draft.values, **types})


def _fresh(draft: Draft, name: str) -> str:
    taken = draft.taken()
    return next(option for i in range(len(taken) + 1) if (option := f"{name}_{i}" if i else name) not in taken)


def _narrowed(kind: ValueType, size: int) -> ValueType:
    return ValueType(kind.dtype, (*kind.axes[:-1], size))


def _units_text(hidden: Dense, found: ReducedUnits) -> str:
    still = [unit for unit in found.constant if unit not in found.dead]
    kinds = (("dead", found.dead), ("constant", still), ("unread", found.unread), ("duplicate", found.duplicates))
    parts = [f"{len(units)} {word}" for word, units in kinds if units]
    seen = "" if found.proved else " on the inputs seen"
    total = len(hidden.weight)
    return f"{total - len(found.kept)} of {total} units dropped: {', '.join(parts)}{seen}"
