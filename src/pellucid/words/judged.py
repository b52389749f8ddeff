"""Labels that were judged on exams: whose they are, what they say, what they are worth; and their Parquet file.

A unit has its own label in its record (`described`). Where a language model was asked, `labels.parquet` holds what it
said, and the scores of both: a row for each label. A label that is missing has a row, too, with the reason. A score
that is unknown is null.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa

from pellucid.errors import BadInput
from pellucid.words.described import LabelKind
from pellucid.words.tables import damaged, known, read_table, score_of, shown, stored, write_table

JUDGED = "labels.parquet"
MAKER = "pellucid"
"""Who makes the labels that units have of their own."""

ScoreKind = Literal["simulation", "detection", "fuzzing"]


@dataclass(frozen=True)
class Score:
    """What a label is worth by one kind of exam, on text that neither unit nor label was made from.

    Attributes:
        how: "simulation" (correlation), "detection" or "fuzzing" (balanced accuracy, chance 0.5).
        value: nan where nothing was answered; `low` and `high` are its 95 % interval.
        contexts: how many were answered, `missing` how many were not.
        shuffled: the same score with the label of another unit; nan where that was not measured.
    """

    how: ScoreKind
    value: float
    low: float
    high: float
    contexts: int
    missing: int
    shuffled: float


@dataclass(frozen=True)
class JudgedLabel:
    """A label of a unit.

    Attributes:
        unit: its name.
        kind: what made the label, `maker` the name of the model that was asked, or `MAKER`.
        text: what it says; None where it is missing, and then `missing` says why.
        scores: by different exams.
    """

    unit: str
    kind: LabelKind
    maker: str
    text: str | None
    missing: str | None = None
    scores: tuple[Score, ...] = ()

    def __post_init__(self) -> None:
        if (self.text is None) == (self.missing is None):
            raise BadInput(f"label of {self.unit!r}: give a text, or the reason why it is missing")


Judged = Mapping[str, tuple[JudgedLabel, ...]]
"""The labels of units, by name of the unit."""


def by_unit(labels: Iterable[JudgedLabel]) -> Judged:
    """Labels put together that are of one unit, in their order."""
    found: dict[str, tuple[JudgedLabel, ...]] = {}
    for label in labels:
        found[label.unit] = (*found.get(label.unit, ()), label)
    return found


def replacing(old: Judged, new: Sequence[JudgedLabel]) -> tuple[JudgedLabel, ...]:
    """The old labels with the new ones in place of those of the same unit and maker, by unit and kind."""
    given = {(label.unit, label.maker) for label in new}
    kept = [one for labels in old.values() for one in labels if (one.unit, one.maker) not in given]
    kinds = get_args(LabelKind)
    return tuple(sorted([*kept, *new], key=lambda one: (one.unit, kinds.index(one.kind), one.maker)))


# ---- the file

_SCORES = pa.list_(
    pa.struct(
        [
            ("how", pa.string()), ("value", pa.float64()), ("low", pa.float64()), ("high", pa.float64()),
            ("contexts", pa.int32()), ("missing", pa.int32()), ("shuffled", pa.float64()),
        ]
    )
)  # fmt: skip
_LABELS = pa.schema(
    [
        ("unit", pa.string()), ("kind", pa.string()), ("maker", pa.string()), ("text", pa.string()),
        ("missing", pa.string()), ("scores", _SCORES),
    ]
)  # fmt: skip


def write_judged(labels: Sequence[JudgedLabel], directory: Path) -> None:
    """Write labels into a directory of records.

    Raises:
        BadInput: the file cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_table(directory / JUDGED, [_row(label) for label in labels], _LABELS)
    except OSError as error:
        raise BadInput(f"{directory}: labels cannot be written there ({error.strerror}); choose another") from error


def read_judged(directory: Path, names: Collection[str] | None = None) -> Judged:
    """The labels in a directory of records, all or those of some units; none where nothing was asked.

    Raises:
        BadInput: the file is damaged or something else.
    """
    file = directory / JUDGED
    if not file.exists():
        return {}
    rows = read_table(file, _LABELS, "unit", None if names is None else sorted(stored(name) for name in names))
    try:
        return by_unit(_label(row) for row in rows)
    except (TypeError, ValueError, KeyError, BadInput) as error:
        raise damaged(file, error) from error


def _row(label: JudgedLabel) -> dict[str, Any]:
    scores = [
        {
            "how": score.how, "value": known(score.value), "low": known(score.low), "high": known(score.high),
            "contexts": score.contexts, "missing": score.missing, "shuffled": known(score.shuffled),
        }
        for score in label.scores
    ]  # fmt: skip
    text, missing = (None if said is None else stored(said) for said in (label.text, label.missing))
    return {
        "unit": stored(label.unit), "kind": label.kind, "maker": stored(label.maker), "text": text, "missing": missing,
        "scores": scores,
    }  # fmt: skip


def _label(row: Mapping[str, Any]) -> JudgedLabel:
    if row["kind"] not in get_args(LabelKind) or any(
        score["how"] not in get_args(ScoreKind) for score in row["scores"]
    ):
        raise ValueError(row["kind"])
    scores = tuple(
        Score(
            score["how"], score_of(score["value"]), score_of(score["low"]), score_of(score["high"]),
            int(score["contexts"]), int(score["missing"]), score_of(score["shuffled"]),
        )
        for score in row["scores"]
    )  # fmt: skip
    text, missing = (None if row[name] is None else shown(row[name]) for name in ("text", "missing"))
    return JudgedLabel(shown(row["unit"]), row["kind"], shown(row["maker"]), text, missing, scores)
