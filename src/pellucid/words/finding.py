"""What is found of each part of a language model: dictionaries and labels of its MLPs, rules of its heads.

Every file is kept in a folder as soon as it is made, so that the same call goes on after an interruption.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from pellucid.data.corpus import Corpus, CorpusParts
from pellucid.dictionaries.dictionary import Dictionary
from pellucid.dictionaries.pairs import Pairs, capture_pairs
from pellucid.dictionaries.training import Recipe, Step, train_dictionary
from pellucid.errors import BadInput
from pellucid.fanout import Fan
from pellucid.ir.directory import replaced
from pellucid.ir.graph import Weight
from pellucid.ir.program import Program
from pellucid.words.heads.capture import capture_heads
from pellucid.words.heads.fitting import Course, fit_heads
from pellucid.words.heads.rule import HeadRule
from pellucid.words.heads.saving import load_heads, save_heads
from pellucid.words.heads.scene import grammar_of
from pellucid.words.labels.clusters import named_clusters
from pellucid.words.labels.grow import Growth, grow
from pellucid.words.labels.labelset import LabelSet, load_labels, save_labels
from pellucid.words.labels.lexicon import Lexicon, survey
from pellucid.words.latents import latents_of
from pellucid.words.reading.tune import Tuning

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


# ---- MLPs: dictionaries, and labels of their latents


def labelled(
    program: Program, names: Sequence[str], parts: CorpusParts, place: Path, effort: Effort, fan: Fan, say: Say
) -> tuple[Mapping[str, Dictionary], Mapping[str, LabelSet]]:
    """Dictionaries of the MLPs of these names, and labels of their latents, made from the *fit* windows."""
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


def ruled(
    program: Program, names: Sequence[str], fit: Corpus, place: Path, effort: Effort, fan: Fan, say: Say
) -> tuple[HeadRule, ...]:
    """The rules of the heads of the attention functions of these names."""
    folder = place / "heads"
    if not folder.is_dir():
        say("heads: capture where they look")
        captured = capture_heads(program, fit, seed=effort.seed, fan=fan, functions=names)
        say(f"heads: fit the rules of {len(captured.names)}")
        course = dataclasses.replace(effort.course, seed=effort.seed)
        heads = fit_heads(captured, grammar_of(fit), course, fan=fan)
        made = folder.with_name("heads.part")
        save_heads(heads.rules(), made)
        made.replace(folder)
    return load_heads(folder)
