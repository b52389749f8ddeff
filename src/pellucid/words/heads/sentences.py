"""One sentence for each head, from what it was shown to look at, and the strongest numbers of its rule.

The aspect that is said first tells most: the divergence of the head's share from the share of a look at every key alike
is largest. A second and a third follow where they speak of something else and carry weight. Aspects are chosen on one
part of the texts and the shares that are printed come from another. The aspect becomes the head's name unless it fits
another head nearly as well: then the name is taken back and the sentence stays.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from pellucid.errors import BadInput
from pellucid.words.heads.aspects import ASPECTS, Shares
from pellucid.words.heads.rule import HeadRule, Heads
from pellucid.words.heads.scene import NTH, PLACES, RELATIONS, scene_of

FAMILIES = (
    ("itself", "the token before", "the token two back", "the tokens three to five back", "its sentence"),
    ("the tokens six to fifteen back", "tokens more than fifteen back", "the sentence before", "two sentences back"),
    (
        "earlier copies of its token",
        "what followed earlier copies of its token",
        "what stands after copies of the token before",
        "earlier copies of the token before",
    ),
    ("the beginning", "the first words"),
    ("the last end of a sentence", "ends of sentences", "the first word of its sentence", "first words of sentences"),
    ("the last name", "names"),
    ("the last quote", "quotes"),
)
"""Aspects that speak of much the same; a sentence has one of each family."""

TELLING = 0.05
"""Nats that an aspect must tell to be said."""

WEIGHT = 0.1
"""Share of the weight that a second and third aspect must carry."""

WORDS, TELLING_WORD = 3, 0.01
"""So many words are said at most, each of which tells so many nats."""

TELLING_NUMBER = 0.005
"""Nats that a number of a rule must tell to be said."""

ONE_HOLDS = ("token", "before", "place", "nth")
"""Kinds of features of which every key has one."""

LEAST = 0.05
"""A number below this would be said to be 0."""

EQUALLY = 0.8
"""A name is taken back when another head puts this much of the named head's share on the same aspect."""


@dataclass(frozen=True)
class HeadText:
    """What is said of a head.

    Attributes:
        head: its name, as in `HeadRule.name`.
        aspects: what it looks at, most telling first, each with its share of the weight.
        words: tokens that it looks at more than a look at every key alike would, each with how many times as much.
        name: the first aspect, "" where it fits several heads nearly equally or there is none.
    """

    head: str
    aspects: tuple[tuple[str, float], ...]
    words: tuple[tuple[str, float], ...]
    name: str

    @property
    def sentence(self) -> str:
        """One sentence."""
        words = ", ".join(f"{json.dumps(word, ensure_ascii=False)} (×{times:.1f})" for word, times in self.words)
        if not self.aspects:
            return f"looks more at {words} than at others" if words else "looks at nothing in particular"
        (first, share), *more = self.aspects
        rest = "".join(f", at {aspect} ({part:.2f})" for aspect, part in more)
        return f"looks at {first} ({share:.2f} of its weight){rest}{f'; favours {words}' if words else ''}"


def describe_heads(
    names: Sequence[tuple[str, int]], pieces: Sequence[str], chosen_on: Shares, shown_on: Shares
) -> tuple[HeadText, ...]:
    """A text for each head; aspects and words chosen on one part of the texts, their shares from another.

    Raises:
        BadInput: the shares are of another number of heads.
    """
    if not len(names) == len(chosen_on.real) == len(shown_on.real):
        raise BadInput(f"texts of heads: {len(names)} heads, shares of {len(chosen_on.real)} and {len(shown_on.real)}")
    told = told_by(chosen_on.real, chosen_on.uniform)
    words = told_by(chosen_on.tokens, chosen_on.uniform_tokens)
    labels = [*ASPECTS]
    texts = []
    for i, (function, head) in enumerate(names):
        chosen = _chosen(chosen_on.real[i], told[i])
        aspects = tuple((labels[a], float(shown_on.real[i, a])) for a in chosen)
        unique = bool(chosen) and _alone(shown_on.real[:, chosen[0]], i)
        liked = [int(t) for t in np.argsort(-words[i], kind="stable")[:WORDS] if words[i, t] >= TELLING_WORD]
        texts.append(
            HeadText(
                f"{function}:{head}",
                aspects,
                tuple((pieces[t], float(shown_on.tokens[i, t] / max(shown_on.uniform_tokens[t], 1e-9))) for t in liked),
                labels[chosen[0]].removeprefix("the ") if unique else "",
            )
        )
    return tuple(texts)


def told_by(
    real: Float[np.ndarray, "heads aspects"], uniform: Float[np.ndarray, " aspects"]
) -> Float[np.ndarray, "heads aspects"]:
    """Nats by which each head's share differs from a look at every key alike, negative where it is smaller."""
    p, q = (np.clip(shares.astype(np.float64), 1e-9, 1 - 1e-9) for shares in (real, uniform))
    nats = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    signed: Float[np.ndarray, "heads aspects"] = np.where(p > q, nats, -nats)
    return signed


def _chosen(shares: Float[np.ndarray, " aspects"], told: Float[np.ndarray, " aspects"]) -> list[int]:
    """At most three aspects, each of another family."""
    labels = [*ASPECTS]
    found: list[int] = []
    for a in np.argsort(-told, kind="stable"):
        family = next(family for family in FAMILIES if labels[a] in family)
        enough = told[a] >= TELLING and (not found or shares[a] >= WEIGHT)
        if enough and len(found) < 3 and not any(labels[b] in family for b in found):
            found.append(int(a))
    return found


def _alone(shares: Float[np.ndarray, " heads"], head: int) -> bool:
    others = np.delete(shares, head)
    return not len(others) or bool(others.max() < EQUALLY * shares[head])


# ---- the numbers


def rule_lines(
    rule: HeadRule,
    pieces: Sequence[str],
    ids: Int[np.ndarray, "windows context"],
    most: int = 12,
    other: Float[torch.Tensor, "windows query key"] | None = None,
) -> tuple[str, ...]:
    """The numbers that decide most about where a head looks, one a line, above the mean of their alternatives.

    A number counts by itself times how much more often the rule looks at what it speaks of than another look does: what
    it adds to the score that the rule finds, in nats. Summed over all numbers that is, beside a look at every key
    alike, the divergence of the two looks, taken both ways.

    Args:
        ids: what features are counted on.
        most: lines.
        other: the look that the rule is told apart from; every key alike where there is none.
    """
    given = torch.from_numpy(np.asarray(ids, dtype=np.int64))
    own = Heads.of([rule]).pattern(given)[:, 0]
    less, more = (_spoken(rule, given, look) for look in (_alike(own) if other is None else other, own))
    edges = rule.grammar.offsets
    queries, keys = _labels(rule, pieces, ids)
    distances = [_distance(edges, i) for i in range(len(edges))]
    sides = {
        "pairs": (queries, keys),
        "query_offsets": (queries, distances),
        "key_offsets": (keys, distances),
        "relations": (queries, [f"looks at {name}" for name in RELATIONS]),
    }
    found: list[tuple[float, str]] = []
    for name, (left, right) in sides.items():
        table = _above_mean(rule, name, less[name])
        worth = table * (more[name] - less[name])
        for i in np.argsort(-worth, axis=None, kind="stable")[:most]:
            row, column = divmod(int(i), table.shape[1])
            if worth[row, column] >= TELLING_NUMBER and abs(table[row, column]) >= LEAST:
                found.append((worth[row, column], f"{left[row]} {right[column]}: {table[row, column]:+.1f}".strip()))
    return tuple(line for _, line in sorted(found, key=lambda item: -item[0])[:most])


def _above_mean(rule: HeadRule, name: str, often: Float[np.ndarray, "left right"]) -> Float[np.ndarray, "left right"]:
    """The numbers of a table less the mean of their alternatives: one cluster holds of a key, and one distance."""
    table = rule.tables[name].astype(np.float64)
    blocks = {"pairs": [rule.grammar.key_slots[slot] for slot in ONE_HOLDS], "relations": []}
    for block in blocks.get(name, [slice(None)]):
        total = np.maximum(often[:, block].sum(axis=1, keepdims=True), 1e-9)
        table[:, block] -= (table[:, block] * often[:, block]).sum(axis=1, keepdims=True) / total
    return table


def _alike(look: Float[torch.Tensor, "windows query key"]) -> Float[torch.Tensor, "windows query key"]:
    """The look at every key alike that is not later."""
    even = torch.ones_like(look).tril()
    return even / even.sum(-1, keepdim=True)


def _spoken(
    rule: HeadRule, ids: Int[torch.Tensor, "windows context"], look: Float[torch.Tensor, "windows query key"]
) -> dict[str, Float[np.ndarray, "left right"]]:
    """How often each number of a rule speaks of what is looked at, for each query."""
    scene = scene_of(rule.grammar, ids)
    query, key = (features[:, 0] for features in Heads.of([rule]).features(scene))
    buckets = torch.zeros(*look.shape[:2], len(rule.grammar.offsets))
    from_query = buckets.scatter_add(2, scene.bucket, look)
    at_key = buckets.scatter_add(2, scene.bucket.transpose(1, 2), look.transpose(1, 2))
    sums = {
        "pairs": torch.einsum("wqr,wqk,wkc->rc", query, look, key),
        "query_offsets": torch.einsum("wqr,wqb->rb", query, from_query),
        "key_offsets": torch.einsum("wkc,wkb->cb", key, at_key),
        "relations": torch.einsum("wqr,wql->rl", query, torch.einsum("wqk,wqlk->wql", look, scene.relations)),
    }
    return {name: table.numpy() / ids.numel() for name, table in sums.items()}


def _labels(
    rule: HeadRule, pieces: Sequence[str], ids: Int[np.ndarray, "windows context"]
) -> tuple[list[str], list[str]]:
    """How each feature of a query and of a key is said."""
    counts = np.bincount(ids.ravel(), minlength=len(pieces))
    often = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    sets = [[_set(often[rule.clusters[d, often] == c], pieces) for c in range(rule.grammar.clusters)] for d in range(4)]
    places = [f"{least} or more tokens into a sentence" for least in PLACES]
    queries = ["", *(f"from {s}" for s in sets[0]), *(f"after {s}" for s in sets[1]), *(f"from {p}" for p in places)]
    nth = [f"looks at place {n}" for n in range(NTH - 1)] + ["looks at later places"]
    listed = [f"looks at {json.dumps(pieces[token], ensure_ascii=False)}" for token in rule.grammar.listed]
    keys = [
        *(f"looks at {s}" for s in sets[2]),
        *(f"looks after {s}" for s in sets[3]),
        *(f"looks at {p}" for p in places),
        *nth,
        "looks at tokens seen before",
        *listed,
    ]
    return queries, keys


def _set(members: Int[np.ndarray, " members"], pieces: Sequence[str]) -> str:
    """The most frequent members of a cluster, and how many more occur."""
    shown = ", ".join(json.dumps(pieces[i], ensure_ascii=False) for i in members[:4].tolist())
    return f"{{{shown}{f' and {len(members) - 4} more' if len(members) > 4 else ''}}}"


def _distance(edges: Sequence[int], i: int) -> str:
    last = edges[i + 1] - 1 if i + 1 < len(edges) else None
    span = str(edges[i]) if last == edges[i] else f"{edges[i]} and more" if last is None else f"{edges[i]} to {last}"
    return f"at distance {span}"
