"""How much is taken from a source: a bounded number of samples and bytes, and a note where more was there."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64

from pellucid.data.batches import Argument, Batch
from pellucid.data.texts import Tokenizer

MEMORY = 2**30
"""Samples are kept in memory up to this many bytes."""


@dataclass(frozen=True)
class Terms:
    """How inputs are read; see `pellucid.data.inputs.gather` for what each term means."""

    limit: int
    seed: int
    tokenizer: Tokenizer | None
    context: int
    floating: bool | Collection[Argument]


@dataclass(frozen=True)
class Found:
    """What a source held, and notes on what was left out of it."""

    batches: list[Batch]
    notes: tuple[str, ...] = ()


def chosen(total: int, row_bytes: int, terms: Terms) -> tuple[Int64[np.ndarray, " rows"] | None, tuple[str, ...]]:
    """Return which rows of a source of known size to take (None: all of them), in order, and a note if not all."""
    count = min(terms.limit, max(1, MEMORY // max(1, row_bytes)))
    if total <= count:
        return None, ()
    rows = np.sort(np.random.default_rng(terms.seed).choice(total, size=count, replace=False))
    return rows.astype(np.int64), (f"{count:,} of {total:,} drawn with seed {terms.seed}",)


def first(stream: Iterable[Batch], terms: Terms) -> Found:
    """Take batches from a stream, which may never end, until the limit of samples or memory is reached."""
    batches: list[Batch] = []
    rows = size = 0
    for batch in stream:
        batches.append(batch.rows(slice(0, terms.limit - rows)))
        rows += len(batches[-1])
        size += batches[-1].nbytes
        if rows >= terms.limit:
            return Found(batches, (f"stopped at the limit of {terms.limit:,} samples",))
        if size >= MEMORY:
            return Found(batches, (f"stopped after {rows:,} samples, at {MEMORY / 2**30:.0f} GiB",))
    return Found(batches)


def drawn(batch: Batch, terms: Terms) -> Found:
    """Take the samples of one batch, or as many of them as the limit of samples or memory allows."""
    rows, notes = chosen(len(batch), batch.nbytes // len(batch), terms)
    return Found([batch if rows is None else batch.rows(torch.from_numpy(rows))], notes)
