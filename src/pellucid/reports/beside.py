"""Two decompiled networks side by side: what modules bought, or what else differs, as one table.

Both come out of the same pipeline, so that each line counts the same thing twice.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from pellucid.ir.notes import ModuleMeasure
from pellucid.ir.program import Program
from pellucid.reports.page import render, write_page
from pellucid.reports.summary import bits, program_bits
from pellucid.reports.wording import NONE, amount, count, number, percent


@dataclass(frozen=True)
class Compared:
    """One line of a comparison: what is counted, and its value in each of two programs."""

    measure: str
    one: str
    other: str


def compare(one: Program, other: Program) -> tuple[Compared, ...]:
    """The lines of two programs side by side: functions, interfaces, bits of code, share still weights, verdicts."""
    columns = [_facts(program) for program in (one, other)]
    names = dict.fromkeys(name for column in columns for name in column)
    return tuple(Compared(name, *(column.get(name, NONE) for column in columns)) for name in names)


def comparison(one: Program, other: Program) -> str:
    """The comparison as one self-contained HTML page."""
    return render("beside.html.j2", one=one.source, other=other.source, lines=compare(one, other))


def write_comparison(one: Program, other: Program, path: str | os.PathLike[str]) -> None:
    """Write the page, all of it or nothing. Raises BadInput when the file cannot be written."""
    write_page(comparison(one, other), path)


def _facts(program: Program) -> dict[str, str]:
    ledger, notes = program.ledger, program.notes
    before, after = program_bits(program, "weights"), program_bits(program, None)
    passed = sum(verdict.passed for verdict in notes.verdicts)
    facts = {
        "hierarchy from": program.regions.origin if program.regions is not None else NONE,
        "functions": count(len(program.functions)),
        "of these run as code or words": count(sum(f.chosen != "weights" for f in program.functions.values())),
        "parameters": count(ledger.parameter_count),
        "still weights, share of parameters": percent(ledger.share("weights")),
        "still weights, share of units": percent(ledger.share("weights", "units")),
        "length as it came": bits(before),
        "length as it runs": bits(after),
        "verdicts passed": f"{passed} of {len(notes.verdicts)}",
    }
    facts |= {f"loss recovered by {kind} alone": percent(share) for kind, share in notes.loss_shares.items()}
    whole = [verdict for verdict in notes.verdicts if verdict.part in ("program", program.entry)]
    facts |= {f"whole, by {v.reading}: {v.measure}": f"{number(v.value)} {v.unit}".rstrip() for v in whole}
    return facts | {one.measure: beside_random(one) for one in _measured(notes.modules)}


def _measured(modules: Sequence[ModuleMeasure]) -> list[ModuleMeasure]:
    return [one for one in modules if one.value == one.value]


def beside_random(one: ModuleMeasure) -> str:
    """A measure of modules with that of random ones after it."""
    random = f" (random {amount(one.random, one.unit)})" if one.random == one.random else ""
    unit = f" {one.unit}" if one.unit not in ("", "share") else ""
    return f"{amount(one.value, one.unit)}{unit}{random}"
