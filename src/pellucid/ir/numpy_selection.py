"""The primitives that programs of attention are written in, in numpy: twins of those in `torch_selection`."""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pellucid.ir.numpy_arrays import Array


def positions(x: Array) -> Array:
    """0, 1, 2, … along the second axis, for each entry of the first two axes."""
    return np.broadcast_to(np.arange(x.shape[1]), x.shape[:2])


def lengths(x: Array) -> Array:
    """How many entries the second axis has, for each entry of the first two axes."""
    return np.full(x.shape[:2], x.shape[1])


def queries(x: Array) -> Array:
    """[batch, query] as the side of a selection that asks: [batch, query, 1]."""
    return x[:, :, None]


def keys(x: Array) -> Array:
    """[batch, key] as the side of a selection that is asked: [batch, 1, key]."""
    return x[:, None, :]


def all_pairs(x: Array) -> Array:
    """Every query selects every key, for an array of [batch, position]."""
    return np.ones((x.shape[0], x.shape[1], x.shape[1]), bool)


def selector_width(selected: Array) -> Array:
    """How many keys each query selects."""
    return selected.sum(-1)


def aggregate(selected: Array, values: Array, default: float = 0.0, dtype: str = "float32") -> Array:
    """The mean of the values [batch, key] that each query selects; `default` where it selects none."""
    chosen = selected.astype(dtype)
    width = chosen.sum(-1)
    mean = (chosen * values.astype(dtype)[:, None, :]).sum(-1) / np.maximum(width, 1)
    return np.where(width > 0, mean, np.asarray(default, dtype))


def pick(selected: Array, values: Array, default: int = -1) -> Array:
    """The value [batch, key] of the first key that each query selects; `default` where it selects none."""
    first = selected.argmax(-1)
    rows = np.arange(selected.shape[0])[:, None]
    chosen = np.broadcast_to(values, (selected.shape[0], selected.shape[2]))[rows, first]
    return np.where(selected.any(-1), chosen, np.asarray(default, values.dtype))


def one_hot(x: Array, classes: int, dtype: str = "float32") -> Array:
    """A new last axis with 1.0 at the place that x tells; all zeros where x is no class."""
    return (x[..., None] == np.arange(classes)).astype(dtype)


def is_in(x: Array, members: Sequence[int]) -> Array:
    """Whether each entry is one of these numbers."""
    return (x[..., None] == np.asarray(members)).any(-1)


def index_of(x: Array, members: Sequence[int]) -> Array:
    """The place of each entry in a list of different numbers; 0 where it is not among them."""
    return (x[..., None] == np.asarray(members)).argmax(-1)
