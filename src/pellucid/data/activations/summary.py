"""What is known of each unit after a part of the text: sums, extremes, highest places, a sample of active positions.

Its size does not depend on the length of the text, and summaries of consecutive parts add up to that of the whole: the
lists to the same ones in any order, the sums to the same bits when the parts are cut and added in the same order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64, Shaped, UInt64

from pellucid.data.activations.kernels import LAST_KEY, add_batch, add_lists


@dataclass(frozen=True)
class Summary:
    """Running figures of units, one row each; the arrays are added to in place.

    Attributes:
        count: positions seen.
        total, squares: sums of the activations and of their squares.
        low, high: smallest and largest activation.
        active: how many positions have an activation above 0.
        top, top_at: the highest activations, at most one of each window, in no order; place -1 where there is none.
        kept, kept_at: a uniform sample of the active positions, in no order; place -1 where there is none.
        kept_key: the random keys of `kept_at`.
    """

    count: Int64[np.ndarray, " units"]
    total: Float64[np.ndarray, " units"]
    squares: Float64[np.ndarray, " units"]
    low: Float32[np.ndarray, " units"]
    high: Float32[np.ndarray, " units"]
    active: Int64[np.ndarray, " units"]
    top: Float32[np.ndarray, "units top"]
    top_at: Int64[np.ndarray, "units top"]
    kept: Float32[np.ndarray, "units kept"]
    kept_at: Int64[np.ndarray, "units kept"]
    kept_key: UInt64[np.ndarray, "units kept"]

    def part(self, start: int, units: int) -> Summary:
        """Some neighbouring units, as views."""
        found = {field.name: getattr(self, field.name)[start : start + units] for field in dataclasses.fields(self)}
        return Summary(**found)

    def add(
        self,
        activations: Float32[np.ndarray, "windows context units"],
        place: int,
        keys: UInt64[np.ndarray, "windows context"],
        first: int,
    ) -> None:
        """Add the next windows; `place` is that of their first position, `first` where to begin in each window."""
        windows, context, _ = activations.shape
        self.count[:] += windows * (context - first)
        sums = (self.total, self.squares, self.low, self.high, self.active)
        lists = (self.top, self.top_at, self.kept, self.kept_at, self.kept_key)
        add_batch(activations, first, place, keys, *sums, *lists)

    def to_beat(self) -> Summary:
        """The summary of no text, whose lists take only what `merge` would put into the lists of this one."""
        fresh = nothing_seen(len(self.count), self.top.shape[1], self.kept.shape[1])
        fresh.top[:] = self.top.min(axis=1, keepdims=True)
        fresh.kept_key[:] = self.kept_key.max(axis=1, keepdims=True)
        return fresh

    def merge(self, later: Summary) -> None:
        """Add the summary of a later part of the text."""
        self.count[:] += later.count
        self.total[:] += later.total
        self.squares[:] += later.squares
        self.active[:] += later.active
        np.minimum(self.low, later.low, out=self.low)
        np.maximum(self.high, later.high, out=self.high)
        add_lists(
            self.top, self.top_at, self.kept, self.kept_at, self.kept_key,
            later.top, later.top_at, later.kept, later.kept_at, later.kept_key,
        )  # fmt: skip


def nothing_seen(units: int, top: int, kept: int) -> Summary:
    """The summary of no text."""
    return Summary(
        np.zeros(units, np.int64), np.zeros(units), np.zeros(units),
        np.full(units, np.inf, np.float32), np.full(units, -np.inf, np.float32), np.zeros(units, np.int64),
        np.full((units, top), -np.inf, np.float32), np.full((units, top), -1, np.int64),
        np.zeros((units, kept), np.float32), np.full((units, kept), -1, np.int64),
        np.full((units, kept), LAST_KEY, np.uint64),
    )  # fmt: skip


def keys_of(places: Int64[np.ndarray, "*shape"], seed: int) -> UInt64[np.ndarray, "*shape"]:
    """Random keys below `LAST_KEY` of places in a text: splitmix64 (Steele, Lea & Flood 2014) of place and seed."""
    golden = 0x9E3779B97F4A7C15
    mixed = places.astype(np.uint64) + np.uint64(seed * golden % 2**64)
    with np.errstate(over="ignore"):
        mixed = (mixed + np.uint64(1)) * np.uint64(golden)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.minimum(mixed ^ (mixed >> np.uint64(31)), LAST_KEY - np.uint64(1))


def with_keys(arrays: Mapping[str, Shaped[np.ndarray, "units ..."]], seed: int) -> Summary:
    """A summary from all its arrays but the keys, which the places tell."""
    kept_at = arrays["kept_at"]
    keys = np.where(kept_at >= 0, keys_of(np.maximum(kept_at, 0), seed), LAST_KEY)
    return Summary(**arrays, kept_key=keys)
