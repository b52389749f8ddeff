"""One pass over a batch of activations, compiled: sums, extremes, highest places and samples of all units at once.

A batch is read once, in tiles of units that stay in the first cache. What changes rarely (the list of highest windows,
the sample of active positions) is only compared in the fast loop and changed outside of it. The sample is the classic
one of the smallest random keys (bottom-k, Cohen & Kaplan 2007): a position's key is a hash of its place, so that lists
of different parts of a text can be put together in any order, with the same outcome.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba
import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt64

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

TILE = 256
LAST_KEY = np.uint64(2**64 - 1)
"""The key of an empty place in a sample: greater than that of any position."""


def _compiled(kernel: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """`kernel` as machine code, kept on disk; sums may be fused, but never reordered over positions of one unit."""
    fast = {"nsz", "contract", "arcp"}
    return cast(
        Callable[_Arguments, _Result], numba.njit(nogil=True, cache=True, fastmath=fast)(inspect.unwrap(kernel))
    )


@_compiled
def put_highest(
    values: Float32[np.ndarray, " top"], places: Int64[np.ndarray, " top"], value: float, place: int
) -> None:
    """Put a value into a list of the highest ones if it belongs there; of equal ones, the earlier place wins."""
    worst = 0
    for i in range(1, len(values)):
        if values[i] < values[worst] or (values[i] == values[worst] and places[i] > places[worst]):
            worst = i
    if value > values[worst] or (value == values[worst] and place < places[worst]):
        values[worst] = value
        places[worst] = place


@_compiled
def put_sampled(
    values: Float32[np.ndarray, " kept"],
    places: Int64[np.ndarray, " kept"],
    keys: UInt64[np.ndarray, " kept"],
    value: float,
    place: int,
    key: int,
) -> None:
    """Put a position into the list of those with the smallest keys if it belongs there."""
    worst = 0
    for i in range(1, len(keys)):
        if keys[i] > keys[worst]:
            worst = i
    if key < keys[worst]:
        values[worst] = value
        places[worst] = place
        keys[worst] = key


@_compiled
def add_batch(
    x: Float32[np.ndarray, "windows context units"],
    first: int,
    place: int,
    keys: UInt64[np.ndarray, "windows context"],
    total: Float64[np.ndarray, " units"],
    squares: Float64[np.ndarray, " units"],
    low: Float32[np.ndarray, " units"],
    high: Float32[np.ndarray, " units"],
    active: Int64[np.ndarray, " units"],
    top: Float32[np.ndarray, "units top"],
    top_at: Int64[np.ndarray, "units top"],
    kept: Float32[np.ndarray, "units kept"],
    kept_at: Int64[np.ndarray, "units kept"],
    kept_key: UInt64[np.ndarray, "units kept"],
) -> None:
    """Add a batch to the running arrays of its site, in place.

    Args:
        x: activations; positions before `first` of every window are left out.
        place: the place of the batch's first position in the whole text, counted in positions.
        keys: the random key of every position.
        total, squares, low, high, active: sums, sums of squares, extremes, and how many are above 0.
        top, top_at: highest activations with their places, one of a window at most; -inf and -1 where there is none.
        kept, kept_at, kept_key: sample of active positions with their places and keys; -1 and `LAST_KEY` where none.
    """
    windows, context, units = x.shape
    for start in range(0, units, TILE):
        n = min(units - start, TILE)
        sums, powers = np.zeros(n), np.zeros(n)
        lowest, count = np.full(n, np.inf, np.float32), np.zeros(n, np.int32)
        highest, where = np.empty(n, np.float32), np.empty(n, np.int32)
        bound = np.empty(n, np.uint64)
        for i in range(n):
            bound[i] = kept_key[start + i].max()
        for w in range(windows):
            highest[:] = -np.inf
            where[:] = first
            for t in range(first, context):
                row = x[w, t, start : start + n]
                key = keys[w, t]
                for i in range(n):
                    wide = np.float64(row[i])
                    sums[i] += wide
                    powers[i] += wide * wide
                hits = 0
                for i in range(n):
                    lowest[i] = min(lowest[i], row[i])
                    count[i] += row[i] > 0
                    hits += (row[i] > 0) & (key < bound[i])
                for i in range(n):
                    better = row[i] > highest[i]
                    highest[i] = row[i] if better else highest[i]
                    where[i] = t if better else where[i]
                if hits:
                    for i in range(n):
                        if row[i] > 0 and key < bound[i]:
                            u = start + i
                            put_sampled(kept[u], kept_at[u], kept_key[u], row[i], place + w * context + t, key)
                            bound[i] = kept_key[u].max()
            for i in range(n):
                u = start + i
                high[u] = max(high[u], highest[i])
                put_highest(top[u], top_at[u], highest[i], place + w * context + where[i])
        for i in range(n):
            u = start + i
            total[u] += sums[i]
            squares[u] += powers[i]
            low[u] = min(low[u], lowest[i])
            active[u] += count[i]


@_compiled
def add_lists(
    top: Float32[np.ndarray, "units top"],
    top_at: Int64[np.ndarray, "units top"],
    kept: Float32[np.ndarray, "units kept"],
    kept_at: Int64[np.ndarray, "units kept"],
    kept_key: UInt64[np.ndarray, "units kept"],
    more_top: Float32[np.ndarray, "units top"],
    more_top_at: Int64[np.ndarray, "units top"],
    more_kept: Float32[np.ndarray, "units kept"],
    more_kept_at: Int64[np.ndarray, "units kept"],
    more_kept_key: UInt64[np.ndarray, "units kept"],
) -> None:
    """Put lists of another part of the text into those of this one, in place."""
    for u in range(len(top)):
        for i in range(top.shape[1]):
            if more_top_at[u, i] >= 0:
                put_highest(top[u], top_at[u], more_top[u, i], more_top_at[u, i])
        for i in range(kept.shape[1]):
            if more_kept_at[u, i] >= 0:
                put_sampled(kept[u], kept_at[u], kept_key[u], more_kept[u, i], more_kept_at[u, i], more_kept_key[u, i])
