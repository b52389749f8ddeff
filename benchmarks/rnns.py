"""Five trained recurrent networks as code with no weights left; random networks of the same shapes as control.

Each network is decompiled on its 1,000 given sequences. Then program.py runs from a copy without its file of weights,
as a user runs it, on the given sequences, on 10,000 fresh ones of length 10 and on 1,000 each of length 100 and 200,
and its numbers are compared with the rounded outputs of the live network. Seconds are those of the processor, because
other work on the machine lengthens those of the clock.
"""

from __future__ import annotations

import copy
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from jaxtyping import Float, Int
from shared import ABSENT, DATA, Absent, Outcome, Table, data_networks, options, publish, run_file, say, timed
from torch import nn

import pellucid
from pellucid.ir.program import Program

NAMES = ("identity", "prev1", "prev2", "sum_last2", "sum")
HOLDS = NAMES[:4]
"""Those that compute their function at lengths 100 and 200, too."""

BUDGET = 120.0
SECONDS = 20.0
FRESH, LONG, LONGEST = 10_000, 1_000, 400
CONTROL_SEEDS = (0, 1, 2)

Sequences = Float[torch.Tensor, "batch time 1"]


@dataclass(frozen=True)
class Found:
    """What was found of one network; the counts are of sequences that differ anywhere."""

    name: str
    method: str
    weights_left: float
    bits: tuple[float, float]
    given: int
    right: int
    fresh: int
    long: int
    far: int
    agree_up_to: int
    parting: str
    verdict: str
    factor: float
    gain: float
    reported: bool
    seconds: float


def measure(networks: ModuleType, name: str) -> Found:
    """Decompile one network, run its file without weights, and compare."""
    module, (given, answers) = networks.load(str(DATA / "rnn_algorithmic" / f"rnn_{name}_numerical.npz"))
    x = torch.tensor(given[..., None]).float()
    with tempfile.TemporaryDirectory(prefix="pellucid-benchmark-") as scratch:
        place = Path(scratch) / "program"
        started = processor()
        program = pellucid.decompile(module, x, output=place, budget=BUDGET)
        seconds = processor() - started
        bare = Path(scratch) / "bare"
        shutil.copytree(place, bare)
        (bare / "weights.safetensors").unlink()
        runner = Runner(module, program, bare, Path(scratch))
        longest = runner.compare(drawn(x, LONG, LONGEST, seed=3))
        reading = program[program.entry].reading()
        return Found(
            name=name,
            method=reading.method,
            weights_left=program.ledger.share("weights"),
            bits=(program.exact_bits(program.entry), reading.bits),
            given=runner.compare(x).differing,
            right=int((runner.code(x)[..., 0] != torch.tensor(answers)).any(1).sum()),
            fresh=runner.compare(drawn(x, FRESH, x.shape[1], seed=1)).differing,
            long=runner.compare(drawn(x, LONG, 100, seed=2)).differing,
            far=runner.compare(drawn(x, LONG, 200, seed=4)).differing,
            agree_up_to=longest.agree_up_to,
            parting=longest.parting,
            verdict=next(v.detail for v in program.notes.verdicts if v.part == "program" and v.reading == "code"),
            factor=float(module.hidden[0].weight.detach()[0, 0]),
            gain=gain(module, longest.agree_up_to + 1),
            reported="they part at length" in (place / "report.html").read_text(encoding="utf-8"),
            seconds=seconds,
        )


def processor() -> float:
    """Seconds of the processor so far, of this process and of those that it has started and that have ended."""
    return sum(os.times()[:4])


@dataclass(frozen=True)
class Compared:
    """Sequences that differ, up to which length none does, and the first place where one does."""

    differing: int
    agree_up_to: int
    parting: str


@dataclass(frozen=True)
class Runner:
    """The network and its program, which has no file of weights beside it."""

    module: nn.Module
    program: Program
    directory: Path
    scratch: Path

    def code(self, x: Sequences) -> Int[torch.Tensor, "batch time 1"]:
        """What program.py gives, by the readings it chooses."""
        (name,) = self.program[self.program.entry].inputs
        try:
            return run_file(self.directory, {name: x}, None, self.scratch)[0].long()
        except RuntimeError as error:
            say(f"program.py does not run without weights: {error}")
            return torch.full(x.shape, -(2**31))

    def compare(self, x: Sequences) -> Compared:
        """The program's numbers beside the rounded outputs of the network."""
        with torch.no_grad():
            raw = self.module(x)
        code = self.code(x)
        off = (raw.round().long() != code)[..., 0]
        steps = off.any(0).nonzero()
        if not len(steps):
            return Compared(0, x.shape[1], "")
        step = int(steps[0])
        row = int(off[:, step].nonzero()[0])
        place = f"first at step {step + 1}: network {float(raw[row, step, 0]):.3f}, program {int(code[row, step, 0])}"
        return Compared(int(off.any(1).sum()), step, place)


def drawn(x: Sequences, count: int, length: int, seed: int) -> Sequences:
    """Fresh sequences of the same values."""
    values = np.unique(x.numpy())
    return torch.tensor(np.random.default_rng(seed).choice(values, (count, length, 1))).float()


def gain(module: nn.Module, steps: int) -> float:
    """What 1 at the first step adds to the output of step `steps`."""
    x = torch.zeros(2, steps, 1)
    x[1, 0] = 1.0
    with torch.no_grad():
        y = module(x)
    return float(y[1, -1, 0] - y[0, -1, 0])


def randomised(module: nn.Module, seed: int) -> nn.Module:
    """The same shapes with torch's random initial weights."""
    torch.manual_seed(seed)
    fresh = copy.deepcopy(module)
    for part in fresh.modules():
        if isinstance(part, nn.Linear):
            part.reset_parameters()
    return fresh


def control(networks: ModuleType, name: str, seed: int) -> tuple[bool, float, float]:
    """Whether a random network got a code reading of the whole, its share of code, and the seconds it took."""
    module, (given, _) = networks.load(str(DATA / "rnn_algorithmic" / f"rnn_{name}_numerical.npz"))
    x = torch.tensor(given[..., None]).float()
    with timed() as seconds:
        program = pellucid.decompile(randomised(module, seed), x, budget=BUDGET)
    whole = any(reading.kind == "code" for reading in program[program.entry].readings)
    return whole, program.ledger.share("code"), seconds[0]


def row_of(found: Found, outcome: Outcome) -> list[object]:
    """A network as a row; what misses the bar is noted."""
    held = found.name not in HOLDS or found.long == found.far == 0
    met = found.weights_left == 0.0 and found.given == found.fresh == 0 and held and found.seconds <= SECONDS
    lengths = f"{found.agree_up_to}" if found.agree_up_to < LONGEST else f"≥ {LONGEST}"
    counts = f"{found.given}, {found.fresh}, {found.long} and {found.far} sequences differ"
    before, after = found.bits
    return [
        found.name,
        found.method,
        f"{found.weights_left:.0%}",
        f"{before:,.0f} → {after:,.0f}",
        f"{found.given} of 1,000",
        f"{found.right} of 1,000",
        f"{found.fresh} of {FRESH:,}",
        f"{found.long} of {LONG:,}",
        f"{found.far} of {LONG:,}",
        lengths,
        f"{found.seconds:.0f}",
        outcome.require(met, f"{found.name}: weights left {found.weights_left:.0%}, {counts}, {found.seconds:.0f} s"),
    ]


COLUMNS = (
    "network", "reading", "weights left", "bits, exact → code", "given sequences that differ",
    "given sequences with a wrong answer", "fresh, length 10", "fresh, length 100", "fresh, length 200",
    "agree up to length", "seconds", "met",
)  # fmt: skip


def controls(networks: ModuleType, outcome: Outcome) -> Table:
    """Random networks of the same shapes: none may get a code reading."""
    rows = []
    for name in NAMES:
        tried = [control(networks, name, seed) for seed in CONTROL_SEEDS]
        whole, share = sum(found for found, _, _ in tried), max(share for _, share, _ in tried)
        seconds = max(seconds for _, _, seconds in tried)
        say(f"control {name}: {whole} of {len(tried)} read as code, {seconds:.0f} s")
        met = outcome.require(not whole, f"control {name}: {whole} random networks read as code")
        rows.append([name, f"{whole} of {len(tried)}", f"{share:.0%}", f"{seconds:.0f}", met])
    text = f"Control: the same shapes with random weights, seeds {CONTROL_SEEDS}."
    return Table(text, ("shape", "read as code", "largest share of code", "seconds at most", "met"), rows)


def drift(found: Sequence[Found], outcome: Outcome) -> None:
    """Where and why a network parts from its program."""
    for one in found:
        if one.agree_up_to < LONGEST:
            said = outcome.require(one.reported, f"{one.name}: report.html does not say where they part")
            outcome.notes.append(
                f"{one.name} and its program agree up to length {one.agree_up_to} ({LONG:,} sequences); {one.parting}. "
                f"The network multiplies its state by {one.factor:.6f} at each step, the program by 1: after "
                f"{one.agree_up_to + 1} steps 1 counts for {one.gain:.5f}."
            )
            outcome.notes.append(f"The verdict: {one.verdict}. report.html says so: {said}.")


def main() -> int:
    """Run the five networks, then the controls."""
    chosen, started, outcome = options(__doc__), time.monotonic(), Outcome()
    try:
        networks = data_networks()
    except Absent as what:
        outcome.notes.append(f"{ABSENT} ({what})")
        return publish("rnns", TITLE, BAR, outcome, started, chosen.write)
    found = []
    for name in NAMES:
        found.append(measure(networks, name))
        say(f"{found[-1]}")
    text = "program.py without weights.safetensors beside the rounded network; fresh sequences from seeds 1 to 4, "
    text += f"{BUDGET:.0f} s for the search at most."
    outcome.tables.append(Table(text, COLUMNS, [row_of(one, outcome) for one in found]))
    outcome.tables.append(controls(networks, outcome))
    drift(found, outcome)
    return publish("rnns", TITLE, BAR, outcome, started, chosen.write)


TITLE = "Recurrent networks as code"
BAR = (
    "code reading of the whole network, no weights left, equal to the rounded network on 1,000 given and 10,000 fresh "
    "sequences of length 10, and on lengths 100 and 200 for the four that hold there, at most 20 s each; no random "
    "network gets a code reading"
)

if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
