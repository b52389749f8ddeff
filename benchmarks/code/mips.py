"""Sixty-two tasks on integer sequences: recurrent nets trained here, then decompiled to programs without weights.

Each net is trained from random weights (`mips_training`; kept in the user's cache directory, so that a run goes on
where the last one stopped). A net counts as decompiled when program.py, in a fresh process and without weights,
gives the rounded outputs of the net on 100,000 fresh sequences of length 10, and on 1,000 of length 100 as far as the
net itself does its task. Controls: random weights of the same shapes, and the same shapes trained on shuffled answers.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from mips_stack import Net, parameters
from mips_tasks import TASKS, Task, Whole
from mips_training import LENGTH, Effort, Trained, cache, obtain, train_shuffled, trained_before

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rnns import Runner, processor, randomised
from shared import Outcome, Table, options, publish, say

import pellucid
from pellucid.ir.graph import Block, leaves
from pellucid.ir.program import Program

BUDGET = 45.0
GIVEN, FRESH, LONG, FAR = 1_000, 100_000, 1_000, 100
DECOMPILED, SECONDS, RATIO, APART = 56, 60.0, 50.0, 2
DENOMINATORS = range(1, 17)
"""Numbers with these denominators are no weights: a formula with others is the net's weights in another form."""

CONTROLS = 4
"""Every fourth net has controls."""


@dataclass(frozen=True)
class Found:
    """One trained net and its program; counts are of sequences."""

    task: Task
    trained: Trained
    method: str
    weights_left: float
    differing: int
    holds: int
    agrees: int
    lines: int
    bits: tuple[float, float]
    seconds: tuple[float, float]
    why: str

    @property
    def exact(self) -> bool:
        """Whether this is a program without weights that equals the net wherever it had to."""
        return self.weights_left == 0.0 and self.differing == 0 and self.agrees >= self.holds


def measure(task: Task, trained: Trained, seed: int) -> Found:
    """Decompile one net, run its file without weights, and compare."""
    with tempfile.TemporaryDirectory(prefix="pellucid-benchmark-") as scratch:
        place, bare = Path(scratch) / "program", Path(scratch) / "bare"
        program, seconds = decompiled(trained.net, task, seed, place)
        shutil.copytree(place, bare, ignore=shutil.ignore_patterns("weights.safetensors"))
        runner = Runner(trained.net, program, bare, Path(scratch))
        reading = program[program.entry].reading()
        left = 1.0 if has_weights(reading.body) else program.ledger.share("weights")
        differing, agrees = FRESH, 0
        far = task.draw(np.random.default_rng([seed, 3]), LONG, FAR)
        if left == 0.0:
            differing = runner.compare(floats(task.draw(np.random.default_rng([seed, 2]), FRESH, LENGTH))).differing
            agrees = runner.compare(floats(far)).agree_up_to
        tried = [f"{attempt}" for attempt in program.notes.trail]
        return Found(
            task, trained, reading.method if left == 0.0 else "", left, differing, holds(trained.net, task, far),
            agrees, lines_of(program), (program.exact_bits(program.entry), reading.bits), seconds,
            "" if left == 0.0 else " / ".join(tried),
        )  # fmt: skip


def measured(task: Task, trained: Trained, seed: int, resume: bool) -> Found:
    """`measure`, or what it gave in the run that is gone on with."""
    path = cache() / f"seed-{seed}" / f"{task.name}.json"
    if resume and path.is_file():
        told = {name: tuple(v) if isinstance(v, list) else v for name, v in json.loads(path.read_text()).items()}
        return Found(task, trained, **told)
    found = measure(task, trained, seed)
    path.write_text(json.dumps({f.name: getattr(found, f.name) for f in fields(found)[2:]}))
    return found


def decompiled(
    net: torch.nn.Module, task: Task, seed: int, place: Path | None = None
) -> tuple[Program, tuple[float, float]]:
    """The program, and the seconds that it took: by the clock (other work lengthens it) and of the processor."""
    given = floats(task.draw(np.random.default_rng([seed, 4]), GIVEN, LENGTH))
    clock, started = time.monotonic(), processor()
    program = pellucid.decompile(net, given, output=place, budget=BUDGET)
    return program, (time.monotonic() - clock, processor() - started)


def has_weights(block: Block) -> bool:
    """Whether a reading holds numbers that nobody would write: fractions of more than a small denominator."""
    numbers = [leaf for node in block.nodes for leaf in leaves(node) if isinstance(leaf, float)]
    simple = all(any(float(number * below).is_integer() for below in DENOMINATORS) for number in numbers)
    return not simple or any(has_weights(node.body) for node in block.nodes if node.body is not None)


def floats(x: Whole) -> torch.Tensor:
    """Integers as the net takes them."""
    return torch.from_numpy(x).float()


def holds(net: Net, task: Task, x: Whole) -> int:
    """Up to which length the net itself does its task."""
    with torch.no_grad():
        wrong = (net(floats(x)).round() != torch.from_numpy(task.answer(x))).any(-1).any(0)
    return int(wrong.int().argmax()) if wrong.any() else x.shape[1]


def lines_of(program: Program) -> int:
    """Lines of code of the program as it is printed, without its signature and comments."""
    lines = [line.strip() for line in str(program).splitlines() if line.startswith("    ")]
    return sum(bool(line) and not line.startswith("#") for line in lines)


COLUMNS = (
    "task", "hidden, width, depths", "parameters", "reading", "weights left", "fresh that differ, length 10",
    "net holds to", "agree up to", "lines", "bits, net → program", "ratio", "seconds, processor", "decompiled",
)  # fmt: skip


def row_of(found: Found) -> list[object]:
    """A net as a row."""
    size, (before, after) = found.trained.size, found.bits
    outputs = found.trained.net.output[-1].out_features
    return [
        found.task.name,
        f"{size.hidden}, {size.width}, {size.depths[0]}+{size.depths[1]}",
        parameters(size, len(found.task.channels), outputs),
        found.method or "none",
        f"{found.weights_left:.0%}",
        f"{found.differing:,}" if found.method else "",
        found.holds,
        found.agrees if found.method else "",
        found.lines if found.method else "",
        f"{before:,.0f} → {after:,.0f}" if found.method else f"{before:,.0f}",
        f"{before / after:.0f}" if found.method else "",
        f"{found.seconds[0]:.0f}, {found.seconds[1]:.0f}",
        "yes" if found.exact else "**no**",
    ]


def control(trained: Trained, task: Task, seed: int, resume: bool) -> tuple[str, str]:
    """How a net of random weights and one trained on shuffled answers were read; empty where they were not."""
    path, read = cache() / f"seed-{seed}" / f"{task.name}.control.json", []
    if resume and path.is_file():
        random, shuffled = json.loads(path.read_text())
        return random, shuffled
    for net in (randomised(trained.net, seed), train_shuffled(task, trained.size, seed)):
        program, _ = decompiled(net, task, seed)
        code = [reading for reading in program[program.entry].readings if reading.kind == "code"]
        read.append(code[0].method if code and not has_weights(code[0].body) else "")
    say(f"control {task.name}: {read}")
    path.write_text(json.dumps(read))
    return read[0], read[1]


def controls(found: Sequence[Found], seed: int, resume: bool, outcome: Outcome) -> Table:
    """Nets that nobody trained on anything that is a function: none may be read."""
    rows = []
    chosen = set(list(TASKS)[::CONTROLS])
    for one in (one for one in found if one.task.name in chosen):
        random, shuffled = control(one.trained, one.task, seed, resume)
        met = outcome.require(not random and not shuffled, f"control {one.task.name}: read as {random or shuffled}")
        rows.append([one.task.name, random or "none", shuffled or "none", met])
    text = (
        f"Controls: every {CONTROLS}th shape with random weights, and trained on 1,000 sequences with shuffled "
        "answers. Formulas with arbitrary real numbers, which some tiny nets are, count as weights, here as above."
    )
    return Table(text, ("shape of", "random weights", "shuffled answers", "met"), rows)


def summary(found: Sequence[Found], missing: Sequence[tuple[Task, Trained]], outcome: Outcome) -> None:
    """The bars, and what stands in the way of each net that was not decompiled."""
    exact = [one for one in found if one.exact]
    slow = [one.task.name for one in found if one.seconds[1] > SECONDS]
    outcome.require(len(exact) >= DECOMPILED, f"{len(exact)} of {len(TASKS)} decompiled, {DECOMPILED} wanted")
    outcome.require(not slow, f"more than {SECONDS:.0f} s: {', '.join(slow)}")
    ratio = statistics.median([one.bits[0] / one.bits[1] for one in exact]) if exact else 0.0
    outcome.require(ratio >= RATIO, f"the median program has 1/{ratio:.0f} of its net's bits, 1/{RATIO:.0f} wanted")
    outcome.notes.append(f"{len(exact)} of {len(TASKS)} decompiled exactly; median bits 1/{ratio:.0f} of the net's.")
    for task, trained in missing:
        outcome.notes.append(
            f"{task.name}: not trained to perfection ({trained.wrong:.2%} of 100,000 sequences wrong), so not read."
        )
    for one in found:
        if one.holds < FAR:
            outcome.notes.append(f"{one.task.name}: the net itself leaves its task after {one.holds} steps.")
        if not one.exact:
            outcome.notes.append(f"{one.task.name}: {one.why or 'the program differs from the net'}")


def compare_runs(exact: int, outcome: Outcome) -> None:
    """Beside the run with seed 1, as far as it was measured (`--seed 1`), whose nets and sequences are all others."""
    folder, count, tried = cache() / "seed-1", 0, 0
    for task in TASKS.values():
        path = folder / f"{task.name}.json"
        if path.is_file():
            told = json.loads(path.read_text())
            count += told["weights_left"] == 0.0 and told["differing"] == 0 and told["agrees"] >= told["holds"]
        net = trained_before(task, 1)
        tried += path.is_file() or (net is not None and not net.perfect)
    if tried < len(TASKS):
        outcome.notes.append(f"The run with seed 1 is not complete: {count} decompiled of {tried} tasks tried.")
        return
    outcome.notes.append(
        f"The run with seed 1 (other nets, other sequences): {count} of {len(TASKS)} decompiled exactly."
    )
    outcome.require(abs(count - exact) <= APART, f"seeds 0 and 1 decompile {exact} and {count}, within {APART} wanted")


def main() -> int:
    """Train, decompile, then the controls."""
    more = (
        ("--seed", "of the nets and of all sequences (0)"),
        ("--tasks", "names, with commas between (all)"),
        ("--resume", "yes: take what an interrupted run has measured as it is"),
        ("--attempts", "at training a net, at most (2)"),
    )
    chosen, started, outcome = options(__doc__, *more), time.monotonic(), Outcome()
    seed, resume, found, missing = int(chosen.seed or 0), chosen.resume == "yes", [], []
    effort = Effort(attempts=Effort.attempts[: int(chosen.attempts or len(Effort.attempts))])
    for name in chosen.tasks.split(",") if chosen.tasks else TASKS:
        task, trained = TASKS[name], obtain(TASKS[name], seed, effort)
        if not trained.perfect:
            missing.append((task, trained))
            say(f"{name}: not trained, {trained.wrong:.3%} wrong")
            continue
        found.append(measured(task, trained, seed, resume))
        say(f"{row_of(found[-1])}")
    text = f"Seed {seed}. A net holds to, and a program agrees up to, at most length {FAR} ({LONG:,} sequences)."
    outcome.tables.append(Table(text, COLUMNS, [row_of(one) for one in found]))
    summary(found, missing, outcome)
    if not seed:
        outcome.tables.append(controls(found, seed, resume, outcome))
        compare_runs(sum(one.exact for one in found), outcome)
    if resume:
        outcome.notes.append(
            "Gone on with after interruptions: nets and rows are as they were made then, some by earlier states of the "
            "trainer; the seconds in all are those of the last part."
        )
    return publish("code/mips", TITLE, BAR, outcome, started, chosen.write and not seed)


TITLE = "Sixty-two recurrent nets as code"
BAR = (
    "at least 56 of 62 nets decompiled exactly (100,000 fresh sequences of length 10, 1,000 of length 100 as far as "
    "the net holds), at most 60 s each; with other seeds within 2 of that; no control is read; the median program has "
    "at most 1/50 of its net's bits"
)

if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
