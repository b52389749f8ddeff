"""What modularity bought: double digits trained plain, by L1, modular and on random regions, decompiled alike.

Each network goes through the same pipeline (`pellucid train METHOD`, `pellucid decompile --modules spectral`), and the
figures are those of its report and of `pellucid report ONE --beside OTHER`. Regions dealt out at random, then cut and
fine-tuned, are the control: what cutting buys without looking for the joints.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from shared import Outcome, Table, options, publish, say

import pellucid
from pellucid.ir.program import Program
from pellucid.modules.methods import regions_by
from pellucid.reports.beside import largest_function
from pellucid.reports.summary import program_bits
from pellucid.train import recipe, train

METHODS = {"none": "plain", "l1": "L1", "modular": "modular", "random": "random regions, cut"}
SEEDS = 5


@dataclass(frozen=True, eq=False)
class Row:
    """A network's accuracy on pairs held out, its program, and what its modules were measured to be worth."""

    accuracy: float
    program: Program
    measures: Mapping[str, float]
    random: Mapping[str, float]

    @property
    def still(self) -> float:
        """Parameters that are still weights."""
        return self.program.ledger.parameter_count * self.program.ledger.share("weights")

    @property
    def failed(self) -> int:
        """Verdicts that failed."""
        return sum(not verdict.passed for verdict in self.program.notes.verdicts)


Value = Callable[[Row], float]
CROSSING, BITS = "weight between modules", "activation between modules"
LINES: tuple[tuple[str, int, Value], ...] = (
    ("accuracy, %", 2, lambda row: 100 * row.accuracy),
    ("modules that the weights show", 0, lambda row: row.measures["modules"]),
    ("functions", 0, lambda row: len(row.program.functions)),
    ("of these run as code", 0, lambda row: sum(f.chosen == "code" for f in row.program.functions.values())),
    ("largest function, parameters", 0, lambda row: largest_function(row.program)),
    ("parameters in the program", 0, lambda row: row.program.ledger.parameter_count),
    ("of these still weights", 0, lambda row: row.still),
    ("share still weights, %", 1, lambda row: 100 * row.program.ledger.share("weights")),
    ("code found, kbit shorter than exact", 1, lambda row: kbit(row.program, exact=True) - kbit(row.program)),
    ("length as it runs, kbit", 1, lambda row: kbit(row.program)),
    ("weight between modules, %", 2, lambda row: 100 * row.measures[CROSSING]),
    ("the same, random modules, %", 2, lambda row: 100 * row.random[CROSSING]),
    ("activation between modules, bits a sample", 1, lambda row: row.measures[BITS]),
    ("the same, random modules", 1, lambda row: row.random[BITS]),
    ("outputs' variance lost when cut apart, %", 2, lambda row: 100 * measure(row.measures, "outputs' variance")),
    ("specialisation, % of information", 1, lambda row: 100 * measure(row.measures, "specialisation: ")),
    ("the same, random modules, %", 1, lambda row: 100 * measure(row.random, "specialisation: ")),
    ("first split above shuffled weights, z", 1, lambda row: measure(row.measures, "modularity of the first")),
)


NOT_BOUGHT = (
    "Not bought: code. What runs as code here drops or gathers units and rows that are zero or dead; what each module"
    " then computes, one digit from its pixels, is still weights, in a plain network and in a modular one."
)


def main() -> int:
    given = options(
        __doc__,
        ("--seeds", "how many seeds, else five"),
        ("--runs", "folder that keeps the runs, so that a stopped benchmark goes on"),
    )
    started = time.monotonic()
    torch.set_num_threads(1)
    rows: dict[str, list[Row]] = {method: [] for method in METHODS}
    with tempfile.TemporaryDirectory(prefix="pellucid-") as scratch:
        runs = Path(given.runs or scratch)
        for seed in range(int(given.seeds or SEEDS)):
            for method in METHODS:
                rows[method].append(measured(method, seed, runs))
    bar = "every verdict of every program passes; nothing lies between the modules of the modular network"
    title = "Double digits decompiled: what modularity bought"
    return publish("modules/beside", title, bar, judged(rows), started, given.write)


def measured(method: str, seed: int, runs: Path) -> Row:
    """Train by one method, decompile what came out, and take its figures."""
    chosen = recipe("double-digits")
    plan = replace(chosen.plan, restarts=1) if method == "random" else chosen.plan
    trained, out = runs / f"{method}-{seed}", runs / f"{method}-{seed}-program"
    found = train(chosen.task, method, plan=plan, seed=seed, directory=trained)
    program = (
        Program.load(out) if out.exists() else pellucid.decompile(trained, output=out, regions=regions_by("spectral"))
    )
    known = program.notes.modules
    row = Row(
        found.figures.accuracy, program, {m.measure: m.value for m in known}, {m.measure: m.random for m in known}
    )
    say(
        f"{method}, seed {seed}: accuracy {row.accuracy:.2%}, {row.measures['modules']:.0f} modules,"
        f" {len(program.functions)} functions, {row.still:.0f} of {program.ledger.parameter_count} parameters still"
        f" weights, {kbit(program):.1f} kbit, {row.measures[CROSSING]:.2%} between modules, {row.failed} failed"
    )
    return row


def accuracy(row: Row) -> float:
    """Of pairs held out."""
    return row.accuracy


def kbit(program: Program, exact: bool = False) -> float:
    """The program's description length, as it runs or with every function in its exact reading."""
    return program_bits(program, "weights" if exact else None) / 1000


def measure(measures: Mapping[str, float], beginning: str) -> float:
    """The measure whose name begins so; nan where it was not taken."""
    return next((value for name, value in measures.items() if name.startswith(beginning)), float("nan"))


def judged(rows: Mapping[str, Sequence[Row]]) -> Outcome:
    """The table, and the bars."""
    outcome = Outcome()
    table = [
        [name, *(spread([value(row) for row in found], digits) for found in rows.values())]
        for name, digits, value in LINES
    ]
    verdicts = [[len(row.program.notes.verdicts) for row in found] for found in rows.values()]
    failed = [sum(row.failed for row in found) for found in rows.values()]
    passed = [f"{sum(each) - lost} of {sum(each)}" for each, lost in zip(verdicts, failed, strict=True)]
    table.append(["verdicts passed, all seeds", *passed])
    text = (
        f"Medians over {len(rows['none'])} seeds (least … most). MLP 128-64-64-20, 13,716 parameters; accuracy on"
        " 10,000 pairs of pictures held out, mean of both digits; random: modules of equal sizes dealt out at random in"
        " each layer. A network whose weights show one module is built on its layers, and the figures of modules are"
        " those of its best split in two. Still weights: in no code that was found and verified."
    )
    outcome.tables.append(Table(text, ("", *(METHODS[method] for method in rows)), table))
    outcome.require(not sum(failed), f"{sum(failed)} verdicts failed")
    crossing = max(row.measures[CROSSING] for row in rows["modular"])
    outcome.require(crossing == 0, f"{crossing:.2%} of the weight lies between modules")
    outcome.notes += [bought(rows), NOT_BOUGHT]
    return outcome


def bought(rows: Mapping[str, Sequence[Row]]) -> str:
    """The modular programs over the others, in lengths, sizes and accuracy."""

    def middle(method: str, value: Value) -> float:
        return float(np.median([value(row) for row in rows[method]]))

    def over(method: str, value: Value) -> float:
        return middle("modular", value) / middle(method, value)

    told = [
        f"{name}: {over(method, lambda row: kbit(row.program)):.2f} of its length,"
        f" {over(method, lambda row: largest_function(row.program)):.2f} of its largest function,"
        f" {100 * (middle('modular', accuracy) - middle(method, accuracy)):+.1f} points of accuracy"
        for method, name in METHODS.items()
        if method != "modular"
    ]
    return f"The modular program beside {'; '.join(told)}."


def spread(values: Sequence[float], digits: int) -> str:
    """Median (least … most)."""
    middle, low, high = float(np.median(values)), min(values), max(values)
    text = f"{middle:,.{digits}f}"
    return text if low == high else f"{text} ({low:,.{digits}f} … {high:,.{digits}f})"


if __name__ == "__main__":
    sys.exit(main())
