"""How well rules say where heads look, as Pearson's r, on the scale on which labels of latents are scored.

Of every window some positions are drawn (seeded), and the weights that a head puts on all keys from there are
correlated with those that its rule says, over all pairs of query and key at once. The first position and beginning
tokens are no keys here: heads rest on them, and a rule that knew no more would do well. Sums are kept, not patterns.

The control, `shuffled`, is the same with the rule of the next head of the same function. Where a function has a single
head, its own rule reads another window.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from pellucid.data.corpus import Corpus
from pellucid.ir.program import Program
from pellucid.words.heads.capture import drawn
from pellucid.words.heads.looking import Looks, looks_of, telling
from pellucid.words.heads.opened import Pattern
from pellucid.words.heads.rule import Heads

QUERIES = 64
"""Positions of a window that are asked."""


@dataclass(frozen=True, eq=False)
class Correlation:
    """Of each head, in order.

    Attributes:
        r: of pattern and rule; nan where the head puts the same weight everywhere, 0 where only the rule does.
        shuffled: of pattern and another rule; nan where there is no other, nor another window.
        top: share of queries whose key with most weight is the same, the first position among the keys.
        queries: how many.
    """

    r: Float[np.ndarray, " heads"]
    shuffled: Float[np.ndarray, " heads"]
    top: Float[np.ndarray, " heads"]
    queries: int


def correlation(program: Program, heads: Heads, corpus: Corpus, queries: int = QUERIES, seed: int = 0) -> Correlation:
    """Rules beside the heads of a program, on windows that rules were not fitted to.

    Raises:
        BadInput: the program takes more than ids, or has no such head.
    """
    rows = drawn(corpus, queries, seed)
    source, alone = _dealt(heads)
    own, other = _Sums(len(heads.names)), _Sums(len(heads.names))
    same = torch.zeros(len(heads.names), dtype=torch.float64)
    for looks in looks_of(program, heads.names, corpus, rows):
        with torch.no_grad():
            said = heads.pattern(looks.ids, None, looks.queries)
            elsewhere = _elsewhere(heads, corpus, looks, said[:, source], alone)
        same += (looks.real.argmax(-1) == said.argmax(-1)).double().sum((0, 2))
        keys = telling(looks, heads.grammar.beginning)
        own.add(looks.real, said, keys)
        other.add(looks.real, elsewhere, keys)
    shuffled = other.r()
    if len(corpus) == 1:
        shuffled[alone] = np.nan
    return Correlation(own.r(), shuffled, same.numpy() / rows.size, rows.size)


def _dealt(heads: Heads) -> tuple[list[int], list[int]]:
    """For each head the next of its function, the first for the last; and the heads that are alone."""
    source = np.arange(len(heads.names))
    for index in heads.by_function.values():
        source[list(index)] = np.roll(index, -1)
    return source.tolist(), [index[0] for index in heads.by_function.values() if len(index) == 1]


def _elsewhere(heads: Heads, corpus: Corpus, looks: Looks, said: Pattern, alone: list[int]) -> Pattern:
    """What other rules say; heads that are alone get what their rule says of the window before."""
    if not alone:
        return said
    before = np.arange(looks.start - 1, looks.start - 1 + len(looks.ids))
    ids = torch.from_numpy(corpus.ids[before].astype(np.int64))
    said = said.clone()
    said[:, alone] = heads.some(alone).pattern(ids, None, looks.queries)
    return said


class _Sums:
    """Running sums over pairs of query and key, by head."""

    def __init__(self, heads: int) -> None:
        self._sums = torch.zeros(6, heads, dtype=torch.float64)

    def add(self, real: Pattern, said: Pattern, keys: torch.Tensor) -> None:
        """Take in the pairs that `keys` (windows, query, key) holds of."""
        a, b = (side.movedim(1, 0)[:, keys].double() for side in (real, said))
        count = torch.full((len(a),), float(keys.sum()), dtype=torch.float64)
        self._sums += torch.stack([count, a.sum(1), b.sum(1), (a * a).sum(1), (b * b).sum(1), (a * b).sum(1)])

    def r(self) -> Float[np.ndarray, " heads"]:
        """Pearson's r."""
        count, a, b, aa, bb, ab = self._sums.numpy()
        left, right = np.maximum(aa - a * a / count, 0), np.maximum(bb - b * b / count, 0)
        flat, said = left <= 1e-12 * aa, right <= 1e-12 * bb
        with np.errstate(invalid="ignore", divide="ignore"):
            found = (ab - a * b / count) / np.sqrt(left * right)
        result: Float[np.ndarray, " heads"] = np.where(flat, np.nan, np.where(said, 0.0, found))
        return result
