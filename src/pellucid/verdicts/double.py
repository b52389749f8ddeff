"""The comparison in double precision, where no rounding of single precision hides a small fault.

Exact functions run on fresh inputs, beside the judge's own program. Other readings run on inputs to verify, beside what
program.json says of them: so a fault of the printed file is seen even where the reading's budget would allow it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pellucid.errors import CannotRun
from pellucid.ir.interpret import Scope, Values, run_block, run_functions
from pellucid.ir.program import Program
from pellucid.verdicts.measure import Gap, gap
from pellucid.verdicts.process import Emitted
from pellucid.verdicts.reference import double_precision, why_not_widened, widened

DOUBLE_BAR = 1e-10
"""Largest relative difference of two programs that compute the same in double precision."""


@dataclass(frozen=True)
class Double:
    """Gaps in double precision by (function, reading), and why there is none for the others."""

    gaps: Mapping[tuple[str, str], Gap] = field(default_factory=dict)
    skipped: Mapping[tuple[str, str], str] = field(default_factory=dict)
    reason: str = ""

    def passes(self, name: str, reading: str) -> bool:
        """Whether the reading met the bar, or could not be compared."""
        found = self.gaps.get((name, reading))
        return found is None or found.relative <= DOUBLE_BAR

    def compared(self, name: str) -> bool:
        """Whether the exact reading was compared."""
        return (name, "weights") in self.gaps

    def detail(self, name: str, reading: str) -> str:
        """The result in words."""
        found = self.gaps.get((name, reading))
        if found is None:
            why = self.skipped.get((name, reading), self.reason) or "it did not run on these inputs"
            return f"not compared in double precision: {why}"
        kind = "" if found.relative <= DOUBLE_BAR else f", more than {DOUBLE_BAR:g}"
        return f"in double precision {found.relative:.1e}{kind}"


def compare_in_double(
    emitted: Emitted, reference: Program, program: Program, fresh: Sequence[Any], verify: Sequence[Any]
) -> Double:
    """Compare all readings of a program that runs in double precision; `fresh` and `verify` are inputs, widened."""
    reason = why_not_widened(reference) or why_not_widened(program)
    if reason:
        return Double(reason=reason)
    gaps: dict[tuple[str, str], Gap] = {}
    skipped: dict[tuple[str, str], str] = {}
    try:
        with double_precision():
            wide = widened(reference)
            try:
                _exact(wide, emitted, fresh, gaps, skipped)
            except CannotRun:  # the network itself does not take them
                _exact(wide, emitted, verify, gaps, skipped)
            _others(wide, widened(program), emitted, verify, gaps, skipped)
    except CannotRun as error:
        return Double(gaps, skipped, str(error))
    return Double(gaps, skipped)


def _exact(
    reference: Program,
    emitted: Emitted,
    values: Sequence[Any],
    gaps: dict[tuple[str, str], Gap],
    skipped: dict[tuple[str, str], str],
) -> None:
    def watch(name: str, inputs: Values, outputs: Values) -> None:
        key = (name, "weights")
        if key in gaps or key in skipped:
            return
        try:
            gaps[key] = gap(emitted.run(name, "weights", inputs), outputs)
        except CannotRun as error:
            skipped[key] = str(error)

    run_functions(reference, values, "weights", watch=watch)


def _others(
    reference: Program,
    program: Program,
    emitted: Emitted,
    values: Sequence[Any],
    gaps: dict[tuple[str, str], Gap],
    skipped: dict[tuple[str, str], str],
) -> None:
    others = {name: [r for r in f.readings if r.kind != "weights"] for name, f in program.functions.items()}
    if not any(others.values()):
        return

    def call(name: str, given: Values) -> Values:
        return run_functions(program, given, start=name)

    def watch(name: str, inputs: Values, outputs: Values) -> None:
        for reading in others.get(name, ()):
            key = (name, reading.kind)
            if key in gaps or key in skipped:
                continue
            try:
                said = run_block(reading.body, inputs, Scope(program.weights, call))
                gaps[key] = gap(emitted.run(name, reading.kind, inputs), said)
            except CannotRun as error:
                skipped[key] = str(error)

    run_functions(reference, values, "weights", watch=watch)
