"""Token sequences of every length that a network is asked about, and values at their positions.

The tokens are those seen after the first place. Where the first place always holds one token that is not among them, it
marks the beginning: it is kept first in all sequences, and positions are counted after it. Of each length there are
all sequences, if they are few; else half are drawn from all tokens, and half from two or three of them, so that tokens
repeat.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from jaxtyping import Int64, Shaped

PER_LENGTH = 500
"""Sequences of one length."""

LONGEST = 24
"""Tokens of the longest sequences that are asked about."""

MOST_TOKENS = 512
"""Different tokens."""


@dataclass(frozen=True, eq=False)
class Corpus:
    """Sequences by length.

    Attributes:
        groups: token ids [sequence, position] of each length, the mark of the beginning left out.
        beginning: the token that begins every sequence, if there is one.
    """

    groups: tuple[Int64[np.ndarray, "_ _"], ...]
    beginning: int | None

    @property
    def skipped(self) -> int:
        """Places before the first position."""
        return int(self.beginning is not None)

    @property
    def tokens(self) -> Int64[np.ndarray, " places"]:
        """The token at each position of all sequences."""
        return np.concatenate([group.ravel() for group in self.groups])

    @property
    def index(self) -> Int64[np.ndarray, " places"]:
        """The number of each position, from 0."""
        return np.concatenate([np.tile(np.arange(group.shape[1]), len(group)) for group in self.groups])

    @property
    def length(self) -> Int64[np.ndarray, " places"]:
        """How long the sequence of each position is."""
        return np.concatenate([np.full(group.size, group.shape[1]) for group in self.groups])

    @property
    def places(self) -> int:
        """How many positions all sequences have together."""
        return sum(group.size for group in self.groups)

    def first(self, groups: int) -> Corpus:
        """Only the first groups: the shorter sequences."""
        return Corpus(self.groups[:groups], self.beginning)

    def inputs(self) -> Iterator[Int64[torch.Tensor, "_ _"]]:
        """The groups as the network takes them."""
        for group in self.groups:
            first = np.full((len(group), self.skipped), self.beginning or 0)
            yield torch.from_numpy(np.concatenate([first, group], axis=1))

    def grids(self, column: Shaped[np.ndarray, " places"]) -> Iterator[Shaped[np.ndarray, "_ _"]]:
        """Values at all positions, group by group."""
        start = 0
        for group in self.groups:  # columns of longer corpora begin alike
            yield column[start : start + group.size].reshape(group.shape)
            start += group.size

    def flat(self, grids: Sequence[Shaped[np.ndarray, "_ _ *rest"]]) -> Shaped[np.ndarray, "_ *rest"]:
        """Values of the groups as one column."""
        return np.concatenate([grid.reshape(-1, *grid.shape[2:]) for grid in grids])


def corpus_of(calls: Sequence[Int64[torch.Tensor, "_ _"]], seed: int = 0) -> Corpus | None:
    """Sequences over the tokens and up to the length of these; None where there are too many tokens, or none."""
    if any(call.shape[1] == 0 for call in calls):
        return None
    beginning = _beginning(calls)
    skipped = int(beginning is not None)
    tokens = np.unique(np.concatenate([call[:, skipped:].numpy().ravel() for call in calls]))
    longest = min(LONGEST, max(call.shape[1] for call in calls) - skipped)
    if not len(tokens) or len(tokens) > MOST_TOKENS or longest < 1:
        return None
    rng = np.random.default_rng(seed)
    return Corpus(tuple(_sequences(tokens, n, rng) for n in range(1, longest + 1)), beginning)


def _beginning(calls: Sequence[Int64[torch.Tensor, "_ _"]]) -> int | None:
    firsts = {int(token) for call in calls for token in call[:, 0].tolist()}
    others = {int(token) for call in calls for token in call[:, 1:].flatten().tolist()}
    return firsts.pop() if len(firsts) == 1 and not firsts & others and others else None


def _sequences(
    tokens: Int64[np.ndarray, " tokens"], length: int, rng: np.random.Generator
) -> Int64[np.ndarray, "sequence position"]:
    if float(len(tokens)) ** length <= PER_LENGTH:
        return np.array(list(product(tokens, repeat=length)), dtype=np.int64)
    anything = rng.choice(tokens, (PER_LENGTH // 2, length))
    few = [rng.choice(tokens, int(rng.integers(2, 4))) for _ in range(PER_LENGTH // 2)]
    return np.concatenate([anything, np.stack([rng.choice(some, length) for some in few])]).astype(np.int64)
