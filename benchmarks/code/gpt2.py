"""Sixteen GPT-2s trained on algorithms and formal languages, as programs without weights.

A network is given as what it is scored on: `Asked` puts zeros where its task asks nothing (after the end of a
sequence, and, where the next token is to be predicted, before the separator). It is decompiled on its given sequences
in a seeded order; program.py then runs in a fresh process, without weights, on those of the *verify* split. It matches
on a sequence if it predicts what the network predicts at every scored position: the token, or which may follow.
Controls: the same shapes with random weights, and trained on answers that were shuffled among all positions.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from mips_training import cache

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gpt2_tasks import BINS, Asked, Task, fresh, network_logits, predictions, random_module, shuffled_module, task_of
from shared import ABSENT, DATA, Absent, Outcome, Table, data_networks, options, publish, run_file, say

import pellucid
from pellucid.code.methods import METHODS
from pellucid.code.propose import find_code
from pellucid.code.tokens.token_rules import TOKEN_RULES
from pellucid.data import Inputs, gather, split
from pellucid.emitters.files import emit
from pellucid.ir.graph import Block
from pellucid.ir.program import Program
from pellucid.lift.load import load
from pellucid.lift.trace import trace
from pellucid.modules.partition import partition
from pellucid.modules.structure import structure
from pellucid.pipeline import SAMPLES_TO_FIT

BUDGET, SECONDS, RATIO = 120.0, 300.0, 20.0
MATCH, MANY, CLOSE, MANY_CLOSE = 0.9, 13, 0.99, 8
LARGEST_TABLE = 64
MORE = 1_000
"""Further sequences of each length bin, where they can be drawn."""

TRAINED_CONTROLS = 10_000
"""Shapes of at most so many parameters are also trained on shuffled answers."""

WHOLE = METHODS[: METHODS.index(TOKEN_RULES) + 1]
"""The ways to find code that controls are tried with: those up to the one that reads these networks."""


# ---- one network


@dataclass(frozen=True)
class Found:
    """A network and its program on the verify split; `match`, `right` and `network` are shares of sequences by bin,
    `fresh` those matched of further sequences, where these can be drawn."""

    name: str
    method: str
    match: tuple[float, ...]
    right: tuple[float, ...]
    network: tuple[float, ...]
    sequences: tuple[int, ...]
    lines: int
    largest_table: int
    bits: tuple[float, float]
    seconds: tuple[float, float]
    verdict: str
    trail: str
    judged: bool = True
    fresh: tuple[float, ...] = ()

    @property
    def readable(self) -> bool:
        """Whether there is a program without weights and large tables."""
        return bool(self.method) and self.largest_table <= LARGEST_TABLE

    @property
    def worst(self) -> float:
        """The match on the worst bin; 0 without a readable program."""
        return min(self.match) if self.readable else 0.0


def measured(task: Task, judged: bool) -> Found:
    """Decompile one network and run its file without weights on the verify split.

    Unless `judged`, only the whole is read, and verdicts on the exact parts, which take most of the time, are left out.
    """
    samples = gather(task.arrays())
    started, processor = time.monotonic(), _processor()
    with tempfile.TemporaryDirectory(prefix="pellucid-benchmark-") as scratch:
        place = Path(scratch) / "program"
        if judged:
            program = pellucid.decompile(task.module, task.arrays(), output=place, budget=BUDGET)
        else:
            program = searched(task.module, samples, BUDGET)
            emit(program, place)
        seconds = time.monotonic() - started, _processor() - processor
        reading = program[program.entry].reading()
        rows = verify_rows(task, split(samples).verify)
        arrays = {name: value[rows] for name, value in task.arrays().items()}
        wanted = predictions(network_logits(task.module, arrays), task.signs)
        code, anew = None, ()
        if program[program.entry].chosen == "code":
            bare = Path(scratch) / "bare"
            shutil.copytree(place, bare)
            (bare / "weights.safetensors").unlink()
            code = predictions(run_file(bare, arrays, None, Path(scratch))[0], task.signs)
            anew = on_fresh(task, bare, Path(scratch))
    same = _by_bin(_agree(code, wanted) if code is not None else np.zeros(len(rows), dtype=bool), task.bins[rows])
    verdicts = [v.detail for v in program.notes.verdicts if v.part == "program" and v.reading == "code"]
    return Found(
        name=task.name,
        method=reading.method if code is not None else "",
        match=same,
        right=_by_bin(scored(task, rows, code), task.bins[rows]) if code is not None else (0.0,) * len(BINS),
        network=_by_bin(scored(task, rows, wanted), task.bins[rows]),
        sequences=tuple(int((task.bins[rows] == b).sum()) for b in range(len(BINS))),
        lines=lines_of(program),
        largest_table=max(
            (_rows_of(node.args[0]) for node in nodes_of(reading.body) if node.op == "lookup"), default=0
        ),
        bits=(program.exact_bits(program.entry), reading.bits),
        seconds=seconds,
        verdict=verdicts[0] if verdicts else "",
        judged=judged,
        fresh=anew,
        trail="; ".join(f"{a.method}: {a.outcome}" for a in program.notes.trail if a.part == program.entry),
    )


def on_fresh(task: Task, bare: Path, scratch: Path) -> tuple[float, ...]:
    """The match of a program without weights on further sequences by bin, where these can be drawn."""
    more = fresh(task, MORE, seed=0)
    if more is None:
        return ()
    arrays, bins = more
    code = predictions(run_file(bare, arrays, None, scratch)[0], task.signs)
    wanted = predictions(network_logits(task.module, arrays), task.signs)
    return _by_bin(_agree(code, wanted), bins)


def kept(task: Task, resume: bool, judged: bool) -> Found:
    """What was measured of a network: now, or, when resuming, by the run that was interrupted."""
    place = cache().parent / "gpt2" / f"{task.name}.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    if resume and place.is_file():
        told = json.loads(place.read_text(encoding="utf-8"))
        return Found(**{key: tuple(value) if isinstance(value, list) else value for key, value in told.items()})
    found = measured(task, judged)
    place.write_text(json.dumps(asdict(found)), encoding="utf-8")
    return found


def _processor() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def verify_rows(task: Task, verify: Inputs) -> list[int]:
    """Which of the sequences are in the verify split."""
    known = {
        (*ids, *pos): i for i, (ids, pos) in enumerate(zip(task.ids.tolist(), task.positions.tolist(), strict=True))
    }
    found = [
        known[(*ids, *pos)]
        for batch in verify.batches()
        for ids, pos in zip(batch.kwargs["input_ids"].tolist(), batch.kwargs["position_ids"].tolist(), strict=True)
    ]
    return sorted(set(found))


def _agree(a: Int[torch.Tensor, "batch ..."], b: Int[torch.Tensor, "batch ..."]) -> Bool[np.ndarray, " batch"]:
    return np.asarray((a == b).reshape(len(a), -1).all(1).numpy())


def _by_bin(right: Bool[np.ndarray, " batch"], bins: Int[np.ndarray, " batch"]) -> tuple[float, ...]:
    return tuple(float(right[bins == b].mean()) for b in range(len(BINS)))


def scored(task: Task, rows: Sequence[int], found: Int[torch.Tensor, "batch time ..."]) -> Bool[np.ndarray, " batch"]:
    """On which sequences all scored labels are met."""
    labels = task.labels[rows]
    if task.signs:
        good, counts = ((found > 0).long() == labels).all(-1), (labels != 0).any(-1)
    else:
        asked = predictions(network_logits(task.module, {k: v[rows] for k, v in task.arrays().items()}), False) >= 0
        good, counts = found == labels, asked
    return np.asarray((good | ~counts).all(1).numpy())


def lines_of(program: Program) -> int:
    """Lines of the function that is the whole."""
    from pellucid.emitters.python import program_source

    text = program_source(program).text
    body = text[text.index("# The program, callers") :].split("# -----")[0].split('"""')
    return sum(bool(line.strip()) for line in body[-1].splitlines())


def nodes_of(block: Block) -> list[Any]:
    """All nodes, those of loops included."""
    return [n for node in block.nodes for n in (node, *(nodes_of(node.body) if node.body is not None else ()))]


def _rows_of(table: object) -> int:
    return len(table) if isinstance(table, tuple) else 0


# ---- controls


def searched(module: Asked, inputs: Inputs, budget: float) -> Program:
    """The program of a network with a reading of the whole, if there is one."""
    network = load(module)
    graph = trace(network, inputs.example.args, inputs.example.kwargs)
    program = structure(graph, partition(graph))
    names = program[program.entry].inputs
    fit = split(inputs).fit.take(SAMPLES_TO_FIT)
    calls = [[batch.kwargs[name] for name in names] for batch in fit.batches()]
    return find_code(program, calls, WHOLE, budget)


def claimed(module: Asked, task: Task) -> str:
    """The method of the reading of the whole that the search claims for another network, if any."""
    program = searched(module, gather(task.arrays()), BUDGET)
    entry = program[program.entry]
    return entry.reading().method if entry.chosen == "code" else ""


def controls(tasks: Sequence[Task], outcome: Outcome) -> Table:
    """Networks that learned nothing: none may get a program."""
    rows = []
    for task in tasks:
        size = sum(parameter.numel() for parameter in task.module.parameters())
        tried = {"random weights": claimed(random_module(task, 0), task)}
        if size <= TRAINED_CONTROLS:
            tried["shuffled answers"] = claimed(shuffled_module(task, 0), task)
        for how, method in tried.items():
            say(f"control {task.name}, {how}: {method or 'nothing claimed'}")
            met = outcome.require(not method, f"control {task.name}, {how}: read as {method}")
            rows.append([task.name, how, method or "nothing claimed", met])
    text = f"Controls, seed 0; trained on shuffled answers where a net has at most {TRAINED_CONTROLS:,} parameters."
    return Table(text, ("shape", "control", "reading of the whole", "met"), rows)


# ---- the table


COLUMNS = (
    "network", "program", "match with the network, by length", "match on fresh sequences", "network right",
    "program right", "sequences", "lines", "largest table", "bits, network / program", "seconds, of processor",
    "decompiled by the paper", "≥ 0.9",
)  # fmt: skip


def row_of(found: Found, published: Mapping[str, Mapping[str, object]]) -> list[object]:
    """A network as a row."""
    shares = ["/".join(f"{value:.3f}" for value in values) for values in (found.match, found.network, found.right)]
    network, program = found.bits
    return [
        found.name,
        found.method or f"none ({found.trail})"[:240],
        shares[0] if found.method else "",
        "/".join(f"{value:.3f}" for value in found.fresh),
        shares[1],
        shares[2] if found.method else "",
        "/".join(map(str, found.sequences)),
        found.lines if found.method else "",
        found.largest_table or "",
        f"{network / program:,.0f}" if found.method else "",
        f"{found.seconds[0]:.0f}, {found.seconds[1]:.0f}" + ("" if found.judged else " (searched)"),
        "yes" if published[found.name]["decompiled_by_paper"] else "no",
        "yes" if found.worst >= MATCH else "no",
    ]


def judge(found: Sequence[Found], published: Mapping[str, Mapping[str, object]], outcome: Outcome) -> None:
    """The bars over all networks."""
    good = [one for one in found if one.worst >= MATCH]
    close = [one for one in found if one.worst >= CLOSE]
    named = [one for one in found if published[one.name]["decompiled_by_paper"]]
    lost = [one.name for one in named if one.worst < MATCH]
    ratio = statistics.median(one.bits[0] / one.bits[1] if one.readable else 1.0 for one in found)
    slow = [one.name for one in found if one.seconds[0] > SECONDS]
    counts = [
        (len(good) >= MANY, f"match ≥ {MATCH} on all bins: {len(good)} of {len(found)} (bar {MANY})"),
        (not lost, f"of the {len(named)} that the paper decompiled, missed: {', '.join(lost) or 'none'}"),
        (len(close) >= MANY_CLOSE, f"match ≥ {CLOSE} on all bins: {len(close)} of {len(found)} (bar {MANY_CLOSE})"),
        (ratio >= RATIO, f"the median program has 1/{ratio:,.0f} of its network's bits (bar 1/{RATIO:.0f})"),
        (not slow, f"above {SECONDS:.0f} s: {', '.join(slow) or 'none'}"),
    ]
    for met, text in counts:
        outcome.require(met, text)
        outcome.notes.append(f"{text}: {'met' if met else '**missed**'}")


def main() -> int:
    """Run the networks, then the controls."""
    chosen = options(
        __doc__,
        ("--only", "names of networks, separated by commas, or parts of them"),
        ("--controls", "no: leave them out"),
        ("--judged", "no: leave out the verdicts on the exact parts of each network"),
        ("--resume", "yes: take what an interrupted run has measured as it is"),
    )
    started, outcome = time.monotonic(), Outcome()
    folder = DATA / "gpt2_algorithmic"
    try:
        networks = data_networks()
        if not folder.is_dir():
            raise Absent("the folder ../shared/data/gpt2_algorithmic")
    except Absent as what:
        outcome.notes.append(f"{ABSENT} ({what})")
        return publish("code/gpt2", TITLE, BAR, outcome, started, chosen.write)
    published = json.loads((folder / "published.json").read_text(encoding="utf-8"))
    names = sorted(path.name[: -len(".npz")] for path in folder.glob("*.npz") if ".inputs." not in path.name)
    if chosen.only:
        names = [name for name in names if any(part in name for part in chosen.only.split(","))]
    found = []
    for name in names:
        found.append(kept(task_of(networks, name), chosen.resume == "yes", chosen.judged != "no"))
        say(f"{row_of(found[-1], published)}")
    text = (
        "Shares of sequences of lengths up to 50, 100 and 150 of the verify split (seed 0), program.py in a fresh "
        f"process without weights. Beside the bar: the same on {MORE:,} fresh sequences of each length (seed 0), where "
        "the given ones show how they were drawn. Rows marked `searched` are without the verdicts on the exact parts."
    )
    outcome.tables.append(Table(text, COLUMNS, [row_of(one, published) for one in found]))
    if not chosen.only:
        judge(found, published, outcome)
    if chosen.controls != "no":
        outcome.tables.append(controls([task_of(networks, name) for name in names], outcome))
    return publish("code/gpt2", TITLE, BAR, outcome, started, chosen.write)


TITLE = "GPT-2s on algorithms and formal languages as code"
BAR = (
    f"match with the network ≥ {MATCH} on all three length bins with readable code on ≥ {MANY} of 16, among them the "
    f"11 that the paper decompiled; ≥ {CLOSE} on ≥ {MANY_CLOSE}; at most {SECONDS:.0f} s each; the median program at "
    f"most 1/{RATIO:.0f} of its network's bits; no control is read"
)

if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
