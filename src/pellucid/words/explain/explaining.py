"""Descriptions of parts: evidence in, a description or a reason why there is none out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pellucid.ir.codecs import maybe, number, record, text
from pellucid.words.explain.asking import WRITTEN_COUNTS, Answer, Asker, Question
from pellucid.words.explain.evidence import Evidence
from pellucid.words.explain.prompts import explain_question
from pellucid.words.explain.schemas import PartReply, UnitReply

CHARACTERS_PER_TOKEN = 3.0
"""Fewer than English has, so that costs are not told too low."""


@dataclass(frozen=True)
class Cost:
    """What a run will cost at most when every reply parses at once.

    Attributes:
        calls: requests to send.
        remembered: questions that are answered on disk.
        read: tokens of the requests, about.
        written: tokens of the replies, at most.
        seconds: about, at the pace of the trial; NaN where it is not known.
    """

    calls: int
    remembered: int
    read: int
    written: int
    seconds: float

    def __str__(self) -> str:
        known = "" if math.isnan(self.seconds) else f", about {_duration(self.seconds)}"
        before = f" ({self.remembered:,} more are answered on disk)" if self.remembered else ""
        tokens = f"about {self.read:,} tokens to read, at most {self.written:,} to write"
        return f"{self.calls:,} calls{before}, {tokens}{known}"

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.calls + other.calls, self.remembered + other.remembered, self.read + other.read,
            self.written + other.written, self.seconds + other.seconds,
        )  # fmt: skip


@dataclass(frozen=True)
class Explanation:
    """What a labeller says of a part.

    Attributes:
        part: its name.
        name: a name of a few words, for modules and interfaces.
        label: the description; None where it is missing.
        missing: why it is missing; None where it is not.
        seconds: what the calls took, also where they are remembered.
    """

    part: str
    name: str | None
    label: str | None
    missing: str | None
    seconds: float


EXPLANATION = record(Explanation, part=text, name=maybe(text), label=maybe(text), missing=maybe(text), seconds=number)
"""As a line of JSON."""


def cost_of(asker: Asker, questions: Sequence[Question[Any]]) -> Cost:
    """What it would cost to ask these questions now. Nothing is sent."""
    new = [question for question in questions if not asker.remembers(question)]
    characters = sum(len(text) for question in new for _, text in question.messages)
    read = math.ceil(characters / CHARACTERS_PER_TOKEN)
    written = sum(question.limit for question in new)
    pace = asker.pace
    seconds = math.nan if pace is None else (read + WRITTEN_COUNTS * written) / pace
    return Cost(len(new), len(questions) - len(new), read, written, seconds)


def explain_questions(parts: Sequence[Evidence]) -> tuple[Question[Any], ...]:
    """The questions that `explain` asks: for `cost_of`."""
    return tuple(explain_question(evidence) for evidence in parts)


def explain(asker: Asker, parts: Sequence[Evidence]) -> tuple[Explanation, ...]:
    """A description of each part, in order; missing ones say why.

    Raises:
        BadInput: the cache cannot be written; everything answered so far is kept.
    """
    return tuple(_explanation(answer) for answer in asker.ask(explain_questions(parts)))


def _explanation(answer: Answer[Any]) -> Explanation:
    reply = answer.reply
    if isinstance(reply, PartReply):
        return Explanation(answer.about, reply.name, reply.label, None, answer.seconds)
    if isinstance(reply, UnitReply):
        return Explanation(answer.about, None, reply.label, None, answer.seconds)
    return Explanation(answer.about, None, None, answer.missing, answer.seconds)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
