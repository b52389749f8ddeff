"""stories15M in words, end to end: dictionaries, labels, rules of heads, the network run on them, tuned, measured.

Everything is made by `pellucid.describing.describe`; every figure is from *verify*. `--output FOLDER` keeps what is
done (the same call goes on from there); `--windows N` says how much text there is, `--steps N` how long to tune.
`--control 1` instead tunes the MLPs of the description in that folder with their labels dealt to other latents, as long
and on the same text as the benchmark tunes those that are theirs.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from shared import Absent, Outcome, Table, options, publish, say
from stories import corpus, network

import pellucid
from pellucid.data.corpus import Corpus, CorpusParts, split_corpus
from pellucid.describing import FOLDER, SETTLED, Effort, describe, effort_of
from pellucid.dictionaries.dictionary import Dictionary
from pellucid.dictionaries.install import install
from pellucid.ir.program import Program
from pellucid.words.heads.saving import load_heads
from pellucid.words.labels.labelset import load_labels
from pellucid.words.reading.install import Words, choose, install_words, parts_of
from pellucid.words.reading.measure import Measured, dealt_to_others, groups, measure, of_another_text, window_losses
from pellucid.words.reading.ngrams import fit_ngrams
from pellucid.words.reading.settle import label_correlations, means, settle
from pellucid.words.reading.tune import tune
from pellucid.words.scores.intervals import bootstrapped_mean

WINDOWS, THREADS, SCORED = 1536, 2, 48
"""Windows of text; threads; windows of *verify* for figures of single parts and of controls."""

MLPS_RATE, MLPS_STEPS, MLPS_HELD = 0.02, 1000, 0.02
"""Of tuning words of MLPs that run in the network as it is."""

MORE_WINDOWS, MORE_SEED = 2048, 1
"""Of text that only they are tuned on, beside *tune*; windows of the described text are left out."""

COST = "cost.json"
"""What a description took that was made in one go, kept beside it."""

MINUTES, MEMORY, MLPS, AIM, MEDIAN = 30, 8, 2.0, 2.6, 0.6
BAR = (
    f"every MLP clearly above mean and zero ablation, recovered ≥ {MEDIAN} at the median; all MLPs ≤ {MLPS}; whole"
    f" network below the trigram model (aim {AIM}); ≤ {MINUTES} minutes on two cores, ≤ {MEMORY} GB"
)


def main() -> int:
    given = options(
        __doc__, ("--seed", "of everything"), ("--windows", "how many windows of text"), ("--steps", "of tuning"),
        ("--output", "folder of the description"), ("--control", "1 for the control of tuning"),
    )  # fmt: skip
    started, outcome = time.monotonic(), Outcome()
    effort = effort_of(seed=int(given.seed or 0))
    assert effort.tuning is not None
    steps = int(given.steps or effort.tuning.steps)
    effort = replace(effort, threads=THREADS, tuning=replace(effort.tuning, steps=steps))
    try:
        texts, model = corpus(int(given.windows or WINDOWS), 0), network()
    except Absent as absent:
        say(f"skipped: {absent}")
        return 0
    torch.set_num_threads(THREADS)
    if given.control:
        return control(model, texts, Path(given.output or "."), effort, outcome, started, given.write)
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(given.output or f"{scratch}/described")
        tuned = described(model, texts, output, effort)
        parts = split_corpus(texts, effort.seed)
        before = untuned(model, parts, output / FOLDER)
        more = more_text(texts, parts.tune)
        mlps = mlps_tuned(model, parts, more, output / FOLDER, effort)
        took = cost(output, outcome)
    outcome.tables += [alone(before, tuned, parts, outcome), together(before, tuned, mlps, parts, outcome)]
    outcome.tables.append(agreement(before, tuned, parts))
    outcome.notes += [took, made_from(parts, more, effort), shares(tuned)]
    return publish("words/stories15m", "stories15M on words", BAR, outcome, started, given.write)


def described(model: torch.nn.Module, texts: Corpus, output: Path, effort: Effort) -> Program:
    """The program of the description; if it was made in one go, what it took is written down."""
    since, begun = time.monotonic(), (output / FOLDER).exists()
    program = describe(model, texts, output=output, effort=effort, progress=say)
    if not begun:
        took = {"seconds": time.monotonic() - since, "gigabytes": peak_gigabytes()}
        (output / COST).write_text(json.dumps(took), encoding="utf-8")
    return program


def untuned(
    model: torch.nn.Module, parts: CorpusParts, folder: Path, attention: bool = True, dealt: bool = False
) -> Program:
    """The program with the same words before their numbers were tuned; without `attention` with those of MLPs only,
    `dealt` with each label given to another latent of its MLP."""
    graph = pellucid.trace(model, (), {"input_ids": torch.arange(24).reshape(2, 12)})
    program = pellucid.structure(graph, pellucid.partition(graph))
    names = [name for name, function in program.functions.items() if function.kind == "mlp"]
    for name in names:
        program = install(program, name, Dictionary.load(folder / "dictionaries" / f"{name}.safetensors"))
    labels = {name: load_labels(folder / "labels" / f"{name}.json") for name in names}
    if dealt:
        rng = np.random.default_rng(0)
        labels = {name: found.some(rng.permutation(len(found)).tolist()) for name, found in labels.items()}
    program = install_words(program, Words(labels, load_heads(folder / "heads") if attention else ()))
    return settle(program, parts.fit.rows(slice(0, SETTLED)))


def more_text(texts: Corpus, tune_part: Corpus) -> Corpus:
    """*tune* and more windows that the network wrote, none of which is in the described text."""
    known = {row.tobytes() for row in texts.ids}
    more = corpus(MORE_WINDOWS, MORE_SEED).ids
    fresh = [row for row in more if row.tobytes() not in known]
    return replace(tune_part, ids=np.concatenate([tune_part.ids, np.stack(fresh)]))


def mlps_tuned(
    model: torch.nn.Module, parts: CorpusParts, text: Corpus, folder: Path, effort: Effort, dealt: bool = False
) -> Program:
    """The words of the MLPs tuned for themselves: attention stays as it is."""
    assert effort.tuning is not None
    tuning = replace(
        effort.tuning, rate=MLPS_RATE, mixed=0.0, faithful=0.0, steps=MLPS_STEPS, held=MLPS_HELD, patience=MLPS_STEPS
    )
    program = untuned(model, parts, folder, attention=False, dealt=dealt)
    state = folder / ("mlps-tuning-dealt" if dealt else "mlps-tuning")
    return tune(program, text, tuning, state, lambda look: say(f"MLPs alone: {look}")).program


def control(
    model: torch.nn.Module, texts: Corpus, output: Path, effort: Effort, outcome: Outcome, started: float, write: bool
) -> int:
    """What tuning makes of labels that are not those of their latents."""
    parts = split_corpus(texts, effort.seed)
    more = more_text(texts, parts.tune)
    program = mlps_tuned(model, parts, more, output / FOLDER, effort, dealt=True)
    losses = window_losses(program, parts.verify, groups(program)["all MLPs"])
    text = f"All MLPs on words, attention as it is; {len(parts.verify)} windows of *verify*, cross-entropy."
    row = single("all MLPs, labels dealt to other latents, tuned for themselves", losses)
    outcome.tables.append(Table(text, COLUMNS[:3], [row[:3]]))
    outcome.notes.append(made_from(parts, more, effort))
    title = "stories15M on words: the control of tuning"
    command = "words/stories15m.py --output D --control 1"
    return publish("words/stories15m-control", title, "a figure, no bar", outcome, started, write, command)


def peak_gigabytes() -> float:
    """The most memory that this process held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def cost(output: Path, outcome: Outcome) -> str:
    """Time and memory of the description."""
    if not (output / COST).is_file():
        outcome.require(False, "described in one go: time and memory are not known of a run that was stopped")
        return "time and memory of the description are not known: it was stopped and gone on with"
    took = json.loads((output / COST).read_text(encoding="utf-8"))
    seconds, gigabytes = took["seconds"], took["gigabytes"]
    in_time = outcome.require(seconds <= 60 * MINUTES, f"{MINUTES} minutes")
    in_memory = outcome.require(gigabytes <= MEMORY, f"{MEMORY} GB")
    told = f"described in {seconds / 60:.1f} minutes ({in_time}), at most {gigabytes:.1f} GB ({in_memory})"
    return f"{told}, as was kept with the description when it was made"


def made_from(parts: CorpusParts, text: Corpus, effort: Effort) -> str:
    """What text and effort figures come from."""
    more = effort.tuning.more if effort.tuning is not None else ()
    return (
        f"{parts.fit.tokens} tokens to grow on, {parts.tune.tokens} to tune on ({text.tokens} for MLPs alone, in"
        f" {MLPS_STEPS} steps), {parts.verify.tokens} to verify; seed {effort.seed}; tuned beside the"
        f" constants of words: {', '.join(more) or 'nothing'}"
    )


# ---- measuring


def alone(program: Program, tuned: Program, parts: CorpusParts, outcome: Outcome) -> Table:
    """Each part by words, all else exact; judged as it was grown, beside what is left of it after tuning."""
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
    text = (
        f"One part at a time on words, as they were grown and fitted; {len(scored)} windows of *verify*, 95 % intervals"
        " over them. Last column: after all numbers were tuned together, which serves the whole (next table)."
    )
    rows = [[*row(one), f"{window_losses(tuned, scored, [one.name]).mean():.3f}"] for one in found]
    return Table(text, (*COLUMNS, "on words, tuned"), rows)


COLUMNS = ("part", "real", "on words", "mean", "zero", "recovered (mean)", "recovered (zero)")


def row(one: Measured) -> list[object]:
    losses = [f"{losses.mean():.3f}" for losses in (one.real, one.words, one.mean, one.zero)]
    return [one.name, *losses, str(one.recovered()), str(one.recovered("zero"))]


def together(before: Program, tuned: Program, mlps: Program, parts: CorpusParts, outcome: Outcome) -> Table:
    """All MLPs, all attention, the whole, beside n-gram models and controls."""
    usual = means(tuned, parts.fit.rows(slice(0, SETTLED)))
    several = {name: own for name, own in groups(tuned).items() if len(own) > 1}
    found = {one.name: one for one in measure(tuned, parts.verify, usual, several, report=say)}
    grams = {n: fit_ngrams(parts.fit, parts.tune, n) for n in (1, 2, 3)}
    losses = {model.name: model.losses(parts.verify) for model in grams.values()}
    rows = [row(one) for one in found.values()]
    by_themselves = window_losses(mlps, parts.verify, several["all MLPs"])
    rows.append(single("all MLPs, tuned for themselves", by_themselves))
    rows += [single(f"{name}, not tuned", window_losses(before, parts.verify, own)) for name, own in several.items()]
    rows += [single(f"{name} model", losses[name]) for name in losses]
    rows += [single(name, control) for name, control in controls(tuned, parts, several["all MLPs"]).items()]
    words = {name: one.words.mean() for name, one in found.items()}
    outcome.require(by_themselves.mean() <= MLPS, f"all MLPs ≤ {MLPS}")
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
