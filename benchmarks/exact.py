"""The whole program against its network: exact reading, single precision, the emitted file in a fresh process.

Each network is decompiled (no time for code, so that all of it is the exact reading) and verified by the public path;
then program.py runs in a process of its own on all inputs and is compared here with what the live network returns. The
control compares the program's outputs with those of the next sample.
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch
from shared import ABSENT, BAR, Absent, Outcome, Table, Worst, arguments, call, options, publish, say
from torch import nn
from zoo import Case, cases

import pellucid
from pellucid.data import gather
from pellucid.errors import PellucidError
from pellucid.ir.program import Program
from pellucid.verdicts.process import Emitted

ROWS = 64
"""Samples of one request to the program."""


@dataclass(frozen=True)
class Row:
    """What was found of one network."""

    name: str
    parameters: int
    samples: int
    difference: float
    control: float
    verdicts: int
    failed: int
    seconds: float
    error: str = ""


def measure(case: Case) -> Row:
    """Decompile, verify, run the file and compare. Raises Absent."""
    model, inputs = case.build()
    network = pellucid.load(model)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pellucid-benchmark-") as scratch:
        place = Path(scratch) / "program"
        program = pellucid.decompile(network, inputs, output=place, budget=0.0)
        seconds = time.monotonic() - started
        samples = gather(inputs, tokenizer=network.tokenizer, vocabulary=network.vocabulary)
        difference, control = compare(program, place, network.module, samples)
    verdicts = program.notes.verdicts
    failed = sum(not verdict.passed for verdict in verdicts)
    count = program.ledger.parameter_count
    return Row(case.name, count, len(samples), difference, control, len(verdicts), failed, seconds)


def attempt(case: Case) -> Row:
    """The row of a network; one of infinite difference where it does not come through. Raises Absent."""
    try:
        return measure(case)
    except PellucidError as error:
        return Row(case.name, 0, 0, math.inf, math.inf, 0, 0, 0.0, str(error))


def told(family: str, row: Row) -> str:
    """A row as a line of progress."""
    found = row.error or f"{row.difference:.1e}, {row.failed} of {row.verdicts} verdicts failed, {row.seconds:.1f} s"
    return f"{family} {row.name}: {found}"


def compare(program: Program, place: Path, module: nn.Module, samples: pellucid.data.Inputs) -> tuple[float, float]:
    """The largest relative difference over all samples, and the same for outputs that belong to the next sample."""
    worst, control = Worst(), Worst()
    with Emitted(place) as emitted:
        for batch in samples.batches(ROWS):
            wanted = call(module, batch)
            found = emitted.run(program.entry, "weights", list(arguments(program, batch).values()))
            worst.see(found, wanted)
            control.see([value.roll(1, 0 if len(batch) > 1 else 1) for value in found], wanted)
    return worst.relative, control.relative


def row_of(family: str, rows: list[Row], count: str, outcome: Outcome) -> list[object]:
    """A family in one line: the worst of its networks."""
    worst = max(rows, key=lambda row: row.difference)
    failed, control = sum(row.failed for row in rows), min(row.control for row in rows)
    met = worst.difference <= BAR and not failed and control > BAR
    return [
        family,
        len(rows),
        f"{max(row.parameters for row in rows):,}",
        f"{sum(row.samples for row in rows):,}: {count}" + (" each" if len(rows) > 1 else ""),
        f"{worst.difference:.1e}" + (f" ({worst.name})" if len(rows) > 1 else ""),
        f"{control:.1e}",
        f"{sum(row.verdicts for row in rows) - failed} of {sum(row.verdicts for row in rows)}",
        f"{sum(row.seconds for row in rows):.0f}",
        outcome.require(met, f"{family}: {worst.difference:.1e}, {failed} failed verdicts, control {control:.1e}"),
    ]


def main() -> int:
    """Run all networks, or those whose family or name contains --only."""
    chosen = options(__doc__, ("--only", "part of a family's or network's name"))
    started, outcome = time.monotonic(), Outcome()
    table = []
    wanted = [case for case in cases() if not chosen.only or chosen.only in f"{case.family} {case.name}"]
    for family, group in groupby(wanted, key=lambda case: case.family):
        rows: list[Row] = []
        members = list(group)
        try:
            for case in members:
                rows.append(attempt(case))
                say(told(family, rows[-1]))
        except Absent as what:
            say(f"{family}: {ABSENT} ({what})")
            outcome.notes.append(f"{family}: {ABSENT} ({what})")
            continue
        table.append(row_of(family, rows, members[0].count, outcome))
        outcome.notes += [told(family, row) for row in rows if row.error]
    columns = (
        "network", "networks", "parameters (largest)", "samples", "max relative difference", "control (smallest)",
        "verdicts passed", "seconds to decompile and verify", "met",
    )  # fmt: skip
    text = "Outputs of program.py (exact reading, fresh process) beside the live network."
    outcome.tables.append(Table(text, columns, table))
    outcome.notes.append("A difference is relative to the largest magnitude of that output over all samples.")
    bar = f"max relative difference ≤ {BAR:g} for every network, all verdicts passed, control above {BAR:g}"
    return publish("exact", "Exact structure", bar, outcome, started, chosen.write)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
