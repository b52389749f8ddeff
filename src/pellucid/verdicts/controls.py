"""Controls: for every verdict, the same measure on a substitution that must fail.

A measure that also passes a wrong substitution shows nothing. The control feeds the part with the inputs of another
sample: everything exchanged along the batch (along the next axis where there is one sample only). Neighbours in an
enumerated domain are nearly alike, so the order is random, with a fixed seed. A part that does not depend on the sample
has its outputs negated instead, and where they are all zero, raised by one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from pellucid.errors import CannotRun
from pellucid.verdicts.measure import Claim, Gap, Share, Values, value_of

Run: TypeAlias = Callable[[Values], Values]


FEW = 8
"""Up to this many samples each simply takes the place of the next."""


@dataclass(frozen=True)
class Control:
    """What the measure gave for a wrong substitution, and which one that was."""

    value: float
    how: str
    failed: bool


def control(run: Run, claim: Claim, outcome: Callable[[Run], Gap | Share]) -> Control:
    """The first wrong substitution for `run` that fails the claim, else the last that was tried."""
    tried = Control(float("nan"), "no wrong substitution ran", False)
    for how, wrong in (
        ("fed with another sample", lambda values: run(rolled(values))),
        ("outputs negated", lambda values: [_negated(value) for value in run(values)]),
        ("outputs raised by one", lambda values: [_raised(value) for value in run(values)]),
    ):
        try:
            score = outcome(wrong)
        except CannotRun:
            continue
        tried = Control(value_of(score), how, not claim.met(score))
        if tried.failed:
            break
    return tried


def rolled(inputs: Values) -> Values:
    """The inputs, of every tensor the first axis longer than one exchanged; all in the same seeded order."""
    return [_rolled(value) for value in inputs]


def _rolled(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    axis = next((axis for axis, size in enumerate(value.shape) if size > 1), None)
    if axis is None:
        return value
    length = value.shape[axis]
    order = torch.randperm(length, generator=torch.Generator().manual_seed(0)) if length > FEW else torch.arange(length)
    return value.index_select(axis, order.roll(1))


def _negated(value: Any) -> Any:
    value = torch.as_tensor(value)
    return ~value if value.dtype == torch.bool else -value


def _raised(value: Any) -> Any:
    value = torch.as_tensor(value)
    return ~value if value.dtype == torch.bool else value + 1
