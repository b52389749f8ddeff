"""Dense layers as methods of the search: matrices in shorter forms, scales taken out, idle units dropped.

1. `MATRICES`: each matrix of a function in its shortest form (`pellucid.code.matrices`). One that is read elsewhere is
   left alone unless it is a matrix there too, as it would have to be kept all the same.
2. `SCALES`: chains of dense layers are rescaled to whole numbers and fractions, then 1.
3. `UNITS`: hidden units that say nothing of their own are dropped, then 2.

A function that calls others is read as one body with them by 2 and 3, if that is small and the finding lies between two
of them; what lies within one of them is left to its own turn, so that the hierarchy stays.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Literal, cast

import numpy as np
import torch
from jaxtyping import Float, Shaped

from pellucid.code.layer import Layer
from pellucid.code.matrices import MOST_ENTRIES, shortest_form
from pellucid.code.propose import Candidate, Method, Part
from pellucid.code.rational import Rescaled, rescale_to_fractions
from pellucid.code.rewriting import (
    ACTIVATIONS,
    Chain,
    Dense,
    Draft,
    Rewrite,
    chains,
    dense_layers,
    exact_draft,
    pairs,
    weight_readers,
)
from pellucid.code.units import Activation, Ranges, ReducedUnits, ranges_on, reduce_units
from pellucid.errors import BadInput, CannotRun
from pellucid.ir.graph import Node, Ref, ValueType, Weight, calls_made
from pellucid.ir.interpret import Scope, Values, run_block
from pellucid.ir.program import Program

Tensor = Shaped[torch.Tensor, "..."]

MOST_NODES = 64
"""A function and those it calls are read as one body up to so many nodes."""

OWN_NODES = 4096
"""Larger bodies are not read."""

MOST_UNIT_ENTRIES = 1_000_000
"""Units of larger layers are not compared with each other."""

TOLERANCE = 2e-6
"""How far a number may be off a fraction, or a unit off its duplicate, as a share of the largest in-weight."""

FEWEST_ROWS = 64
"""A unit counts as dead or constant only if it was seen on so many inputs."""

MOST_ROWS = 4096
"""It is looked at on no more than so many."""

MARGIN = 0.25
"""Pre-activations may move so much further, as a share of how far they were seen to move."""


def _proposing(
    passes: Callable[[Draft, Part, float], Draft | str], alone: bool
) -> Callable[[Part, float], Candidate | str]:
    """A method that drafts the function, runs `passes`, and proposes what has come of it."""

    def propose(part: Part, seconds: float) -> Candidate | str:
        deadline = time.monotonic() + seconds
        calls = calls_made(part.function.reading("weights").body)
        if calls and alone:
            return ""
        draft = exact_draft(part.program, part.function.name, MOST_NODES if calls else OWN_NODES)
        if draft is None or not dense_layers(draft):
            return ""
        try:
            outcome = passes(draft, part, deadline)
        except (BadInput, CannotRun) as error:
            return str(error)
        return outcome if isinstance(outcome, str) else outcome.candidate(part.program)

    return propose


def _matrices(draft: Draft, part: Part, deadline: float) -> Draft | str:
    layers = dense_layers(draft)
    found, left = in_short_forms(draft, part.program, deadline)
    if found.done:
        return found
    some = "the matrix is not" if len(layers) == 1 else f"none of {len(layers)} matrices is"
    return f"{some} shorter in another form{left}"


def _scales(draft: Draft, part: Part, deadline: float) -> Draft | str:
    found = in_fractions(draft, part.program)
    return in_short_forms(found, part.program, deadline)[0] if found.done else ""


def _units(draft: Draft, part: Part, deadline: float) -> Draft | str:
    found = without_idle_units(draft, part)
    if not found.done:
        return "no idle unit" if _pairs(draft) else ""
    return in_short_forms(in_fractions(found, part.program), part.program, deadline)[0]


MATRICES = Method("matrices", _proposing(_matrices, alone=True))
SCALES = Method("scales", _proposing(_scales, alone=False))
UNITS = Method("units", _proposing(_units, alone=False))


# ---- each matrix


def in_short_forms(draft: Draft, program: Program, deadline: float) -> tuple[Draft, str]:
    """The draft with each matrix in its shortest form, and what was not looked at, as text."""
    layers = dense_layers(draft)
    many = len(layers) > 1
    large = late = 0
    for dense in layers:
        if dense.entries > MOST_ENTRIES:
            large += 1
        elif time.monotonic() > deadline:
            late += 1
        else:
            form = shortest_form(draft, dense)
            if form is not None and _free(program, dense, draft):
                draft = draft.rewritten((dense.node.id,), _labelled(form, dense, many))
    left = f"; {large} of more than {MOST_ENTRIES:,} entries not looked at" if large else ""
    return draft, left + (f"; {late} not looked at for lack of time" if late else "")


def _labelled(form: Rewrite, dense: Dense, many: bool) -> Rewrite:
    path = dense.weight_name.removesuffix(".whole").removesuffix(".kept").removesuffix(".weight")
    return Rewrite(form.nodes, form.weights, f"{path}: {form.summary}" if many else form.summary, form.method)


def _free(program: Program, dense: Dense, draft: Draft) -> bool:
    """Whether the matrix need not be kept for someone else: its readers all multiply by it, in bodies without calls."""
    readers = weight_readers(program, dense.weight_name)
    if len(readers) < 2:
        return True
    multiplying = all(
        node.op in ("linear", "affine", "matmul") and node.args[1] == Weight(dense.weight_name) for _, node in readers
    )
    return multiplying and not any(calls_made(program[home].reading("weights").body) for home, _ in readers)


def _own(program: Program, dense: Dense) -> bool:
    """Whether nothing else in the program reads the matrix or the bias, so that both may be changed."""
    names = [name for name in (dense.weight_name, dense.bias_name) if name is not None]
    return all(len(weight_readers(program, name)) < 2 for name in names)


def _layer(dense: Dense) -> Layer:
    bias = dense.bias if dense.bias is not None else np.zeros(len(dense.weight), dense.weight.dtype)
    return Layer(dense.weight, bias)


def _apart(draft: Draft, layers: tuple[Dense, ...]) -> bool:
    """Whether the layers are not all in the same called function."""
    homes = {draft.origin.get(dense.node.id, "") for dense in layers}
    return homes == {""} or len(homes) > 1


# ---- scales


def in_fractions(draft: Draft, program: Program) -> Draft:
    """The draft with each chain of layers in fractions where it can be rescaled to them."""
    for chain in chains(draft, ("relu",)):
        if not _apart(draft, chain.layers) or any(dense.entries > MOST_ENTRIES for dense in chain.layers):
            continue
        activation = cast(Literal["relu", "identity"], chain.activation)
        found = rescale_to_fractions(
            [_layer(dense) for dense in chain.layers], activation=activation, tolerance=TOLERANCE
        )
        if found is None or not all(_own(program, dense) for dense in chain.layers):
            continue
        scaled = any((scale != 1).any() for scale in found.scales)
        if scaled or len({draft.origin.get(dense.node.id) for dense in chain.layers}) == 1:
            draft = _rescaled(draft, chain, found, scaled)
    return draft


def _rescaled(draft: Draft, chain: Chain, found: Rescaled, scaled: bool) -> Draft:
    units = sum(len(scale) for scale in found.scales)
    said = (f"the scales of {units} hidden units taken out", "scales") if scaled else ("", "")
    for dense, layer in zip(chain.layers, found.layers, strict=True):
        if isinstance(layer, Layer):
            if not np.array_equal(layer.weight, dense.weight):
                draft = draft.rewritten((dense.node.id,), _replaced(draft, dense, layer, ".scaled"))
            continue
        rewrite = dataclasses.replace(_replaced(draft, dense, layer.layer(), ".whole"), summary=said[0], method=said[1])
        said = ("", "")
        name = cast(Weight, rewrite.nodes[0].args[1]).name
        draft = draft.rewritten((dense.node.id,), rewrite, fractions={**draft.fractions, name: layer})
    return draft


def _replaced(draft: Draft, dense: Dense, layer: Layer, suffix: str) -> Rewrite:
    """The same node with other numbers."""
    weight = torch.from_numpy(np.ascontiguousarray(layer.weight)).to(dense.dtype)
    bias = torch.from_numpy(np.ascontiguousarray(layer.bias)).to(dense.dtype)
    base = dense.bias_name or f"{dense.weight_name}.bias"
    name, bias_name = draft.weight_name(dense.weight_name + suffix, weight), draft.weight_name(base + suffix, bias)
    made = {name: weight, bias_name: bias} if bool(bias.any()) else {name: weight}
    args = (Ref(dense.source), Weight(name), Weight(bias_name) if bool(bias.any()) else None)
    return Rewrite((Node((dense.target,), "linear", args),), made, "", "")


# ---- units


def _pairs(draft: Draft) -> list[Chain]:
    """Two layers and what is between them, small enough to compare their units."""
    return [
        pair
        for pair in pairs(draft, ACTIVATIONS)
        if max(dense.entries for dense in pair.layers) <= MOST_UNIT_ENTRIES and _apart(draft, pair.layers)
    ]


def without_idle_units(draft: Draft, part: Part) -> Draft:
    """The draft without hidden units that are dead, constant, unread or duplicates of others."""
    tried: set[tuple[str, str]] = set()
    while True:
        waiting = (pair for pair in _pairs(draft) if _names(pair) not in tried)
        pair = next((pair for pair in waiting if all(_own(part.program, dense) for dense in pair.layers)), None)
        if pair is None:
            return draft
        tried.add(_names(pair))
        hidden, readout = (_layer(dense) for dense in pair.layers)
        found = reduce_units(
            hidden,
            readout,
            activation=cast(Activation, pair.activation),
            tolerance=TOLERANCE,
            ranges=_ranges(draft, part, pair.layers[0], hidden),
        )
        if found is not None and len(found.kept):
            draft = _reduced(draft, pair, found)


def _names(pair: Chain) -> tuple[str, str]:
    return pair.layers[0].node.id, pair.layers[1].node.id


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
    if rows is None or len(rows) < FEWEST_ROWS:
        return None
    ranges = ranges_on(layer, rows)
    if ranges is None:
        return None
    margin = MARGIN * (ranges.high - ranges.low)
    return Ranges(ranges.low - margin, ranges.high + margin, proved=False)


def _rows(values: list[Tensor]) -> Float[np.ndarray, "rows columns"] | None:
    """All rows of some tensors, thinned out."""
    if not values:
        return None
    rows = torch.cat([value.detach().double().reshape(-1, value.shape[-1]) for value in values])
    step = max(1, len(rows) // MOST_ROWS)
    array: Float[np.ndarray, "rows columns"] = rows[::step].numpy()
    return array


def _reduced(draft: Draft, pair: Chain, found: ReducedUnits) -> Draft:
    before, after = pair.layers
    names = [before.target, *(node.id for node in pair.between)]
    fresh = {name: _fresh(draft, f"{name}_kept") for name in names}
    hidden = _replaced(draft, before, found.hidden, ".kept")
    readout = _replaced(draft, after, found.readout, ".kept")
    nodes = [hidden.nodes[0].with_changes(outputs=(fresh[before.target],))]
    for node in pair.between:
        nodes.append(node.with_changes(outputs=(fresh[node.id],), args=(Ref(fresh[before.target]), *node.args[1:])))
    (weight, *bias) = readout.nodes[0].args[1:]
    nodes.append(Node((after.target,), "linear", (Ref(fresh[names[-1]]), weight, *bias)))
    kept = len(found.kept)
    types = {fresh[name]: _narrowed(draft.values[name], kept) for name in names if name in draft.values}
    rewrite = Rewrite(tuple(nodes), {**hidden.weights, **readout.weights}, _units_text(before, found), "units")
    return draft.rewritten((*names, after.target), rewrite, values={**draft.values, **types})


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
    return f"{total - len(found.kept)} of {total} hidden units dropped: {', '.join(parts)}{seen}"
