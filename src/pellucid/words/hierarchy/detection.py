"""Tests of descriptions by detection: which contexts does a module use, told from its description alone.

A module is active where it writes more than on most of the text. Exams are those of units (`scores.exams`): stretches
in which it is active and others in which it is not; a description says "active" when its label predicts more than a
threshold that is set on *describe*, and is judged on *verify*. The control is the description of a sibling.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from pellucid.data.corpus import Corpus
from pellucid.words.hierarchy.modules import Tested
from pellucid.words.scores.exams import LENGTH, Exam, exam_of
from pellucid.words.scores.executable import judged, threshold_of

SHARE = 0.05
"""A module is active on at most this share of positions, those where it writes most."""

EACH = 40
"""Active and silent contexts of an exam."""

Strengths = Float[np.ndarray, "windows context"]
All = Float[np.ndarray, "modules windows context"]


def strong(written: Strengths, share: float = SHARE) -> Strengths:
    """How far a module is above what it writes on most of the text; zero at the first place of a window."""
    rest = written[:, 1:]
    above = np.maximum(written - np.quantile(rest, 1 - share), 0.0)
    above[:, 0] = 0.0
    return np.asarray(above)


def detection(
    names: Sequence[str],
    corpora: tuple[Corpus, Corpus],
    actives: tuple[All, All],
    said: tuple[All, All],
    siblings: Sequence[int],
    *,
    each: int = EACH,
    seed: int = 0,
) -> tuple[Tested | None, ...]:
    """The balanced accuracy of each description, beside that of a sibling's; None where a module is never active.

    Args:
        corpora: *describe* and *verify*; `actives` (see `strong`) and `said` by the descriptions are on the same.
        siblings: for each module the number of the one whose description is its control; itself where it has none.
    """
    length = min(LENGTH, min(corpus.ids.shape[1] for corpus in corpora) - 1)
    found: list[Tested | None] = []
    for module, name in enumerate(names):
        tuned, held = (
            exam_of(name, corpus.ids, corpus.pieces, active[module], each=each, length=length, seed=seed)
            for corpus, active in zip(corpora, actives, strict=True)
        )
        own = _judged(module, said, tuned, held)
        if np.isnan(own.value):
            found.append(None)
            continue
        other = siblings[module]
        control = _judged(other, said, tuned, held).value if other != module else float("nan")
        found.append(Tested(own.value, own.low, own.high, own.count, control))
    return tuple(found)


def _judged(module: int, said: tuple[All, All], tuned: Exam, held: Exam) -> Tested:
    level = threshold_of(said[0][module], tuned, "detection")
    return Tested.of(judged(said[1][module], held, "detection", level).balanced, float("nan"))


def dealt_siblings(parents: Sequence[str], seed: int = 0) -> tuple[int, ...]:
    """For each module another one, of the same parent where there is one, else of any; itself when it is alone."""
    rng = np.random.default_rng(seed)
    given = list(range(len(parents)))
    alone = []
    for parent in dict.fromkeys(parents):
        own = [module for module, of in enumerate(parents) if of == parent]
        if len(own) == 1:
            alone += own
            continue
        order = rng.permutation(own).tolist()
        for here, there in zip(order, [*order[1:], *order[:1]], strict=True):
            given[here] = there
    for module in alone:
        others = [other for other in range(len(parents)) if other != module]
        given[module] = int(rng.choice(others)) if others else module
    return tuple(given)
