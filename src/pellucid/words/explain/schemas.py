"""What a reply has to be: pydantic models, strict, closed to further fields, with the key of the question.

The model of one question fixes the key as a constant and lengths as they are asked for, so that the same model gives
the JSON schema that is sent (endpoints that know `response_format` hold the labeller to it) and the check of what comes
back. Text of a labeller is data, too: one line, seen characters only, bounded.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, create_model

LABEL_CHARACTERS = 160
NAME_CHARACTERS = 40
REPLY_CHARACTERS = 20_000
"""A longer text is no reply."""

_THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
_CODE_FENCE = re.compile(r"\A```(?:json)?\s*\n(.*)\n```\Z", re.DOTALL)


class NotAReply(ValueError):
    """The text is not the reply that was asked for; the message says in a few words why."""


def _plain(text: str) -> str:
    """A line of seen characters with at least two letters, single spaces; raises ValueError."""
    if any(unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for letter in text):
        raise ValueError("holds characters that are not seen, or line ends")
    line = " ".join(text.split())
    if sum(letter.isalnum() for letter in line) < 2:
        raise ValueError("says nothing")
    if "<data" in line or "</data" in line or line[:3] == "...":
        raise ValueError("repeats the form of the question")
    return line


class Reply(BaseModel):
    """Any reply: it repeats the key of its question."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    key: str


class UnitReply(Reply):
    """What a unit stands for."""

    label: Annotated[str, Field(min_length=2, max_length=LABEL_CHARACTERS), AfterValidator(_plain)]


class PartReply(Reply):
    """What a module or an interface is: a name of a few words, and one sentence."""

    name: Annotated[str, Field(min_length=2, max_length=NAME_CHARACTERS), AfterValidator(_plain)]
    label: Annotated[str, Field(min_length=2, max_length=LABEL_CHARACTERS), AfterValidator(_plain)]


class VerdictsReply(Reply):
    """For each context, 1 (yes) or 0 (no)."""

    answers: list[Annotated[int, Field(ge=0, le=1)]]


class ActivationsReply(Reply):
    """Active tokens: number of the text (from 1), the token, its strength from 1 to 10."""

    active: list[tuple[int, str, int]]


R = TypeVar("R", bound=Reply)


def for_question(base: type[R], key: str, **fields: Any) -> type[R]:
    """The model of one question: the key is a constant, further fields (type, default) are narrowed."""
    constant: Any = Literal[key]
    return create_model(base.__name__, __base__=base, key=(constant, ...), **fields)


def parsed(text: str, model: type[R]) -> R:
    """The reply that a text is: the whole text, or the whole of one code fence, after a thought at most.

    Raises:
        NotAReply: it is anything else. No JSON is searched for within other text.
    """
    if len(text) > REPLY_CHARACTERS:
        raise NotAReply(f"it has more than {REPLY_CHARACTERS:,} characters")
    body = _THOUGHT.sub("", text).strip()
    if not body:
        raise NotAReply("it is empty")
    if found := _CODE_FENCE.match(body):
        body = found[1].strip()
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(step) for step in first["loc"][:2]) or "it"
        raise NotAReply(f"{place[:40]}: {first['type']}") from error
