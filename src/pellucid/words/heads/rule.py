"""Rules that say where attention heads look: log-linear in what a text alone says about query and key.

The score of a key for a query is a sum of numbers from four small tables, each entry of which is one sentence ("a
query of cluster 3 looks for keys of cluster 5: +2.1"): feature of the query × feature of the key, feature of the
query × distance, feature of the key × distance, feature of the query × relation of the two (`scene`). Softmax over
the keys that are not later makes the pattern. All heads of a network are computed at once, as a few matrix products.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from pellucid.errors import BadInput
from pellucid.words.heads.scene import RELATIONS, Grammar, Scene, clustered, one_hot, scene_of

Tables: TypeAlias = Mapping[str, Float[torch.Tensor, "heads left right"]]
"""The numbers of the rules of several heads by table: "pairs", "query_offsets", "key_offsets", "relations"."""

DEALT = ("query", "query before", "key", "key before")
"""What tokens are dealt into clusters as: the query, the token before it, the key, the token before that."""

TERMS: Mapping[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "query token × key token": ("pairs", (("token", "token"),)),
    "token before the query × key token": ("pairs", (("before", "token"),)),
    "query token × token before the key": ("pairs", (("token", "before"),)),
    "key token": ("pairs", (("any", "token"), ("any", "listed"))),
    "token before the key": ("pairs", (("any", "before"),)),
    "first places": ("pairs", (("any", "nth"), ("token", "nth"), ("before", "nth"), ("place", "nth"))),
    "place in the sentence": ("pairs", (("any", "place"), ("token", "place"), ("place", "token"), ("place", "place"))),
    "seen before": ("pairs", (("any", "again"), ("token", "again"), ("before", "again"))),
    "distance": ("query_offsets", (("any", ""),)),
    "distance × query token": ("query_offsets", (("token", ""), ("before", ""), ("place", ""))),
    "distance × key token": ("key_offsets", (("token", ""), ("before", ""), ("nth", ""), ("place", ""))),
    "relations": ("relations", (("any", ""),)),
    "relations × query token": ("relations", (("token", ""),)),
}
"""The terms of a rule: of each, the table and the blocks of it (feature of the query or key, feature of the key)."""

TOGETHER = 4
"""Windows whose patterns are computed at the same time, where the caller does not say."""


@dataclass(frozen=True, eq=False)
class HeadRule:
    """Where one attention head looks.

    Attributes:
        function: the function of the program that the head is part of.
        head: its number there.
        grammar: what rules may ask.
        clusters: of each token, dealt four times (`DEALT`).
        tables: the numbers, float32, by name (`Tables` without the axis of heads).
        rests: whether a look at a beginning token only says that there is nothing to look at.
    """

    function: str
    head: int
    grammar: Grammar
    clusters: UInt8[np.ndarray, "dealt vocabulary"]
    tables: Mapping[str, Float[np.ndarray, "left right"]] = field(repr=False)
    rests: bool = False

    def __post_init__(self) -> None:
        if self.clusters.shape != (len(DEALT), self.grammar.vocabulary) or self.clusters.max() >= self.grammar.clusters:
            raise BadInput(f"rule of {self.name}: its clusters do not fit its grammar; fit it again")
        wanted = table_shapes(self.grammar)
        if {name: table.shape for name, table in self.tables.items()} != wanted:
            raise BadInput(f"rule of {self.name}: its tables do not fit its grammar; fit it again")

    @property
    def name(self) -> str:
        """Function and number, as in "model.layers.3.self_attn:2"."""
        return f"{self.function}:{self.head}"

    def pattern(self, ids: Int[np.ndarray, "windows context"]) -> Float[np.ndarray, "windows query key"]:
        """How much each position looks at each: float32, 0 for later keys, rows sum to 1.

        Raises:
            BadInput: ids that are no windows, or outside the vocabulary.
        """
        return np.concatenate([part[:, 0] for part in patterns(Heads.of([self]), ids)])

    def looks_at(self, ids: Int[np.ndarray, "windows context"]) -> Int[np.ndarray, "windows context"]:
        """The position that each position looks at most. Raises BadInput as `pattern`."""
        found: Int[np.ndarray, "windows context"] = looks_at([self], ids)[0]
        return found

    @property
    def bits(self) -> float:
        """Description length: 8 bits a number that is not 0, log2(clusters) for each token that is dealt."""
        numbers = sum(int(np.count_nonzero(table)) for table in self.tables.values())
        return 8.0 * numbers + self.clusters.size * float(np.log2(self.grammar.clusters))


@dataclass(frozen=True, eq=False)
class Heads:
    """The rules of several heads side by side, for torch.

    Attributes:
        names: function and number of each head.
        grammar: of all of them.
        clusters: of each token, four times for each head.
        tables: the numbers; leaves of a graph where they are being tuned.
        rests: see `HeadRule`.
    """

    names: tuple[tuple[str, int], ...]
    grammar: Grammar
    clusters: UInt8[torch.Tensor, "heads dealt vocabulary"]
    tables: Tables = field(repr=False)
    rests: tuple[bool, ...] = ()

    @staticmethod
    def of(rules: Sequence[HeadRule]) -> Heads:
        """Rules side by side. Raises BadInput where there are none or their grammars differ."""
        if not rules:
            raise BadInput("rules of heads: there are none; fit them to a network that has attention")
        grammar = rules[0].grammar
        if any(rule.grammar != grammar for rule in rules):
            raise BadInput("rules of heads: their grammars differ; fit them together")
        tables = {
            name: torch.from_numpy(np.stack([rule.tables[name] for rule in rules])) for name in table_shapes(grammar)
        }
        clusters = torch.from_numpy(np.stack([rule.clusters for rule in rules]))
        names = tuple((rule.function, rule.head) for rule in rules)
        return Heads(names, grammar, clusters, tables, tuple(rule.rests for rule in rules))

    def rules(self) -> tuple[HeadRule, ...]:
        """One rule for each head."""
        return tuple(
            HeadRule(
                function,
                head,
                self.grammar,
                self.clusters[i].numpy(),
                {name: table[i].detach().numpy().astype(np.float32) for name, table in self.tables.items()},
                self.rests[i],
            )
            for i, (function, head) in enumerate(self.names)
        )

    def with_tables(self, tables: Tables) -> Heads:
        """The same heads with other numbers."""
        return dataclasses.replace(self, tables=tables)

    def some(self, chosen: Sequence[int]) -> Heads:
        """Some of the heads."""
        index = torch.tensor(chosen, dtype=torch.long)
        return Heads(
            tuple(self.names[i] for i in chosen),
            self.grammar,
            self.clusters[index],
            {name: table[index] for name, table in self.tables.items()},
            tuple(self.rests[i] for i in chosen),
        )

    @cached_property
    def by_function(self) -> Mapping[str, tuple[int, ...]]:
        """Which heads belong to each function, in order of their numbers."""
        functions = dict.fromkeys(function for function, _ in self.names)
        return {
            function: tuple(
                sorted((i for i, n in enumerate(self.names) if n[0] == function), key=lambda i: self.names[i][1])
            )
            for function in functions
        }

    def scores(self, scene: Scene, tables: Tables | None = None) -> Float[torch.Tensor, "windows heads query key"]:
        """The score of each key for each query, -inf for later keys; differentiable in the tables."""
        numbers = self.tables if tables is None else tables
        query, key = self.features(scene)
        heads = len(self.names)
        scores = (query @ numbers["pairs"]) @ key.transpose(-1, -2)
        bucket = scene.bucket[:, None].expand(-1, heads, -1, -1)
        scores = scores + (query @ numbers["query_offsets"]).gather(-1, bucket)
        scores = scores + (key @ numbers["key_offsets"]).transpose(-1, -2).gather(-2, bucket)
        asked = (query @ numbers["relations"]).transpose(1, 2)
        scores = scores + (asked @ scene.relations).transpose(1, 2)
        later = torch.arange(scene.token.shape[1]) > scene.queries[:, None, :, None]
        return scores.masked_fill(later, -torch.inf)

    def pattern(
        self,
        ids: Int[torch.Tensor, "windows context"],
        tables: Tables | None = None,
        queries: Int[torch.Tensor, "windows query"] | None = None,
    ) -> Float[torch.Tensor, "windows heads query key"]:
        """Where all heads look, all windows at once; differentiable in `tables` (default: the heads' own).

        Raises:
            BadInput: ids that are no windows, or outside the vocabulary.
        """
        return self.scores(scene_of(self.grammar, ids, queries), tables).softmax(-1)

    def features(
        self, scene: Scene
    ) -> tuple[Float[torch.Tensor, "windows heads query row"], Float[torch.Tensor, "windows heads key column"]]:
        """Which rows of the tables speak of each query, and which columns of each key: 0 and 1."""
        return self._query_features(scene), self._key_features(scene)

    def _query_features(self, scene: Scene) -> Float[torch.Tensor, "windows heads query row"]:
        count, rows = self.grammar.clusters, scene.queries
        own = one_hot(clustered(self.clusters[:, 0], scene.token.gather(1, rows)), count)
        before = one_hot(clustered(self.clusters[:, 1], scene.before.gather(1, rows)), count)
        slot = self.grammar.query_slots["place"]
        place = one_hot(scene.place.gather(1, rows), slot.stop - slot.start)
        shared = place[:, None].expand(-1, own.shape[1], -1, -1)
        return torch.cat([torch.ones_like(own[..., :1]), own, before, shared], dim=-1)

    def _key_features(self, scene: Scene) -> Float[torch.Tensor, "windows heads key column"]:
        count, slots = self.grammar.clusters, self.grammar.key_slots
        own = one_hot(clustered(self.clusters[:, 2], scene.token), count)
        before = one_hot(clustered(self.clusters[:, 3], scene.before), count)
        given = {"place": scene.place, "nth": scene.nth, "again": scene.again, "listed": scene.listed}
        shared = [one_hot(values, slots[name].stop - slots[name].start) for name, values in given.items()]
        return torch.cat([own, before, torch.cat(shared, -1)[:, None].expand(-1, own.shape[1], -1, -1)], dim=-1)


def patterns(
    heads: Heads, ids: Int[np.ndarray, "windows context"], together: int = TOGETHER
) -> Iterator[Float[np.ndarray, "windows heads query key"]]:
    """Patterns of a few windows at a time, in order, float32. Raises BadInput as `Heads.pattern`."""
    for start in range(0, len(ids), together):
        with torch.no_grad():
            yield heads.pattern(torch.from_numpy(np.asarray(ids[start : start + together], dtype=np.int64))).numpy()


def looks_at(
    rules: Sequence[HeadRule], ids: Int[np.ndarray, "windows context"]
) -> Int[np.ndarray, "heads windows context"]:
    """The position that each position looks at most, by each of several heads.

    Of a head that rests at beginnings, beginning tokens count only where there is nothing else.
    """
    heads = Heads.of(rules)
    resting = np.array(heads.rests)
    found: list[Int[np.ndarray, "windows heads context"]] = []
    start = 0
    for part in patterns(heads, ids):
        begins = ids[start : start + len(part)] == heads.grammar.beginning
        part -= begins[:, None, None] & resting[:, None, None]
        found.append(part.argmax(-1).astype(np.int32))
        start += len(part)
    return np.concatenate(found).swapaxes(0, 1)


def table_shapes(grammar: Grammar) -> dict[str, tuple[int, int]]:
    """The shape of each table of a rule."""
    return {
        "pairs": (grammar.rows, grammar.columns),
        "query_offsets": (grammar.rows, len(grammar.offsets)),
        "key_offsets": (grammar.columns, len(grammar.offsets)),
        "relations": (grammar.rows, len(RELATIONS)),
    }


def term_masks(grammar: Grammar, terms: Sequence[str] = tuple(TERMS)) -> dict[str, Float[torch.Tensor, "left right"]]:
    """1 at the entries of the tables that belong to the named terms."""
    masks = {name: torch.zeros(shape) for name, shape in table_shapes(grammar).items()}
    for term in terms:
        table, blocks = TERMS[term]
        for left, right in blocks:
            rows = grammar.key_slots[left] if table == "key_offsets" else grammar.query_slots[left]
            masks[table][rows, grammar.key_slots[right] if right else slice(None)] = 1.0
    return masks
