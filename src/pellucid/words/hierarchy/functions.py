"""The levels above dictionaries: MLPs and attention, what calls them, the whole; described from what they call."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from pellucid.data.corpus import Corpus
from pellucid.ir.interpret import Values, run_functions
from pellucid.ir.program import Program
from pellucid.words.described import DescribedUnit
from pellucid.words.hierarchy.composed import described, listing, sentences
from pellucid.words.hierarchy.detection import Strengths
from pellucid.words.hierarchy.level import Corpora, Level, Trial, tested
from pellucid.words.hierarchy.modules import DescribedModule
from pellucid.words.hierarchy.substitution import Bench, substituted_function
from pellucid.words.labels.labelset import LabelSet
from pellucid.words.reading.install import parts_of
from pellucid.words.reading.settle import means

HEAD = 80
"""Characters told of each head."""

TOGETHER = 4
"""Windows that run at the same time."""


def functions_of(
    program: Program,
    mlps: Sequence[Level],
    below: Mapping[str, Sequence[DescribedModule]],
    corpora: Corpora,
    bench: Bench,
    units: Sequence[DescribedUnit],
    trial: Trial,
    seed: int,
) -> tuple[DescribedModule, ...]:
    """All functions that are described or call what is, with the modules below them, parents first.

    Args:
        mlps: each MLP as a level of one.
        below: the modules of each MLP, by its name.
        units: records; those of heads tell what attention does.
    """
    callers = callers_of(program)
    parts = tuple(parts_of(program))
    tree = {name: callers.get(name, "") for name in (*_above(parts, callers), *parts)}
    known = _known(program, tree, mlps, corpora, trial, seed) if mlps else {}
    usual = means(program, corpora[0].rows(slice(0, trial.windows)))
    found = dict[str, DescribedModule]()
    for name in reversed(tree):
        children = [found[child] for child in found if tree[child] == name]
        own = [part for part in parts if part == name or name in _path(part, callers)]
        told = known.get(name) or DescribedModule(name, program[name].kind, "", 0)
        recovered, cost = substituted_function(bench, own, usual, seed)
        latents = told.latents or sum(child.latents for child in children)
        text = _told(told, [*children, *below.get(name, ())], units)
        found[name] = dataclasses.replace(
            told, parent=tree[name], latents=latents, sentence=text, recovered=recovered, cost=cost
        )
    order = [name for name in program.functions if name in found]
    return tuple(one for name in order for one in (found[name], *below.get(name, ())))


def _known(
    program: Program, tree: Mapping[str, str], mlps: Sequence[Level], corpora: Corpora, trial: Trial, seed: int
) -> dict[str, DescribedModule]:
    """MLPs and what calls them, named and tested against each other."""
    known = {module.name: module for module in tested(_joined(mlps), corpora, (), trial, seed)}
    watched = (corpora[0].rows(slice(0, trial.watched)), corpora[1].rows(slice(0, trial.watched)))
    layers = _layers(program, tree, mlps, watched)
    if layers is None:
        return known
    titles = [module.title for module in known.values() if module.title is not None]
    return known | {module.name: module for module in tested(layers, watched, titles, trial, seed)}


def callers_of(program: Program) -> dict[str, str]:
    """The function that calls each function first."""
    found: dict[str, str] = {}
    for name in program.functions:
        for child in program.children(name):
            found.setdefault(child, name)
    return found


def _above(parts: Sequence[str], callers: Mapping[str, str]) -> list[str]:
    """All that call one of the parts, callers first."""
    found: dict[str, None] = {}
    for part in parts:
        found |= dict.fromkeys(reversed(_path(part, callers)))
    return sorted(found, key=lambda name: len(_path(name, callers)))


def _path(name: str, callers: Mapping[str, str]) -> list[str]:
    """The caller of a function, its caller, and so on."""
    path: list[str] = []
    while name in callers and callers[name] not in path:
        name = callers[name]
        path.append(name)
    return path


def _told(told: DescribedModule, children: Sequence[DescribedModule], units: Sequence[DescribedUnit]) -> str:
    """What a function is said to do: its own label's words, then its parts or heads."""
    own = [told.sentence] if told.sentence else []
    heads = [unit.label[:HEAD] for unit in units if unit.label is not None and unit.name.startswith(f"{told.name}:")]
    direct = [child for child in children if child.site == "" or child.parent == told.name]
    if direct:
        names = [child.title for child in direct if child.title is not None]
        counted = "1 part" if len(direct) == 1 else f"{len(direct)} parts"
        own.append(f"{counted}, among them: {listing(names)}" if names else counted)
    if heads:
        own.append(f"{len(heads)} heads: {listing(heads)}")
    return ". ".join(own)


def _joined(levels: Sequence[Level]) -> Level:
    """Levels of one put beside each other."""
    labels = tuple(label for level in levels for label in level.labels.labels)
    lexicon = levels[0].labels.lexicon
    written = [np.concatenate([level.written[side] for level in levels]) for side in (0, 1)]
    return Level(
        tuple(m for level in levels for m in level.modules), LabelSet("mlps", labels, lexicon), (written[0], written[1])
    )


# ---- layers


def _layers(program: Program, tree: Mapping[str, str], mlps: Sequence[Level], corpora: Corpora) -> Level | None:
    """What calls MLPs and changes a stream, described from its MLPs, with how much it changes the stream."""
    held = {name: [level for level in mlps if tree[level.modules[0].name] == name] for name in tree}
    names = [name for name, own in held.items() if own]
    changes = [_changes(program, names, corpus) for corpus in corpora]
    names = [name for name in names if name in changes[0]]
    if len(names) < 2:
        return None
    ids, lexicon = corpora[0].ids, mlps[0].labels.lexicon
    said = np.array([np.sum([level.labels.predict(ids)[0] for level in held[name]], axis=0).ravel() for name in names])
    labels = described(ids, said, lexicon, "layers")
    modules = tuple(
        DescribedModule(
            name, program[name].kind, tree[name], sum(level.modules[0].latents for level in held[name]),
            label=str(label), sentence=text,
        )
        for name, label, text in zip(names, labels.labels, sentences(labels, ids), strict=True)
    )  # fmt: skip
    written = [np.stack([change[name] for name in names]) for change in changes]
    return Level(modules, labels, (written[0], written[1]))


def _changes(program: Program, names: Sequence[str], corpus: Corpus) -> dict[str, Strengths]:
    """How much each function changes its first input at every position; those that give something else are left out."""
    found: dict[str, list[np.ndarray]] = {}

    def watch(name: str, taken: Values, given: Values) -> None:
        if name not in names or not taken or not isinstance(taken[0], torch.Tensor):
            return
        if taken[0].shape == given[0].shape and given[0].ndim == 3:
            found.setdefault(name, []).append((given[0] - taken[0]).norm(dim=-1).numpy())

    for ids in corpus.batches(TOGETHER):
        run_functions(program, [ids], "weights", watch=watch)
    return {name: np.concatenate(parts) for name, parts in found.items()}
