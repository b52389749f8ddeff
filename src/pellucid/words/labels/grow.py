"""Labels grown for many units at once: one tree per unit over slots, pruned on windows that it was not grown on.

A tree splits positions by whether a slot's code is in a listed set, best split first, up to a number of leaves; see
`kernels` for how. The listed side comes first when the tree is written as a list of rules, so that no rule has to say
what is not the case. Positions 0 are constants and are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int

from pellucid.errors import BadInput
from pellucid.fanout import HERE, Fan
from pellucid.words.labels.activations import Activations
from pellucid.words.labels.kernels import Field, Limits, Trees, grow_units
from pellucid.words.labels.labelset import LabelSet
from pellucid.words.labels.language import Condition, Label, Rule
from pellucid.words.labels.lexicon import Lexicon
from pellucid.words.labels.places import Codes, Ids
from pellucid.words.labels.slots import Given, find_slot, read_slots

NAMED_CAP = 3
"""At most so many named clusters in one set."""

TOGETHER = 256
"""Units of one task."""


@dataclass(frozen=True)
class Growth:
    """How labels are grown.

    Attributes:
        leaves: at most so many rules in a label.
        cap: at most so many codes in a set.
        penalty: by how much of the unit's variance (times one position) a code has to lower the squared error.
        smallest: a code is listed when it stands at that many positions of the node.
        sets: what token slots are split by: "free" sets, or unions of at most three "named" clusters, without pairs.
        hold_out: one in so many windows is kept for pruning.
        slots: the names of the slots, or all of them, with all heads.
    """

    leaves: int = 12
    cap: int = 50
    penalty: float = 10.0
    smallest: int = 3
    sets: Literal["free", "named"] = "free"
    hold_out: int = 8
    slots: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not 2 <= self.leaves <= 100 or self.cap < 1 or self.smallest < 1 or self.hold_out < 2 or self.penalty < 0:
            raise BadInput(
                f"growth: {self} cannot be grown; use 2 to 100 leaves, cap and smallest from 1, hold_out from 2, and a"
                " penalty that is not negative"
            )


def grow(
    ids: Ids,
    activations: Activations,
    lexicon: Lexicon,
    growth: Growth = Growth(),
    *,
    given: Given | None = None,
    site: str = "",
    threads: int = 1,
    fan: Fan = HERE,
) -> LabelSet:
    """One label for each unit.

    Args:
        ids: windows of token ids, those labels are grown on.
        activations: of every unit at every position, windows laid end to end.
        lexicon: made by `survey`, with clusters where sets are named.
        growth: see there.
        given: what the text does not tell, to be cited, see `slots.Given`.
        site: what the set of labels will say it belongs to.
        threads: how many units are grown at the same time; changes nothing else.
        fan: what units are grown on, some of them at a time; changes nothing either.

    Raises:
        BadInput: other positions than ids, windows of a single token, fewer than two windows, or no clusters for named
            sets.
    """
    if activations.positions != ids.size or len(ids) < 2 or ids.shape[1] < 2:
        raise BadInput(
            f"grow: activations at {activations.positions} positions, ids of shape {list(ids.shape)}; capture them on"
            " the same text, of at least two windows of two tokens"
        )
    if growth.sets == "named" and not lexicon.clusters:
        raise BadInput("grow: the lexicon has no clusters, so that sets cannot be named; add them, or use sets='free'")
    slots = read_slots(ids, lexicon, growth.slots, given)
    if growth.sets == "named":
        slots = {name: codes for name, codes in slots.items() if find_slot(name).kind != "pair"}
    field, names = _field(slots, lexicon, growth)
    own = activations.without_first(ids.shape[1])
    some = (own.some(slice(begin, begin + TOGETHER)) for begin in range(0, own.units, TOGETHER))
    trees = _joined(list(fan(_grown, (field, growth, threads), some)), growth)
    labels = tuple(_label(trees, unit, names, field, lexicon) for unit in range(activations.units))
    return LabelSet(site, labels, lexicon)


# ---- what trees are grown over


@dataclass(frozen=True)
class _Names:
    """What the numbers of a field stand for: slots, codes of each slot's categories, clusters."""

    slots: tuple[str, ...]
    tables: tuple[Int[np.ndarray, "_"], ...]
    clusters: tuple[str, ...]


def _field(slots: Mapping[str, Codes], lexicon: Lexicon, growth: Growth) -> tuple[Field, _Names]:
    windows, context = next(iter(slots.values())).shape
    named = growth.sets == "named"
    shown = {name: codes[:, 1:].ravel() for name, codes in slots.items()}
    tokens = _tokens(shown, 1 if named else growth.smallest)
    tables = tuple(
        tokens if find_slot(name).kind == "token" else _frequent(codes, growth.smallest)
        for name, codes in shown.items()
    )
    first = _ends([len(table) for table in tables])
    codes = np.array(
        [_places(*row) for row in zip(shown.values(), tables, first.tolist(), strict=False)], dtype=np.int32
    )
    held = np.repeat(np.arange(windows) % growth.hold_out == 0, context - 1)
    listed = {name: np.flatnonzero(np.isin(tokens, ids)) for name, ids in lexicon.clusters.items()} if named else {}
    clusters = {name: members for name, members in listed.items() if len(members)}
    field = Field(
        codes, first, np.array([named and find_slot(name).kind == "token" for name in shown]),
        _ends([len(members) for members in clusters.values()]),
        np.concatenate([np.zeros(0, np.int64), *clusters.values()]),
        *_inverse(codes, int(first[-1])), _counts(codes[:, ~held], int(first[-1])), held,
    )  # fmt: skip
    return field, _Names(tuple(shown), tables, tuple(clusters))


def _tokens(shown: Mapping[str, Int[np.ndarray, " positions"]], smallest: int) -> Int[np.ndarray, " codes"]:
    """Every token that any slot of tokens shows often enough; the same table for all of them."""
    every = [_frequent(codes, smallest) for name, codes in shown.items() if find_slot(name).kind == "token"]
    return np.unique(np.concatenate([np.zeros(0, np.int64), *every]))


def _frequent(codes: Int[np.ndarray, " positions"], smallest: int) -> Int[np.ndarray, " codes"]:
    found, counts = np.unique(codes, return_counts=True)
    return found[counts >= smallest]


def _places(
    codes: Int[np.ndarray, " positions"], table: Int[np.ndarray, " codes"], first: int
) -> Int[np.ndarray, " positions"]:
    """The category of each code; -1 where it is not in the table."""
    if len(table) == 0:
        return np.full(len(codes), -1)
    at = np.minimum(np.searchsorted(table, codes), len(table) - 1)
    return np.where(table[at] == codes, at + first, -1)


def _ends(sizes: list[int]) -> Int[np.ndarray, " bounds"]:
    return np.concatenate([[0], np.cumsum(np.array(sizes, dtype=np.int64))]).astype(np.int64)


def _counts(codes: Int[np.ndarray, "slots positions"], categories: int) -> Int[np.ndarray, " categories"]:
    return np.bincount(codes[codes >= 0], minlength=categories).astype(np.int32)


def _inverse(
    codes: Int[np.ndarray, "slots positions"], categories: int
) -> tuple[Int[np.ndarray, " category_bounds"], Int[np.ndarray, " places"]]:
    """Where the positions of each category begin, and the positions."""
    order = [np.argsort(row, kind="stable") for row in codes]
    places = [one[row[one] >= 0] for one, row in zip(order, codes, strict=True)]
    return _ends(_counts(codes, categories).tolist()), np.concatenate(places).astype(np.int32)


# ---- trees


def _grown(shared: tuple[Field, Growth, int], activations: Activations) -> Trees:
    field, growth, threads = shared
    units = activations.units
    trees = _blank(units, growth)
    limits = Limits(growth.leaves, growth.smallest, float(growth.penalty), growth.cap, min(NAMED_CAP, growth.cap))
    step = max(1, min(64, -(-units // threads)))

    def grow_some(begin: int) -> None:
        start = activations.start[begin : begin + step + 1]
        some = Trees(*(array[begin : begin + step] for array in trees))
        grow_units(start, activations.places, activations.values, field, limits, some)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(grow_some, range(0, units, step)))
    return trees


def _blank(units: int, growth: Growth) -> Trees:
    splits = growth.leaves - 1
    return Trees(
        np.zeros((units, splits), np.int64), np.zeros((units, splits), np.int64), np.zeros((units, splits), np.int64),
        np.zeros((units, splits, growth.cap), np.int64), np.zeros((units, splits), bool),
        np.zeros((units, growth.leaves)),
    )  # fmt: skip


def _joined(parts: Sequence[Trees], growth: Growth) -> Trees:
    """Trees of units one after another."""
    return Trees(*(np.concatenate(arrays) for arrays in zip(_blank(0, growth), *parts, strict=True)))


def _label(trees: Trees, unit: int, names: _Names, field: Field, lexicon: Lexicon) -> Label:
    """A tree as rules, depth first, the listed side first."""
    splits = np.flatnonzero(trees.kept[unit]).tolist()
    rules: list[Rule] = []
    stack: list[tuple[int, int, tuple[Condition, ...]]] = [(0, 0, ())]
    while stack:
        leaf, begin, path = stack.pop()
        split = next((k for k in splits if k >= begin and trees.node[unit, k] == leaf), None)
        if split is None:
            rules.append(Rule(_rounded(trees.values[unit, leaf]), path))
            continue
        slot = int(trees.slot[unit, split])
        condition = _condition(trees.sets[unit, split, : trees.size[unit, split]], slot, names, field)
        stack.append((leaf, split + 1, path))
        stack.append((split + 1, split + 1, (*path, condition)))
    return Label(tuple(rules), lexicon)


def _condition(chosen: Int[np.ndarray, " chosen"], slot: int, names: _Names, field: Field) -> Condition:
    if field.by_name[slot]:
        return Condition(names.slots[slot], (), tuple(sorted(names.clusters[k] for k in chosen)))
    codes = names.tables[slot][np.sort(chosen) - field.first[slot]]
    return Condition(names.slots[slot], tuple(codes.tolist()))


def _rounded(value: float) -> float:
    """To three digits, in single precision."""
    return float(np.float32(f"{value:.3g}"))
