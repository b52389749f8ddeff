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
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pellucid.data import gather
from pellucid.data.corpus import Corpus, CorpusParts, split_corpus
from pellucid.data.corpus_files import read_corpus
from pellucid.dictionaries.install import install
from pellucid.emitters.files import emit
from pellucid.errors import BadInput
from pellucid.fanout import HERE, Fan
from pellucid.ir.directory import REPORT, VERDICTS, replaced, writing
from pellucid.ir.notes import Verdict
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
from pellucid.verdicts.words import on_all_words
from pellucid.words.described import PLACE, DescribedUnit, write_units
from pellucid.words.finding import Effort as Effort
from pellucid.words.finding import Say, labelled, ruled
from pellucid.words.finding import effort_of as effort_of
from pellucid.words.gathered import describe_units
from pellucid.words.heads.rule import HeadRule
from pellucid.words.heads.units import head_units
from pellucid.words.hierarchy.explained import PLACE as EXPLAINED_PLACE
from pellucid.words.hierarchy.explained import read_explained
from pellucid.words.hierarchy.found import describe_modules
from pellucid.words.hierarchy.modules import PLACE as MODULES_PLACE
from pellucid.words.hierarchy.modules import DescribedModule, read_modules, write_modules
from pellucid.words.judged import read_judged
from pellucid.words.labels.labelset import LabelSet
from pellucid.words.reading.install import Words, install_words
from pellucid.words.reading.ngrams import fit_ngrams
from pellucid.words.reading.settle import settle
from pellucid.words.reading.sources import knowing
from pellucid.words.reading.tune import tune

FOLDER = "words"
KEY = "made-from.json"
SETTLED = 64
"""Windows that the mean of what dictionaries miss is taken on."""


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
    dictionaries, labels = labelled(program, mlps, parts, place, effort, fan, say)
    rules = ruled(program, attentions, parts.fit, place, effort, fan, say) if attentions else ()
    say("words: put into the program")
    for name in mlps:
        program = install(program, name, dictionaries[name])
    words = Words(labels, rules)
    program = install_words(program, words)
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
    labels = knowing(program, words)
    _recorded(program, [labels[name] for name in mlps], rules, parts, Path(output), effort.seed, say)
    return _judged(program, network, parts, Path(output), effort.seed, say)


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
        write_module_page(modules, units, output, program.source, read_explained(output / EXPLAINED_PLACE))
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


def _judged(program: Program, network: Network, parts: CorpusParts, output: Path, seed: int, say: Say) -> Program:
    """The program with verdicts on windows that nothing was made from, written with its report."""
    inputs = gather(torch.from_numpy(parts.verify.ids.astype(np.int64)))
    judgement = verify_directory(output, network, inputs, seed=seed, progress=lambda part: say(f"verify: {part}"))
    verdicts = _beside_ngrams(judgement.verdicts, parts)
    program = program.with_notes(verdicts=verdicts, loss_shares=judgement.loss_shares)
    say("report")
    with writing(output):
        program.save(output)
        write_verdicts(verdicts, output / VERDICTS)
        write_report(program, verdicts, output / REPORT)
    return program


def _beside_ngrams(verdicts: Sequence[Verdict], parts: CorpusParts) -> tuple[Verdict, ...]:
    """The verdict on all words together also tells what n-gram models of the text lose: recovered loss flatters."""
    orders = range(1, min(3, parts.fit.ids.shape[1] - 1) + 1)
    models = [fit_ngrams(parts.fit, parts.tune, order) for order in orders]
    losses = ", ".join(f"{model.name} {model.losses(parts.verify).mean():.3f}" for model in models)
    told = f"; models of the same text, on all {len(parts.verify)} windows: {losses}"
    whole = on_all_words(verdicts)
    return tuple(dataclasses.replace(one, detail=one.detail + told) if one in whole else one for one in verdicts)


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
