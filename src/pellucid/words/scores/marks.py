"""What comes out of an exam: counts of right and wrong answers, a correlation; and labels dealt to other units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from pellucid.words.scores.intervals import Estimate, mean_of_two, wilson

T = TypeVar("T")


@dataclass(frozen=True)
class Classified:
    """Yes-or-no answers on an exam; contexts without a valid answer are missing, neither right nor wrong.

    Attributes:
        hits: active contexts called active.
        misses: active contexts called silent.
        alarms: silent contexts called active.
        rejections: silent contexts called silent.
        missing: contexts without a valid answer.
    """

    hits: int
    misses: int
    alarms: int
    rejections: int
    missing: int

    @property
    def answered(self) -> int:
        """How many contexts have a valid answer."""
        return self.hits + self.misses + self.alarms + self.rejections

    @property
    def accuracy(self) -> Estimate:
        """The share of valid answers that are right, with Wilson's interval."""
        return wilson(self.hits + self.rejections, self.answered)

    @property
    def balanced(self) -> Estimate:
        """The mean of the shares found right among active and among silent contexts; chance is 0.5."""
        return mean_of_two(
            wilson(self.hits, self.hits + self.misses), wilson(self.rejections, self.rejections + self.alarms)
        )


@dataclass(frozen=True)
class Simulated:
    """The correlation of predicted with actual activations, and how many contexts have no valid prediction."""

    r: Estimate
    missing: int


def classified(answers: Iterable[bool | None], right: Iterable[bool]) -> Classified:
    """Count answers (None where missing) against what is right."""
    counts = {(a, b): 0 for a in (True, False, None) for b in (True, False)}
    for answer, truth in zip(answers, right, strict=True):
        counts[answer, truth] += 1
    return Classified(
        counts[True, True], counts[False, True], counts[True, False], counts[False, False],
        counts[None, True] + counts[None, False],
    )  # fmt: skip


def dealt(labels: Sequence[T], seed: int = 0) -> tuple[T, ...]:
    """The labels, each given to another unit: a random cycle through all of them, so that none keeps its own."""
    order = np.random.default_rng(seed).permutation(len(labels)).tolist()
    given = list(labels)
    for here, there in zip(order, [*order[1:], *order[:1]], strict=True):
        given[there] = labels[here]
    return tuple(given)
