"""stories15M in words, end to end: dictionaries, labels, rules of heads, the network run on them, tuned, measured.

Labels and rules are made on *fit*, constants tuned on *tune*, every figure is from *verify*. `--dictionaries FOLDER`
and `--rules FOLDER` hold what is trained there where it is missing; `--windows N` says how much text there is.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from shared import Absent, Outcome, Table, options, publish, say
from stories import corpus, network

import pellucid
from pellucid.data.corpus import CorpusParts, split_corpus
from pellucid.dictionaries.dictionary import Dictionary
from pellucid.dictionaries.install import install
from pellucid.dictionaries.pairs import capture_pairs
from pellucid.dictionaries.training import Recipe, train_dictionary
from pellucid.ir.program import Program
from pellucid.words.heads.capture import capture_heads
from pellucid.words.heads.fitting import fit_heads
from pellucid.words.heads.rule import HeadRule
from pellucid.words.heads.saving import load_heads, save_heads
from pellucid.words.heads.scene import grammar_of
from pellucid.words.labels.activations import Activations, activations_of_entries
from pellucid.words.labels.grow import Growth, grow
from pellucid.words.labels.labelset import LabelSet
from pellucid.words.labels.lexicon import survey
from pellucid.words.reading.install import Words, choose, install_words, parts_of
from pellucid.words.reading.measure import Measured, dealt_to_others, groups, measure, of_another_text, window_losses
from pellucid.words.reading.ngrams import fit_ngrams
from pellucid.words.reading.settle import label_correlations, means, settle
from pellucid.words.reading.tune import More, Tuning, tune
from pellucid.words.scores.intervals import bootstrapped_mean

WINDOWS, EPOCHS, THREADS = 1536, 6, 2
SETTLED, SCORED = 64, 48
"""Windows of *fit* that means are taken of; windows of *verify* for figures of single parts."""

MINUTES, MLPS, WHOLE, AIM, MEDIAN = 30, 2.0, 3.58, 2.6, 0.6
BAR = (
    f"every MLP clearly above mean and zero ablation, recovered ≥ {MEDIAN} at the median; all MLPs ≤ {MLPS}; whole"
    f" network below the trigram model (aim {AIM}); ≤ {MINUTES} minutes on two cores"
)


@dataclass(frozen=True)
class Folders:
    """Where dictionaries and rules are kept."""

    dictionaries: Path
    rules: Path


def main() -> int:
    given = options(
        __doc__, ("--seed", "of everything"), ("--windows", "how many windows of text"), ("--steps", "of tuning"),
        ("--dictionaries", "folder of dictionaries"), ("--rules", "folder of rules"),
        ("--more", "decoders or norms: tune these, too"),
    )  # fmt: skip
    started, outcome, seed = time.monotonic(), Outcome(), int(given.seed or 0)
    try:
        parts, model = split_corpus(corpus(int(given.windows or WINDOWS), 0), seed), network()
    except Absent as absent:
        say(f"skipped: {absent}")
        return 0
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as scratch:
        folders = Folders(Path(given.dictionaries or scratch), Path(given.rules or f"{scratch}/rules"))
        before = described(program_of(model), parts, folders, seed)
    steps: dict[str, int] = {"steps": int(given.steps)} if given.steps else {}
    more: tuple[More, ...] = (given.more,) if given.more else ()
    tuned = tune(before, parts.tune, replace(Tuning(seed=seed, more=more), **steps), report=lambda look: say(f"{look}"))
    seconds = time.monotonic() - started
    say(f"described in {seconds:.0f} s; kept constants of step {tuned.kept}")
    outcome.tables += [alone(tuned.program, parts, outcome), together(before, tuned.program, parts, outcome)]
    outcome.tables.append(agreement(before, tuned.program, parts))
    outcome.notes += [
        f"described in {seconds / 60:.1f} minutes ({outcome.require(seconds <= 60 * MINUTES, f'{MINUTES} minutes')});"
        f" {parts.fit.tokens} tokens to grow on, {parts.tune.tokens} to tune on, {parts.verify.tokens} to verify;"
        f" seed {seed}; tuned beside constants of words: {', '.join(more) or 'nothing'}",
        shares(tuned.program),
    ]
    return publish("words/stories15m", "stories15M on words", BAR, outcome, started, given.write)


# ---- describing


def program_of(model: torch.nn.Module) -> Program:
    """The network as functions, layers and their parts."""
    graph = pellucid.trace(model, (), {"input_ids": torch.arange(24).reshape(2, 12)})
    return pellucid.structure(graph, pellucid.partition(graph))


def described(program: Program, parts: CorpusParts, folders: Folders, seed: int) -> Program:
    """The program with dictionaries, and with words for all MLPs and heads; what is missed is settled."""
    rules = rules_of(program, parts, folders.rules)
    mlps = [name for name, function in program.functions.items() if function.kind == "mlp"]
    lexicon = survey(parts.fit)
    labels: dict[str, LabelSet] = {}
    for name in mlps:
        pairs = capture_pairs(program, [name], parts.fit)[name]
        file = folders.dictionaries / f"{name}.safetensors"
        if not file.is_file():
            train_dictionary(pairs, Recipe(epochs=EPOCHS, seed=seed)).save(file)
        dictionary = Dictionary.load(file)
        inputs = (pairs.rows(slice(i, i + 4096))[0] for i in range(0, len(pairs), 4096))
        acts = latents(dictionary, list(inputs), parts.fit.ids.shape)
        labels[name] = grow(parts.fit.ids, acts, lexicon, Growth(), site=f"{name}.dictionary:latents", threads=THREADS)
        program = install(program, name, dictionary)
        say(f"{name}: dictionary and {len(labels[name])} labels")
    return settle(install_words(program, Words(labels, rules)), parts.fit.rows(slice(0, SETTLED)))


def rules_of(program: Program, parts: CorpusParts, folder: Path) -> tuple[HeadRule, ...]:
    """Rules of all heads, fitted where the folder holds none."""
    if not folder.is_dir():
        some = parts.fit.rows(slice(0, 4 * SETTLED))
        save_heads(fit_heads(capture_heads(program, some), grammar_of(some)).rules(), folder)
        say("rules of heads")
    return load_heads(folder)


def latents(dictionary: Dictionary, inputs: Sequence[torch.Tensor], shape: tuple[int, ...]) -> Activations:
    """The latents at every position of windows, none at the first of each."""
    places, units, values, start = [], [], [], 0
    for rows in inputs:
        with torch.no_grad():
            found = dictionary.encode(rows).numpy()
        at, unit = np.nonzero(found)
        window, place = np.divmod(at + start, shape[1] - 1)
        places.append(window * shape[1] + place + 1)
        units.append(unit)
        values.append(found[at, unit])
        start += len(rows)
    return activations_of_entries(
        np.concatenate(places), np.concatenate(units), np.concatenate(values), int(np.prod(shape)), dictionary.latents
    )


# ---- measuring


def alone(program: Program, parts: CorpusParts, outcome: Outcome) -> Table:
    """Each part by words, all else exact."""
    scored, usual = parts.verify.rows(slice(0, SCORED)), means(program, parts.fit.rows(slice(0, SETTLED)))
    single = {name: own for name, own in groups(program).items() if len(own) == 1}
    found = measure(program, scored, usual, single, report=say)
    mlps = [one for one in found if f"{one.name}.dictionary" in program.functions]
    shares = [one.recovered() for one in mlps]
    outcome.require(
        float(np.median([share.value for share in shares])) >= MEDIAN, f"recovered ≥ {MEDIAN} at the median"
    )
    clearly = all(one.recovered(kind).low > 0 for one in mlps for kind in ("mean", "zero"))
    outcome.require(clearly, "every MLP clearly above both ablations")
    text = f"One part at a time on words, tuned together; {len(scored)} windows of *verify*, 95 % intervals over them."
    return Table(text, COLUMNS, [row(one) for one in found])


COLUMNS = ("part", "real", "on words", "mean", "zero", "recovered (mean)", "recovered (zero)")


def row(one: Measured) -> list[object]:
    losses = [f"{losses.mean():.3f}" for losses in (one.real, one.words, one.mean, one.zero)]
    return [one.name, *losses, str(one.recovered()), str(one.recovered("zero"))]


def together(before: Program, tuned: Program, parts: CorpusParts, outcome: Outcome) -> Table:
    """All MLPs, all attention, the whole, beside n-gram models and controls."""
    usual = means(tuned, parts.fit.rows(slice(0, SETTLED)))
    several = {name: own for name, own in groups(tuned).items() if len(own) > 1}
    found = {one.name: one for one in measure(tuned, parts.verify, usual, several, report=say)}
    grams = {n: fit_ngrams(parts.fit, parts.tune, n) for n in (1, 2, 3)}
    losses = {model.name: model.losses(parts.verify) for model in grams.values()}
    rows = [row(one) for one in found.values()]
    rows += [single(f"{name}, not tuned", window_losses(before, parts.verify, own)) for name, own in several.items()]
    rows += [single(f"{name} model", losses[name]) for name in losses]
    rows += [single(name, control) for name, control in controls(tuned, parts, several["all MLPs"]).items()]
    words = {name: one.words.mean() for name, one in found.items()}
    outcome.require(words["all MLPs"] <= MLPS, f"all MLPs ≤ {MLPS}")
    outcome.require(words["whole network"] < losses["trigram"].mean(), "the whole below the trigram model")
    outcome.notes.append(f"whole network {words['whole network']:.3f}; aim ≤ {AIM}")
    return Table(f"Parts together on words; {len(parts.verify)} windows of *verify*, cross-entropy.", COLUMNS, rows)


def single(name: str, losses: np.ndarray) -> list[object]:
    told = bootstrapped_mean(losses)
    return [name, "", f"{told.value:.3f} [{told.low:.3f}, {told.high:.3f}]", "", "", "", ""]


def controls(program: Program, parts: CorpusParts, mlps: Sequence[str]) -> Mapping[str, np.ndarray]:
    """All MLPs by labels that say nothing about them."""
    some = parts.verify.rows(slice(0, SCORED))
    return {
        "all MLPs, labels dealt to other latents": window_losses(program, some, mlps, dealt_to_others(program, mlps)),
        "all MLPs, labels of another text": window_losses(program, some, mlps, of_another_text(program, mlps)),
    }


def agreement(before: Program, tuned: Program, parts: CorpusParts) -> Table:
    """What tuning does to how labels agree with their latents."""
    first, last = (label_correlations(program, parts.verify) for program in (before, tuned))
    rows = [[name, *(f"{np.nanmedian(r[name]):.3f}" for r in (first, last))] for name in first]
    rows.append(["all", *(f"{np.nanmedian(np.concatenate([*r.values()])):.3f}" for r in (first, last))])
    return Table("Median r of labels with their latents on *verify*.", ("latents of", "grown", "tuned"), rows)


def shares(program: Program) -> str:
    """The ledger of the network on words."""
    chosen = choose(program)
    ledger, parts = chosen.ledger, parts_of(program)
    bits = sum(chosen[name].reading().bits for own in parts.values() for name in own)
    return (
        f"words carry {ledger.share('words'):.1%} of the parameters and {ledger.share('words', by='units'):.1%} of the"
        f" units of the program with its dictionaries; all words are {bits / 8e6:.1f} MB"
    )


if __name__ == "__main__":
    sys.exit(main())
