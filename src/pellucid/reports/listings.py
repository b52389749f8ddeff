"""The code of each function as HTML, within one budget of bytes for the whole file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from pellucid.ir.naming import relative
from pellucid.ir.printing import function_source
from pellucid.ir.program import Function, Program, Reading
from pellucid.reports.highlight import colour
from pellucid.reports.tree import functions_called

CODE_BYTES = 1_200_000
_SHORTEST = 400


@dataclass(frozen=True)
class Listing:
    """The text of one reading, coloured, and the numbers of its lines, one a line."""

    reading: Reading
    html: Markup
    numbers: str


def list_code(
    program: Program, anchors: Mapping[str, str], given: Mapping[str, str], budget: int = CODE_BYTES
) -> dict[str, tuple[Listing, ...]]:
    """The listings of each function: the reading that runs first, then the others.

    Args:
        anchors: where the page of each function is.
        given: text to show for a function's chosen reading instead of its printed form.
        budget: bytes for all of it; colours go first, then the ends of the longest listings.
    """
    texts = {
        (name, reading.kind): given.get(name, "") if reading is function.reading() and name in given else ""
        for name, function in program.functions.items()
        for reading in function.readings
    }
    texts = {key: text or function_source(program, *key) for key, text in texts.items()}
    plain = sum(map(len, texts.values())) * 3 > budget
    limit = max(_SHORTEST, budget // (2 * max(1, len(texts)))) if plain else budget
    return {
        name: tuple(
            _listing(reading, texts[name, reading.kind], _links(function, anchors), plain, limit)
            for reading in _chosen_first(function)
        )
        for name, function in program.functions.items()
    }


def _links(function: Function, anchors: Mapping[str, str]) -> dict[str, str]:
    """Anchors of the functions it calls, by their full names and by their paths below it, as the text may have them."""
    called = [name for name in functions_called(function) if name in anchors]
    inside = {relative(name, function.name) or name: anchors[name] for name in called}
    return {**inside, **{name: anchors[name] for name in called}}


def _chosen_first(function: Function) -> tuple[Reading, ...]:
    chosen = function.reading()
    return (chosen, *(reading for reading in function.readings if reading is not chosen))


def _listing(reading: Reading, text: str, links: Mapping[str, str], plain: bool, limit: int) -> Listing:
    text = text.strip("\n")
    if len(text) > limit:
        kept = text[:limit].rsplit("\n", 1)[0]
        text = f"{kept}\n# … {text[len(kept) :].count(chr(10))} more lines: see program.py"
    lines = text.count("\n") + 1
    return Listing(reading, colour(text, links, plain), "\n".join(map(str, range(1, lines + 1))))
