"""The primitives that programs of attention are written in, in torch: RASP (Weiss, Goldberg, Yahav 2021) on arrays.

A selection is an array of truth values [batch, query, key], made by comparing `queries(x)` with `keys(y)` and joined
with `&`, `|`, `~`; what is drawn from it has the shape [batch, query]. `pellucid.ir.numpy_selection` has the same in
numpy.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def positions(x: Tensor) -> Tensor:
    """0, 1, 2, … along the second axis, for each entry of the first two axes."""
    return torch.arange(x.shape[1], device=x.device).expand(x.shape[0], -1)


def lengths(x: Tensor) -> Tensor:
    """How many entries the second axis has, for each entry of the first two axes."""
    return torch.full((x.shape[0], x.shape[1]), x.shape[1], device=x.device)


def queries(x: Tensor) -> Tensor:
    """[batch, query] as the side of a selection that asks: [batch, query, 1]."""
    return x[:, :, None]


def keys(x: Tensor) -> Tensor:
    """[batch, key] as the side of a selection that is asked: [batch, 1, key]."""
    return x[:, None, :]


def all_pairs(x: Tensor) -> Tensor:
    """Every query selects every key, for an array of [batch, position]."""
    return torch.ones(x.shape[0], x.shape[1], x.shape[1], dtype=torch.bool, device=x.device)


def selector_width(selected: Tensor) -> Tensor:
    """How many keys each query selects."""
    return selected.sum(-1)


def aggregate(selected: Tensor, values: Tensor, default: float = 0.0, dtype: str = "float32") -> Tensor:
    """The mean of the values [batch, key] that each query selects; `default` where it selects none."""
    chosen = selected.to(getattr(torch, dtype))
    width = chosen.sum(-1)
    mean = (chosen * values.to(chosen.dtype)[:, None, :]).sum(-1) / width.clamp(min=1)
    return torch.where(width > 0, mean, default)


def pick(selected: Tensor, values: Tensor, default: int = -1) -> Tensor:
    """The value [batch, key] of the first key that each query selects; `default` where it selects none."""
    first = selected.to(torch.int8).argmax(-1)
    return torch.where(selected.any(-1), values.expand(selected.shape[0], -1).gather(1, first), default)


def one_hot(x: Tensor, classes: int, dtype: str = "float32") -> Tensor:
    """A new last axis with 1.0 at the place that x tells; all zeros where x is no class."""
    return (x[..., None] == torch.arange(classes, device=x.device)).to(getattr(torch, dtype))


def is_in(x: Tensor, members: Sequence[int]) -> Tensor:
    """Whether each entry is one of these numbers."""
    return (x[..., None] == torch.tensor(members, device=x.device)).any(-1)


def index_of(x: Tensor, members: Sequence[int]) -> Tensor:
    """The place of each entry in a list of different numbers; 0 where it is not among them."""
    return (x[..., None] == torch.tensor(members, device=x.device)).to(torch.int8).argmax(-1)
