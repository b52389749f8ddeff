"""What is shown of a unit, on a page or in a terminal: contexts cut into runs of one strength, links with labels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pellucid.reports.wording import number
from pellucid.words.described import DescribedUnit, Link, Stretch
from pellucid.words.judged import JudgedLabel, Score

LEVELS = 9
"""Strengths that are told apart; 0 is not active, -1 below zero."""


@dataclass(frozen=True)
class Run:
    """Neighbouring tokens that look alike.

    Attributes:
        level: how strong, see `LEVELS`.
        said: whether the label says that the unit is active here.
        peak: whether it is the strongest token of its context.
        asks: whether it is the token that an attention head looks from.
        title: the activation, and what the label predicts.
    """

    text: str
    level: int = 0
    said: bool = False
    peak: bool = False
    title: str = ""
    asks: bool = False


@dataclass(frozen=True)
class Terms:
    """What the figures and lists of a unit are called: latents are active at a token, heads look from one at others.

    Attributes:
        control: what `shuffled` is, `density` what the share of tokens is of.
        top: where top contexts are, `nowhere` that there are none.
        reads, read: the units it reads most from and is read most by, with what the strength of a link is.
        legend: how contexts are to be read.
    """

    control: str
    density: str
    top: str
    nowhere: str
    reads: str
    read: str
    legend: str


LATENT = Terms(
    "with another unit's label",
    "active on",
    "where it is highest",
    "It is active nowhere in the text that contexts are taken from.",
    "reads most from: by how much its reading rises for each unit written, before the norm's scale",
    "read most by",
    "Colour: activation, the full colour the unit's highest. Underlined: the label says “active” (more than half of its"
    " largest prediction). Bold: the strongest token. Point at a token for numbers.",
)
HEAD = Terms(
    "with the rule of another head",
    "looks at something else than the first token from",
    "where it looks hardest, from the token in a box",
    "It looks at nothing but the first token in the text that contexts are taken from.",
    "carries most of: the length of what it writes for each unit of a latent where it looks, before the norm's scale",
    "read most by: the length of what is read through it, where it looks, for each unit of a latent's reading",
    "In a box: the token that looks. Colour: how much of its weight the head puts on a token from there, the full"
    " colour the head's most; what is missing to 1 lies on beginning tokens, on tokens with less than 0.01 and on those"
    " that are not shown. Underlined: the rule says so (more than half of its largest weight). Bold: the token with"
    " most weight. Point at a token for numbers. r compares the weights with those of the whole rule over pairs of"
    " tokens; the label shows the numbers of the rule that tell most.",
)


def terms_of(unit: DescribedUnit) -> Terms:
    """What is said of a unit of its kind."""
    return HEAD if unit.kind == "rule" else LATENT


@dataclass(frozen=True)
class Neighbour:
    """A unit at the other end of a link, with its label where it has one."""

    name: str
    strength: float
    label: str


def runs(context: Stretch, highest: float, said_above: float) -> Iterator[Run]:
    """A context, tokens without activation or prediction put together.

    Args:
        highest: the activation of the strongest level.
        said_above: a prediction above this counts as "active".
    """
    quiet: list[str] = []
    peak = max(range(len(context.pieces)), key=context.activations.__getitem__, default=-1)
    for place, (piece, activation) in enumerate(zip(context.pieces, context.activations, strict=True)):
        predicted = context.predicted[place] if context.predicted else None
        said = predicted is not None and predicted > said_above
        asks = place == context.query
        if activation == 0 and not said and not asks:
            quiet.append(_on_a_line(piece))
            continue
        if quiet:
            yield Run("".join(quiet))
            quiet = []
        title = number(activation) if predicted is None else f"{number(activation)}; the label says {number(predicted)}"
        strongest = place == peak and activation > 0
        yield Run(_on_a_line(piece), level_of(activation, highest), said, strongest, title, asks)
    if quiet:
        yield Run("".join(quiet))


def level_of(activation: float, highest: float) -> int:
    """The strength of an activation: 1 to `LEVELS`, 0 for none, -1 below zero."""
    if not activation > 0:
        return -1 if activation < 0 else 0
    return min(LEVELS, max(1, math.ceil(LEVELS * activation / highest))) if highest > 0 else LEVELS


def score(value: float) -> str:
    """A score to three digits, or that it is unknown."""
    return "unknown" if math.isnan(value) else number(value)


def said_above(unit: DescribedUnit) -> float:
    """Half of the label's largest prediction: what is above counts as "active"."""
    return max((value for one in unit.contexts for value in one.predicted), default=0.0) / 2


def neighbours(links: tuple[Link, ...], labels: Mapping[str, str | None]) -> tuple[Neighbour, ...]:
    """The units at the other ends of links."""
    return tuple(Neighbour(link.name, link.strength, labels.get(link.name) or "") for link in links)


def exam_lines(label: JudgedLabel) -> tuple[str, ...]:
    """What a label is worth on each exam: the score with its interval, the control, and how many contexts it is of."""
    return tuple(_exam_line(one) for one in label.scores)


def _exam_line(one: Score) -> str:
    if math.isnan(one.value):
        why = "no answer came" if one.missing else "the text has no contexts of both kinds"
        return f"{one.how} unknown: {why}"
    control = "" if math.isnan(one.shuffled) else f", with another unit's label {one.shuffled:.2f}"
    lost = f", {one.missing} more without an answer" if one.missing else ""
    return f"{one.how} {one.value:.2f} [{one.low:.2f}, {one.high:.2f}]{control}, {one.contexts} contexts{lost}"


def _on_a_line(piece: str) -> str:
    return piece.replace("\n", "↵").replace("\t", "⇥")
