"""A unit in a terminal: label, score, contexts with active tokens coloured, links. Nothing in it can steer a terminal.

Everything is put into `rich.text.Text`, which reads no markup, and what has no shape of its own is written as an
escape. Without colours, the strongest token of a context stands between « and », the one that a head looks from between
[ and ].
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from pellucid.errors import BadInput
from pellucid.ir.units import Unit
from pellucid.reports.terminal import add
from pellucid.reports.unit_views import LEVELS, Run, exam_lines, neighbours, runs, said_above, score, terms_of
from pellucid.reports.wording import clip, number, percent
from pellucid.words.described import PLACE, DescribedUnit, read_units
from pellucid.words.judged import JudgedLabel, read_judged

LABEL, NEIGHBOUR = 2400, 100
"""Characters of a label that are shown, and of the label of a neighbour."""


def unit_text(directory: Path, unit: Unit) -> Text:
    """What the directory of a described program knows of a unit.

    Raises:
        BadInput: it knows nothing of it, or a file is damaged.
    """
    if not (directory / PLACE).is_dir():
        raise BadInput(f"{directory}: holds no words of units; make them with pellucid describe")
    found = read_units(directory / PLACE, [str(unit)])
    if not found:
        raise BadInput(f"{unit}: has no words; {directory / 'units' / 'index.html'} lists the units that have")
    others = read_units(directory / PLACE, [link.name for link in (*found[0].incoming, *found[0].outgoing)])
    judged = read_judged(directory / PLACE, [str(unit)]).get(str(unit), ())
    return text_of(found[0], {other.name: other.label for other in others}, judged)


def text_of(unit: DescribedUnit, labels: dict[str, str | None], judged: Sequence[JudgedLabel] = ()) -> Text:
    """A unit as text; `labels` of other units by name, `judged` labels of this one."""
    text = Text()
    add(text, f"{unit.name}\n", "bold")
    add(text, f"{clip(unit.label, LABEL)}\n" if unit.label is not None else "no label was found\n")
    terms = terms_of(unit)
    scores = f"r {score(unit.r)}, {terms.control} {score(unit.shuffled)}"
    add(text, f"{unit.kind}; {scores}; {terms.density} {percent(unit.density)} of tokens\n", "dim")
    for label in judged:
        _add_judged(text, label)
    above = said_above(unit)
    for how, title in (("top", terms.top), ("random", "at random places")):
        shown = [context for context in unit.contexts if context.how == how]
        if shown:
            add(text, f"\n{title}\n", "bold")
        for context in shown:
            add(text, "  ")
            for run in runs(context, unit.highest, above):
                _add_run(text, run)
            add(text, "\n")
    for title, links in ((terms.reads, unit.incoming), (terms.read, unit.outgoing)):
        if links:
            add(text, f"\n{title}\n", "bold")
        for one in neighbours(links, labels):
            add(text, f"  {number(one.strength):>8}  {one.name}  {clip(one.label, NEIGHBOUR)}\n")
    return text


def _add_judged(text: Text, label: JudgedLabel) -> None:
    """A label by whom, what it says unless that stands above, and its scores."""
    add(text, f"\nlabel by {label.maker} ({label.kind})\n", "bold")
    if label.text is None:
        add(text, f"  missing: {clip(label.missing or '', LABEL)}\n")
    elif label.kind == "language model":
        add(text, f"  {clip(label.text, LABEL)}\n")
    for line in exam_lines(label):
        add(text, f"  {line}\n", "dim")


def _add_run(text: Text, run: Run) -> None:
    shown = f"[{run.text}]" if run.asks else run.text
    shown = f"«{shown}»" if run.peak else shown
    colour = f"black on {_colour(run.level)}" if run.level > 0 else "white on blue" if run.level < 0 else ""
    add(text, shown, " ".join(filter(None, (colour, "underline" if run.said else ""))))


def _colour(level: int) -> str:
    """From nearly white to amber."""
    share = level / LEVELS
    red, green, blue = (round(255 - share * fall) for fall in (15, 80, 200))
    return f"#{red:02x}{green:02x}{blue:02x}"
