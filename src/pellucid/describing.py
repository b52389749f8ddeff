"""The way to words: a language model and a text go in; out comes its program with a description that runs of each part.

load → trace → structure → dictionaries → labels → heads as rules → install → tune → emit → units → verify → report

Everything that takes long is kept in the folder `words` of the output as soon as it is done, so that the same call goes
on after an interruption. Nothing needs a language model: labels are grown (`pellucid.words.labels`), heads are fitted
(`pellucid.words.heads`). Dictionaries, labels and rules are made from the *fit* windows of the text, numbers are tuned
on *tune*, and all figures come from *verify*.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pellucid.data import gather
from pellucid.data.corpus import Corpus, CorpusParts, split_corpus
from pellucid.data.corpus_files import read_corpus
from pellucid.dictionaries.dictionary import Dictionary
from pellucid.dictionaries.install import install
from pellucid.dictionaries.pairs import Pairs, capture_pairs
from pellucid.dictionaries.training import Recipe, Step, train_dictionary
from pellucid.emitters.files import emit
from pellucid.errors import BadInput
from pellucid.fanout import HERE, Fan
from pellucid.ir.directory import REPORT, VERDICTS, replaced, writing
from pellucid.ir.graph import Weight
from pellucid.ir.program import Program
from pellucid.lift.load import Network, load
from pellucid.lift.trace import trace
from pellucid.lift.vocabulary import beginning_of, encode_bare, pieces_of
from pellucid.modules.partition import partition
from pellucid.modules.structure import structure
from pellucid.reports import write_report
from pellucid.reports.module_pages import write_module_page
from pellucid.reports.unit_pages import write_unit_pages
from pellucid.verdicts import verify_directory, write_verdicts
from pellucid.words.described import PLACE, DescribedUnit, write_units
from pellucid.words.gathered import describe_units
from pellucid.words.heads.capture import capture_heads
from pellucid.words.heads.fitting import Course, fit_heads
from pellucid.words.heads.rule import HeadRule
from pellucid.words.heads.saving import load_heads, save_heads
from pellucid.words.heads.scene import grammar_of
from pellucid.words.heads.units import head_units
from pellucid.words.hierarchy.found import describe_modules
from pellucid.words.hierarchy.modules import PLACE as MODULES_PLACE
from pellucid.words.hierarchy.modules import DescribedModule, read_modules, write_modules
from pellucid.words.judged import read_judged
from pellucid.words.labels.clusters import named_clusters
from pellucid.words.labels.grow import Growth, grow
from pellucid.words.labels.labelset import LabelSet, load_labels, save_labels
from pellucid.words.labels.lexicon import Lexicon, survey
from pellucid.words.latents import latents_of
from pellucid.words.reading.install import Words, install_words
from pellucid.words.reading.settle import settle
from pellucid.words.reading.tune import Tuning, tune

FOLDER = "words"
KEY = "made-from.json"
SETTLED = 64
"""Windows that the mean of what dictionaries miss is taken on."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Effort:
    """How much is done for a description.

    Attributes:
        recipe: of the dictionaries, one for each MLP.
        growth: of the labels, one for each latent.
        course: along which the rules of heads are fitted.
        tuning: of all numbers together; None leaves them as they were found.
        only: patterns (`*`, `?`) of the names of MLP and attention functions that are described; empty for all.
        threads: labels that are grown at the same time; changes nothing else.
        seed: of the split and of everything drawn.
    """

    recipe: Recipe = field(default_factory=Recipe)
    growth: Growth = field(default_factory=Growth)
    course: Course = field(default_factory=Course)
    tuning: Tuning | None = field(default_factory=Tuning)
    only: tuple[str, ...] = ()
    threads: int = 2
    seed: int = 0


def effort_of(*, latents: int = 1536, tuned: bool = True, only: Sequence[str] = (), seed: int = 0) -> Effort:
    """An effort with some of its numbers given; a latent in 64 is active at a position."""
    recipe = Recipe(latents=latents, active=max(1, latents // 64))
    return Effort(recipe=recipe, tuning=Tuning(seed=seed) if tuned else None, only=tuple(only), seed=seed)


def describe(
    model: nn.Module | Network | str | PathLike[str],
    corpus: Corpus | str | PathLike[str],
    *,
    output: str | PathLike[str],
    effort: Effort | None = None,
    progress: Say | None = None,
    fan: Fan = HERE,
) -> Program:
    """Describe every MLP and every head of a language model in words that predict, and put them into its program.

    Args:
        model: as for `decompile`; its program has to take nothing but token ids.
        corpus: windows of the model's own ids, or a text file (`read_text`).
        output: a directory; what is there from the same call is gone on with.
        effort: how much is done.
        progress: told each stage as it begins.
        fan: what captures, dictionaries, labels and rules are made on, see `pellucid.fanout`; it changes nothing else.

    Returns:
        The program: exact as ever, with readings of kind "words" (`program.run(ids, reading="words")`).

    Raises:
        PellucidError: one line that names the cause and the remedy; what was done is kept.
    """
    effort, say = effort or Effort(), progress or (lambda stage: None)
    say("load")
    network = load(model)
    corpus = corpus if isinstance(corpus, Corpus) else read_text(network, corpus)
    program = _program(network, corpus, say)
    mlps, attentions = _asked_for(program, effort.only)
    place = _begun(program, corpus, Path(output), effort)
    parts = split_corpus(corpus, effort.seed)
    dictionaries, labels = _labelled(program, mlps, parts, place, effort, fan, say)
    rules = _ruled(program, attentions, parts.fit, place, effort, fan, say) if attentions else ()
    say("words: put into the program")
    for name in mlps:
        program = install(program, name, dictionaries[name])
    program = install_words(program, Words(labels, rules))
    say("words: what dictionaries miss")
    program = settle(program, parts.fit.rows(slice(0, SETTLED)))
    if effort.tuning is not None:
        say("words: tune all numbers together")
        tuned = tune(
            program, parts.tune, effort.tuning, place / "tuning",
            lambda look: say(f"words: step {look.step}, {look.held:.3f} nats a token on windows held back"),
        )  # fmt: skip
        program = tuned.program
    say("emit")
    emit(program, output)
    _recorded(program, [labels[name] for name in mlps], rules, parts, Path(output), effort.seed, say)
    return _judged(program, network, parts.verify, Path(output), effort.seed, say)


def _recorded(
    program: Program,
    labels: Sequence[LabelSet],
    rules: Sequence[HeadRule],
    parts: CorpusParts,
    output: Path,
    seed: int,
    say: Say,
) -> None:
    """Records and pages of units and modules, with labels as they were grown and rules as they were fitted."""
    say("units: scores, contexts and links")
    units = (*describe_units(program, labels, parts), *head_units(program, rules, parts))
    modules = _modules(program, labels, parts, units, output, seed, say)
    with writing(output):
        write_module_page(modules, units, output, program.source)
        write_units(units, output / PLACE)
        write_unit_pages(units, output, program.source, read_judged(output / PLACE))


def _modules(
    program: Program,
    labels: Sequence[LabelSet],
    parts: CorpusParts,
    units: Sequence[DescribedUnit],
    output: Path,
    seed: int,
    say: Say,
) -> tuple[DescribedModule, ...]:
    """The modules at every level, named and tested; those that are kept are read again."""
    file = output / MODULES_PLACE
    if not file.is_file():
        told = describe_modules(program, labels, parts, units, seed=seed, report=lambda site: say(f"modules: {site}"))
        with writing(output):
            write_modules(told, file)
    return read_modules(file)


def _judged(program: Program, network: Network, held: Corpus, output: Path, seed: int, say: Say) -> Program:
    """The program with verdicts on windows that nothing was made from, written with its report."""
    inputs = gather(torch.from_numpy(held.ids.astype(np.int64)))
    judgement = verify_directory(output, network, inputs, seed=seed, progress=lambda part: say(f"verify: {part}"))
    program = program.with_notes(verdicts=judgement.verdicts, loss_shares=judgement.loss_shares)
    say("report")
    with writing(output):
        program.save(output)
        write_verdicts(judgement.verdicts, output / VERDICTS)
        write_report(program, judgement.verdicts, output / REPORT)
    return program


def read_text(
    model: nn.Module | Network | str | PathLike[str],
    file: str | PathLike[str],
    context: int = 256,
    tokens: int | None = None,
) -> Corpus:
    """A text file as windows of a model's own ids, by its own tokenizer.

    Args:
        context: tokens of a window.
        tokens: how many to take at most.

    Raises:
        BadInput: the model has no tokenizer, or the file is no text that fills a few windows.
    """
    network = load(model)
    tokenizer = network.tokenizer
    if tokenizer is None:
        raise BadInput(f"{network.source}: it has no tokenizer; give a folder that has one, or a Corpus from Python")
    pieces = pieces_of(tokenizer, network.vocabulary or tokenizer.vocabulary)
    return read_corpus(
        file, lambda text: encode_bare(tokenizer, text), pieces, context, beginning_of(tokenizer), tokens
    )


def _program(network: Network, corpus: Corpus, say: Say) -> Program:
    """The exact program of a language model.

    Raises:
        BadInput: it takes more than ids, or the corpus has another vocabulary.
    """
    if network.vocabulary is not None and len(corpus.pieces) != network.vocabulary:
        raise BadInput(
            f"corpus: a vocabulary of {len(corpus.pieces)}, but {network.source} has one of {network.vocabulary};"
            " tokenize the text with the model's own tokenizer"
        )
    say("trace")
    few = torch.from_numpy(corpus.ids[:2, : max(2, corpus.ids.shape[1] // 2)].astype(np.int64))
    graph = trace(network, (few,), {})
    say(f"structure: {len(graph.block.nodes)} operations")
    program = structure(graph, partition(graph))
    return dataclasses.replace(program, fingerprint=network.fingerprint, source=network.source)


def _asked_for(program: Program, only: Sequence[str]) -> tuple[list[str], list[str]]:
    """The MLPs and attention functions whose names fit a pattern, or all.

    Raises:
        BadInput: a pattern fits none, or there is no MLP.
    """
    found: dict[str, list[str]] = {"mlp": [], "attention": []}
    for name, function in program.functions.items():
        if function.kind == "mlp":
            found["mlp"].append(name)
        elif any(node.op == "attention" for node in function.reading("weights").body.nodes):
            found["attention"].append(name)
    names = [*found["mlp"], *found["attention"]]
    for pattern in only:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            raise BadInput(
                f"{pattern!r} fits no MLP and no attention function of {program.source}; there are {_few(names)}"
            )
    mlps, attentions = (
        [name for name in found[kind] if not only or any(fnmatch.fnmatchcase(name, one) for one in only)]
        for kind in ("mlp", "attention")
    )
    if not mlps:
        raise BadInput(
            f"{program.source}: no MLP to describe among {_few(names)}; words are for MLPs of language models"
        )
    return mlps, attentions


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "") or "none"


def _begun(program: Program, corpus: Corpus, output: Path, effort: Effort) -> Path:
    """The folder of what is done so far; the exact program is written first, so that the directory is ours.

    Raises:
        BadInput: it holds what was made from another network, text or effort.
    """
    facts = {"network": program.fingerprint, "text": corpus.fingerprint, "effort": _facts(effort)}
    text = json.dumps(facts, indent=1, sort_keys=True)
    file = output / FOLDER / KEY
    if not file.is_file():
        emit(program, output)
        with writing(output):
            file.parent.mkdir(exist_ok=True)
            with replaced(file) as scratch:
                scratch.write_text(text, encoding="utf-8")
    elif file.read_text(encoding="utf-8") != text:
        raise BadInput(f"{output}: holds words made from another network, text or effort; give a new output directory")
    return file.parent


def _facts(effort: Effort) -> Mapping[str, Any]:
    return {name: value for name, value in dataclasses.asdict(effort).items() if name != "threads"}


# ---- MLPs: dictionaries, and labels of their latents


def _labelled(
    program: Program, names: Sequence[str], parts: CorpusParts, place: Path, effort: Effort, fan: Fan, say: Say
) -> tuple[Mapping[str, Dictionary], Mapping[str, LabelSet]]:
    files = {name: {kind: place / kind / f"{name}{ending}" for kind, ending in _ENDINGS.items()} for name in names}
    left = [name for name in names if not all(file.is_file() for file in files[name].values())]
    with tempfile.TemporaryDirectory(dir=place) as scratch:
        if left:
            say(f"capture: what {len(left)} MLPs take and give")
        pairs = capture_pairs(program, left, parts.fit, Path(scratch), fan=fan) if left else {}
        _train_dictionaries({name: files[name]["dictionaries"] for name in left}, pairs, effort, fan, say)
        dictionaries = {name: Dictionary.load(files[name]["dictionaries"]) for name in names}
        lexicon = _lexicon(program, parts.fit) if left else None
        labels = {}
        for number, name in enumerate(names, start=1):
            if not files[name]["labels"].is_file():
                assert lexicon is not None
                say(f"labels: {name}, {number} of {len(names)}")
                acts = latents_of(dictionaries[name], pairs[name], parts.fit)
                site = f"{name}.dictionary:latents"
                grown = grow(parts.fit.ids, acts, lexicon, effort.growth, site=site, threads=effort.threads, fan=fan)
                _write_labels(grown, files[name]["labels"])
            labels[name] = load_labels(files[name]["labels"])
    return dictionaries, labels


_ENDINGS = {"dictionaries": ".safetensors", "labels": ".json"}


def _train_dictionaries(
    files: Mapping[str, Path], pairs: Mapping[str, Pairs], effort: Effort, fan: Fan, say: Say
) -> None:
    """Dictionaries of the MLPs that have no file yet; in this process, one that was begun is gone on with."""
    recipe = dataclasses.replace(effort.recipe, seed=effort.seed)
    left = [name for name, file in files.items() if not file.is_file()]
    titles = {name: f"dictionary: {name}, {number} of {len(left)}" for number, name in enumerate(left, start=1)}
    if left and fan.apart:
        say(f"dictionaries of {len(left)} MLPs, side by side")
    given = (
        _Lesson(pairs[name]) if fan.apart else _Lesson(pairs[name], files[name], titles[name], say) for name in left
    )
    for name, found in zip(left, fan(_taught, recipe, given), strict=True):
        files[name].parent.mkdir(parents=True, exist_ok=True)
        with replaced(files[name]) as scratch:
            found.save(scratch)
        files[name].with_suffix(".state").unlink(missing_ok=True)
        say(f"{titles[name]}: done")


@dataclass(frozen=True)
class _Lesson:
    """What a dictionary is trained on; where it is trained in this process, its file, and who is told of its steps."""

    pairs: Pairs
    file: Path | None = None
    title: str = ""
    say: Say | None = None

    def told(self, step: Step) -> None:
        """Tell of every hundredth step."""
        if self.say is not None and step.step % 100 == 0:
            self.say(f"{self.title}, step {step.step} of {step.steps}")


def _taught(recipe: Recipe, lesson: _Lesson) -> Dictionary:
    state = None if lesson.file is None else lesson.file.with_suffix(".state")
    if lesson.say is not None:
        lesson.say(lesson.title)
    return train_dictionary(lesson.pairs, recipe, state, lesson.told)


def _write_labels(labels: LabelSet, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with replaced(file) as scratch:
        save_labels(labels, scratch)


def _lexicon(program: Program, fit: Corpus) -> Lexicon:
    plain = survey(fit)
    return plain.with_clusters(named_clusters(fit, _embedding(program).numpy(), plain))


def _embedding(program: Program) -> torch.Tensor:
    """The table of the first embedding of the program. Raises BadInput where there is none."""
    for function in program.functions.values():
        for node in function.reading("weights").body.nodes:
            tables = [leaf.name for leaf in node.args if isinstance(leaf, Weight)]
            if node.op == "embedding" and tables:
                return program.weights[tables[0]].detach().float()
    raise BadInput(f"{program.source}: it looks no ids up in an embedding; words are for language models")


# ---- attention: heads as rules


def _ruled(
    program: Program, names: Sequence[str], fit: Corpus, place: Path, effort: Effort, fan: Fan, say: Say
) -> tuple[HeadRule, ...]:
    folder = place / "heads"
    if not folder.is_dir():
        say("heads: capture where they look")
        captured = capture_heads(program, fit, names, seed=effort.seed, fan=fan)
        say(f"heads: fit the rules of {len(captured.names)}")
        course = dataclasses.replace(effort.course, seed=effort.seed)
        heads = fit_heads(captured, grammar_of(fit), course, fan=fan)
        made = folder.with_name("heads.part")
        save_heads(heads.rules(), made)
        made.replace(folder)
    return load_heads(folder)
