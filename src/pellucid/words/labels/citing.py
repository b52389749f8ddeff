"""Labels that cite labels of earlier MLPs: "unit 1.17 in {active, strong}".

A unit is cited by how much its label says, of the most that the label can say: `slots.LEVELS`. So what is cited is a
function of the text, like everything else that a label looks at, and levels do not move when values are tuned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import Int

from pellucid.errors import BadInput
from pellucid.words.labels.labelset import LabelSet
from pellucid.words.labels.places import Codes, Ids
from pellucid.words.labels.slots import UNIT, Given

BOUNDS = (0.25, 0.75)
"""Above these shares of the most that a label can say, its unit is active, and strong."""


def levels(labels: LabelSet) -> Int[np.ndarray, "units leaves"]:
    """The level of what each rule of each label says; a label that never says more than zero is quiet."""
    most = labels.values.max(axis=1, keepdims=True)
    shares = np.divide(labels.values, most, out=np.zeros_like(labels.values), where=most > 0)
    found: Int[np.ndarray, "units leaves"] = np.searchsorted(BOUNDS, shares, side="left").astype(np.int64)
    return found


def cited_units(labels: Iterable[LabelSet]) -> dict[int, tuple[int, ...]]:
    """The numbers of the units that any of the labels cites, by the place of their MLP."""
    slots = {slot for found in labels for slot in found.cites}
    pairs = sorted((int(found[1]), int(found[2])) for found in map(UNIT.fullmatch, slots) if found is not None)
    return {place: tuple(number for at, number in pairs if at == place) for place in sorted({at for at, _ in pairs})}


def check_citations(place: int, labels: LabelSet, sizes: Mapping[int, int]) -> None:
    """Raises BadInput where labels of the MLP at `place` cite a unit that is no unit of an earlier MLP with labels;
    `sizes` tells how many labels the MLPs have, by place."""
    for at, numbers in cited_units([labels]).items():
        if at >= place or at not in sizes or numbers[-1] >= sizes[at]:
            raise BadInput(
                f"labels of {labels.site!r}: they cite unit {at}.{numbers[-1]}, which is no labelled unit of an earlier"
                " MLP; cite those"
            )


def citations(labels: Mapping[int, LabelSet], ids: Ids, looks: Given | None = None) -> dict[str, Codes]:
    """What labels cite on windows of ids: `looks` (of heads), and the levels of all units that are cited.

    Args:
        labels: by the place of their MLP, ascending.

    Raises:
        BadInput: a label cites a unit of its own or a later MLP, one that has no label, or a head without looks.
    """
    given = dict(looks or {})
    sizes = {place: len(found) for place, found in labels.items()}
    for place, found in labels.items():
        check_citations(place, found, sizes)
    for place, numbers in cited_units(labels.values()).items():
        few = labels[place].some(numbers)
        said = few.with_values(levels(few).astype(np.float32)).predict(ids, given).astype(np.int64)
        given |= {f"unit {place}.{number}": own for number, own in zip(numbers, said, strict=True)}
    return given
