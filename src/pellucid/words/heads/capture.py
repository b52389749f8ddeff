"""What the heads of a network really do on texts: patterns of some queries, and what tokens mean to each head.

One pass over a corpus, a few windows at a time. Of every window some positions are drawn (seeded), and where each head
looks from there is kept, in half precision. Queries and keys, before they are turned by position, are averaged by
token and by the token before: from these averages tokens are dealt into clusters (`clusters`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float16, Int

from pellucid.data.corpus import Corpus
from pellucid.fanout import HERE, Fan
from pellucid.ir.program import Program
from pellucid.words.heads.opened import Attended, OpenedProgram, from_queries, open_program

WINDOWS = 8
"""Windows that run at the same time."""


@dataclass(frozen=True, eq=False)
class TokenMeans:
    """Means of queries or keys by token, for the tokens that occur.

    Attributes:
        tokens: the ids that occur, rising.
        counts: how often.
        means: of each head and token.
        spread: mean outer product of what looks at them (of keys, for queries), about its mean for keys.
    """

    tokens: Int[np.ndarray, " tokens"]
    counts: Int[np.ndarray, " tokens"]
    means: Float[np.ndarray, "heads tokens feature"]
    spread: Float[np.ndarray, "heads feature feature"]


@dataclass(frozen=True, eq=False)
class Captured:
    """What was seen.

    Attributes:
        ids: the windows.
        queries: positions drawn from each window, rising; the first position is never one.
        patterns: where the heads of each attention function look from there.
        dealt: for each attention function the means by token, in the order of `rule.DEALT`.
    """

    ids: Int[np.ndarray, "windows context"]
    queries: Int[np.ndarray, "windows query"]
    patterns: Mapping[str, Float16[np.ndarray, "windows heads query key"]]
    dealt: Mapping[str, tuple[TokenMeans, ...]]

    @property
    def names(self) -> tuple[tuple[str, int], ...]:
        """Function and number of every head, in order."""
        return tuple((function, head) for function, seen in self.patterns.items() for head in range(seen.shape[1]))

    def of(self, function: str) -> Captured:
        """What was seen of one function."""
        return Captured(
            self.ids, self.queries, {function: self.patterns[function]}, {function: self.dealt[function]}
        )  # fmt: skip

    def pattern(self, windows: Int[np.ndarray, " chosen"]) -> Float[torch.Tensor, "windows heads query key"]:
        """Real patterns of all heads, in the order of `names`."""
        return torch.cat([torch.from_numpy(seen[windows]).float() for seen in self.patterns.values()], dim=1)


def capture_heads(
    program: Program,
    corpus: Corpus,
    queries: int = 64,
    seed: int = 0,
    fan: Fan = HERE,
    functions: Collection[str] | None = None,
) -> Captured:
    """Run a program over a corpus and keep what its heads do.

    Args:
        program: a language model over ids.
        corpus: windows; memory is windows × heads × queries × context × 2 bytes.
        queries: positions kept of each window.
        seed: of the draw.
        fan: what it runs on.
        functions: attention functions to keep; None for all.

    Raises:
        BadInput: the program takes more than ids or has no attention.
    """
    opened = open_program(program, readout=(0,))
    rows = drawn(corpus, queries, seed)
    sums = _Sums(corpus)
    patterns: dict[str, list[np.ndarray]] = {
        function: [] for function in opened.functions if functions is None or function in functions
    }
    chosen = (torch.from_numpy(rows[start : start + WINDOWS]) for start in range(0, len(rows), WINDOWS))
    for seen in fan(_seen, opened, zip(corpus.batches(WINDOWS), chosen, strict=True)):
        for function in patterns:
            sums.add(function, seen[function])
            patterns[function].append(seen[function].pattern)
    return Captured(
        corpus.ids,
        rows,
        {function: np.concatenate(parts) for function, parts in patterns.items()},
        {function: sums.means(function) for function in patterns},
    )


def drawn(corpus: Corpus, queries: int, seed: int) -> Int[np.ndarray, "windows query"]:
    """Positions drawn from each window, rising; the first is never one."""
    every = np.tile(np.arange(1, corpus.ids.shape[1]), (len(corpus), 1))
    return np.sort(np.random.default_rng(seed).permuted(every, axis=1)[:, :queries], axis=1)


@dataclass(frozen=True, eq=False)
class _Seen:
    """What one attention does on some windows: queries, keys (of all heads), and patterns from the queries drawn."""

    ids: Int[torch.Tensor, "windows context"]
    queries: Float[torch.Tensor, "windows heads query feature"]
    keys: Float[torch.Tensor, "windows key_heads key feature"]
    pattern: Float16[np.ndarray, "windows heads drawn key"]


def _seen(
    opened: OpenedProgram, given: tuple[Int[torch.Tensor, "windows context"], Int[torch.Tensor, "windows drawn"]]
) -> dict[str, _Seen]:
    """What each attention function does on some windows."""
    ids, rows = given
    found: dict[str, _Seen] = {}

    def hook(function: str, attended: Attended) -> Float[torch.Tensor, "windows heads query value"]:
        pattern = attended.pattern()
        kept = from_queries(pattern, rows).half().numpy()
        found[function] = _Seen(ids, attended.still_q.clone(), attended.still_k.clone(), kept)
        return attended.mixed(pattern)

    with torch.no_grad():
        opened.run(ids, hook)
    return found


class _Sums:
    """Running sums of queries and keys by token and by the token before; the first position is left out."""

    def __init__(self, corpus: Corpus) -> None:
        self._tokens = np.unique(corpus.ids)
        self._place = torch.full((len(corpus.pieces),), -1)
        self._place[torch.from_numpy(self._tokens.astype(np.int64))] = torch.arange(len(self._tokens))
        self._sums: dict[str, list[torch.Tensor]] = {}
        self._spread: dict[str, list[torch.Tensor]] = {}
        self._counts = [
            np.bincount(np.searchsorted(self._tokens, ids.ravel()), minlength=len(self._tokens))
            for ids in (corpus.ids[:, 1:], corpus.ids[:, :-1])
        ]

    def add(self, function: str, seen: _Seen) -> None:
        """Take in what one attention was given on some windows."""
        own, before = self._place[seen.ids[:, 1:]].ravel(), self._place[seen.ids[:, :-1]].ravel()
        shared = seen.queries.shape[1] // seen.keys.shape[1]
        sums = self._sums.setdefault(function, [])
        spread = self._spread.setdefault(function, [])
        for i, values in enumerate((seen.queries, seen.keys.repeat_interleave(shared, 1))):
            flat = values[:, :, 1:].permute(0, 2, 1, 3).reshape(-1, values.shape[1], values.shape[3])
            if len(spread) < 2:
                sums += [torch.zeros(len(self._tokens), *flat.shape[1:]) for _ in range(2)]
                spread.append(torch.zeros(flat.shape[1], flat.shape[2], flat.shape[2]))
            sums[2 * i].index_add_(0, own, flat)
            sums[2 * i + 1].index_add_(0, before, flat)
            spread[i] += flat.permute(1, 2, 0) @ flat.permute(1, 0, 2)

    def means(self, function: str) -> tuple[TokenMeans, ...]:
        """By token and by the token before: of queries, then of keys."""
        total = int(self._counts[0].sum())
        query_spread, key_spread = (spread.numpy() / total for spread in self._spread[function])
        centre = self._sums[function][2].sum(0).numpy() / total
        spreads = (key_spread - centre[:, :, None] * centre[:, None], query_spread)
        found = []
        for i, sums in enumerate(self._sums[function]):
            counts = self._counts[i % 2]
            means = sums.numpy() / np.maximum(counts, 1)[:, None, None]
            found.append(TokenMeans(self._tokens, counts, means.swapaxes(0, 1), spreads[i // 2]))
        return tuple(found)
