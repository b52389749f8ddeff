"""Compiled transformers: RASP programs that tracr turned into weights, decompiled to programs without weights.

The network is wrapped so that it puts out what it predicts: the positions after the mark of the beginning. A program
counts as equivalent when program.py, in a fresh process and without weights, predicts what the network predicts on
every input up to 5 tokens where there are at most 200,000 of them, and on 20,000 of the longest allowed: the index of
the largest output, or nothing where all outputs stay below a tenth of the largest; numbers within 1% of the largest.
Controls: random weights of the same shapes.
"""

from __future__ import annotations

import copy
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import nn
from tracr_sources import SOURCES

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rnns import processor
from shared import ABSENT, DATA, Absent, Outcome, Table, data_networks, options, publish, say

import pellucid
from pellucid.ir.graph import Node
from pellucid.ir.program import Program

BUDGET = 60.0
GIVEN = 40
"""Sequences of each length that a network is decompiled on."""

SHORT, EVERY, LONGEST = 5, 200_000, 20_000
NONE, CLOSE = 0.1, 0.01
EQUIVALENT, AS_SHORT, OF, RATIO, SECONDS = 71, 60, 74, 20.0, 60.0
CONTROLS = 6
"""Every sixth network has a control."""

FREE = frozenset(
    "slice_axis positions keys queries cast one_hot pad unsqueeze invert all_pairs expand squeeze stack".split()  # noqa: SIM905
)
"""Nodes that a RASP source does not write down: inputs, the two sides of a selection, element types, the read-out."""

RUNNER = """
import importlib.util, sys
import numpy as np
spec = importlib.util.spec_from_file_location("program", sys.argv[1])
program = importlib.util.module_from_spec(spec)
sys.modules["program"] = program
spec.loader.exec_module(program)
def run(x):
    if program.DIALECT == "numpy":
        return program.run(x)
    import torch
    return program.run(torch.from_numpy(x)).numpy()
with np.load(sys.argv[2]) as given:
    np.savez(sys.argv[3], **{name: run(given[name]) for name in given})
"""


class AfterBeginning(nn.Module):
    """What a network predicts: its outputs at the positions after the mark of the beginning."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, ids: Int64[torch.Tensor, "batch place"]) -> Float[torch.Tensor, "batch position classes"]:
        """Outputs without those of the first place."""
        made: Float[torch.Tensor, "batch position classes"] = self.net(ids)[:, 1:]
        return made


@dataclass(frozen=True)
class Found:
    """One network and its program."""

    name: str
    method: str
    weights_left: float
    sequences: int
    differing: int
    lines: int
    operations: int
    rows: int
    bits: tuple[float, float]
    seconds: tuple[float, float]
    judged: bool
    why: str

    @property
    def equivalent(self) -> bool:
        """Whether this is a readable program without weights that predicts what the network does."""
        return self.weights_left == 0.0 and self.differing == 0 and self.rows <= 64 and self.judged

    @property
    def short(self) -> bool:
        """Whether it is at most twice as long as the RASP source."""
        return self.equivalent and self.operations <= 2 * SOURCES.get(self.name, 0)


# ---- inputs


def vocabulary(net: Any) -> tuple[int, list[int]]:
    """The mark of the beginning, and all tokens."""
    encoding = {key.strip("'"): value for key, value in net.meta["input_encoding"].items()}
    return encoding["BOS"], sorted(v for key, v in encoding.items() if key not in ("BOS", "compiler_pad"))


def given_inputs(net: Any, seed: int) -> list[Int64[torch.Tensor, "batch place"]]:
    """Some sequences of each length up to the longest."""
    first, tokens = vocabulary(net)
    rng = np.random.default_rng([seed, 1])
    return [drawn(first, tokens, n, GIVEN, rng) for n in range(1, net.meta["max_seq_len"])]


def drawn(
    first: int, tokens: Sequence[int], length: int, count: int, rng: np.random.Generator
) -> Int64[torch.Tensor, "batch place"]:
    """Random sequences of one length."""
    return torch.tensor(np.c_[np.full(count, first), rng.choice(tokens, (count, length))])


def checked_inputs(net: Any, seed: int) -> list[Int64[torch.Tensor, "batch place"]]:
    """All sequences up to five tokens, if they are few enough, and many of the longest."""
    first, tokens = vocabulary(net)
    longest = net.meta["max_seq_len"] - 1
    made = [drawn(first, tokens, longest, LONGEST, np.random.default_rng([seed, 2]))]
    short = min(SHORT, longest)
    if sum(len(tokens) ** n for n in range(1, short + 1)) <= EVERY:
        every = [np.array(list(product(tokens, repeat=n))) for n in range(1, short + 1)]
        made += [torch.tensor(np.c_[np.full(len(part), first), part]) for part in every]
    return made


# ---- one network


def measure(networks: ModuleType, path: Path, seed: int) -> Found:
    """Decompile one network, run its file without weights, and compare."""
    net, _ = networks.load(str(path))
    with tempfile.TemporaryDirectory(prefix="pellucid-benchmark-") as scratch:
        place, bare = Path(scratch) / "program", Path(scratch) / "bare"
        clock, started = time.monotonic(), processor()
        program = pellucid.decompile(
            AfterBeginning(net).eval(), given_inputs(net, seed), output=place, budget=BUDGET, seed=seed
        )
        seconds = time.monotonic() - clock, processor() - started
        shutil.copytree(place, bare, ignore=shutil.ignore_patterns("weights.safetensors"))
        reading, left = program[program.entry].reading(), program.ledger.share("weights")
        inputs = checked_inputs(net, seed)
        differing = sum(len(x) for x in inputs) if left else compare(net, bare, inputs, Path(scratch))
        said = " / ".join(attempt.outcome for attempt in program.notes.trail if attempt.method == "attention")
        whole = not left
        return Found(
            path.stem, reading.method if whole else "", left, sum(len(x) for x in inputs), differing,
            lines_of(program), operations(program), largest_table(program),
            (program.exact_bits(program.entry), reading.bits), seconds, judged(program), "" if whole else said,
        )  # fmt: skip


def compare(net: nn.Module, bare: Path, inputs: Sequence[Int64[torch.Tensor, "batch place"]], scratch: Path) -> int:
    """On how many sequences program.py predicts something else than the network."""
    given, made = scratch / "given.npz", scratch / "made.npz"
    np.savez(given, **{str(i): x.numpy() for i, x in enumerate(inputs)})  # type: ignore[arg-type]
    command = [sys.executable, "-I", "-c", RUNNER, str(bare / "program.py"), str(given), str(made)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        say(f"program.py does not run without weights: {(done.stderr.strip().splitlines() or ['it failed'])[-1]}")
        return sum(len(x) for x in inputs)
    with torch.no_grad():
        wanted = [torch.cat([net(part)[:, 1:] for part in x.split(4096)]).numpy() for x in inputs]
    scale = max(float(np.abs(y).max()) for y in wanted)
    with np.load(made) as outputs:
        return sum(int(disagree(outputs[str(i)], y, scale).any(1).sum()) for i, y in enumerate(wanted))


def disagree(
    found: Float[np.ndarray, "n position classes"], wanted: Float[np.ndarray, "n position classes"], scale: float
) -> Bool[np.ndarray, "n position"]:
    """Where two outputs predict different things; `scale` is the largest output of the network."""
    if found.shape != wanted.shape:
        return np.ones(wanted.shape[:2], bool)
    if wanted.shape[2] == 1:
        return np.asarray(np.abs(found - wanted)[..., 0] > CLOSE * scale)
    chosen = [np.where(y.max(-1) < NONE * scale, -1, y.argmax(-1)) for y in (found, wanted)]
    return np.asarray(chosen[0] != chosen[1])


def judged(program: Program) -> bool:
    """Whether the reading of the whole passed the verdict of `decompile` itself."""
    verdicts = [v for v in program.notes.verdicts if (v.part, v.reading) == ("program", "code")]
    return bool(verdicts) and all(verdict.passed for verdict in verdicts)


# ---- how long it is


def operations(program: Program) -> int:
    """Selections, aggregations and operators of the whole's reading, as the source's are counted."""
    return sum(node.op not in FREE for node in _living(program))


def largest_table(program: Program) -> int:
    """Entries of the longest table or set in it."""
    return max(
        (len(arg) for node in _living(program) if node.op in ("lookup", "index_of", "is_in") for arg in node.args
         if isinstance(arg, tuple) and not any(isinstance(item, tuple) for item in arg)),
        default=0,
    )  # fmt: skip


def _living(program: Program) -> tuple[Node, ...]:
    return program[program.entry].reading().body.nodes


def lines_of(program: Program) -> int:
    """Lines of code of the program as it is printed, without its signature and comments."""
    lines = [line.strip() for line in str(program).splitlines() if line.startswith("    ")]
    return sum(bool(line) and not line.startswith("#") for line in lines)


# ---- controls


def randomised(net: nn.Module, seed: int) -> nn.Module:
    """The same shapes with random weights."""
    fresh = copy.deepcopy(net)
    generator = torch.Generator().manual_seed(seed)
    for weight in fresh.parameters():
        spread = weight.shape[-1] ** -0.5
        weight.data = torch.randn(weight.shape, generator=generator) * spread
    return fresh


def control(networks: ModuleType, path: Path, seed: int) -> str:
    """How a network of random weights was read as a whole; empty if it was not."""
    net, _ = networks.load(str(path))
    program = pellucid.decompile(
        AfterBeginning(randomised(net, seed)).eval(), given_inputs(net, seed), budget=BUDGET, seed=seed
    )
    return "" if program[program.entry].chosen == "weights" else program[program.entry].reading().method


def controls(networks: ModuleType, paths: Sequence[Path], seed: int, outcome: Outcome) -> Table:
    """Random networks of the same shapes: none may be read."""
    rows = []
    for path in paths[::CONTROLS]:
        read = control(networks, path, seed)
        say(f"control {path.stem}: {read or 'none'}")
        rows.append([path.stem, read or "none", outcome.require(not read, f"control {path.stem}: read as {read}")])
    return Table(f"Controls: every {CONTROLS}th shape with random weights.", ("shape of", "read as", "met"), rows)


# ---- the tables


COLUMNS = (
    "network", "reading", "weights left", "sequences", "that differ", "lines", "operations", "of the source",
    "longest table", "bits, net → program", "ratio", "seconds, processor", "verdict", "equivalent",
    "at most twice as long",
)  # fmt: skip


def row_of(found: Found) -> list[object]:
    """A network as a row."""
    before, after = found.bits
    read = bool(found.method)
    return [
        found.name,
        found.method or "none",
        f"{found.weights_left:.0%}",
        f"{found.sequences:,}",
        f"{found.differing:,}" if read else "",
        found.lines if read else "",
        found.operations if read else "",
        SOURCES.get(found.name, "not counted"),
        found.rows if read else "",
        f"{before:,.0f} → {after:,.0f}" if read else f"{before:,.0f}",
        f"{before / after:.0f}" if read else "",
        f"{found.seconds[0]:.0f}, {found.seconds[1]:.0f}",
        ("passed" if found.judged else "**failed**") if read else "",
        "yes" if found.equivalent else "**no**",
        "yes" if found.short else "**no**",
    ]


def summary(found: Sequence[Found], outcome: Outcome) -> None:
    """The bars, in proportion to how many networks there are, and what stands in the way of the others."""
    equivalent, short = [one for one in found if one.equivalent], [one for one in found if one.short]
    wanted = [-(-bar * len(found) // OF) for bar in (EQUIVALENT, AS_SHORT)]
    outcome.require(len(equivalent) >= wanted[0], f"{len(equivalent)} of {len(found)} equivalent, {wanted[0]} wanted")
    outcome.require(len(short) >= wanted[1], f"{len(short)} at most twice as long, {wanted[1]} wanted")
    ratio = statistics.median([one.bits[0] / one.bits[1] for one in equivalent]) if equivalent else 0.0
    outcome.require(ratio >= RATIO, f"the median program has 1/{ratio:.0f} of its net's bits, 1/{RATIO:.0f} wanted")
    slow = [one.name for one in found if one.seconds[1] > SECONDS]
    outcome.require(not slow, f"more than {SECONDS:.0f} s of the processor: {', '.join(slow)}")
    outcome.notes.append(
        f"{len(equivalent)} of {len(found)} equivalent, {len(short)} of them at most twice as long as the source; "
        f"median bits 1/{ratio:.0f} of the network's."
    )
    for one in found:
        if not one.equivalent:
            outcome.notes.append(f"{one.name}: {one.why or f'{one.differing:,} sequences differ'}")


def main() -> int:
    """Decompile, then the controls."""
    more = (("--seed", "of all sequences (0)"), ("--only", "parts of names, with commas between (all)"))
    more += (("--controls", "no: leave the controls out"),)
    chosen, started, outcome = options(__doc__, *more), time.monotonic(), Outcome()
    try:
        networks = data_networks()
    except Absent as what:
        outcome.notes.append(f"{ABSENT} ({what})")
        return publish("code/tracr", TITLE, BAR, outcome, started, chosen.write)
    seed = int(chosen.seed or 0)
    only = chosen.only.split(",") if chosen.only else [""]
    paths = [path for path in sorted((DATA / "tracr").glob("*.npz")) if any(part in path.stem for part in only)]
    found = []
    for path in paths:
        found.append(measure(networks, path, seed))
        say(f"{row_of(found[-1])} {found[-1].why}")
    text = f"Seed {seed}; {GIVEN} sequences of each length given, at most {BUDGET:.0f} s for the search."
    outcome.tables.append(Table(text, COLUMNS, [row_of(one) for one in found]))
    summary(found, outcome)
    if chosen.controls != "no":
        outcome.tables.append(controls(networks, paths, seed, outcome))
    return publish("code/tracr", TITLE, BAR, outcome, started, chosen.write)


TITLE = "Compiled transformers as code"
BAR = (
    f"at least {EQUIVALENT} of {OF} programs without weights that predict what the network does on every input up to "
    f"{SHORT} tokens or {LONGEST:,} of the longest allowed, at least {AS_SHORT} of them at most twice as long as the "
    f"RASP source, a median of 1/{RATIO:.0f} of the network's bits; no random network gets a code reading"
)

if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
