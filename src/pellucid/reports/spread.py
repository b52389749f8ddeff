"""How the values of a tensor are spread: extremes over all of them, quantiles and a histogram over a sample.

The sample of a large tensor takes every k-th value, k prime to the length of its rows, so that all columns are met.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Real, Shaped

SAMPLE = 1 << 16
BINS = 48
QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)
FEW = 64
_INNER = (0.001, 0.999)
_SHARED = (torch.float32, torch.float64, torch.int32, torch.int64)


@dataclass(frozen=True)
class Spread:
    """Statistics of a tensor.

    Attributes:
        size: how many values; broken: how many of them are not finite.
        low, high: the extremes of the finite ones.
        quantiles: at `QUANTILES`.
        histogram: counts in `BINS` equal bins from `left` to `right`; values beyond are not drawn.
        sampled: how many values quantiles and histogram were taken from.
        values: all values by rows where there are few of them, else none.
    """

    size: int
    broken: int
    low: float
    high: float
    mean: float
    deviation: float
    zeros: float
    quantiles: tuple[float, ...]
    histogram: tuple[int, ...]
    left: float
    right: float
    sampled: int
    values: tuple[tuple[float, ...], ...]


def measure_spread(tensor: Shaped[torch.Tensor, "..."]) -> Spread | None:
    """The spread of a tensor; None where there are no real values."""
    if tensor.numel() == 0 or tensor.is_complex():
        return None
    array = as_array(tensor)
    flat = array.reshape(-1)
    low, high = float(flat.min()), float(flat.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        flat = flat[np.isfinite(flat)]
        if flat.size == 0:
            return _nothing_finite(array)
        low, high = float(flat.min()), float(flat.max())
    sample = _sample(flat, array.shape[-1] if array.ndim else 1)
    left, right = _ends(sample)
    with np.errstate(over="ignore"):
        mean, deviation = float(sample.mean()), float(sample.std())
    return Spread(
        size=array.size,
        broken=array.size - flat.size,
        low=low,
        high=high,
        mean=mean,
        deviation=deviation,
        zeros=float((sample == 0).mean()),
        quantiles=tuple(float(x) for x in np.quantile(sample, QUANTILES, method="inverted_cdf")),
        histogram=_histogram(sample, left, right),
        left=left,
        right=right,
        sampled=sample.size,
        values=_rows(array),
    )


def _ends(sample: Float[np.ndarray, " n"]) -> tuple[float, float]:
    inner = np.quantile(sample, _INNER, method="inverted_cdf") if sample.size > 1000 else (sample.min(), sample.max())
    left, right = (float(x) for x in inner)
    widening, limit = max(0.5, abs(left) / 100), sys.float_info.max
    return (left, right) if right > left else (max(left - widening, -limit), min(right + widening, limit))


def _histogram(sample: Float[np.ndarray, " n"], left: float, right: float) -> tuple[int, ...]:
    inside = sample[(sample >= left) & (sample <= right)]
    width = right / 2 - left / 2
    places = (inside / 2 - left / 2) / width if width > 0 else np.zeros_like(inside)
    return tuple(int(x) for x in np.bincount(np.minimum((places * BINS).astype(int), BINS - 1), minlength=BINS))


def _nothing_finite(array: Real[np.ndarray, "..."]) -> Spread:
    nan, size = math.nan, array.size
    return Spread(size, size, nan, nan, nan, nan, 0.0, (nan,) * len(QUANTILES), (0,) * BINS, nan, nan, 0, _rows(array))


def _sample(flat: Real[np.ndarray, " n"], row: int) -> Float[np.ndarray, " m"]:
    step = -(-flat.size // SAMPLE)
    while math.gcd(step, max(row, 1)) > 1 and step > 1:
        step += 1
    return flat[::step].astype(np.float64)


def as_array(tensor: Shaped[torch.Tensor, "..."]) -> Real[np.ndarray, "..."]:
    """The tensor's values as numpy has them; element types that numpy lacks, and truth values, as float32."""
    values = tensor.detach().cpu()
    return (values if values.dtype in _SHARED else values.float()).numpy()


def as_matrix(array: Real[np.ndarray, "..."]) -> Real[np.ndarray, "rows columns"]:
    """The array as a matrix with the first axis as rows; a vector is one row, 2-d kernels lie side by side."""
    if array.ndim == 4:
        return array.transpose(1, 2, 0, 3).reshape(array.shape[1] * array.shape[2], -1)
    return array.reshape(array.shape[0], -1) if array.ndim >= 2 else array.reshape(1, -1)


def _rows(array: Real[np.ndarray, "..."]) -> tuple[tuple[float, ...], ...]:
    if array.size > FEW:
        return ()
    matrix = as_matrix(array)
    if matrix.shape[0] == 1:
        numbers = [float(x) for x in matrix[0]]
        return tuple(tuple(numbers[i : i + 8]) for i in range(0, len(numbers), 8))
    return tuple(tuple(float(x) for x in row) for row in matrix) if matrix.shape[1] <= 16 else ()
