"""Labels of units judged on the same exams: those of a language model by asking it, trees by running them.

Beside each score stands the same one with the label of another unit of the same kind (`marks.dealt`). Thresholds of
trees are set on exams of the *describe* windows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from pellucid.data.activations.forward import observe
from pellucid.data.corpus import Corpus
from pellucid.ir.program import Program
from pellucid.ir.units import Site, Unit
from pellucid.words.explain.asking import Asker, Question
from pellucid.words.judged import Score, ScoreKind
from pellucid.words.scores.asked import classify, classify_questions, simulate, simulate_questions
from pellucid.words.scores.exams import LENGTH, Exam, exam_of
from pellucid.words.scores.executable import Task, judged, threshold_of
from pellucid.words.scores.marks import Classified, Simulated, dealt

PLACEHOLDER = "a label of about twelve words, as long as they mostly tend to be"
"""Stands for a label where the cost of judging is told before there is one."""

Doing = Float[np.ndarray, "windows context"]


def doings(program: Program, corpus: Corpus, units: Sequence[Unit], together: int = 8) -> dict[Unit, Doing]:
    """What units do at every position of a corpus.

    Raises:
        BadInput: the program does not take such ids, or a site has no value at every position.
    """
    found = {unit: np.zeros(corpus.ids.shape, np.float32) for unit in units}
    wanted: dict[Site, list[Unit]] = {}
    for unit in units:
        wanted.setdefault(unit.site, []).append(unit)
    start = 0
    for ids in corpus.batches(together):

        def see(site: Site, seen: Float[np.ndarray, "windows context units"], start: int = start) -> None:
            for unit in wanted[site]:
                found[unit][start : start + len(seen)] = seen[..., unit.index]

        observe(program, ids, list(wanted), see)
        start += len(ids)
    return found


def exams_of(corpus: Corpus, doing: Mapping[Unit, Doing], *, each: int, seed: int = 0) -> list[Exam]:
    """The exams of units on a corpus, `each` active and as many silent contexts, in the order of `doing`.

    Raises:
        BadInput: an activation is not finite.
    """
    length = min(LENGTH, corpus.ids.shape[1] - 1)
    return [
        exam_of(str(unit), corpus.ids, corpus.pieces, found, each=each, length=length, seed=seed)
        for unit, found in doing.items()
    ]


def judging_questions(exams: Sequence[Exam], how: Sequence[ScoreKind]) -> list[Question[Any]]:
    """As many questions as `asked_scores` asks at most, and about as long: for the cost."""
    return [
        question
        for exam in exams
        for kind in how
        for _ in ("own", "shuffled")
        for question in (
            simulate_questions(PLACEHOLDER, exam)
            if kind == "simulation"
            else classify_questions(kind, PLACEHOLDER, exam)
        )
    ]


def asked_scores(
    asker: Asker, labels: Sequence[str | None], exams: Sequence[Exam], how: Sequence[ScoreKind], seed: int = 0
) -> list[tuple[Score, ...]]:
    """The scores of labels by a language model, in order; none where a label is missing.

    Raises:
        BadInput: the cache of replies cannot be written; everything answered so far is kept.
    """
    held = [place for place, label in enumerate(labels) if label is not None]
    own = [label for label in labels if label is not None]
    both = [label for pair in zip(own, dealt(own, seed), strict=True) for label in pair]
    seats = [exams[place] for place in held for _ in ("own", "shuffled")]
    scores: list[list[Score]] = [[] for _ in labels]
    for kind in how:
        found: Sequence[Classified | Simulated] = (
            simulate(asker, both, seats) if kind == "simulation" else classify(asker, kind, both, seats)
        )
        for place, mine, others in zip(held, found[::2], found[1::2], strict=True):
            scores[place].append(_score(kind, mine, others if len(held) > 1 else None))
    return [tuple(some) for some in scores]


def run_scores(
    before: Sequence[Doing], here: Sequence[Doing], training: Sequence[Exam], exams: Sequence[Exam], seed: int = 0
) -> list[tuple[Score, ...]]:
    """Detection and fuzzing of labels that run, in order.

    Args:
        before: what each label predicts on the windows that `training` is of.
        here: what it predicts on those that `exams` are of.
    """
    others = dealt(range(len(here)), seed)
    return [tuple(_run(before, here, training, exams, place, others[place])) for place in range(len(here))]


def _run(
    before: Sequence[Doing],
    here: Sequence[Doing],
    training: Sequence[Exam],
    exams: Sequence[Exam],
    place: int,
    other: int,
) -> Iterator[Score]:
    tasks: tuple[Task, ...] = ("detection", "fuzzing")
    for task in tasks:
        mine, theirs = (
            judged(here[label], exams[place], task, threshold_of(before[label], training[place], task))
            for label in (place, other)
        )
        yield _score(task, mine, theirs if other != place else None)


def _score(kind: ScoreKind, own: Classified | Simulated, others: Classified | Simulated | None) -> Score:
    value = own.r if isinstance(own, Simulated) else own.balanced
    if others is None:
        shuffled = math.nan
    else:
        shuffled = others.r.value if isinstance(others, Simulated) else others.balanced.value
    return Score(kind, value.value, value.low, value.high, value.count, own.missing, shuffled)
