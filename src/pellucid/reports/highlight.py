"""Colours for code: one regular expression cuts a text into tokens, each token is escaped and marked by its class.

Works for Python and for pseudocode alike, because it never needs to understand either: what it does not know stays
plain. Names that have a page of their own become links.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator, Mapping

from markupsafe import Markup, escape

from pellucid.reports.wording import visible

_TOKEN = re.compile(
    r"""(?P<c>\#[^\n]*)
      | (?P<s>[rbf]?\"\"\"(?:[^\\]|\\.)*?\"\"\" | [rbf]?"(?:[^"\\\n]|\\.)*" | [rbf]?'(?:[^'\\\n]|\\.)*')
      | (?P<n>(?<![\w.])(?:0x[0-9a-fA-F]+|\d[\d_]*\.?\d*(?:[eE][+-]?\d+)?))
      | (?P<w>[^\W\d]\w*(?:\.\w+)*)
      | (?P<space>\s+)
      | (?P<p>.)""",
    re.VERBOSE,
)
_KEYWORDS = frozenset(keyword.kwlist)


def tokens(text: str) -> Iterator[tuple[str, str]]:
    """(class, text) pairs that together are the whole text: c comment, s string, n number, k keyword, f call, or ""."""
    for match in _TOKEN.finditer(text):
        kind, token = match.lastgroup or "", match.group()
        if kind == "w":
            called = text[match.end() : match.end() + 1] == "("
            yield ("k" if token in _KEYWORDS else "f" if called else "w"), token
        else:
            yield (kind if kind in ("c", "s", "n") else ""), token


def colour(text: str, links: Mapping[str, str], plain: bool = False) -> Markup:
    """The text as HTML; calls of names in `links` become links to these anchors, `plain` leaves out colours."""
    pieces: list[str] = []
    for kind, token in tokens(text):
        shown = str(escape(visible(token)))
        if kind == "f" and token in links:
            pieces.append(f'<a href="#{escape(links[token])}">{shown}</a>')
        elif plain or kind in ("", "w"):
            pieces.append(shown)
        else:
            pieces.append(f"<i class={kind}>{shown}</i>")
    return Markup("".join(pieces))
