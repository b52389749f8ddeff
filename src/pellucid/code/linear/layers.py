"""Dense layers as methods of the search: matrices in shorter forms, scales taken out, idle units dropped.

1. `MATRICES`: each matrix of a function in its shortest form (`linear.matrices`). One that is read elsewhere is
   left alone unless it is a matrix there too, as it would have to be kept all the same.
2. `LOW_RANK`: likewise, products of two narrow matrices too. These come only near the matrix, which a network that
   enlarges small differences may not bear.
3. `SCALES`: chains of dense layers are rescaled to whole numbers and fractions, then 1.
4. `UNITS`: units that say nothing of their own are dropped (`linear.idle`), then 3 and 2.

A function that calls others is read as one body with them by 3 and 4, if that is small, the finding lies between two of
them, and it saves a good deal; what lies within one of them is left to its own turn, so that the hierarchy stays.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Literal, cast

import numpy as np

from pellucid.code.linear.dense import (
    ACTIVATIONS,
    FRACTIONS,
    KEPT,
    Chain,
    Dense,
    are_apart,
    chains,
    dense_layers,
    is_own,
    layer_of,
    pairs,
    replaced,
    weight_readers,
)
from pellucid.code.linear.idle import without_idle_units
from pellucid.code.linear.layer import Layer
from pellucid.code.linear.matrices import EXACT, FACTORS, MOST_ENTRIES, Form, shortest_form
from pellucid.code.linear.rational import Rescaled, rescale_to_fractions
from pellucid.code.linear.rewriting import Draft, Rewrite, exact_draft
from pellucid.code.propose import Candidate, Method, Part
from pellucid.errors import BadInput, CannotRun
from pellucid.ir.graph import Weight, calls_made
from pellucid.ir.program import Program

MOST_NODES = 64
"""A function and those it calls are read as one body up to so many nodes."""

OWN_NODES = 4096
"""Larger bodies are not read."""

TOLERANCE = 2e-6
"""How far a number may be off a fraction, as a share of the largest weight of its unit."""

WORTH = 1 / 3
"""Functions are merged to drop units between them only where that saves such a share of all their bits."""


def _proposing(
    passes: Callable[[Draft, Part, float], Draft | str], alone: bool = False, worth: float = 0.0
) -> Callable[[Part, float], Candidate | str]:
    """A method that drafts the function, runs `passes`, and proposes what has come of it.

    It leaves functions that call others `alone`, or merges them where that saves a `worth` of all bits.
    """

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
        if isinstance(outcome, str):
            return outcome
        candidate = outcome.candidate(part.program)
        saved = 1 - candidate.reading.bits / part.program.exact_bits(part.function.name)
        if calls and saved < worth:
            return (
                f"{candidate.reading.summary}: saves {max(saved, 0.0):.0%}, too little to merge {len(calls)} functions"
            )
        return candidate

    return propose


def _matrices(draft: Draft, part: Part, deadline: float) -> Draft | str:
    layers = dense_layers(draft)
    found, left = in_short_forms(draft, part.program, EXACT, deadline)
    if found.done:
        return found
    some = "the matrix is not" if len(layers) == 1 else f"none of {len(layers)} matrices is"
    return f"{some} shorter in another form{left}"


def _factors(draft: Draft, part: Part, deadline: float) -> Draft | str:
    narrow = in_short_forms(draft, part.program, FACTORS, deadline)[0]
    if not narrow.done:
        return ""
    return in_short_forms(draft, part.program, (*EXACT, *FACTORS), deadline)[0]


def _scales(draft: Draft, part: Part, deadline: float) -> Draft | str:
    found = in_fractions(draft, part.program)
    return in_short_forms(found, part.program, EXACT, deadline)[0] if found.done else ""


def _units(draft: Draft, part: Part, deadline: float) -> Draft | str:
    found = without_idle_units(draft, part)
    if not found.done:
        return "no idle unit" if pairs(draft, ACTIVATIONS) else ""
    found = in_fractions(found, part.program)
    return in_short_forms(found, part.program, (*EXACT, *FACTORS), deadline)[0]


MATRICES = Method("matrices", _proposing(_matrices, alone=True))
LOW_RANK = Method("low rank", _proposing(_factors, alone=True))
SCALES = Method("scales", _proposing(_scales))
UNITS = Method("units", _proposing(_units, worth=WORTH))


# ---- each matrix


def in_short_forms(draft: Draft, program: Program, forms: Sequence[Form], deadline: float) -> tuple[Draft, str]:
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
            form = shortest_form(draft, dense, forms)
            if form is not None and _free(program, dense, draft):
                draft = draft.rewritten((dense.node.id,), _labelled(form, dense, many))
    left = f"; {large} of more than {MOST_ENTRIES:,} entries not looked at" if large else ""
    return draft, left + (f"; {late} not looked at for lack of time" if late else "")


def _labelled(form: Rewrite, dense: Dense, many: bool) -> Rewrite:
    path = dense.weight_name.removesuffix(FRACTIONS).removesuffix(KEPT).removesuffix(".weight")
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


# ---- scales


def in_fractions(draft: Draft, program: Program) -> Draft:
    """The draft with each chain of layers in fractions where it can be rescaled to them."""
    for chain in chains(draft, ("relu",)):
        if not are_apart(draft, chain.layers) or any(dense.entries > MOST_ENTRIES for dense in chain.layers):
            continue
        activation = cast(Literal["relu", "identity"], chain.activation)
        found = rescale_to_fractions(
            [layer_of(dense) for dense in chain.layers], activation=activation, tolerance=TOLERANCE
        )
        if found is None or not all(is_own(program, dense) for dense in chain.layers):
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
                draft = draft.rewritten((dense.node.id,), replaced(draft, dense, layer, ".scaled"))
            continue
        rewrite = dataclasses.replace(replaced(draft, dense, layer.layer(), FRACTIONS), summary=said[0], method=said[1])
        said = ("", "")
        name = cast(Weight, rewrite.nodes[0].args[1]).name
        draft = draft.rewritten((dense.node.id,), rewrite, fractions={**draft.fractions, name: layer})
    return draft
