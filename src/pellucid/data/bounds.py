"""How much is taken from a source: a bounded number of samples and bytes, and a note where more was there."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from pellucid.data.batches import Argument, Batch, by_argument, checked
from pellucid.data.texts import Tokenizer

MEMORY = 2**30
"""Samples are kept in memory up to this many bytes."""

WIDEST = 8
"""Bytes of a number in memory, at most."""


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


def drawn(value: object, where: str, terms: Terms) -> Found:
    """Take one user value (see `batch_of`), or as many of its samples as the limit of samples or memory allows.

    Samples are drawn before they are checked and converted, so that a large array, in memory or on disk, is not copied.
    """
    given = by_argument(value, where)
    plain = {name: array for name, array in given.items() if _is_plain(array)}
    arrays = plain if len(plain) == len(given) else checked(given, where, floating=terms.floating).arrays
    total = min(len(array) for array in arrays.values())
    rows, notes = chosen(total, sum(WIDEST * math.prod(array.shape[1:]) for array in arrays.values()), terms)
    if rows is None or any(len(array) != total for array in arrays.values()):
        return Found([checked(arrays, where, floating=terms.floating)])
    picks = torch.from_numpy(rows)
    part = {name: array[picks if isinstance(array, Tensor) else rows] for name, array in arrays.items()}
    return Found([checked(part, f"{where}, drawn rows", floating=terms.floating)], notes)


def _is_plain(array: object) -> TypeGuard[Tensor | Shaped[np.ndarray, "..."]]:
    if isinstance(array, Tensor):
        return array.ndim > 0 and array.layout == torch.strided
    return isinstance(array, np.ndarray) and array.ndim > 0
