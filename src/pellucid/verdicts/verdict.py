"""How a verdict is put together from what was seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pellucid.data import Inputs
from pellucid.ir.notes import Verdict
from pellucid.verdicts.measure import Claim, Share, value_of
from pellucid.verdicts.parts import Tally

WHOLE = "program"
"""The part that a verdict on the whole program names."""

Certainty = Literal["proved", "sampled"]


def certainty(inputs: Inputs, complete: bool) -> Certainty:
    """Whether a verdict on `inputs` is a proof: they are a whole finite domain, and every call was compared."""
    return "proved" if inputs.kind == "domain" and complete else "sampled"


def verdict(
    part: str, reading: str, claim: Claim, tally: Tally, kind: Certainty, sound: bool, details: Sequence[str]
) -> Verdict:
    """The verdict on one reading; it passes if the claim is met, all else was `sound`, and the control failed."""
    if tally.error or tally.score is None:
        return failed(part, reading, claim, tally.error or "it was never called on these inputs")
    example = tally.score.example if isinstance(tally.score, Share) else ""
    controlled = tally.control is not None and tally.control.failed
    how = f"control: {tally.control.how}" if tally.control else "no control"
    return Verdict(
        part=part,
        reading=_kind_of(reading),
        measure=claim.title,
        value=value_of(tally.score),
        unit=claim.unit,
        interval=tally.score.interval,
        inputs=tally.score.samples,
        kind=kind,
        control=tally.control.value if tally.control else float("nan"),
        passed=claim.met(tally.score) and sound and controlled,
        bar=claim.bar,
        detail="; ".join(text for text in (example, *details, how) if text),
    )


def failed(part: str, reading: str, claim: Claim, cause: str, measure: str = "") -> Verdict:
    """The verdict on what could not be compared at all."""
    worst = float("inf") if claim.measure == "difference" else 0.0
    return Verdict(
        part=part,
        reading=_kind_of(reading),
        measure=measure or claim.title,
        value=worst,
        unit=claim.unit,
        interval=(worst, worst),
        inputs=0,
        kind="sampled",
        control=worst,
        passed=False,
        bar=claim.bar,
        detail=cause,
    )


def _kind_of(reading: str) -> Any:
    """The mixture that the chosen readings are counts as code."""
    return "code" if reading == "chosen" else reading
