"""Label trees on latents of transcoders of all MLPs of stories15M: free sets, named clusters, and shuffled labels.

Labels are grown on *fit*, every figure is from *verify*. `--dictionaries FOLDER` holds FUNCTION.safetensors, which are
trained there where they are missing; `--windows N` says how much text there is.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from shared import Absent, Outcome, Table, options, publish, say
from stories import corpus, network

import pellucid
from pellucid.data.corpus import CorpusParts, split_corpus
from pellucid.dictionaries.dictionary import Dictionary
from pellucid.dictionaries.pairs import Pairs, capture_pairs
from pellucid.dictionaries.training import Recipe, train_dictionary
from pellucid.words.labels.agreement import Agreement, agreement
from pellucid.words.labels.clusters import named_clusters
from pellucid.words.labels.grow import Growth, grow
from pellucid.words.labels.labelset import LabelSet
from pellucid.words.labels.lexicon import Lexicon, survey
from pellucid.words.latents import latents_of

WINDOWS, SEED, EPOCHS, THREADS = 1536, 0, 8, 2
FREE, NAMED, SHUFFLED, CAP = 0.75, 0.70, 0.05, 50
SPEED = 1700
BAR = f"median r ≥ {FREE} with sets of at most {CAP} tokens, ≥ {NAMED} with named clusters, shuffled ≤ {SHUFFLED}"
KINDS = {"free": Growth(cap=CAP), "named": Growth(sets="named")}


@dataclass(frozen=True)
class Grown:
    """The labels of a layer, how they agree with it, and the processor seconds that they took."""

    labels: LabelSet
    agreement: Agreement
    seconds: float


def main() -> int:
    given = options(__doc__, ("--dictionaries", "folder of dictionaries"), ("--windows", "how many windows of text"))
    started, outcome = time.monotonic(), Outcome()
    torch.set_num_threads(1)
    try:
        texts, model = corpus(int(given.windows or WINDOWS), SEED), network()
    except Absent as absent:
        say(f"skipped: {absent}")
        return 0
    parts = split_corpus(texts, SEED)
    plain = survey(parts.fit)
    lexicon = plain.with_clusters(
        named_clusters(parts.fit, model.get_input_embeddings().weight.detach().numpy(), plain)
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(given.dictionaries or scratch)
        grown = {name: layer(name, fit, held, parts, lexicon, folder) for name, fit, held in layers(model, parts)}
    outcome.tables.append(table(grown, parts, lexicon))
    judge(grown, outcome)
    outcome.tables.append(examples(grown))
    return publish("words/labels", "Labels without a language model", BAR, outcome, started, given.write)


def layers(model: torch.nn.Module, parts: CorpusParts) -> list[tuple[str, Pairs, Pairs]]:
    """Inputs and outputs of each MLP on *fit* and on *verify*."""
    graph = pellucid.trace(model, (), {"input_ids": torch.arange(24).reshape(2, 12)})
    program = pellucid.structure(graph, pellucid.partition(graph))
    names = [name for name, function in program.functions.items() if function.kind == "mlp"]
    fit, held = (capture_pairs(program, names, part) for part in (parts.fit, parts.verify))
    say("captured")
    return [(name, fit[name], held[name]) for name in names]


def layer(name: str, fit: Pairs, held: Pairs, parts: CorpusParts, lexicon: Lexicon, folder: Path) -> dict[str, Grown]:
    file = folder / f"{name}.safetensors"
    if not file.is_file():
        train_dictionary(fit, Recipe(epochs=EPOCHS, seed=SEED)).save(file)
    dictionary = Dictionary.load(file)
    acts, real = latents_of(dictionary, fit, parts.fit), latents_of(dictionary, held, parts.verify)
    found = {}
    for kind, growth in KINDS.items():
        before = time.process_time()
        labels = grow(parts.fit.ids, acts, lexicon, growth, site=f"{name}.dictionary:latents", threads=THREADS)
        seconds = time.process_time() - before
        found[kind] = Grown(labels, agreement(labels, parts.verify.ids, real, seed=SEED), seconds)
        say(f"{name}, {kind}: r {found[kind].agreement.median:.3f}, {seconds:.0f} s")
    return found


def table(grown: dict[str, dict[str, Grown]], parts: CorpusParts, lexicon: Lexicon) -> Table:
    """A row a layer and one of all."""
    columns = [
        "latents of", "active", "r, free sets", "r, named clusters", "shuffled, free", "shuffled, named",
        "set size, free", "largest", "set size, named", "bits, free", "bits, named", "units a minute, free", "named",
    ]  # fmt: skip
    rows = [row(name, {kind: [found[kind]] for kind in KINDS}) for name, found in grown.items()]
    rows.append(row("all", {kind: [found[kind] for found in grown.values()] for kind in KINDS}))
    text = (
        f"Medians over the latents that are active on *verify* ({parts.verify.tokens} tokens; labels grown on"
        f" {parts.fit.tokens}; {len(lexicon.clusters)} named clusters); seed {SEED}. A set lists tokens or pairs (free)"
        f" or clusters (named). Minutes are of processor time, {THREADS} threads."
    )
    return Table(text, columns, rows)


def row(name: str, found: dict[str, list[Grown]]) -> list[object]:
    free, named = found["free"], found["named"]
    labels = {kind: [label for one in found[kind] for label in one.labels.labels] for kind in KINDS}
    sizes = {kind: [size for label in labels[kind] for size in label.sets] for kind in KINDS}
    bits = {kind: np.median([label.bits for label in labels[kind]]) for kind in KINDS}
    speed = {kind: len(labels[kind]) / sum(one.seconds for one in found[kind]) * 60 for kind in KINDS}
    return [
        name, int(np.isfinite(own(free)).sum()), f"{np.nanmedian(own(free)):.3f}", f"{np.nanmedian(own(named)):.3f}",
        f"{np.nanmedian(dealt(free)):.3f}", f"{np.nanmedian(dealt(named)):.3f}", f"{np.median(sizes['free']):.0f}",
        max(sizes["free"]), f"{np.median(sizes['named']):.0f}", f"{bits['free']:.0f}", f"{bits['named']:.0f}",
        f"{speed['free']:.0f}", f"{speed['named']:.0f}",
    ]  # fmt: skip


def own(found: list[Grown]) -> np.ndarray:
    return np.concatenate([one.agreement.own for one in found])


def dealt(found: list[Grown]) -> np.ndarray:
    return np.concatenate([one.agreement.shuffled for one in found])


def judge(grown: dict[str, dict[str, Grown]], outcome: Outcome) -> None:
    free, named = ([found[kind] for found in grown.values()] for kind in KINDS)
    outcome.require(float(np.nanmedian(own(free))) >= FREE, f"median r {FREE} with free sets")
    outcome.require(float(np.nanmedian(own(named))) >= NAMED, f"median r {NAMED} with named clusters")
    control = max(abs(float(np.nanmedian(dealt(kind)))) for kind in (free, named))
    outcome.require(control <= SHUFFLED, f"shuffled labels within {SHUFFLED}")
    largest = max(size for one in free for label in one.labels.labels for size in label.sets)
    outcome.require(largest <= CAP, f"no set of more than {CAP} tokens")
    for kind, found in (("free", free), ("named", named)):
        speed = sum(len(one.labels) for one in found) / sum(one.seconds for one in found) * 60
        outcome.require(speed >= SPEED, f"{SPEED} units a minute ({kind} sets)")


def examples(grown: dict[str, dict[str, Grown]]) -> Table:
    """The latent of median agreement of each layer, with named clusters."""
    rows = []
    for name, found in grown.items():
        r = found["named"].agreement.own
        unit = int(np.argsort(np.where(np.isfinite(r), r, -2))[(~np.isfinite(r)).sum() + np.isfinite(r).sum() // 2])
        rows.append([f"{name}[{unit}]", f"{r[unit]:.2f}", f"`{found['named'].labels.labels[unit]}`"])
    return Table("Of each layer the label of the latent of median agreement.", ["latent", "r", "label"], rows)


if __name__ == "__main__":
    sys.exit(main())
