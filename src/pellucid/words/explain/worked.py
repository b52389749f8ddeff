"""Worked examples that questions begin with: small labellers follow an example better than a rule."""

from __future__ import annotations

import re

from pellucid.words.explain.evidence import Context

WORKED_UNITS = (
    (
        "'hot', 'proud' and other words right after 'very'",
        (
            ("strongest", ("The soup was very hot/10 today .", "Tim felt very proud/9 of it .")),
            ("middle", ("It was a very old/6 tree .",)),
            ("weak", ("She ran very fast/4 to the gate .",)),
            ("not active", ("The old dog was hot .",)),
        ),
    ),
    (
        "'ship', 'boat' and other words for what swims on water",
        (
            ("strongest", ("They saw a big ship/10 on the water .", "The red boat/9 went fast .")),
            ("middle", ("He sat in the boat/6 with his dad .",)),
            ("weak", ("A raft/3 is made of wood .",)),
            ("not active", ("She put the cup on the table .",)),
        ),
    ),
)
"""Labels, and contexts by band; a word with its strength after a slash is active."""

WORKED_LABEL = "words for colours"
WORKED_EXAM = (
    "He found a blue/9 stone near the lake",
    "They all went home after dinner",
    "Her dress was yellow/8 and her hat was green/8",
    "The cat slept on the mat",
    "A red/10 car stopped at the shop",
)


def context_of(text: str) -> Context:
    """A context from a line of the form above."""
    words = [re.fullmatch(r"(.+?)(?:/(\d+))?", word) for word in text.split()]
    found = [word.groups() for word in words if word is not None]
    pieces = tuple((" " if i else "") + piece for i, (piece, _) in enumerate(found))
    return Context(pieces, tuple(int(strength or 0) for _, strength in found))
