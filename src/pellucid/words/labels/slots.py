"""Slots: what stands where, seen from each position of a text, as one code a position, computed from token ids alone.

A slot of kind "token" shows one token (its id, or `nothing`), one of kind "class" one of a few named classes, one of
kind "pair" two tokens, or a class and a token. How each is found in a text is in `places`. Two kinds of slots need more
than the text, which is passed in: one named "head L.H" shows the token that an attention head looks at (where it looks
says its rule), one named "unit L.N" how much the label of a unit of an earlier MLP says (`levels`).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int

from pellucid.errors import BadInput
from pellucid.words.labels.lexicon import Lexicon
from pellucid.words.labels.places import Codes, Ids, Text, last, one_before

Given = Mapping[str, Codes]
"""What the text alone does not tell, by slot: for "head L.H" the position that each position looks at, for "unit L.N"
the level of what the unit's label says (a place in `LEVELS`)."""

HEAD = re.compile(r"head ([^\s{}<>,;\"()]+)")
UNIT = re.compile(r"unit (\d+)\.(\d+)")

LEVELS = ("quiet", "active", "strong")
"""How much a label says: at most a quarter of the most that it can say, at most three quarters, or more."""

EDGES = (0, 1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 64, 128)
"""Where the classes of distances begin."""

DISTANCES = tuple(str(a) if b == a + 1 else f"{a} to {b - 1}" for a, b in itertools.pairwise(EDGES))
DISTANCES += (f"{EDGES[-1]} or more",)


@dataclass(frozen=True)
class Slot:
    """A slot by its name.

    Attributes:
        name: as labels write it.
        kind: what its codes are: ids of tokens, places in `classes`, or `first * (vocabulary + 1) + second` for pairs.
        told: what it shows, as one clause.
        classes: the names of the classes; of the first of a pair where that is a class.
    """

    name: str
    kind: Literal["token", "pair", "class"]
    told: str
    classes: tuple[str, ...] = ()


def find_slot(name: str) -> Slot:
    """The slot of a name. Raises BadInput when there is none."""
    if name in SLOTS:
        return SLOTS[name]
    if head := HEAD.fullmatch(name):
        return Slot(name, "token", f"the token that head {head[1]} looks at")
    if UNIT.fullmatch(name):
        return Slot(name, "class", f"what the label of {name} says", LEVELS)
    raise BadInput(f"label: no slot is called {name!r}; there are {', '.join(SLOTS)}, 'head L.H' and 'unit L.N'")


def read_slots(
    ids: Ids, lexicon: Lexicon, names: Iterable[str] | None = None, given: Given | None = None
) -> dict[str, Codes]:
    """The codes of slots at every position; of all slots, and all in `given`, where no names are given.

    Raises:
        BadInput: ids outside the vocabulary, an unknown slot, or one of a head or a unit that is not in `given`.
    """
    given = given or {}
    ids = np.ascontiguousarray(ids, dtype=np.int64)
    if ids.ndim != 2 or ids.size == 0 or ids.min() < 0 or ids.max() >= len(lexicon.pieces):
        raise BadInput(
            f"labels: ids of shape {list(ids.shape)} are no windows over a vocabulary of {len(lexicon.pieces)}; use the"
            " model's own tokenizer"
        )
    text = Text(ids, lexicon)
    wanted = [*SLOTS, *given] if names is None else list(names)
    return {name: _codes(find_slot(name), text, given) for name in wanted}


def _codes(slot: Slot, text: Text, given: Given) -> Codes:
    if slot.name in _READERS:
        return _READERS[slot.name](text)
    if slot.name not in given:
        lacking = "where it looks" if HEAD.fullmatch(slot.name) else "what its label says"
        raise BadInput(f"labels: {slot.name!r} is cited, but nobody says {lacking}; pass given={{{slot.name!r}: …}}")
    shown = np.asarray(given[slot.name])
    most = len(slot.classes) or text.ids.shape[1]
    if shown.shape != text.ids.shape or shown.min() < 0 or shown.max() >= most:
        raise BadInput(
            f"labels: {slot.name!r} is given as numbers of shape {list(shown.shape)}, or outside 0 … {most - 1}; give"
            " one for each position"
        )
    shown = shown.astype(np.int64)
    return shown if slot.classes else np.take_along_axis(text.ids, shown, axis=1)


# ---- how they are read


def _classed(distance: Int[np.ndarray, "windows context"]) -> Codes:
    return np.searchsorted(np.array(EDGES), distance, side="right") - 1


def _content(text: Text, earlier: int) -> Codes:
    """The last content word before the position, or one earlier than it."""
    places = last(text.content, strictly=True)
    for _ in range(earlier):
        places = one_before(text.content, places)
    return text.at(places)


def _after_last_time(text: Text) -> Codes:
    return text.at(np.where(text.earlier < 0, -1, text.earlier + 1))


def _word_before(text: Text) -> Codes:
    inside = one_before(text.begins_word, text.word_start)
    return text.at(np.where(text.word_start < 0, last(text.begins_word, strictly=True), inside))


def _name(text: Text, offset: int) -> Codes:
    places = last(text.capitalised, strictly=True)
    return text.at(np.where(places < 0, -1, places + offset))


_DEFINED: tuple[tuple[Slot, Callable[[Text], Codes]], ...] = (
    (Slot("current", "token", "the token itself"), lambda text: text.back(0)),
    (Slot("previous", "token", "the token before"), lambda text: text.back(1)),
    (Slot("two back", "token", "the token two places before"), lambda text: text.back(2)),
    (Slot("three back", "token", "the token three places before"), lambda text: text.back(3)),
    (
        Slot("previous+current", "pair", "the token before and the token itself"),
        lambda text: text.pair(text.back(1), text.back(0)),
    ),
    (
        Slot("two back+current", "pair", "the token two places before and the token itself"),
        lambda text: text.pair(text.back(2), text.back(0)),
    ),
    (
        Slot("two back+previous", "pair", "the two tokens before"),
        lambda text: text.pair(text.back(2), text.back(1)),
    ),
    (
        Slot("content", "token", "the first token of the last content word before"),
        lambda text: _content(text, 0),
    ),
    (
        Slot("second content", "token", "the first token of the content word before that"),
        lambda text: _content(text, 1),
    ),
    (
        Slot("third content", "token", "the first token of the third last content word"),
        lambda text: _content(text, 2),
    ),
    (
        Slot("content+current", "pair", "the last content word before and the token itself"),
        lambda text: text.pair(_content(text, 0), text.back(0)),
    ),
    (Slot("after last time", "token", "the token after the last earlier occurrence of the token"), _after_last_time),
    (
        Slot("word", "token", "the first token of the word that the token is part of"),
        lambda text: text.at(text.word_start),
    ),
    (
        Slot("word+current", "pair", "the first token of the word, and the token itself"),
        lambda text: text.pair(text.at(text.word_start), text.back(0)),
    ),
    (Slot("word before", "token", "the first token of the word before"), _word_before),
    (
        Slot("sentence start", "token", "the first token of the sentence"),
        lambda text: text.at(last(text.begins_sentence, strictly=False)),
    ),
    (
        Slot("name", "token", "the first token of the last capitalised word before that begins no sentence"),
        lambda text: _name(text, 0),
    ),
    (Slot("name end", "token", "the token after the first one of that word"), lambda text: _name(text, 1)),
    (
        Slot("punctuation", "token", "the last token before that has no letter and no digit"),
        lambda text: text.at(last(text.lexicon.punctuation[text.ids], strictly=True)),
    ),
    (
        Slot("place", "class", "how many tokens it stands after the beginning", DISTANCES),
        lambda text: _classed(text.since(text.ids == text.lexicon.beginning)),
    ),
    (
        Slot("place in sentence", "class", "how many tokens it stands after the first of the sentence", DISTANCES),
        lambda text: _classed(text.since(text.begins_sentence)),
    ),
    (
        Slot("quoted", "class", "whether quotation marks are open in the line", ("no", "yes")),
        lambda text: text.quoted,
    ),
    (
        Slot("quoted+current", "pair", "whether quotation marks are open, and the token itself", ("no", "yes")),
        lambda text: text.pair(text.quoted, text.back(0)),
    ),
)  # fmt: skip

SLOTS = {slot.name: slot for slot, _ in _DEFINED}
"""All slots but those of heads and units."""

_READERS = {slot.name: read for slot, read in _DEFINED}
