"""Scores of labels that run: a label is a function from ids to a float for each token; no language model is asked.

Simulation is the correlation over all tokens. Detection and fuzzing put a threshold to the prediction: a context is
called active when a token of it is predicted above, a marking is called right when every marked token is. The threshold
is the one that is best on an exam of the *describe* split, and the score is of the *verify* split.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from pellucid.words.scores.exams import Exam, Sample
from pellucid.words.scores.intervals import correlation
from pellucid.words.scores.marks import Classified, Simulated, classified

Predict = Callable[[Int[np.ndarray, "windows context"]], Float[np.ndarray, "windows context"]]
"""An executable label."""

Task = Literal["detection", "fuzzing"]


def simulation(
    predicted: Float[np.ndarray, "windows context"], activations: Float[np.ndarray, "windows context"], seed: int = 0
) -> Simulated:
    """Pearson's r of a label's predictions with the activations, position 0 left out, windows as contexts."""
    return Simulated(correlation(predicted[:, 1:], activations[:, 1:], seed), 0)


def threshold_of(predicted: Float[np.ndarray, "windows context"], exam: Exam, task: Task) -> float:
    """The threshold of the best balanced accuracy on an exam; of equally good ones the middle of the widest gap."""
    levels = np.array([_level(predicted, sample, task) for sample in exam.samples])
    if len(levels) == 0:
        return 0.0
    steps = np.unique(levels)
    between = (steps[1:] + steps[:-1]) / 2
    places = np.concatenate([[steps[0] - 1.0], between, [steps[-1] + 1.0]])
    widths = np.concatenate([[0.0], np.diff(steps), [0.0]])
    active = np.array([sample.active for sample in exam.samples])
    shares = [_rate(levels[active] > place) + _rate(levels[~active] <= place) for place in places]
    best = max(range(len(places)), key=lambda i: (round(shares[i], 9), widths[i]))
    return float(places[best])


def judged(predicted: Float[np.ndarray, "windows context"], exam: Exam, task: Task, threshold: float) -> Classified:
    """The score of an executable label on an exam, from its predictions on the exam's windows."""
    answers = [_level(predicted, sample, task) > threshold for sample in exam.samples]
    return classified(answers, [sample.active for sample in exam.samples])


def _level(predicted: Float[np.ndarray, "windows context"], sample: Sample, task: Task) -> float:
    """What has to lie above the threshold: the highest prediction of a context, or the lowest of its marked tokens."""
    if task == "detection":
        return float(predicted[sample.window, sample.start : sample.stop].max())
    return float(predicted[sample.window, list(sample.marks)].min())


def _rate(right: np.ndarray) -> float:
    return float(right.mean()) if len(right) else 0.5
