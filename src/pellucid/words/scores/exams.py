"""Exams: contexts of the *verify* split on which the labels of a unit are judged, the same for every judge.

Half of them hold the unit's activity, drawn in equal numbers from quantiles of the windows' peaks, half are silent; for
fuzzing each also has marked tokens, which are the active ones (at least 0.3 of the context's peak) in the first half
and as many others in the second. Both as in delphi (Paulo et al. 2024, arXiv 2410.13928): the peak stands at three
quarters of a context, and in a silent one the token there is marked, further ones at random.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from pellucid.errors import BadInput
from pellucid.words.explain.evidence import Context

LENGTH = 20
MARKED_FROM = 0.3
"""A token is marked from this share of its context's peak on."""


@dataclass(frozen=True)
class Sample:
    """A stretch [start, stop) of a window, whether the unit is active in it, and the tokens marked for fuzzing."""

    window: int
    start: int
    stop: int
    active: bool
    marks: tuple[int, ...]


@dataclass(frozen=True)
class Exam:
    """The samples of one unit in the order in which they are shown, and their tokens with strengths from 0 to 10."""

    unit: str
    samples: tuple[Sample, ...]
    contexts: tuple[Context, ...]


def exam_of(
    unit: str,
    ids: Int[np.ndarray, "windows context"],
    pieces: Sequence[str],
    activations: Float[np.ndarray, "rows tokens"],
    *,
    each: int = 10,
    length: int = LENGTH,
    bands: int = 5,
    seed: int = 0,
) -> Exam:
    """The exam of a unit: at most `each` active and as many silent contexts. Position 0 is never shown.

    The order follows from the seed and the unit's name: a judge that always replies alike gets 0.5 over many units.

    A unit that is hardly ever active, or hardly ever silent, gets fewer; one that is never active gets silent ones
    only, and its scores are NaN.

    Raises:
        BadInput: ids and activations have different shapes, windows are shorter than contexts, or not finite.
    """
    if ids.shape != activations.shape:
        raise BadInput(
            f"{unit}: activations {list(activations.shape)} for ids {list(ids.shape)}; capture them together"
        )
    if ids.shape[1] < length + 1:
        raise BadInput(f"{unit}: windows of {ids.shape[1]} tokens for contexts of {length}; use shorter contexts")
    if not np.isfinite(activations).all():
        raise BadInput(f"{unit}: activations that are not finite; look at the network for overflow")
    strong = np.clip(np.asarray(activations, dtype=np.float64), 0.0, None)
    strong[:, 0] = 0.0
    random = np.random.default_rng([seed, *hashlib.sha256(unit.encode()).digest()[:8]])
    active = _active(strong, each, length, bands, random)
    many = math.ceil(sum(len(s.marks) for s in active) / len(active)) if active else 1
    silent = _silent(strong, each, length, many, random)
    samples = [*active, *silent]
    shuffled = tuple(samples[i] for i in random.permutation(len(samples)))
    top = max(float(strong.max()), 1e-30)
    tenths = np.ceil(strong * (10 / top)).astype(int)
    return Exam(unit, shuffled, tuple(_context(sample, ids, pieces, tenths) for sample in shuffled))


def part_of(exam: Exam, start: int, stop: int) -> Exam:
    """Some of the samples of an exam."""
    return replace(exam, samples=exam.samples[start:stop], contexts=exam.contexts[start:stop])


def _context(
    sample: Sample,
    ids: Int[np.ndarray, "windows context"],
    pieces: Sequence[str],
    tenths: Int[np.ndarray, "windows context"],
) -> Context:
    here = slice(sample.start, sample.stop)
    return Context(
        tuple(pieces[i] for i in ids[sample.window, here].tolist()), tuple(tenths[sample.window, here].tolist())
    )


def _active(
    strong: Float[np.ndarray, "windows context"], each: int, length: int, bands: int, random: np.random.Generator
) -> list[Sample]:
    peaks = strong.argmax(axis=1)
    heights = strong[np.arange(len(strong)), peaks]
    order = np.argsort(-heights, kind="stable")
    order = order[heights[order] > 0]
    parts = [part[random.permutation(len(part))] for part in np.array_split(order, bands)]
    turns = [part[turn] for turn in range(len(order)) for part in parts if turn < len(part)]
    found = []
    for window in sorted(turns[:each]):
        start = _start(int(peaks[window]), length, strong.shape[1])
        here = strong[window, start : start + length]
        marks = start + np.flatnonzero(here >= MARKED_FROM * here.max())
        found.append(Sample(int(window), start, start + length, True, tuple(marks.tolist())))
    return found


def _silent(
    strong: Float[np.ndarray, "windows context"], each: int, length: int, many: int, random: np.random.Generator
) -> list[Sample]:
    """Stretches without any activity, of different windows as long as there are such; `many` tokens of each marked."""
    before = np.concatenate([np.zeros((len(strong), 1)), np.cumsum(strong > 0, axis=1)], axis=1)
    starts = np.arange(1, strong.shape[1] - length + 1)
    places = before[:, starts + length] == before[:, starts]
    found: list[Sample] = []
    for turn in range(each):
        for window in random.permutation(len(strong)).tolist():
            free = starts[places[window]]
            if len(found) == each or len(free) == 0:
                continue
            start = int(random.choice(free))
            places[window, max(0, start - length) : start + length] = False
            found.append(Sample(window, start, start + length, False, _wrong(start, length, many, random)))
        if len(found) == each or turn > strong.shape[1] // length:
            break
    return found


def _wrong(start: int, length: int, many: int, random: np.random.Generator) -> tuple[int, ...]:
    first = start + length - length // 4
    others = [p for p in range(start, start + length) if p != first]
    further = random.permutation(len(others))[: max(0, min(many, length) - 1)]
    return tuple(sorted([first, *(others[i] for i in further)]))


def _start(peak: int, length: int, context: int) -> int:
    """Where a stretch begins whose peak stands at three quarters, as far as the window allows."""
    return int(min(max(1, peak - (length - length // 4)), context - length))
