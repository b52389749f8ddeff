"""Labels read from text: a recursive descent over the grammar in `language`, with one-line errors that say where."""

from __future__ import annotations

import re

import numpy as np

from pellucid.errors import BadInput
from pellucid.words.labels.language import DEEPEST, Condition, Label, Rule
from pellucid.words.labels.lexicon import Lexicon
from pellucid.words.labels.slots import Slot, find_slot

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_SLOT = re.compile(r"([A-Za-z][^{}<>\",;]*?) +(not +in|in) *(?=[{<])")
_STRING = re.compile(r'"((?:[^"\\]|\\u\{[0-9A-Fa-f]{1,6}\}|\\["\\n])*)"(?:#(\d{1,18}))?')
_CLUSTER = re.compile(r"<((?:[^<>\\]|\\u\{[0-9A-Fa-f]{1,6}\}|\\[\\n])+)>")
_ESCAPE = re.compile(r"\\(?:u\{([0-9A-Fa-f]+)\}|(.))")
_SPACE = re.compile(r"\s*")


def parse_label(text: str, lexicon: Lexicon) -> Label:
    """The label that a text writes.

    Raises:
        BadInput: the text is no label, or names a slot, token, cluster or class that is not there; the message says at
            which character.
    """
    return _Reader(text, lexicon).label()


class _Reader:
    def __init__(self, text: str, lexicon: Lexicon) -> None:
        self.text = text
        self.lexicon = lexicon
        self.place = 0
        self.conditions: dict[Condition, Condition] = {}

    def label(self) -> Label:
        rules = self.rules((), 0)
        self.space()
        if self.place < len(self.text):
            raise self.wrong("';' or the end")
        return Label(tuple(rules), self.lexicon)

    def rules(self, before: tuple[Condition, ...], depth: int) -> list[Rule]:
        if depth > DEEPEST:
            raise BadInput(f"label: brackets are more than {DEEPEST} deep; write rules one by one")
        found: list[Rule] = []
        while True:
            if self.take("where"):
                found += self.bracket(before, depth)
            else:
                found.append(self.rule(before))
            if not self.take(";"):
                return found

    def bracket(self, before: tuple[Condition, ...], depth: int) -> list[Rule]:
        path = before + self.all_conditions()
        if not self.take("("):
            raise self.wrong("'and' or '('")
        found = self.rules(path, depth + 1)
        if found[-1].conditions != path or any(rule.conditions == path for rule in found[:-1]):
            raise BadInput("label: the last rule in brackets, and only the last, is 'NUMBER otherwise'")
        if not self.take(")"):
            raise self.wrong("';' or ')'")
        return found

    def rule(self, before: tuple[Condition, ...]) -> Rule:
        value = self.number()
        if self.take("otherwise"):
            return Rule(value, before)
        if not self.take("where"):
            raise self.wrong("'where' or 'otherwise'")
        return Rule(value, before + self.all_conditions())

    def number(self) -> float:
        """A number, to single precision; infinite where it is too large for that."""
        value = float(self.match(_NUMBER, "a number")[0])
        with np.errstate(over="ignore"):
            return float(np.float32(value))

    def all_conditions(self) -> tuple[Condition, ...]:
        conditions = [self.condition()]
        while self.take("and"):
            conditions.append(self.condition())
        return tuple(conditions)

    def condition(self) -> Condition:
        found = self.match(_SLOT, "a slot and 'in' or 'not in' and a set")
        slot = find_slot(found[1])
        codes: list[int] = []
        clusters: list[str] = []
        if self.take("{"):
            self.item(slot, codes, clusters)
            while self.take(","):
                self.item(slot, codes, clusters)
            if not self.take("}"):
                raise self.wrong("',' or '}'")
        else:
            clusters.append(self.cluster())
        read = Condition(slot.name, tuple(sorted(codes)), tuple(clusters), found[2] == "in")
        return self.conditions.setdefault(read, read)

    def item(self, slot: Slot, codes: list[int], clusters: list[str]) -> None:
        self.space()
        if self.text.startswith("<", self.place):
            clusters.append(self.cluster())
        elif slot.kind == "class":
            codes.append(self.a_class(slot))
        elif slot.kind == "token":
            codes.append(self.token())
        else:
            first = self.a_class(slot) if slot.classes else self.token()
            codes.append(first * (self.lexicon.nothing + 1) + self.token())

    def a_class(self, slot: Slot) -> int:
        for name in sorted(slot.classes, key=len, reverse=True):
            if self.take(name):
                return slot.classes.index(name)
        raise self.wrong(f"one of the classes {', '.join(slot.classes)}")

    def cluster(self) -> str:
        return _unescaped(self.match(_CLUSTER, "a cluster's <name>")[1])

    def token(self) -> int:
        if self.take("nothing"):
            return self.lexicon.nothing
        found = self.match(_STRING, 'a token in quotes, or "nothing"')
        piece = _unescaped(found[1])
        ids = self.lexicon.ids_of.get(piece, [])
        token = int(found[2]) if found[2] is not None else ids[-1] if ids else -1
        if token not in ids:
            raise BadInput(f"label: {found[0]!r} is no token of the vocabulary; use the lexicon it was made with")
        return token

    def space(self) -> None:
        found = _SPACE.match(self.text, self.place)
        assert found is not None
        self.place = found.end()

    def take(self, word: str) -> bool:
        """Whether a word or a sign comes next; it is passed over."""
        self.space()
        end = self.place + len(word)
        if not self.text.startswith(word, self.place) or (word.isalpha() and self.text[end : end + 1].isalnum()):
            return False
        self.place = end
        return True

    def match(self, pattern: re.Pattern[str], wanted: str) -> re.Match[str]:
        self.space()
        found = pattern.match(self.text, self.place)
        if found is None:
            raise self.wrong(wanted)
        self.place = found.end()
        return found

    def wrong(self, wanted: str) -> BadInput:
        rest = self.text[self.place : self.place + 20]
        return BadInput(f"label: character {self.place + 1} ({rest!r} …) is not {wanted}; see the grammar of labels")


def _unescaped(text: str) -> str:
    def letter(found: re.Match[str]) -> str:
        if found[1] is None:
            return "\n" if found[2] == "n" else found[2]
        code = int(found[1], 16)
        if code > 0x10FFFF:
            raise BadInput(f"label: {found[0]} is no character; escapes end at \\u{{10FFFF}}")
        return chr(code)

    return _ESCAPE.sub(letter, text) if "\\" in text else text
