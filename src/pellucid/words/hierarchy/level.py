"""A level of the hierarchy: modules that stand beside each other, named and tested against each other."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from pellucid.data.corpus import Corpus
from pellucid.words.hierarchy.detection import EACH, All, dealt_siblings, detection, strong
from pellucid.words.hierarchy.groups import Grouping
from pellucid.words.hierarchy.modules import DescribedModule, Tested
from pellucid.words.hierarchy.names import Candidate, Named, fits, named_modules
from pellucid.words.labels.labelset import LabelSet

Corpora: TypeAlias = tuple[Corpus, Corpus]
"""*describe* and *verify*."""


@dataclass(frozen=True)
class Trial:
    """How modules are found and how much is tested.

    Attributes:
        grouping: of latents.
        windows: of *verify* that substitutions run on, of *describe* that means are taken on.
        watched: windows of both that layers are seen on.
        largest: modules of each MLP that are substituted, those that write most.
        each: active and silent contexts of an exam.
    """

    grouping: Grouping = field(default_factory=Grouping)
    windows: int = 8
    watched: int = 32
    largest: int = 4
    each: int = EACH


@dataclass(frozen=True, eq=False)
class Level:
    """Modules with labels that describe them, and what they write at each position of *describe* and of *verify*."""

    modules: tuple[DescribedModule, ...]
    labels: LabelSet
    written: tuple[All, All]


def tested(
    level: Level, corpora: Corpora, used: Collection[str], trial: Trial, seed: int
) -> tuple[DescribedModule, ...]:
    """The modules of a level with names and the results of detection.

    Args:
        used: names that others have.
    """
    if not level.modules:
        return ()
    describe, verify = corpora
    actives = (np.array([*map(strong, level.written[0])]), np.array([*map(strong, level.written[1])]))
    where = [side.reshape(len(side), -1) for side in actives]
    names = named_modules(level.labels, describe.ids, where[0], used)
    siblings = dealt_siblings([module.parent for module in level.modules], seed)
    said = (level.labels.predict(describe.ids), level.labels.predict(verify.ids))
    ids = [module.name for module in level.modules]
    detected = detection(ids, corpora, actives, said, siblings, each=trial.each, seed=seed)
    held = _held(names, level.labels, verify, where[1])
    return tuple(_with(*found) for found in zip(level.modules, names, detected, held, strict=True))


def _with(
    module: DescribedModule, name: Named, detected: Tested | None, holds: tuple[float, float] | None
) -> DescribedModule:
    title = name.candidate.text if name.candidate is not None else None
    return dataclasses.replace(module, title=title, taken_back=name.taken_back, detection=detected, holds=holds)


def _held(
    names: Sequence[Named], labels: LabelSet, verify: Corpus, active: np.ndarray
) -> list[tuple[float, float] | None]:
    """How well each name fits its own module on *verify*, and how well it fits the other that it fits best."""
    given: list[Candidate] = [name.candidate for name in names if name.candidate is not None]
    fit = dict(zip(given, fits(given, labels.lexicon, verify.ids, active), strict=True))

    def held(module: int, name: Named) -> tuple[float, float] | None:
        if name.candidate is None:
            return None
        others = np.delete(fit[name.candidate], module)
        known = others[np.isfinite(others)]
        return float(fit[name.candidate][module]), float(known.max()) if len(known) else math.nan

    return [held(module, name) for module, name in enumerate(names)]
