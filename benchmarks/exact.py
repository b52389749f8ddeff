"""The whole program against its network: exact reading, single precision, the emitted file in a fresh process.

Each network is decompiled (no time for code, so that all of it is the exact reading) and verified by the public path;
then program.py runs in a process of its own on all inputs and is compared here with what the live network returns. The
control compares the program's outputs with those of the next sample; where the network gives the same for every
sample, it negates them. Where a program in numpy is over the bar, it is emitted for torch, too, and the network's own
rounding is measured: its outputs in single precision beside those of the same network in double precision.
"""

from __future__ import annotations

import copy
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
from pellucid.data import Batch, gather
from pellucid.errors import PellucidError
from pellucid.ir.program import Program
from pellucid.verdicts.process import Emitted

ROWS = 64
"""Samples of one request to the program."""

SAME = 0.01
"""A network whose outputs differ less from sample to sample gives the same for all of them."""


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
    rounding: float = 0.0
    in_torch: float | None = None
    error: str = ""

    @property
    def told(self) -> str:
        """The row as a line."""
        if self.error:
            return f"{self.name}: {self.error}"
        verdicts = f"{self.failed} of {self.verdicts} verdicts failed"
        text = f"{self.name}: {self.difference:.1e}, {verdicts}, {self.seconds:.1f} s"
        if self.in_torch is None:
            return text
        return f"{text}; the network's own rounding {self.rounding:.1e}; emitted for torch {self.in_torch:.1e}"


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
        rounding, in_torch = 0.0, None
        if difference > BAR:
            rounding = own_rounding(network.module, samples)
            pellucid.emit(program, Path(scratch) / "torch", "torch")
            in_torch, _ = compare(program, Path(scratch) / "torch", network.module, samples)
    verdicts = program.notes.verdicts
    failed = sum(not verdict.passed for verdict in verdicts)
    count = program.ledger.parameter_count
    return Row(
        case.name, count, len(samples), difference, control, len(verdicts), failed, seconds, rounding, in_torch
    )  # fmt: skip


def attempt(case: Case) -> Row:
    """The row of a network; one of infinite difference where it does not come through. Raises Absent."""
    try:
        return measure(case)
    except PellucidError as error:
        return Row(case.name, 0, 0, math.inf, math.inf, 0, 0, 0.0, error=str(error))


def compare(program: Program, place: Path, module: nn.Module, samples: pellucid.data.Inputs) -> tuple[float, float]:
    """The largest relative difference over all samples, and the same for outputs that belong to the next sample."""
    worst, control, negated = Worst(), Worst(), Worst()
    with Emitted(place) as emitted:
        for batch in samples.batches(ROWS):
            wanted = call(module, batch)
            found = emitted.run(program.entry, "weights", list(arguments(program, batch).values()))
            worst.see(found, wanted)
            control.see([value.roll(1, 0 if len(batch) > 1 else 1) for value in found], wanted)
            negated.see([-value for value in found], wanted)
    return worst.relative, control.relative if control.relative > SAME else negated.relative


def own_rounding(module: nn.Module, samples: pellucid.data.Inputs) -> float:
    """The largest relative difference of a network in single precision from itself in double precision."""
    worst, double = Worst(), copy.deepcopy(module).double()
    for batch in samples.batches(ROWS):
        wide = {n: a.double() if a.dtype == torch.float32 else a for n, a in batch.arrays.items()}
        worst.see(call(module, batch), call(double, Batch(wide)))
    return worst.relative


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
        f"{sum(row.difference > BAR for row in rows)}",
        f"{control:.1e}",
        f"{sum(row.verdicts for row in rows) - failed} of {sum(row.verdicts for row in rows)}",
        f"{sum(row.seconds for row in rows):.0f}",
        outcome.require(met, f"{family}: {worst.difference:.1e}, {failed} verdicts failed, control {control:.1e}"),
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
                say(f"{family}, {rows[-1].told}")
        except Absent as what:
            say(f"{family}: {ABSENT} ({what})")
            outcome.notes.append(f"{family}: {ABSENT} ({what})")
            continue
        table.append(row_of(family, rows, members[0].count, outcome))
        outcome.notes += [f"{family}, {row.told}" for row in rows if row.difference > BAR]
    columns = (
        "network", "networks", "parameters (largest)", "samples", "max relative difference", f"over {BAR:g}",
        "control (smallest)", "verdicts passed", "seconds to decompile and verify", "met",
    )  # fmt: skip
    text = "Outputs of program.py (exact reading, fresh process) beside the live network."
    outcome.tables.append(Table(text, columns, table))
    outcome.notes.append("A difference is relative to the largest magnitude of that output over all samples.")
    bar = f"max relative difference ≤ {BAR:g} for every network, all verdicts passed, control above {BAR:g}"
    return publish("exact", "Exact structure", bar, outcome, started, chosen.write)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
