r"""Text of a corpus as data: it can be read in a prompt, but it can neither end its place there nor hide anything.

`escaped` puts a backslash before `\ < > [ ] *` and writes every character that is not seen (control, zero-width,
direction, line ends, unassigned) as `\n` or `\u{202e}`. Fences are made of bare `<` and marks of bare `*`, so no text
can make one, and no special token of a chat template (`<|im_end|>`, `[INST]`) survives. It is injective: two texts that
differ are shown differently. A fence also carries a key, the first digits of the SHA-256 of what it holds: a reply has
to repeat the key, and a text that holds a ready-made reply cannot know it.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence

KEY_DIGITS = 6
TOKEN_LIMIT = 32
"""Characters shown of one token."""

NAME_LIMIT = 200
"""Characters shown of a name, label or rule."""

_BARE = frozenset("\\<>[]*")
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def escaped(text: str) -> str:
    """The text on one line, every character seen and none of them with a meaning in a prompt."""
    return "".join(_character(letter) for letter in text)


def bounded(text: str, limit: int = NAME_LIMIT) -> str:
    """The escaped text, of longer ones the first `limit` characters and how many more there are."""
    if len(text) <= limit:
        return escaped(text)
    return f"{escaped(text[:limit])}\\+{len(text) - limit} more"


def starred(text: str) -> str:
    """Escaped text as marked: between two stars on each side, a space before it left outside."""
    space = " " if text.startswith(" ") and text.strip() else ""
    return f"{space}**{text[len(space) :]}**"


def key_of(text: str) -> str:
    """The key of a fence that holds this text."""
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_DIGITS]


def fenced(lines: Sequence[str]) -> tuple[str, str]:
    """Lines, already escaped, between fences; and the key of the fences."""
    inside = "\n".join(lines)
    key = key_of(inside)
    return f"<data {key}>\n{inside}\n</data {key}>", key


def _character(letter: str) -> str:
    if letter in _BARE:
        return "\\" + letter
    if letter == "\n":
        return "\\n"
    if unicodedata.category(letter) in _UNSEEN:
        return f"\\u{{{ord(letter):x}}}"
    return letter
