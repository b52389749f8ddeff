"""Transformers that add modulo 59 as trigonometric code: every part put into the network on all pairs of tokens.

Each network is decompiled on its whole domain. program.py then runs in a fresh process, by its parts and by its reading
of the whole, and the judge's verdicts tell on how many of the 3,481 pairs the network decides the same with each part
(each head, each MLP, what makes and what reads the stream) replaced; by all parts is with all of them replaced at once.
Controls: the same networks with their token embeddings in another order (what a token means no longer turns with its
number), and with random weights of the same spread. No part of them may be read as waves.
"""

from __future__ import annotations

import copy
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rnns import processor
from shared import ABSENT, DATA, Absent, Outcome, Table, data_networks, options, publish, run_file, say

import pellucid
from pellucid.code.periodic.fourier_draft import explained
from pellucid.code.periodic.fourier_draft import running as running_code
from pellucid.data import Domain
from pellucid.ir.graph import calls_made
from pellucid.ir.interpret import run_functions
from pellucid.ir.program import Program

BUDGET = 300.0
RATIO = 20.0
CONTROL_SEEDS = (0, 1)

Tokens = Int[torch.Tensor, "pairs positions"]


@dataclass(frozen=True)
class Found:
    """One network: on how many pairs its programs decide as it does, and each part of it that is read as waves;
    `outputs` is the share of its outputs' variation that the program by parts tells."""

    name: str
    pairs: int
    right: int
    parts: int
    read: dict[str, int]
    by_parts: int
    outputs: float
    as_whole: int
    told: dict[str, str]
    whole: str
    lines: int
    bits: tuple[float, float]
    proved: bool
    seconds: float

    @property
    def complete(self) -> bool:
        """Whether every part is read, and the network decides the same with each of them and with all."""
        return self.proved and len(self.read) == self.parts and {*self.read.values(), self.by_parts} == {self.pairs}


def measure(path: Path, networks: object) -> Found:
    """Decompile one network, run its file, and count."""
    module, (tokens, sums) = networks.load(str(path))  # type: ignore[attr-defined]
    with torch.no_grad():
        exact = module(tokens)
    decided = exact.argmax(-1)
    with tempfile.TemporaryDirectory(prefix="pellucid-benchmark-") as scratch:
        place, started = Path(scratch) / "program", processor()
        program = pellucid.decompile(module, Domain.of(tokens), output=place, budget=BUDGET)
        seconds = processor() - started
        (name,) = program[program.entry].inputs
        by_parts, as_whole = (run_file(place, {name: tokens}, reading, Path(scratch))[0] for reading in (None, "code"))
    verdicts = [verdict for verdict in program.notes.verdicts if verdict.reading == "code"]
    parts = read_as_waves(program)
    entry = program[program.entry]
    instead = {part: running_code(program[part].reading("code").body, dict(program.weights)) for part in parts}
    (together,) = run_functions(program, [tokens], "weights", replace=instead)
    return Found(
        name=path.stem,
        pairs=len(tokens),
        right=int((decided == sums).sum()),
        parts=len([name for name, f in program.functions.items() if not calls_made(f.reading("weights").body)]),
        read={v.part: round(v.value * v.inputs) for v in verdicts if v.part in parts},
        by_parts=min(int((found.argmax(-1) == decided).sum()) for found in (by_parts, together)),
        outputs=explained((exact - exact.mean(0)).numpy(), (exact - by_parts).numpy()),
        as_whole=int((as_whole.argmax(-1) == decided).sum()),
        told={part: program[part].reading("code").summary for part in parts},
        whole=entry.reading("code").summary,
        lines=lines_of(program),
        bits=(program.exact_bits(program.entry), bits_by_parts(program)),
        proved=all(verdict.passed and verdict.kind == "proved" for verdict in program.notes.verdicts),
        seconds=seconds,
    )


def read_as_waves(program: Program) -> list[str]:
    """The functions with a reading in waves."""
    return [name for name, function in program.functions.items() if function.reading("code").method == "waves"]


def bits_by_parts(program: Program) -> float:
    """Bits of all functions, as waves where they are read so, whether that is chosen or not."""
    waves = read_as_waves(program)
    kinds = {name: "code" if name in waves else "weights" for name in program.functions}
    return sum(program[name].reading(kind).bits for name, kind in kinds.items())


def lines_of(program: Program) -> int:
    """Lines of the program as pseudocode, without remarks."""
    return sum(bool(line.strip()) and not line.startswith("#") for line in program.text(None).splitlines()[2:])


# ---- controls


def relabelled(module: nn.Module, seed: int) -> nn.Module:
    """The network with the columns of its token embedding in another order."""
    changed = copy.deepcopy(module)
    weight = dict(changed.named_parameters())["embed_W_E"]
    order = torch.randperm(weight.shape[1], generator=torch.Generator().manual_seed(seed))
    weight.data = weight.data[:, order]
    return changed


def randomised(module: nn.Module, seed: int) -> nn.Module:
    """The network with random weights, each tensor of the spread that it had."""
    changed, generator = copy.deepcopy(module), torch.Generator().manual_seed(seed)
    for weight in changed.parameters():
        weight.data = torch.randn(weight.shape, generator=generator) * weight.data.std()
    return changed


def control(module: nn.Module, tokens: Tokens) -> tuple[int, str]:
    """How many functions are read as waves, and what is said of the whole."""
    program = pellucid.decompile(module, Domain.of(tokens), budget=BUDGET)
    entry = program[program.entry]
    return len(read_as_waves(program)), entry.reading("code").method if entry.reading("code").kind == "code" else ""


def controls(paths: Sequence[Path], networks: object, outcome: Outcome) -> Table:
    """Networks without waves: none may be read as waves, and none as a whole."""
    rows = []
    for path in paths:
        module, (tokens, _) = networks.load(str(path))  # type: ignore[attr-defined]
        for label, change in (("tokens relabelled", relabelled), ("random weights", randomised)):
            tried = [control(change(module, seed), tokens) for seed in CONTROL_SEEDS]
            waves, whole = sum(count for count, _ in tried), sum(bool(method) for _, method in tried)
            say(f"control {path.stem}, {label}: {waves} parts as waves, {whole} wholes as code")
            met = outcome.require(not waves + whole, f"{path.stem}, {label}: {waves} parts and {whole} wholes read")
            rows.append([path.stem, label, waves, f"{whole} of {len(tried)}", met])
    text = f"Controls, seeds {CONTROL_SEEDS}."
    return Table(text, ("network", "control", "parts read as waves", "wholes read as code", "met"), rows)


# ---- tables


def row_of(found: Found, outcome: Outcome) -> list[object]:
    """A network as a row; what misses the bar is noted."""
    frequencies = re.search(r"for k = ([0-9, ]*[0-9])", " ".join(reversed(found.told.values())))
    missing = found.parts - len(found.read)
    short = (
        f"{missing} of {found.parts} parts not read"
        if missing
        else "a part, all parts at once, or the whole decide otherwise"
    )
    return [
        found.name,
        f"{found.right:,}",
        frequencies.group(1) if frequencies else "none",
        f"{len(found.read)} of {found.parts}",
        f"{min(found.read.values(), default=0):,} of {found.pairs:,}",
        f"{found.by_parts:,} of {found.pairs:,}",
        f"{found.outputs:.1%}",
        f"{found.as_whole:,} of {found.pairs:,}",
        found.lines,
        f"{found.bits[0]:,.0f} → {found.bits[1]:,.0f} (1/{found.bits[0] / found.bits[1]:.0f})",
        f"{found.seconds:.0f}",
        outcome.require(found.complete, f"{found.name}: {short}"),
    ]


COLUMNS = (
    "network", "pairs it adds right", "key frequencies", "parts read as waves", "same decision, worst part replaced",
    "same decision, by all parts", "outputs told by all parts", "same decision, read as a whole", "lines",
    "bits, exact → by parts", "processor seconds", "met",
)  # fmt: skip


def main() -> int:
    """Run all networks, then the controls."""
    chosen, started, outcome = options(__doc__), time.monotonic(), Outcome()
    try:
        networks = data_networks()
    except Absent as what:
        outcome.notes.append(f"{ABSENT} ({what})")
        return publish("code/modular_addition", TITLE, BAR, outcome, started, chosen.write)
    paths = sorted((DATA / "modular_addition").glob("*.npz"))
    found = []
    for path in paths:
        found.append(measure(path, networks))
        say(f"{found[-1]}")
    text = (
        f"program.py on all pairs of tokens; {BUDGET:.0f} s for the search at most. Outputs told by all parts: the "
        "share of their variation, beside the bar; below 0 they are further off than their mean, though decided the "
        "same."
    )
    outcome.tables.append(Table(text, COLUMNS, [row_of(one, outcome) for one in found]))
    ratio = statistics.median(one.bits[0] / one.bits[1] for one in found)
    told = outcome.require(ratio >= RATIO, f"median program 1/{ratio:.0f} of its network's bits")
    outcome.notes.append(
        f"The median program by parts has 1/{ratio:.0f} of its network's bits (bar 1/{RATIO:.0f}): {told}."
    )
    rows = [[one.name, part, said] for one in found for part, said in (*one.told.items(), ("as a whole", one.whole))]
    outcome.tables.append(Table("What the parts were found to do.", ("network", "part", "reading"), rows))
    outcome.tables.append(controls(paths, networks, outcome))
    return publish("code/modular_addition", TITLE, BAR, outcome, started, chosen.write)


TITLE = "Modular addition as trigonometric code"
BAR = (
    "on all 3,481 pairs the network decides the same with each part replaced by its trigonometric code, and with all "
    "of them; the median program has at most 1/20 of its network's bits; no control is read"
)

if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
