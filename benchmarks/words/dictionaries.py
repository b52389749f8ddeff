"""Dictionaries of all six MLPs of stories15M: what they reconstruct, what the network loses on them, what they take.

`--windows N` of text that the network wrote (default 1536), `--seeds 0,1,2` (default 0), `--dictionaries FOLDER` takes
layer0.safetensors … from there instead of training them.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from shared import Absent, Outcome, Table, options, publish, say
from stories import corpus, network

from pellucid.data.corpus import CorpusParts, split_corpus
from pellucid.dictionaries.dictionary import Dictionary
from pellucid.dictionaries.measures import Downstream, Fidelity, Loss, downstream, fidelity, loss_with
from pellucid.dictionaries.pairs import Pairs, capture_pairs
from pellucid.dictionaries.running import all_changed
from pellucid.dictionaries.together import Tuning, tune_together
from pellucid.dictionaries.training import Recipe, train_dictionary
from pellucid.ir.program import Program
from pellucid.lift.trace import trace
from pellucid.modules.partition import partition
from pellucid.modules.structure import structure

LAYERS = tuple(f"model.layers.{i}.mlp" for i in range(6))
SECONDS = 120.0
"""Processor time that a layer may take."""

WORDS = 2.0
"""What all MLPs on words may cost in the end: the dictionaries alone have to be below that."""


@dataclass(frozen=True)
class Found:
    """What one seed gave: dictionaries alone, and tuned together."""

    seed: int
    fidelity: Mapping[str, Fidelity]
    seconds: Mapping[str, float]
    alone: Downstream
    tuned: Mapping[str, Loss]
    tuning_seconds: float


def main() -> int:
    """Run it."""
    options_ = options(
        __doc__, ("--windows", "how many windows of 256 tokens"), ("--seeds", "seeds, by commas"),
        ("--dictionaries", "folder of trained dictionaries"),
    )  # fmt: skip
    started, outcome = time.monotonic(), Outcome()
    torch.set_num_threads(1)
    try:
        text = corpus(int(options_.windows or 1536))
        program = lifted()
    except Absent as absent:
        say(f"skipped: {absent}")
        return 0
    folder = Path(options_.dictionaries) if options_.dictionaries else None
    for seed in (int(part) for part in (options_.seeds or "0").split(",")):
        parts = split_corpus(text, seed)
        found = measured(program, parts, seed, folder)
        report(outcome, found, parts)
    bar = f"≤ {SECONDS:.0f} s of processor time a layer; all six at once below {WORDS} nats"
    return publish("words/dictionaries", "Dictionaries", bar, outcome, started, options_.write)


def lifted() -> Program:
    """stories15M as a program."""
    graph = trace(network(), (torch.ones((2, 16), dtype=torch.int64),))
    return structure(graph, partition(graph))


def measured(program: Program, parts: CorpusParts, seed: int, folder: Path | None) -> Found:
    """Dictionaries trained on fit (or taken from a folder), tuned together on fit, and measured on verify."""
    held = capture_pairs(program, LAYERS, parts.verify)
    pairs = capture_pairs(program, LAYERS, parts.fit)
    means = {name: torch.from_numpy(both.outputs.mean(0, dtype=np.float64)).float() for name, both in pairs.items()}
    dictionaries, seconds = {}, {}
    for i, name in enumerate(LAYERS):
        say(f"seed {seed}: {name}")
        dictionaries[name], seconds[name] = trained(pairs[name], seed, folder, i)
    del pairs
    alone = downstream(program, dictionaries, means, parts.verify, progress=say)
    before = time.process_time()
    tuned = tune_together(program, dictionaries, parts.fit, Tuning(seed=seed), progress=lambda step: say(str(step)))
    tuning = time.process_time() - before
    runs = {**{name: [name] for name in LAYERS}, "all": LAYERS}
    after = {name: loss_with(program, all_changed(tuned, names), parts.verify) for name, names in runs.items()}
    fidelities = {name: fidelity(dictionary, held[name]) for name, dictionary in dictionaries.items()}
    return Found(seed, fidelities, seconds, alone, after, tuning)


def trained(pairs: Pairs, seed: int, folder: Path | None, layer: int) -> tuple[Dictionary, float]:
    """A layer's dictionary and the processor seconds that it took (none where it was there)."""
    if folder is not None:
        return Dictionary.load(folder / f"layer{layer}.safetensors"), math.nan
    before = time.process_time()
    return train_dictionary(pairs, Recipe(seed=seed)), time.process_time() - before


def report(outcome: Outcome, found: Found, parts: CorpusParts) -> None:
    """The tables of one seed, and the bars."""
    rows = []
    for name in LAYERS:
        one = found.fidelity[name]
        rows.append([name, f"{one.unexplained:.3f}", f"{one.dead:.1%}", f"{one.active:.1f}", *losses(found, name),
                     f"{found.seconds[name]:.0f}"])  # fmt: skip
    rows.append(["all six", "", "", "", *losses(found, "all"), f"{sum(found.seconds.values()):.0f}"])
    recipe = Recipe()
    outcome.tables.append(Table(
        f"Seed {found.seed}: {recipe.latents:,} latents, TopK {recipe.active}, trained on {parts.fit.tokens:,} tokens"
        f" (fit), measured on {found.fidelity[LAYERS[0]].positions:,} positions (verify). Network:"
        f" {shown(found.alone.network)} nats a token. Tuned: all six end to end on fit,"
        f" {found.tuning_seconds:.0f} s of processor time",
        ["replaced", "unexplained variance", "dead", "active", "dictionary", "tuned", "mean", "zero", "seconds"], rows,
    ))  # fmt: skip
    if not math.isnan(taken := max(found.seconds.values())):
        outcome.require(taken <= SECONDS, f"seed {found.seed}: seconds a layer")
    outcome.require(found.alone.dictionary["all"].mean < WORDS, f"seed {found.seed}: all six at once")


def losses(found: Found, name: str) -> list[str]:
    """Cross-entropies with a function on its dictionary, on the tuned one, on its mean and on zero."""
    return [
        shown(found.alone.dictionary[name]), shown(found.tuned[name]),
        shown(found.alone.mean[name]), shown(found.alone.zero[name]),
    ]  # fmt: skip


def shown(loss: Loss) -> str:
    """A loss with its interval."""
    return f"{loss.mean:.3f} ({loss.low:.3f}-{loss.high:.3f})"


if __name__ == "__main__":
    sys.exit(main())
