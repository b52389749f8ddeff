"""The tables of a store: from the summary of a site and its sampled rows to figures and contexts of every unit.

`units`: one row per unit with count, mean, variance, low, high, the share of positions with an activation above 0, and
quantiles. `contexts`: positions with their activation, chosen in three ways. *top*: the highest of the whole text, one
of a window at most, from rank 0 on. *quantile*: a uniform sample of the active positions is cut by activation into
strata of equal size, 0 the weakest, and contexts are taken evenly from each. *random*: drawn from all positions.

Quantiles are those of a uniform sample of n positions. Their error is one of rank: by Dvoretzky, Kiefer, Wolfowitz and
Massart, all of a unit's lie within sqrt(ln(2 / 0.05) / 2n) of the true rank with 95% (0.030 for 2,048 positions).
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int64, Shaped

from pellucid.data.activations.manifest import Wanted
from pellucid.data.activations.summary import Summary
from pellucid.ir.units import Site

LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
QUANTILES = tuple(f"q{round(level * 100):02d}" for level in LEVELS)
"""Columns of the quantiles."""

HOW = ("top", "quantile", "random")


def rank_error(sampled: int, positions: int) -> float:
    """The error of all quantiles of a unit in rank, with 95%; none where every position was sampled."""
    return 0.0 if sampled >= positions else math.sqrt(math.log(2 / 0.05) / (2 * sampled))


def units_table(site: Site, seen: Summary, sample: Float32[np.ndarray, "units sample"]) -> pa.Table:
    """The figures of every unit of a site."""
    mean = seen.total / seen.count
    quantiles = np.quantile(sample, LEVELS, axis=1).astype(np.float32)
    return pa.table(
        {
            "site": _repeated(str(site), site.units),
            "unit": np.arange(site.units, dtype=np.int32),
            "count": seen.count,
            "mean": mean,
            "variance": np.maximum(seen.squares / seen.count - mean**2, 0.0),
            "low": seen.low,
            "high": seen.high,
            "active": seen.active / seen.count,
            **dict(zip(QUANTILES, quantiles, strict=True)),
        }
    )


def contexts_table(
    site: Site,
    number: int,
    seen: Summary,
    sample: Float32[np.ndarray, "units sample"],
    places: Int64[np.ndarray, " sample"],
    context: int,
    wanted: Wanted,
) -> pa.Table:
    """The contexts of every unit of a site, unit by unit.

    Args:
        number: of the site, for the seed of what is drawn.
        places: the places of the sampled positions in the whole text.
        context: positions of a window.
    """
    found = [_top(seen), _strata(seen, wanted), _random(sample, places, number, wanted)]
    unit, how, stratum, rank, place, activation = (
        np.concatenate(columns)
        for columns in zip(*((u, np.full(len(u), i), *rest) for i, (u, *rest) in enumerate(found)), strict=True)
    )
    order = np.lexsort((rank, how, unit))
    return pa.table(
        {
            "site": _repeated(str(site), len(order)),
            "unit": unit[order].astype(np.int32),
            "how": pa.DictionaryArray.from_arrays(how[order].astype(np.int8), list(HOW)),
            "stratum": stratum[order].astype(np.int8),
            "rank": rank[order].astype(np.int16),
            "window": (place[order] // context).astype(np.int32),
            "token": (place[order] % context).astype(np.int32),
            "activation": activation[order].astype(np.float32),
        }
    )


def sampled_places(windows: int, context: int, wanted: Wanted) -> Int64[np.ndarray, " sample"]:
    """The places of the positions, among those not left out, whose activations quantiles come from; in order."""
    own = context - wanted.first
    generator = np.random.default_rng(wanted.seed)
    size = min(wanted.sample, windows * own)
    chosen = np.sort(generator.choice(windows * own, size, replace=False, shuffle=False)).astype(np.int64)
    return chosen // own * context + chosen % own + wanted.first


_Columns: TypeAlias = tuple[Shaped[np.ndarray, " n"], ...]
"""Unit, stratum, rank, place and activation of contexts."""


def _top(seen: Summary) -> _Columns:
    """Unit, stratum, rank, place and activation of the highest contexts; a unit's lowest value is not among them."""
    order = np.lexsort((seen.top_at, -seen.top), axis=1)
    values, places = np.take_along_axis(seen.top, order, 1), np.take_along_axis(seen.top_at, order, 1)
    unit, rank = np.nonzero((places >= 0) & (values > seen.low[:, None]))
    return unit, np.zeros_like(unit), rank, places[unit, rank], values[unit, rank]


def _strata(seen: Summary, wanted: Wanted) -> _Columns:
    """The same of sampled active positions, evenly from the weakest to the strongest."""
    values = np.where(seen.kept_at >= 0, seen.kept, np.inf)
    order = np.lexsort((seen.kept_at, values), axis=1)
    held = (seen.kept_at >= 0).sum(axis=1)[:, None]
    taken = np.minimum(held, wanted.strata * wanted.per_stratum)
    nth = np.arange(wanted.strata * wanted.per_stratum)[None, :]
    unit, rank = np.nonzero(nth < taken)
    among = (2 * rank + 1) * held[unit, 0] // (2 * taken[unit, 0])
    source = order[unit, among]
    stratum = among * wanted.strata // held[unit, 0]
    return unit, stratum, rank, seen.kept_at[unit, source], seen.kept[unit, source]


def _random(
    sample: Float32[np.ndarray, "units sample"], places: Int64[np.ndarray, " sample"], number: int, wanted: Wanted
) -> _Columns:
    """The same of positions from the sample, other ones for every unit."""
    generator = np.random.default_rng([wanted.seed, number])
    units, size = sample.shape
    mixed = np.argsort(generator.random(size), kind="stable")
    begin = np.asarray(generator.integers(0, size, size=units))
    taken = min(wanted.random, size)
    unit, rank = np.repeat(np.arange(units), taken), np.tile(np.arange(taken), units)
    chosen = mixed[(begin[unit] + rank) % size]
    return unit, np.zeros_like(unit), rank, places[chosen], sample[unit, chosen]


def _repeated(text: str, times: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(np.zeros(times, np.int16), [text])
