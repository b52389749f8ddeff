"""Two decompiled networks side by side: what modules bought, or what else differs, as one table.

Both come out of the same pipeline, so that each line counts the same thing twice.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from itertools import chain

from pellucid.ir.graph import weights_read
from pellucid.ir.notes import PARAMETERS, ModuleMeasure
from pellucid.ir.program import Program
from pellucid.ir.regions import NO_JOINT
from pellucid.reports.page import render, write_page
from pellucid.reports.summary import NAMELESS, bits, program_bits
from pellucid.reports.wording import NONE, amount, count, number, percent


@dataclass(frozen=True)
class Compared:
    """One line of a comparison: what is counted, its value in each of two programs, and what the line is about."""

    measure: str
    one: str
    other: str
    group: str = ""


def compare(one: Program, other: Program) -> tuple[Compared, ...]:
    """The lines of two programs side by side: functions, interfaces, bits of code, share still weights, verdicts."""
    columns = [_facts(program) for program in (one, other)]
    first, second = columns
    names = [dict.fromkeys((group, name) for column in columns for name in column[group]) for group in first]
    return tuple(
        Compared(name, first[group].get(name, NONE), second[group].get(name, NONE), group)
        for group, name in chain.from_iterable(names)
    )


def comparison(one: Program, other: Program) -> str:
    """The comparison as one self-contained HTML page."""
    jointless = [named(program) for program in (one, other) if NO_JOINT in _origin(program)]
    return render("beside.html.j2", one=named(one), other=named(other), lines=compare(one, other), jointless=jointless)


def named(program: Program) -> str:
    """What a program is called where two stand beside each other."""
    return program.source or NAMELESS


def write_comparison(one: Program, other: Program, path: str | os.PathLike[str]) -> None:
    """Write the page, all of it or nothing. Raises BadInput when the file cannot be written."""
    write_page(comparison(one, other), path)


def _facts(program: Program) -> dict[str, dict[str, str]]:
    """What stands in a program's column, by what it is about."""
    ledger, notes = program.ledger, program.notes
    before, after = program_bits(program, "weights"), program_bits(program, None)
    passed = sum(verdict.passed for verdict in notes.verdicts)
    measured = {one.measure: beside_random(one) for one in notes.modules if one.value == one.value}
    built = {
        "hierarchy from": _origin(program) or NONE,
        "functions": count(len(program.functions)),
        "of these run as code or words": count(sum(f.chosen != "weights" for f in program.functions.values())),
        "largest function, parameters of its own": count(largest_function(program)),
        **{name: measured.pop(name) for name in (PARAMETERS,) if name in measured},
        "parameters in the program": count(ledger.parameter_count),
        "still weights, share of these": percent(ledger.share("weights")),
        "length when all runs as weights": bits(before),
        "length as it runs": bits(after),
    }
    checked = {"passed": f"{passed} of {len(notes.verdicts)}"}
    whole = [verdict for verdict in notes.verdicts if verdict.part in ("program", program.entry)]
    checked |= {f"whole, by {v.reading}: {v.measure}": f"{number(v.value)} {v.unit}".rstrip() for v in whole}
    checked |= {f"loss recovered by {kind} alone": percent(share) for kind, share in notes.loss_shares.items()}
    return {"Program": built, "Modules": measured, "Verdicts": checked}


def _origin(program: Program) -> str:
    return program.regions.origin if program.regions is not None else ""


def largest_function(program: Program) -> int:
    """Parameters in the largest function that runs: what has to be read at once."""
    sizes = [
        sum(math.prod(program.weights[name].shape) for name in weights_read(function.reading().body))
        for function in program.functions.values()
    ]
    return max(sizes, default=0)


def beside_random(one: ModuleMeasure) -> str:
    """A measure of modules with that of random ones after it."""
    random = f" (random {amount(one.random, one.unit)})" if one.random == one.random else ""
    unit = f" {one.unit}" if one.unit not in ("", "share") else ""
    return f"{amount(one.value, one.unit)}{unit}{random}"
