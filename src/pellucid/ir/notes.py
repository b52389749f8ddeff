"""Facts about the parts of a program, in side tables keyed by the part's name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

ReadingKind = Literal["weights", "code", "words"]


@dataclass(frozen=True)
class Verdict:
    """What a substitution showed.

    Attributes:
        part: name of the function that was replaced by its emitted reading, or "program" for the whole.
        reading: the reading that ran.
        measure: what was measured, for example "max relative difference" or "match".
        value: the measured value, in `unit`.
        interval: (low, high): exact extremes for a maximum, a 95% interval for a share.
        inputs: how many samples it was measured on.
        kind: "proved" when these are all inputs of a finite domain, else "sampled".
        control: the same measure for a substitution that must fail (see `pellucid.verdicts.controls`).
        passed: whether the value met `bar`, and the control did not.
        bar: what `value` had to meet, as text.
        detail: where and how network and program part, when they do.
    """

    part: str
    reading: ReadingKind
    measure: str
    value: float
    unit: str
    interval: tuple[float, float]
    inputs: int
    kind: Literal["proved", "sampled"]
    control: float
    passed: bool
    bar: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Attempt:
    """One entry of the trail: a reading that was tried on a part, and what came of it, without times."""

    part: str
    method: str
    outcome: str


PARAMETERS = "parameters of the network, zeros too"
"""The module measure that says how many parameters there were before those that nothing needs were left out."""


@dataclass(frozen=True)
class ModuleMeasure:
    """A measure of the modules that a program is built on.

    Attributes:
        measure: what was measured.
        value: of the modules.
        random: of random modules of equal sizes; nan where there is nothing to compare.
        unit: "share" for one from 0 to 1.
    """

    measure: str
    value: float
    random: float = float("nan")
    unit: str = ""


@dataclass(frozen=True)
class Notes:
    """Side tables of a program: verdicts, trail of readings tried, one-line descriptions, measured shares of loss."""

    verdicts: tuple[Verdict, ...] = ()
    trail: tuple[Attempt, ...] = ()
    descriptions: Mapping[str, str] = field(default_factory=dict)
    loss_shares: Mapping[str, float] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    """What the reader has to know about the whole, for example what the tracer could not keep general."""
    modules: tuple[ModuleMeasure, ...] = ()
    """What the modules that the program is built on are worth; empty where it follows the network's own nesting."""
