"""What went wrong, what is missing, and what the verdicts show together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pellucid.ir.graph import Block
from pellucid.ir.notes import Verdict
from pellucid.ir.program import Program
from pellucid.reports.tree import Cell
from pellucid.reports.wording import number, plural, span

WHOLE = "program"
_LINKED = 6


@dataclass(frozen=True)
class Finding:
    """One thing a reader has to know first: the parts it is about, what it is, and why."""

    parts: tuple[str, ...]
    title: str
    cause: str


@dataclass(frozen=True)
class Point:
    """One value on a strip: its place from 0 to 1, what it is, and whether it is a value that passed or failed."""

    place: float
    label: str
    passed: bool


@dataclass(frozen=True)
class Strip:
    """All verdicts of one measure: how many, of what kind, and where values and controls lie on one axis.

    Attributes:
        ticks: (place, text) of the marks of the axis.
        logarithmic: whether equal steps of the axis are equal factors.
    """

    measure: str
    unit: str
    total: int
    failed: int
    proved: int
    inputs: str
    values: str
    controls: str
    points: tuple[Point, ...]
    control_points: tuple[Point, ...]
    ticks: tuple[tuple[float, str], ...]
    logarithmic: bool


def failures(verdicts: Sequence[Verdict]) -> tuple[Finding, ...]:
    """One finding for each verdict that did not pass, in order."""
    return tuple(
        Finding((verdict.part,), f"{verdict.reading} reading failed: {_outcome(verdict)}", verdict.detail)
        for verdict in verdicts
        if not verdict.passed
    )


def _outcome(verdict: Verdict) -> str:
    bar = f", needed {verdict.bar}" if verdict.bar else ""
    unit = f" {verdict.unit}" if verdict.unit else ""
    return f"{verdict.measure} {number(verdict.value)}{unit}{bar} (control {control_shown(verdict)})"


def control_shown(verdict: Verdict) -> str:
    """The control's value, "none" where there was no control."""
    return "none" if math.isnan(verdict.control) else number(verdict.control)


def missing(program: Program, verdicts: Sequence[Verdict], cells: Mapping[str, Cell]) -> tuple[Finding, ...]:
    """What was claimed or needed and not checked."""
    judged = {(program.entry if v.part == WHOLE else v.part, v.reading) for v in verdicts}
    found: list[Finding] = []
    if not verdicts:
        found.append(Finding((), "Nothing was verified", "there is no verdict at all: run pellucid verify"))
    elif all(verdict.part != WHOLE for verdict in verdicts):
        found.append(Finding((), "The whole program was not verified", "verdicts exist for single parts only"))
    unjudged = tuple(
        name
        for name, function in program.functions.items()
        if function.chosen != "weights" and cells[name].called and (name, function.chosen) not in judged
    )
    if unjudged and verdicts:
        title = f"{plural(len(unjudged), 'part')} run{'s' * (len(unjudged) == 1)} by a reading that has no verdict"
        found.append(Finding(unjudged, title, "a reading counts only once it was put into the network and run"))
    unknown = tuple(dict.fromkeys(v.part for v in verdicts if v.part not in program.functions and v.part != WHOLE))
    if unknown:
        title = f"{plural(len(unknown), 'judged part')} not in this program"
        found.append(Finding(unknown, title, "program and verdicts come from different runs"))
    return tuple(found)


def broken_weights(broken: Mapping[str, int]) -> tuple[Finding, ...]:
    """A finding for each function that reads weights that are not finite."""
    return tuple(
        Finding((name,), f"{plural(amount, 'weight')} not finite", "NaN or infinite values in its tensors")
        for name, amount in broken.items()
    )


def opaque_operations(program: Program) -> tuple[str, ...]:
    """Names of the operations nobody recognised, each once; they run as they are by torch."""
    return tuple(
        sorted(
            {
                op
                for function in program.functions.values()
                for op in _operations(function.reading().body)
                if op.startswith("aten.")
            }
        )
    )


def _operations(block: Block) -> list[str]:
    return [op for node in block.nodes for op in (node.op, *(_operations(node.body) if node.body else ()))]


def strips(verdicts: Sequence[Verdict]) -> tuple[Strip, ...]:
    """The verdicts by measure and unit, in order of first use."""
    groups: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in verdicts:
        groups.setdefault((verdict.measure, verdict.unit), []).append(verdict)
    return tuple(_strip(measure, unit, group) for (measure, unit), group in groups.items())


def _strip(measure: str, unit: str, group: Sequence[Verdict]) -> Strip:
    values, controls = [v.value for v in group], [v.control for v in group]
    axis = _Axis.over([*values, *controls])
    return Strip(
        measure=measure,
        unit=unit,
        total=len(group),
        failed=sum(not v.passed for v in group),
        proved=sum(v.kind == "proved" for v in group),
        inputs=span([float(v.inputs) for v in group]),
        values=span(values),
        controls=span(controls),
        points=_points(axis, [(v.value, v) for v in group]),
        control_points=_points(axis, [(v.control, v) for v in group]),
        ticks=axis.ticks(),
        logarithmic=axis.logarithmic,
    )


def _points(axis: _Axis, placed: Sequence[tuple[float, Verdict]]) -> tuple[Point, ...]:
    bins: dict[tuple[float, bool], list[tuple[float, Verdict]]] = {}
    for value, verdict in placed:
        if math.isfinite(value):
            bins.setdefault((round(axis.place(value), 3), verdict.passed), []).append((value, verdict))
    points = []
    for (place, passed), members in sorted(bins.items(), key=lambda item: (item[0][0], not item[0][1])):
        names = ", ".join(verdict.part[:60] for _, verdict in members[:_LINKED])
        more = f" and {len(members) - _LINKED} more" if len(members) > _LINKED else ""
        points.append(Point(place, f"{names}{more}: {number(members[0][0])}", passed))
    return tuple(points)


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    logarithmic: bool
    zero: bool

    @staticmethod
    def over(values: Sequence[float]) -> _Axis:
        known = [value for value in values if math.isfinite(value)]
        positive = [value for value in known if value > 0]
        if positive and min(known) >= 0 and max(positive) > 100 * min(positive):
            least, most = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
            return _Axis(least, max(most, least + 1), True, 0.0 in known)
        low, high = min([0.0, *known]), max([0.0, *known])
        high = max(1.0, high) if high > 0.1 else high
        return _Axis(low, high if high / 2 - low / 2 > 1e-300 else low + 1.0, False, False)

    def place(self, value: float) -> float:
        """Where a value lies, from 0 to 1; on a logarithmic axis zero has the left end for itself."""
        if not self.logarithmic:
            return (value / 2 - self.low / 2) / (self.high / 2 - self.low / 2)
        left = 0.08 if self.zero else 0.0
        return left + (1 - left) * (math.log10(value) - self.low) / (self.high - self.low) if value > 0 else 0.0

    def ticks(self) -> tuple[tuple[float, str], ...]:
        """Round marks of the axis."""
        if not self.logarithmic:
            return tuple((i / 4, number(self.low * (4 - i) / 4 + self.high * i / 4)) for i in range(5))
        step = max(1, math.ceil((self.high - self.low) / 6))
        powers = range(int(self.low), int(self.high) + 1, step)
        return (*([(0.0, "0")] if self.zero else []), *((self.place(10.0**power), _power(power)) for power in powers))


def _power(exponent: int) -> str:
    return f"{10.0**exponent:g}" if abs(exponent) <= 3 else number(10.0**exponent)
