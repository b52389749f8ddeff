"""All labels of one site at once: flat arrays, and the leaf of every unit at every position in native code.

A list of rules is walked as a graph: each condition leads to the next one of its rule where it holds, else to the first
condition of a later rule whose answer is not known yet (rules that share the failed condition are passed over, shared
conditions that held are not asked again). For labels grown as trees that is the tree.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, Int16, Int32, Int64

from pellucid.errors import BadInput
from pellucid.words.labels.language import Condition, Label, Rule, common_prefix
from pellucid.words.labels.lexicon import Lexicon
from pellucid.words.labels.native import native
from pellucid.words.labels.parser import parse_label
from pellucid.words.labels.places import Codes, Ids
from pellucid.words.labels.slots import SLOTS, Given, read_slots

FORMAT = "pellucid labels 1"

Sources = Callable[[Ids], Given]
"""What labels cite, found on windows of ids."""


@dataclass(frozen=True)
class Flat:
    """Labels as arrays. A node is a condition; `yes` and `no` lead to a node of the unit or, as -1 - leaf, to a leaf.

    Attributes:
        node_start: where the nodes of each unit begin, and the end; the first node of a unit is its entry.
        slot: which slot a node looks at, by place in the set's `slots`.
        within: false for "not in".
        yes: where a node leads when its condition holds.
        no: where it leads when it does not.
        member_start: where the listed codes of each node begin, and the end.
        members: listed codes, by place in `codes` of the slot.
        codes: for each slot all codes that any node lists, ascending.
    """

    node_start: Int[np.ndarray, " bounds"]
    slot: Int[np.ndarray, " nodes"]
    within: Bool[np.ndarray, " nodes"]
    yes: Int[np.ndarray, " nodes"]
    no: Int[np.ndarray, " nodes"]
    member_start: Int[np.ndarray, " node_bounds"]
    members: Int[np.ndarray, " members"]
    codes: tuple[Int[np.ndarray, " _"], ...]


@dataclass(frozen=True)
class LabelSet:
    """The labels of all units of a site, in order.

    Attributes:
        site: the site, as its name; free text.
        labels: one label a unit, over the same lexicon.
        lexicon: what they share.
        sources: where they find what they cite; without them it is passed in.
    """

    site: str
    labels: tuple[Label, ...] = field(repr=False)
    lexicon: Lexicon = field(repr=False, compare=False)
    sources: Sources | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.labels:
            raise BadInput(f"labels of {self.site!r}: there are none; give one label a unit")

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def slots(self) -> tuple[str, ...]:
        """The names of all slots that any label looks at, ascending."""
        return tuple(sorted({name for label in self.labels for name in label.slots}))

    @property
    def cites(self) -> tuple[str, ...]:
        """Those slots of which the text alone does not tell what they show: heads and units."""
        return tuple(name for name in self.slots if name not in SLOTS)

    @cached_property
    def values(self) -> Float[np.ndarray, "units leaves"]:
        """The value of each leaf, that is of each rule in order; zero past a unit's last."""
        table = np.zeros((len(self.labels), max(len(label.rules) for label in self.labels)), dtype=np.float32)
        for row, label in zip(table, self.labels, strict=True):
            row[: len(label.rules)] = [rule.value for rule in label.rules]
        return table

    def with_values(self, values: Float[np.ndarray, "units leaves"]) -> LabelSet:
        """The same labels with other values, as `values` holds them. Raises BadInput for another shape."""
        if values.shape != self.values.shape:
            raise BadInput(f"labels of {self.site!r}: values of shape {values.shape} are not {self.values.shape}")
        labels = (
            Label(
                tuple(Rule(float(v), rule.conditions) for v, rule in zip(row, label.rules, strict=False)), self.lexicon
            )
            for row, label in zip(np.asarray(values, dtype=np.float32), self.labels, strict=True)
        )
        return replace(self, labels=tuple(labels))

    def some(self, chosen: Sequence[int]) -> LabelSet:
        """Some of the labels."""
        return replace(self, labels=tuple(self.labels[i] for i in chosen))

    def read(self, ids: Ids, given: Given | None = None) -> dict[str, Codes]:
        """The slots that the labels need, at every position of windows of ids. Raises BadInput."""
        if self.sources is not None and not set(self.cites) <= set(given or {}):
            given = {**self.sources(ids), **(given or {})}
        return read_slots(ids, self.lexicon, self.slots, given)

    def leaf_of(self, slots: Mapping[str, Codes]) -> Int[np.ndarray, "units positions"]:
        """Which rule gives each unit's value at each position (windows laid end to end), as int16.

        Raises:
            BadInput: a slot is missing.
        """
        missing = [name for name in self.slots if name not in slots]
        if missing:
            raise BadInput(f"labels of {self.site!r}: slot {missing[0]!r} was not read; use LabelSet.read")
        if not self.slots:
            raise BadInput(f"labels of {self.site!r}: no label looks at anything, so that positions are unknown")
        flat = self.flat
        places = [_places(codes, np.ravel(slots[name])) for name, codes in zip(self.slots, flat.codes, strict=True)]
        widest = max(len(codes) for codes in flat.codes)
        leaves = np.empty((len(self.labels), len(places[0])), dtype=np.int16)
        _walk(
            np.array(places, dtype=np.int32), flat.node_start, flat.slot, flat.within, flat.yes, flat.no,
            flat.member_start, flat.members, widest, leaves,
        )  # fmt: skip
        return leaves

    def predict(self, ids: Ids, given: Given | None = None) -> Float[np.ndarray, "units windows context"]:
        """What the labels say at every position of windows of token ids. Raises BadInput."""
        if not self.slots:
            return np.broadcast_to(self.values[:, :1, None], (len(self.labels), *ids.shape)).copy()
        leaves = self.leaf_of(self.read(ids, given))
        return np.take_along_axis(self.values, leaves.astype(np.int64), axis=1).reshape(len(self.labels), *ids.shape)

    @cached_property
    def flat(self) -> Flat:
        """The labels as arrays."""
        nodes = [_nodes(label) for label in self.labels]
        conditions = [node[0] for unit in nodes for node in unit]
        known: dict[Condition, Int[np.ndarray, " members"]] = {}
        listed = [known.setdefault(c, c.members(self.lexicon)) if c not in known else known[c] for c in conditions]
        slot = np.array([self.slots.index(c.slot) for c in conditions], dtype=np.int16)
        codes = tuple(
            np.unique(np.concatenate([members for members, s in zip(listed, slot, strict=True) if s == place]))
            for place in range(len(self.slots))
        )
        members = [np.searchsorted(codes[s], m) for m, s in zip(listed, slot, strict=True)]
        return Flat(
            _starts([len(unit) for unit in nodes]), slot, np.array([c.within for c in conditions], dtype=bool),
            np.array([node[1] for unit in nodes for node in unit], dtype=np.int32),
            np.array([node[2] for unit in nodes for node in unit], dtype=np.int32),
            _starts([len(m) for m in members]),
            np.concatenate([np.zeros(0, np.int64), *members]).astype(np.int32), codes,
        )  # fmt: skip


def _starts(sizes: Sequence[int]) -> Int[np.ndarray, " bounds"]:
    return np.concatenate([[0], np.cumsum(np.array(sizes, dtype=np.int64))]).astype(np.int64)


def _places(codes: Int[np.ndarray, " codes"], shown: Int[np.ndarray, " positions"]) -> Int[np.ndarray, " positions"]:
    """Where each shown code stands among `codes`; -1 where it does not."""
    at = np.minimum(np.searchsorted(codes, shown), len(codes) - 1)
    return np.where(codes[at] == shown, at, -1)


def _nodes(label: Label) -> list[tuple[Condition, int, int]]:
    """The graph of a label: each condition with where it leads, see `Flat`."""
    rules = label.rules
    first = _starts([len(rule.conditions) for rule in rules])
    nodes = []
    for r, rule in enumerate(rules):
        for j, condition in enumerate(rule.conditions):
            yes = int(first[r]) + j + 1 if j + 1 < len(rule.conditions) else -1 - r
            nodes.append((condition, yes, _elsewhere(rules, first, r, j)))
    return nodes


def _elsewhere(rules: Sequence[Rule], first: Int[np.ndarray, " bounds"], r: int, j: int) -> int:
    """Where rule r leads when its condition j fails and those before it held."""
    for later in range(r + 1, len(rules)):
        shared = common_prefix(rules[r].conditions, rules[later].conditions)
        if shared <= j:
            return int(first[later]) + shared if shared < len(rules[later].conditions) else -1 - later
    raise AssertionError("the last rule has no conditions")


@native
def _walk(
    places: Int32[np.ndarray, "slots positions"],
    node_start: Int64[np.ndarray, " bounds"],
    slot: Int16[np.ndarray, " nodes"],
    within: Bool[np.ndarray, " nodes"],
    yes: Int32[np.ndarray, " nodes"],
    no: Int32[np.ndarray, " nodes"],
    member_start: Int64[np.ndarray, " node_bounds"],
    members: Int32[np.ndarray, " members"],
    widest: int,
    leaves: Int16[np.ndarray, "units positions"],
) -> None:
    """The leaf of each unit (row of `leaves`) at each position; `places` are slots by positions."""
    most = 1
    for unit in range(len(node_start) - 1):
        most = max(most, node_start[unit + 1] - node_start[unit])
    holds = np.zeros((most, widest + 1), np.bool_)
    for unit in range(len(node_start) - 1):
        begin, end = node_start[unit], node_start[unit + 1]
        for node in range(begin, end):
            holds[node - begin, :] = not within[node]
            for m in members[member_start[node] : member_start[node + 1]]:
                holds[node - begin, m] = within[node]
        for position in range(places.shape[1]):
            at = 0 if end > begin else -1
            while at >= 0:
                at = yes[begin + at] if holds[at, places[slot[begin + at], position]] else no[begin + at]
            leaves[unit, position] = -1 - at


# ---- files


def save_labels(labels: LabelSet, file: Path) -> None:
    """Write labels and their lexicon as JSON, one label a line as the text of the language."""
    lexicon = labels.lexicon
    head = {
        "format": FORMAT, "site": labels.site, "beginning": lexicon.beginning,
        "function_words": lexicon.function_words, "clusters": {k: list(v) for k, v in lexicon.clusters.items()},
        "pieces": lexicon.pieces,
    }  # fmt: skip
    lines = ",\n".join(json.dumps(str(label)) for label in labels.labels)
    text = f'{json.dumps(head)[:-1]},\n"labels": [\n{lines}\n]}}\n'
    part = file.with_name(file.name + ".part")
    part.write_text(text, encoding="ascii")
    part.replace(file)


def load_labels(file: Path) -> LabelSet:
    """Read what `save_labels` wrote.

    Raises:
        BadInput: the file is missing or is not such a file.
    """
    try:
        read = json.loads(file.read_text(encoding="ascii"))
        if not isinstance(read, dict) or read.get("format") != FORMAT:
            raise BadInput(f"{file}: not a file of labels ({FORMAT!r}); write one with save_labels")
        clusters = {str(name): tuple(map(int, ids)) for name, ids in read["clusters"].items()}
        beginning = None if read["beginning"] is None else int(read["beginning"])
        lexicon = Lexicon(tuple(map(str, read["pieces"])), beginning, tuple(map(int, read["function_words"])), clusters)
        texts = [str(text) for text in read["labels"]]
        site = str(read["site"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput(
            f"{file}: cannot be read as labels ({type(error).__name__}); write it with save_labels"
        ) from error
    return LabelSet(site, tuple(parse_label(text, lexicon) for text in texts), lexicon)
