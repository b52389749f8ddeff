"""All labels of a unit with all that was measured of them: its own first, then what models said of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from pellucid.words.described import DescribedUnit, LabelKind
from pellucid.words.judged import MAKER, Judged, Score


@dataclass(frozen=True)
class Said:
    """A label.

    Attributes:
        kind: what made it, `maker` who.
        r: correlation of what it predicts with the unit, nan where unknown; `shuffled` that of another unit's label.
        exams: scores by detection and fuzzing.
    """

    kind: LabelKind
    maker: str
    text: str
    r: float
    shuffled: float
    exams: tuple[Score, ...] = ()


def said_of(unit: DescribedUnit, judged: Judged) -> Iterator[Said]:
    """The labels of a unit that are not missing."""
    asked = judged.get(unit.name, ())
    if unit.label is not None:
        exams = tuple(score for one in asked if one.maker == MAKER for score in one.scores)
        yield Said(unit.kind, MAKER, unit.label, unit.r, unit.shuffled, exams)
    for one in asked:
        if one.text is not None and one.maker != MAKER:
            simulated = next((score for score in one.scores if score.how == "simulation"), None)
            r, shuffled = (math.nan, math.nan) if simulated is None else (simulated.value, simulated.shuffled)
            others = tuple(score for score in one.scores if score.how != "simulation")
            yield Said(one.kind, one.maker, one.text, r, shuffled, others)
