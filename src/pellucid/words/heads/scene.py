"""What a text alone says about each place and each pair of places: all that a head's rule may ask.

Of a place: its token, the token before it, how far into its sentence it stands, whether it is one of the first places
of its text (a beginning token within a window begins another), whether its token stood there earlier, whether it is one
of a few listed tokens. Of a query and a key (`RELATIONS`): the same token, the key stands after an earlier copy of the
query's token (induction), both stand after the same token, the key is a copy of the token before the query, how many
sentence ends lie between, whether another text has begun. The distance comes in buckets that widen
(`Grammar.offsets`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8

from pellucid.data.corpus import Corpus
from pellucid.errors import BadInput

PLACES = (0, 1, 2, 3, 4, 7, 13)
"""How far into its sentence a token stands: the least of each bucket."""

NTH = 5
"""The first places have one number each, all others share the last."""

RELATIONS = (
    "same token",
    "after the same token",
    "both after the same token",
    "the token before the query",
    "same sentence",
    "one sentence back",
    "two sentences back",
    "another text",
)

ENDS = (".", "!", "?")
NEWLINES = ("\n", "<0x0A>", "Ċ")
AROUND = " ▁Ġ\"'”’»)]"
"""What may stand around the sign that ends a sentence within a token: spaces as tokenizers write them, quotes."""


@dataclass(frozen=True)
class Grammar:
    """What the rules of all heads of a network have in common.

    Attributes:
        vocabulary: how many token ids there are.
        clusters: into how many clusters each head deals the tokens.
        ends: ids of the tokens that end a sentence.
        listed: ids of tokens that have a salience of their own.
        offsets: the least distance of each bucket, rising from 0.
        beginning: the token that every text begins with, where there is one.
    """

    vocabulary: int
    clusters: int
    ends: tuple[int, ...]
    listed: tuple[int, ...]
    offsets: tuple[int, ...]
    beginning: int | None

    def __post_init__(self) -> None:
        if self.clusters < 1 or self.vocabulary < 1:
            raise BadInput(f"grammar: {self.clusters} clusters of {self.vocabulary} tokens; give at least one of each")
        if self.offsets[:1] != (0,) or list(self.offsets) != sorted(set(self.offsets)):
            raise BadInput("grammar: the distances must rise from 0; give the least of each bucket once")
        if any(not 0 <= token < self.vocabulary for token in self.named):
            raise BadInput(f"grammar: a token is outside the vocabulary of {self.vocabulary}; use this network's ids")

    @property
    def named(self) -> tuple[int, ...]:
        """All tokens that it names."""
        return (*self.ends, *self.listed, *(() if self.beginning is None else (self.beginning,)))

    @cached_property
    def query_slots(self) -> dict[str, slice]:
        """Where each feature of a query stands among the rows of the tables."""
        return _slots({"any": 1, "token": self.clusters, "before": self.clusters, "place": len(PLACES)})

    @cached_property
    def key_slots(self) -> dict[str, slice]:
        """Where each feature of a key stands among the columns of the tables."""
        return _slots(
            {
                "token": self.clusters,
                "before": self.clusters,
                "place": len(PLACES),
                "nth": NTH,
                "again": 1,
                "listed": len(self.listed),
            }
        )

    @property
    def rows(self) -> int:
        """How many features a query may have."""
        return int(self.query_slots["place"].stop)

    @property
    def columns(self) -> int:
        """How many features a key may have."""
        return int(self.key_slots["listed"].stop)


def _slots(sizes: dict[str, int]) -> dict[str, slice]:
    ends = np.cumsum([*sizes.values()]).tolist()
    return {name: slice(end - size, end) for (name, size), end in zip(sizes.items(), ends, strict=True)}


def grammar_of(corpus: Corpus, clusters: int = 32, listed: int = 24) -> Grammar:
    """The grammar for the rules of a network, from texts: the most frequent tokens are listed."""
    counts = np.bincount(corpus.ids[:, 1:].ravel(), minlength=len(corpus.pieces))
    frequent = np.argsort(-counts, kind="stable")[:listed]
    return Grammar(
        vocabulary=len(corpus.pieces),
        clusters=clusters,
        ends=tuple(i for i, piece in enumerate(corpus.pieces) if ends_sentence(piece)),
        listed=tuple(sorted(int(i) for i in frequent if counts[i])),
        offsets=distances(corpus.ids.shape[1]),
        beginning=corpus.beginning,
    )


def ends_sentence(piece: str) -> bool:
    """Whether a token's text ends a sentence or a line."""
    return piece in NEWLINES or piece.strip(AROUND).endswith(ENDS)


def distances(context: int) -> tuple[int, ...]:
    """Buckets of distance below `context`: single ones up to 8, then each wider by two fifths."""
    edges = [*range(min(context, 9))]
    while (following := max(edges[-1] + 1, round(edges[-1] * 1.4))) < context:
        edges.append(following)
    return tuple(edges)


@dataclass(frozen=True)
class Scene:
    """What windows of tokens say; positions as tensors, -1 where a feature is absent.

    Attributes:
        token, before, place, nth, again, listed: features of each position.
        relations: 1 where a relation of `RELATIONS` holds between a query and an earlier key (or itself).
        bucket: of the distance from query to key; 0 for keys that come later.
        queries: the positions that ask.
    """

    token: Int[torch.Tensor, "windows context"]
    before: Int[torch.Tensor, "windows context"]
    place: Int[torch.Tensor, "windows context"]
    nth: Int[torch.Tensor, "windows context"]
    again: Int[torch.Tensor, "windows context"]
    listed: Int[torch.Tensor, "windows context"]
    relations: Float[torch.Tensor, "windows query relation key"]
    bucket: Int[torch.Tensor, "windows query key"]
    queries: Int[torch.Tensor, "windows query"]


def scene_of(
    grammar: Grammar,
    ids: Int[torch.Tensor, "windows context"],
    queries: Int[torch.Tensor, "windows query"] | None = None,
) -> Scene:
    """The scene of windows of ids; relations for all queries, or for those at the given positions.

    Raises:
        BadInput: ids that are no windows, or outside the vocabulary.
    """
    ids = ids.long()
    if ids.ndim != 2 or ids.numel() == 0:
        raise BadInput(f"rules of heads: ids of shape {list(ids.shape)}; give windows of token ids, one a row")
    if int(ids.min()) < 0 or int(ids.max()) >= grammar.vocabulary:
        raise BadInput(f"rules of heads: an id is outside the vocabulary of {grammar.vocabulary}; use the model's own")
    windows, context = ids.shape
    at = torch.arange(context)
    rows = at.expand(windows, context) if queries is None else queries
    ends = torch.zeros(grammar.vocabulary, dtype=torch.bool)
    ends[list(grammar.ends)] = True
    begins = ids == (-1 if grammar.beginning is None else grammar.beginning)
    sentence, place = _stretches(ends[ids])
    following, nth = _stretches(torch.nn.functional.pad(begins[:, 1:], (0, 1)))
    before = torch.nn.functional.pad(ids[:, :-1], (1, 0), value=-1)
    names = torch.full((grammar.vocabulary,), -1)
    names[list(grammar.listed)] = torch.arange(len(grammar.listed))
    edges = torch.tensor(grammar.offsets)
    return Scene(
        token=ids,
        before=before,
        place=torch.bucketize(place, torch.tensor(PLACES), right=True) - 1,
        nth=nth.clamp(max=NTH - 1),
        again=_again(ids) - 1,
        listed=names[ids],
        relations=_relations(ids, before, sentence, following, rows),
        bucket=torch.bucketize((rows[..., None] - at).clamp(min=0), edges, right=True) - 1,
        queries=rows,
    )


def _stretches(
    ends: Bool[torch.Tensor, "windows context"],
) -> tuple[Int[torch.Tensor, "windows context"], Int[torch.Tensor, "windows context"]]:
    """The number of the stretch that each token stands in, which ends at an end, and how many of its tokens precede."""
    context = ends.shape[1]
    sentence = ends.long().cumsum(1) - ends.long()
    starts = torch.nn.functional.pad(ends[:, :-1], (1, 0), value=True)
    at = torch.arange(context)
    return sentence, at - torch.where(starts, at, 0).cummax(1).values


def _again(ids: Int[torch.Tensor, "windows context"]) -> Int[torch.Tensor, "windows context"]:
    """1 where a token stood in its window before."""
    order = torch.sort(ids, dim=1, stable=True)
    repeated = torch.nn.functional.pad((order.values[:, 1:] == order.values[:, :-1]).long(), (1, 0))
    return torch.zeros_like(ids).scatter(1, order.indices, repeated)


def _relations(
    ids: Int[torch.Tensor, "windows context"],
    before: Int[torch.Tensor, "windows context"],
    sentence: Int[torch.Tensor, "windows context"],
    following: Int[torch.Tensor, "windows context"],
    queries: Int[torch.Tensor, "windows query"],
) -> Float[torch.Tensor, "windows query relation key"]:
    """1 where a relation holds, in the order of RELATIONS; a query never relates to itself but by its sentence."""

    def of(values: Int[torch.Tensor, "windows context"]) -> Int[torch.Tensor, "windows query 1"]:
        return values.gather(1, queries)[..., None]

    earlier = torch.arange(ids.shape[1]) < queries[..., None]
    back = of(sentence) - sentence[:, None]
    found = [
        (of(ids) == ids[:, None]) & earlier,
        (of(ids) == before[:, None]) & earlier,
        (of(before) == before[:, None]) & earlier,
        (of(before) == ids[:, None]) & earlier,
        *(back == sentences for sentences in range(3)),
        (of(following) > following[:, None]) & earlier,
    ]
    return torch.stack(found, dim=2).to(torch.float32)


def one_hot(values: Int[torch.Tensor, "..."], size: int) -> Float[torch.Tensor, "... size"]:
    """1 at the value, all 0 where it is negative."""
    return (values[..., None] == torch.arange(size)).to(torch.float32)


def clustered(
    clusters: UInt8[torch.Tensor, "heads vocabulary"], ids: Int[torch.Tensor, "windows context"]
) -> Int[torch.Tensor, "windows heads context"]:
    """The cluster of each token for each head, -1 where there is no token."""
    found = clusters[:, ids.clamp(min=0)].long().movedim(0, 1)
    return torch.where((ids < 0)[:, None], -1, found)
