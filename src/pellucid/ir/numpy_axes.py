"""The primitives that compute over whole axes, in numpy: twins of those in `pellucid.ir.torch_ops`."""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pellucid.ir.numpy_arrays import Array, _common


def total(x: Array, axes: Sequence[int] | None = None, keep: bool = False) -> Array:
    """Sum over axes (all of them when None)."""
    return x.sum() if axes is None else x.sum(tuple(axes), keepdims=keep)


def mean(x: Array, axes: Sequence[int] | None = None, keep: bool = False) -> Array:
    """Mean over axes (all of them when None)."""
    return x.mean() if axes is None else x.mean(tuple(axes), keepdims=keep)


def variance(x: Array, axes: Sequence[int], correction: int = 1, keep: bool = False) -> Array:
    """Variance over axes, divided by count - correction."""
    return x.var(tuple(axes), ddof=correction, keepdims=keep)


def largest(x: Array, axes: Sequence[int], keep: bool = False) -> Array:
    """Maximum over axes."""
    return x.max(tuple(axes), keepdims=keep)


def smallest(x: Array, axes: Sequence[int], keep: bool = False) -> Array:
    """Minimum over axes."""
    return x.min(tuple(axes), keepdims=keep)


def argmax(x: Array, axis: int, keep: bool = False) -> Array:
    """Position of the maximum."""
    return x.argmax(axis, keepdims=keep)


def any_true(x: Array, axis: int, keep: bool = False) -> Array:
    """Whether any entry of an axis is true."""
    return np.any(x, axis, keepdims=keep)


def all_true(x: Array, axis: int, keep: bool = False) -> Array:
    """Whether all entries of an axis are true."""
    return np.all(x, axis, keepdims=keep)


def cumsum(x: Array, axis: int) -> Array:
    """Running sum along an axis."""
    return np.cumsum(x, axis)


def diff(x: Array, axis: int = -1, before: Array | None = None) -> Array:
    """Differences of neighbours along an axis, with `before` put in front."""
    return np.diff(x if before is None else np.concatenate(_common(before, x), axis), axis=axis)


def softmax(x: Array, axis: int) -> Array:
    """exp(x) over its sum along an axis."""
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def log_softmax(x: Array, axis: int) -> Array:
    """Logarithm of softmax."""
    x = x - x.max(axis, keepdims=True)
    return x - np.log(np.exp(x).sum(axis, keepdims=True))
