"""Readings of several parts that are found together, because the parts speak to each other in the same variables.

A reading of the whole says what a network computes; readings of its parts say how. Where every part that the whole
calls could be read, the program runs by its parts, and the reading of the whole is kept beside it, not chosen. That
the network decides the same with each part in place, and with all that are chosen, is what the finder promises and the
judge checks; a reading that holds only by itself stands beside the weights.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pellucid.code.propose import Calls, Candidate
from pellucid.ir.graph import calls_made, weights_read
from pellucid.ir.notes import Attempt
from pellucid.ir.program import Program

LATE = "not tried: the time for the search was used up"


@dataclass(frozen=True)
class Together:
    """A way to read parts together. `propose(program, calls, seconds)` returns candidates by the name of the function,
    or a text that says why there are none ("" where there is nothing to say)."""

    name: str
    propose: Callable[[Program, Calls, float], Mapping[str, Candidate] | str]


def find_together(program: Program, calls: Calls, ways: Sequence[Together], budget: float = 60.0) -> Program:
    """The program with the readings of parts that `ways` find, each where it is shorter than the one that is there."""
    trail: list[Attempt] = []
    deadline = time.monotonic() + budget
    for way in ways:
        left = deadline - time.monotonic()
        proposed = way.propose(program, calls, left) if left > 0 else LATE
        if isinstance(proposed, str):
            if proposed:
                trail.append(Attempt(program.entry, way.name, proposed))
            continue
        for name, candidate in proposed.items():
            bits, limit = candidate.reading.bits, program[name].reading().bits
            if bits >= limit:
                trail.append(Attempt(name, way.name, f"held back: {bits:,.0f} bits are no shorter than {limit:,.0f}"))
                continue
            beside = f"; kept beside the weights: {candidate.against}" if candidate.against else ""
            trail.append(Attempt(name, way.name, candidate.reading.summary + beside))
            function = program[name].with_reading(candidate.reading, not candidate.against)
            program = program.with_function(function, candidate.weights)
        program = _run_by_parts(program, proposed)
    return program.with_notes(trail=(*program.notes.trail, *trail))


def _run_by_parts(program: Program, found: Mapping[str, Candidate]) -> Program:
    """The program with the exact body of its entry chosen, where all that this calls is read as code."""
    entry = program[program.entry]
    called = calls_made(entry.reading("weights").body)
    if not called or not set(found) or not all(_is_told(program, name) for name in called):
        return program
    summary = entry.reading("code").summary if entry.chosen == "code" else ""
    remark = (f"as a whole, {summary}; run --reading code for that",) if summary else ()
    program = program.with_function(dataclasses.replace(entry, chosen="weights"))
    return program.with_notes(remarks=(*program.notes.remarks, *remark))


def _is_told(program: Program, name: str) -> bool:
    """Whether a function runs as code, or reads no weights and calls only such functions."""
    body = program[name].reading("weights").body
    if program[name].chosen == "code":
        return True
    below = calls_made(body)
    return bool(below) and not weights_read(body) and all(_is_told(program, child) for child in below)
