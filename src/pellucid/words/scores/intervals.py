"""Intervals: Wilson's for a share, the square-and-add rule for the mean of two shares, bootstrap for a correlation.

Wilson (1927); the mean of two independent shares by squaring and adding the distances to their own limits (MOVER,
Newcombe 1998). Bootstrap: contexts (or windows) are drawn with replacement, since tokens of one context are not
independent; the correlation of a draw is had from sums over contexts, so a thousand draws are one matrix product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Z = 1.959964
"""For 95 % intervals."""

DRAWS = 1000


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, and from how many contexts (or units) it is."""

    value: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def wilson(right: int, count: int) -> Estimate:
    """A share; of nothing it is NaN between 0 and 1."""
    if count == 0:
        return Estimate(math.nan, 0.0, 1.0, 0)
    share = right / count
    centre = (share + Z * Z / (2 * count)) / (1 + Z * Z / count)
    half = Z / (1 + Z * Z / count) * math.sqrt(share * (1 - share) / count + Z * Z / (4 * count * count))
    return Estimate(share, max(0.0, centre - half), min(1.0, centre + half), count)


def mean_of_two(first: Estimate, second: Estimate) -> Estimate:
    """The mean of two independent shares; NaN where one of them is of nothing."""
    value = (first.value + second.value) / 2
    count = first.count + second.count
    if math.isnan(value):
        return Estimate(math.nan, 0.0, 1.0, count)
    down = math.hypot(first.value - first.low, second.value - second.low) / 2
    up = math.hypot(first.high - first.value, second.high - second.value) / 2
    return Estimate(value, max(0.0, value - down), min(1.0, value + up), count)


def bootstrapped_mean(values: Float[np.ndarray, " values"], seed: int = 0, draws: int = DRAWS) -> Estimate:
    """The mean of values (one a unit, say), NaN left out."""
    kept = np.asarray(values, dtype=np.float64)
    kept = kept[np.isfinite(kept)]
    if len(kept) == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    times = _times(len(kept), seed, draws)
    low, high = np.quantile(times @ kept / len(kept), [0.025, 0.975])
    return Estimate(float(kept.mean()), float(low), float(high), len(kept))


def correlation(
    predicted: Float[np.ndarray, "contexts tokens"],
    actual: Float[np.ndarray, "contexts tokens"],
    seed: int = 0,
    draws: int = DRAWS,
) -> Estimate:
    """Pearson's r over all tokens, its interval by bootstrap over contexts; NaN tokens of either are left out.

    A prediction that is everywhere the same says nothing: 0. Where the actual values are everywhere the same there is
    nothing to be predicted: NaN.
    """
    known = np.isfinite(predicted) & np.isfinite(actual)
    kept = known.any(axis=1)
    count = int(kept.sum())
    if count == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    x, y, seen = (np.asarray(a[kept], dtype=np.float64) for a in (predicted, actual, known))
    here = seen > 0
    x, y = np.where(here, x, 0.0), np.where(here, y, 0.0)
    x, y = np.where(here, x - x[here].mean(), 0.0), np.where(here, y - y[here].mean(), 0.0)
    sums = np.stack([a.sum(axis=1) for a in (seen, x, y, x * x, y * y, x * y)], axis=1)
    value = float(_r(sums.sum(axis=0)[None])[0])
    if math.isnan(value):
        return Estimate(math.nan, math.nan, math.nan, count)
    drawn = _r(_times(count, seed, draws) @ sums)
    low, high = np.quantile(drawn[np.isfinite(drawn)], [0.025, 0.975])
    return Estimate(value, float(min(low, value)), float(max(high, value)), count)


def _r(sums: Float[np.ndarray, "draws 6"]) -> Float[np.ndarray, " draws"]:
    """Pearson's r from count, sums, squares and products; 0 where x does not vary, NaN where y does not."""
    n, x, y, xx, yy, xy = sums.T
    across = xy - x * y / n
    own_x, own_y = np.maximum(xx - x * x / n, 0.0), np.maximum(yy - y * y / n, 0.0)
    flat_x, flat_y = own_x <= 1e-12 * np.maximum(xx, 1e-300), own_y <= 1e-12 * np.maximum(yy, 1e-300)
    r = across / np.sqrt(np.where(flat_x | flat_y, 1.0, own_x * own_y))
    return np.where(flat_y, np.nan, np.where(flat_x, 0.0, np.clip(r, -1.0, 1.0)))


def _times(count: int, seed: int, draws: int) -> Float[np.ndarray, "draws count"]:
    """How often each of so many is drawn."""
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws).astype(np.float64)
