"""Scores by a language model: which contexts activate, which markings are right, how active each token is.

Detection and fuzzing as in delphi, simulation as in Bills et al. 2023 but without log-probabilities: the model names
the tokens that it expects to be active, with strengths from 1 to 10; all others are predicted to be 0. Several contexts
share a call. They come first and the label last, so that a server that keeps the beginning of a prompt reads contexts
once for a label and for the shuffled label beside it. What has no valid reply is missing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import cache, reduce
from itertools import groupby
from operator import or_
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from pellucid.words.explain.asking import Answer, Asker, Question
from pellucid.words.explain.endpoint import Message
from pellucid.words.explain.evidence import Context
from pellucid.words.explain.fences import TOKEN_LIMIT, bounded, fenced, starred
from pellucid.words.explain.prompts import asked, posed
from pellucid.words.explain.schemas import ActivationsReply, VerdictsReply, for_question
from pellucid.words.explain.worked import WORKED_EXAM, WORKED_LABEL, context_of
from pellucid.words.scores.exams import Exam, part_of
from pellucid.words.scores.intervals import correlation
from pellucid.words.scores.marks import Classified, Simulated, classified

TOGETHER = 10
"""Contexts in one call."""

MOST_ACTIVE = 24
"""Tokens that a simulation may name in one call."""

LONGEST_SPAN = 8
"""Tokens that one named word may be made of."""

_DETECTION = "For each of the {n} texts in turn: does it hold what the label says? 1 for yes, 0 for no."
_FUZZING = (
    "In each of the {n} texts some tokens are marked **like this**. For each text in turn: 1 if every marked token is"
    " what the label says, else 0."
)
_SIMULATION = (
    "Which tokens of the {n} texts are what the label says? Name each as [number of the text, token, strength from 1 to"
    " 10], and no others."
)
_TASKS = {"detection": _DETECTION, "fuzzing": _FUZZING}
ClassifyTask = Literal["detection", "fuzzing"]


def classify_questions(
    task: ClassifyTask, label: str, exam: Exam, together: int = TOGETHER
) -> list[Question[VerdictsReply]]:
    """What is asked to judge a label by detection or fuzzing."""
    questions = []
    for part in _parts(exam, together):
        n = len(part.samples)
        shown = [_marked(part, i) if task == "fuzzing" else _plain(context) for i, context in enumerate(part.contexts)]
        data, key = fenced([f"{i}. {text}" for i, text in enumerate(shown, 1)])
        words = _labelled(label, _TASKS[task].format(n=n))
        answers = Annotated[list[Annotated[int, Field(ge=0, le=1)]], Field(min_length=n, max_length=n)]
        model = for_question(VerdictsReply, key, answers=(answers, ...))
        questions.append(Question(exam.unit, asked(data, words, _answers_form(key, n), _worked()), model, 30 + 3 * n))
    return questions


def simulate_questions(label: str, exam: Exam, together: int = TOGETHER) -> list[Question[ActivationsReply]]:
    """What is asked to predict activations from a label."""
    questions = []
    for part in _parts(exam, together):
        data, key = fenced([f"{i}. {_plain(context)}" for i, context in enumerate(part.contexts, 1)])
        model = for_question(ActivationsReply, key, active=(_entries(part.contexts), ...))
        words = _labelled(label, _SIMULATION.format(n=len(part.samples)))
        messages, limit = asked(data, words, _active_form(key), _worked()), 30 + 12 * MOST_ACTIVE
        questions.append(Question(exam.unit, messages, model, limit))
    return questions


def classify(
    asker: Asker, task: ClassifyTask, labels: Sequence[str | None], exams: Sequence[Exam], together: int = TOGETHER
) -> tuple[Classified, ...]:
    """The score of each label on the exam of the same place; every context of a missing label is missing.

    Raises:
        BadInput: the cache cannot be written; everything answered so far is kept.
    """
    questions = [
        [] if label is None else classify_questions(task, label, exam, together)
        for label, exam in zip(labels, exams, strict=True)
    ]
    answers = iter(asker.ask([question for group in questions for question in group]))
    scores = []
    for group, exam in zip(questions, exams, strict=True):
        said: list[bool | None] = []
        for _, part in zip(group, _parts(exam, together), strict=False):
            reply = next(answers).reply
            said += [None] * len(part.samples) if reply is None else [bool(one) for one in reply.answers]
        said += [None] * (len(exam.samples) - len(said))
        scores.append(classified(said, [sample.active for sample in exam.samples]))
    return tuple(scores)


def simulate(
    asker: Asker, labels: Sequence[str | None], exams: Sequence[Exam], together: int = TOGETHER, seed: int = 0
) -> tuple[Simulated, ...]:
    """The correlation of what a model predicts from each label with the activations, over the contexts of its exam.

    Raises:
        BadInput: the cache cannot be written; everything answered so far is kept.
    """
    questions = [
        [] if label is None else simulate_questions(label, exam, together)
        for label, exam in zip(labels, exams, strict=True)
    ]
    answers = iter(asker.ask([question for group in questions for question in group]))
    return tuple(
        _simulated(exam, [next(answers) for _ in group], together, seed)
        for group, exam in zip(questions, exams, strict=True)
    )


def _simulated(exam: Exam, answers: Sequence[Answer[ActivationsReply]], together: int, seed: int) -> Simulated:
    longest = max((len(context.pieces) for context in exam.contexts), default=0)
    predicted = np.full((len(exam.contexts), longest), math.nan)
    actual = np.full((len(exam.contexts), longest), math.nan)
    for row, context in enumerate(exam.contexts):
        actual[row, : len(context.strengths)] = context.strengths
    for place, answer in enumerate(answers):
        contexts = exam.contexts[place * together : (place + 1) * together]
        if answer.reply is None:
            continue
        for row, context in enumerate(contexts):
            predicted[place * together + row, : len(context.pieces)] = 0.0
        for number, token, strength in answer.reply.active:
            for at in spans(contexts[number - 1], token):
                row = place * together + number - 1
                predicted[row, at] = max(predicted[row, at], strength)
    missing = int(np.isnan(predicted).all(axis=1).sum()) if longest else 0
    return Simulated(correlation(predicted, actual, seed), missing)


def spans(context: Context, token: str) -> list[int]:
    """Where a named token (or a word of several tokens) stands in a context, spaces around it left out."""
    wanted = token.strip()
    shown = [bounded(piece, TOKEN_LIMIT) for piece in context.pieces]
    found: set[int] = set()
    if wanted:
        for start in range(len(shown)):
            for stop in range(start + 1, min(start + LONGEST_SPAN, len(shown)) + 1):
                if "".join(shown[start:stop]).strip() == wanted and shown[start].strip() and shown[stop - 1].strip():
                    found.update(range(start, stop))
    return sorted(found)


def namable(context: Context) -> tuple[str, ...]:
    """What a simulation may name of a context: tokens, and words made of several, each once."""
    shown = [bounded(piece, TOKEN_LIMIT) for piece in context.pieces]
    words = "".join(shown).split()
    pieces = [piece.strip() for piece in shown]
    return tuple(name for name in dict.fromkeys([*words, *pieces]) if spans(context, name))


def _entries(contexts: Sequence[Context]) -> Any:
    """The type of a simulation: a list of [number of a text, a token that is in it, strength]; nothing else parses."""
    names = [(i, namable(context)) for i, context in enumerate(contexts, 1)]
    strength = Annotated[int, Field(ge=1, le=10)]
    kinds: Any = tuple(tuple[Literal[i], Literal[some], strength] for i, some in names if some)  # type: ignore[valid-type]
    if not kinds:
        return Annotated[list[int], Field(max_length=0)]
    entry: Any = reduce(or_, kinds)
    return Annotated[list[entry], Field(max_length=MOST_ACTIVE)]


def _answers_form(key: str, n: int) -> str:
    return f'{{"key": "{key}", "answers": [{n} numbers, 0 or 1]}}'


def _active_form(key: str) -> str:
    return f'{{"key": "{key}", "active": [[number, "token", strength], ...]}}'


@cache
def _worked() -> tuple[Message, ...]:
    """One label judged by detection and by simulation."""
    contexts = [context_of(text) for text in WORKED_EXAM]
    data, key = fenced([f"{i}. {_plain(context)}" for i, context in enumerate(contexts, 1)])
    active = [
        [i, piece.strip(), strength]
        for i, context in enumerate(contexts, 1)
        for piece, strength in zip(context.pieces, context.strengths, strict=True)
        if strength
    ]
    n, answers = len(contexts), [int(any(context.strengths)) for context in contexts]
    detected = posed(data, _labelled(WORKED_LABEL, _DETECTION.format(n=n)), _answers_form(key, n))
    simulated = posed(data, _labelled(WORKED_LABEL, _SIMULATION.format(n=n)), _active_form(key))
    return (
        ("user", detected), ("assistant", json.dumps({"key": key, "answers": answers})),
        ("user", simulated), ("assistant", json.dumps({"key": key, "active": active})),
    )  # fmt: skip


def _parts(exam: Exam, together: int) -> list[Exam]:
    return [part_of(exam, start, start + together) for start in range(0, len(exam.samples), together)]


def _labelled(label: str, words: str) -> str:
    return f"A label of a unit of the model: <label>{bounded(label)}</label>\n{words}"


def _plain(context: Context) -> str:
    return "".join(bounded(piece, TOKEN_LIMIT) for piece in context.pieces).strip()


def _marked(exam: Exam, row: int) -> str:
    """A context with its marked tokens between stars, neighbours together."""
    sample, context = exam.samples[row], exam.contexts[row]
    marks = {mark - sample.start for mark in sample.marks}
    text = ""
    for is_marked, group in groupby(enumerate(context.pieces), key=lambda item: item[0] in marks):
        inside = "".join(bounded(piece, TOKEN_LIMIT) for _, piece in group)
        text += starred(inside) if is_marked else inside
    return text.strip()
