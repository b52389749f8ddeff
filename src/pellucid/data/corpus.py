"""Corpora of a language model: windows of token ids of one length, with the text of every token.

Windows are what activations are captured on, labels are grown on and losses are measured on. They are split once,
whole and seeded, in four: labels are grown on *fit*, constants tuned on *tune*, prompts show contexts of *describe*,
and every figure comes from *verify*.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Int

from pellucid.errors import BadInput

SHARES = {"fit": 0.5, "tune": 0.3, "describe": 0.1, "verify": 0.1}
"""What share of the windows each part gets; each has at least one."""


@dataclass(frozen=True)
class Corpus:
    """Windows of a text as ids.

    Attributes:
        ids: token ids, one window a row.
        pieces: the text of each id of the vocabulary, in order.
        beginning: the id that begins every window, where the model wants one: no part of the text.
    """

    ids: Int[np.ndarray, "windows context"]
    pieces: tuple[str, ...]
    beginning: int | None = None

    def __post_init__(self) -> None:
        if self.ids.ndim != 2 or min(self.ids.shape) == 0:
            raise BadInput(f"corpus: ids of shape {list(self.ids.shape)}; give windows of token ids, one a row")
        low, high = int(self.ids.min()), int(self.ids.max())
        if low < 0 or high >= len(self.pieces):
            wrong = low if low < 0 else high
            raise BadInput(
                f"corpus: id {wrong} is outside the vocabulary of {len(self.pieces)}; tokenize it with the model's own"
                " tokenizer"
            )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def tokens(self) -> int:
        """How many tokens all windows hold."""
        return self.ids.size

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over ids and vocabulary, in hex."""
        digest = hashlib.sha256(np.ascontiguousarray(self.ids, dtype=np.int64).tobytes())
        digest.update(repr((self.ids.shape, self.beginning)).encode())
        for piece in self.pieces:
            digest.update(piece.encode("utf-8", "surrogatepass") + b"\0")
        return digest.hexdigest()

    def rows(self, chosen: Sequence[int] | slice | Int[np.ndarray, " chosen"]) -> Corpus:
        """Some of the windows."""
        return dataclasses.replace(self, ids=self.ids[chosen])

    def batches(self, windows: int = 16) -> Iterator[Int[torch.Tensor, "windows context"]]:
        """The ids as int64 tensors of at most so many windows, in order."""
        for start in range(0, len(self.ids), windows):
            yield torch.from_numpy(self.ids[start : start + windows].astype(np.int64))


@dataclass(frozen=True)
class CorpusParts:
    """A corpus in four, see the module."""

    fit: Corpus
    tune: Corpus
    describe: Corpus
    verify: Corpus


def split_corpus(corpus: Corpus, seed: int = 0) -> CorpusParts:
    """The four parts of a corpus, whole windows dealt out in a seeded random order.

    Raises:
        BadInput: it has fewer windows than parts.
    """
    if len(corpus) < len(SHARES):
        raise BadInput(f"corpus: {len(corpus)} windows cannot be split in {len(SHARES)}; give a longer text")
    order = np.random.default_rng(seed).permutation(len(corpus))
    small = {name: max(1, int(len(corpus) * share)) for name, share in SHARES.items() if name != "fit"}
    parts, start = {}, 0
    for name, size in {**small, "fit": len(corpus) - sum(small.values())}.items():
        parts[name] = corpus.rows(np.sort(order[start : start + size]))
        start += size
    return CorpusParts(**parts)


def windows_of(
    texts: Iterable[Sequence[int]], pieces: Sequence[str], context: int, beginning: int | None = None
) -> Corpus:
    """Texts, already as ids, laid end to end and cut into windows of `context` tokens.

    Where the model wants a token to begin with, every window begins with it. What is left over at the end is dropped.

    Raises:
        BadInput: the context holds fewer than two tokens, or the texts do not fill one window.
    """
    own = context - (beginning is not None)
    if own < 2:
        raise BadInput(f"corpus: a context of {context} tokens is too short; use at least {2 + context - own}")
    running = np.concatenate([np.zeros(0, np.int64), *(np.asarray(text, dtype=np.int64) for text in texts)])
    count = len(running) // own
    if count == 0:
        raise BadInput(f"corpus: {len(running)} tokens do not fill one window of {context}; give more text")
    ids = running[: count * own].reshape(count, own)
    if beginning is not None:
        ids = np.concatenate([np.full((count, 1), beginning), ids], axis=1)
    return Corpus(ids.astype(np.int32), tuple(pieces), beginning)
