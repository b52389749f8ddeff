"""The state reading as a method of the search: recurrent networks over integers become loops over named state.

The function is queried from outside (`recurrent.state`): it does not matter how the network keeps its state. It has
to be causal, with one input [batch, time, channels] of integers and one output [batch, time, channels].
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from jaxtyping import Float

from pellucid.code.propose import Candidate, Method, Part
from pellucid.code.recurrent.agreement import SequenceFunction
from pellucid.code.recurrent.state import StateOptions, StateReading, read_state
from pellucid.code.recurrent.writing import block_of
from pellucid.errors import BadInput, InvalidProgram
from pellucid.ir.bits import code_bits
from pellucid.ir.program import Reading

SEQUENCE_AXES = 3


def propose_state(part: Part, seconds: float) -> Candidate | str:
    """A loop in whole numbers that puts out what the network's outputs round to, or why there is none."""
    examples = _sequences(part)
    if examples is None:
        return ""
    try:
        found = read_state(_function(part), examples, StateOptions(budget=seconds))
    except BadInput as error:
        return str(error)
    if found.program is None:
        return "; ".join(f"{tried}: {outcome}" for tried, outcome in found.trail)
    (source,), (target,) = part.function.inputs, part.function.outputs
    try:
        body = block_of(found.program, source, target)
    except InvalidProgram as error:
        return str(error)
    return Candidate(Reading("code", body, found.kind, code_bits(body), _summary(found), "rounded", 0.0))


STATE = Method("state", propose_state)


def _sequences(part: Part) -> Float[np.ndarray, "batch time channels"] | None:
    """Sequences of the commonest length that went into the function, if it maps sequences to sequences."""
    if len(part.function.inputs) != 1 or len(part.function.outputs) != 1:
        return None
    pairs = [(call[0], made[0]) for call, made in zip(part.inputs, part.outputs, strict=True)]
    if any(x.ndim != SEQUENCE_AXES or y.ndim != SEQUENCE_AXES or x.shape[:2] != y.shape[:2] for x, y in pairs):
        return None
    length = Counter(x.shape[1] for x, _ in pairs for _ in range(x.shape[0])).most_common(1)[0][0]
    return torch.cat([x for x, _ in pairs if x.shape[1] == length]).double().numpy()


def _function(part: Part) -> SequenceFunction:
    dtype = part.inputs[0][0].dtype

    def run(x: Float[np.ndarray, "batch time d_in"]) -> Float[np.ndarray, "batch time d_out"]:
        outputs: np.ndarray = part.run((torch.tensor(x, dtype=dtype),))[0].double().numpy()
        return outputs

    return run


def _summary(found: StateReading) -> str:
    drift, every = found.drift, found.every
    assert drift is not None
    text = f"equals the rounded network up to length {drift.agree_up_to}"
    text += (
        f" of {drift.limit} tried" if drift.agree_up_to == drift.limit else f", then they part ({drift.limit} tried)"
    )
    if every is not None and not every.mismatches:
        text += f"; on all {every.sequences:,} sequences of length {every.length}"
    return text
