"""What is known of units, as plain records, and the two Parquet files that they are kept in.

`units.parquet` holds a row for each unit, `contexts.parquet` a row for each stretch of text that is shown of one; both
can be queried with any reader of Parquet. The same records give the same bytes. Pages carry checksums, so that damage
is noticed. Text is UTF-8; a lone surrogate, which UTF-8 cannot hold, is written as the escape `\\ud800`, and a
backslash as two, so that every text is read back as it was. A score that is unknown is null, and so is the query of a
context of a unit that is no attention head.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa

from pellucid.errors import BadInput
from pellucid.words.tables import damaged, known, read_table, score_of, shown, stored, write_table

LabelKind = Literal["tree", "rule", "language model"]
How = Literal["top", "random"]

PLACE = Path("words", "units")
"""Where the directory of a described program holds its records."""

UNITS, CONTEXTS = "units.parquet", "contexts.parquet"


@dataclass(frozen=True)
class Stretch:
    """A piece of text that a unit was seen on.

    Attributes:
        how: "top", the highest of its window, strongest first, or "random", at a position drawn from all.
        window: of the text, by number; `start` is the place of the first token in it.
        pieces: the text of each token.
        activations: of the unit at each.
        predicted: what the label says at each; empty where the label does not predict by itself.
        query: of an attention head the place, in the stretch, of the token that looks; activations are then how much
            of its weight the head puts on each token from there. None for units that act at every token.
    """

    how: How
    window: int
    start: int
    pieces: tuple[str, ...]
    activations: tuple[float, ...]
    predicted: tuple[float, ...] = ()
    query: int | None = None

    def __post_init__(self) -> None:
        if len(self.pieces) != len(self.activations) or len(self.predicted) not in (0, len(self.pieces)):
            raise BadInput(
                f"stretch of {len(self.pieces)} tokens with {len(self.activations)} activations and"
                f" {len(self.predicted)} predictions; give one for each token"
            )
        if self.query is not None and not 0 <= self.query < len(self.pieces):
            raise BadInput(f"stretch of {len(self.pieces)} tokens: token {self.query} cannot look; give one of them")


@dataclass(frozen=True)
class Link:
    """Another unit that a unit reads or is read by, and how strongly, with its sign."""

    name: str
    strength: float


@dataclass(frozen=True)
class DescribedUnit:
    """What is known of a unit.

    Attributes:
        name: "model.layers.3.mlp.dictionary:latents[17]", "model.layers.3.self_attn:heads[2]".
        label: what it stands for; None when no label was found.
        kind: what made the label: a tree that was grown, the rule of a head, a language model.
        r: correlation of unit and label on text that neither was made from; nan where that is unknown. Of a head, of
            its weights and its rule's over pairs of query and key (`heads.correlation`).
        shuffled: the same with the label of another unit.
        density: share of the tokens on which it is active. Of a head, of those from which it looks most at something
            else than the first token.
        contexts: where it was seen.
        incoming: the units that it reads most from, strongest first; `outgoing` those that read it.
    """

    name: str
    label: str | None
    kind: LabelKind
    r: float
    shuffled: float
    density: float
    contexts: tuple[Stretch, ...] = ()
    incoming: tuple[Link, ...] = ()
    outgoing: tuple[Link, ...] = ()

    @property
    def site(self) -> str:
        """The name without its index."""
        return self.name.rpartition("[")[0]

    @property
    def index(self) -> int:
        """The number in the name. Raises BadInput when there is none."""
        found = re.fullmatch(r".+\[(\d+)\]", self.name, re.DOTALL)
        if found is None:
            raise BadInput(f"unit {self.name!r}: the name does not end in [index]; write it as function:value[index]")
        return int(found[1])

    @property
    def highest(self) -> float:
        """The largest activation in its contexts; 0 when none is above."""
        return max((a for context in self.contexts for a in context.activations), default=0.0)


# ---- files

_LINKS = pa.list_(pa.struct([("name", pa.string()), ("strength", pa.float64())]))
_UNITS = pa.schema(
    [
        ("name", pa.string()), ("label", pa.string()), ("kind", pa.string()), ("r", pa.float64()),
        ("shuffled", pa.float64()), ("density", pa.float64()), ("incoming", _LINKS), ("outgoing", _LINKS),
    ]
)  # fmt: skip
_CONTEXTS = pa.schema(
    [
        ("unit", pa.string()), ("how", pa.string()), ("window", pa.int32()), ("start", pa.int32()),
        ("pieces", pa.list_(pa.string())), ("activations", pa.list_(pa.float64())),
        ("predicted", pa.list_(pa.float64())), ("query", pa.int32()),
    ]
)  # fmt: skip


def write_units(units: Sequence[DescribedUnit], directory: Path) -> None:
    """Write records into a directory, each file whole or not at all.

    Raises:
        BadInput: two units have the same name, or a file cannot be written.
    """
    names = [unit.name for unit in units]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise BadInput(f"units: {twice!r} is there twice; give each unit once")
    rows = [_unit_row(unit) for unit in units]
    stretches = [_context_row(unit.name, context) for unit in units for context in unit.contexts]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_table(directory / CONTEXTS, stretches, _CONTEXTS)
        write_table(directory / UNITS, rows, _UNITS)
    except OSError as error:
        raise BadInput(f"{directory}: units cannot be written there ({error.strerror}); choose another") from error


def read_units(directory: Path, names: Collection[str] | None = None) -> tuple[DescribedUnit, ...]:
    """The records in a directory, in the order they were written, all or those of some names.

    Raises:
        BadInput: a file is missing, damaged or something else.
    """
    wanted = None if names is None else sorted(stored(name) for name in names)
    rows = read_table(directory / UNITS, _UNITS, "name", wanted)
    held: dict[str, list[dict[str, Any]]] = {row["name"]: [] for row in rows}
    for row in read_table(directory / CONTEXTS, _CONTEXTS, "unit", wanted):
        if row["unit"] not in held:
            raise BadInput(f"{directory}: {CONTEXTS} is of other units than {UNITS}; run pellucid describe again")
        held[row["unit"]].append(row)
    try:
        return tuple(_unit(row, held[row["name"]]) for row in rows)
    except (TypeError, ValueError, KeyError) as error:
        raise damaged(directory / UNITS, error) from error


def _unit_row(unit: DescribedUnit) -> dict[str, Any]:
    links = {
        side: [{"name": stored(link.name), "strength": link.strength} for link in getattr(unit, side)]
        for side in ("incoming", "outgoing")
    }
    label = None if unit.label is None else stored(unit.label)
    scores = {name: known(getattr(unit, name)) for name in ("r", "shuffled")}
    return {
        "name": stored(unit.name), "label": label, "kind": unit.kind, **scores, "density": unit.density, **links
    }  # fmt: skip


def _context_row(name: str, context: Stretch) -> dict[str, Any]:
    return {
        "unit": stored(name), "how": context.how, "window": context.window, "start": context.start,
        "pieces": [stored(piece) for piece in context.pieces],
        "activations": list(context.activations), "predicted": list(context.predicted), "query": context.query,
    }  # fmt: skip


def _unit(row: dict[str, Any], contexts: list[dict[str, Any]]) -> DescribedUnit:
    if row["kind"] not in get_args(LabelKind) or any(held["how"] not in get_args(How) for held in contexts):
        raise ValueError(row["kind"])
    links = {
        side: tuple(Link(shown(link["name"]), float(link["strength"])) for link in row[side])
        for side in ("incoming", "outgoing")
    }
    stretches = tuple(
        Stretch(
            held["how"], held["window"], held["start"], tuple(map(shown, held["pieces"])),
            tuple(map(float, held["activations"])), tuple(map(float, held["predicted"])), held["query"],
        )
        for held in contexts
    )  # fmt: skip
    label = None if row["label"] is None else shown(row["label"])
    r, shuffled = (score_of(row[name]) for name in ("r", "shuffled"))
    return DescribedUnit(
        shown(row["name"]), label, row["kind"], r, shuffled, float(row["density"]), stretches,
        links["incoming"], links["outgoing"],
    )  # fmt: skip


def median_r(units: Sequence[DescribedUnit]) -> tuple[float, float]:
    """Median of r and of its control over the units that have them; nan where none has."""
    return median([unit.r for unit in units]), median([unit.shuffled for unit in units])


def median(values: Sequence[float]) -> float:
    """The median of what is known; nan where nothing is."""
    held = [value for value in values if not math.isnan(value)]
    return statistics.median(held) if held else math.nan
