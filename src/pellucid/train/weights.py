"""What training does to weights between units, in place and without an autograd graph.

The term is the mean over layers of cut / total: the absolute weights between regions over all absolute weights of the
layer. The totals are held as they were when the partition was last looked at, so that no weight grows to make the
others look small; the gradient is then sign(w) / (layers · total) on crossing weights and zero on all others. The
signs of one layer at a time are all that is made for it. The proximal step (Tibshirani 1996; Parikh & Boyd 2014,
§6.5.2) moves weights towards zero by a threshold, after and apart from the optimiser's step, as AdamW does with weight
decay: they arrive at zero exactly.

Masks are 1 where a weight crosses between regions and 0 elsewhere, of the weight's type.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import nn
from torch.nn.functional import softshrink

from pellucid.train.layers import Layer

Mask = Float[torch.Tensor, "..."]


@torch.no_grad()
def means(layers: Sequence[Layer]) -> tuple[float, ...]:
    """The mean absolute weight of each layer."""
    return tuple(float(torch.linalg.vector_norm(layer.weight, 1)) / layer.weight.numel() for layer in layers)


@torch.no_grad()
def add_cut_gradient(layers: Sequence[Layer], masks: Sequence[Mask], held: Sequence[float], strength: float) -> None:
    """Add `strength` times the gradient of the term to the weights' gradients; `held` are the means of the layers."""
    for layer, mask, mean in zip(layers, masks, held, strict=True):
        if layer.weight.grad is not None and mean > 0:
            value = strength / (len(layers) * mean * layer.weight.numel())
            layer.weight.grad.addcmul_(torch.sign(layer.weight), mask, value=value)


@torch.no_grad()
def shrink(weights: Sequence[nn.Parameter], threshold: float) -> None:
    """Move every weight towards zero by a threshold; smaller ones become zero."""
    for weight in weights:
        weight.copy_(softshrink(weight, threshold))


@torch.no_grad()
def shrink_crossing(layers: Sequence[Layer], masks: Sequence[Mask], held: Sequence[float], amount: float) -> None:
    """Move crossing weights towards zero by `amount` mean absolute weights of their layer; `held` are these means."""
    for layer, mask, mean in zip(layers, masks, held, strict=True):
        threshold = amount * mean
        layer.weight.addcmul_(layer.weight.clamp(-threshold, threshold), mask, value=-1.0)


@torch.no_grad()
def cut(layers: Sequence[Layer], masks: Sequence[Mask]) -> None:
    """Set crossing weights to zero."""
    for layer, mask in zip(layers, masks, strict=True):
        layer.weight.masked_fill_(mask > 0, 0.0)


@torch.no_grad()
def interface(layers: Sequence[Layer], labels: Int[torch.Tensor, " units"]) -> float:
    """The term: the mean over layers of the share of absolute weights that crosses between regions, from 0 to 1."""
    shares = []
    for layer in layers:
        sizes = layer.weight.abs()
        crossing = sizes[layer.crossing(labels).expand_as(sizes)].sum()
        shares.append(float(crossing / sizes.sum().clamp_min(torch.finfo(sizes.dtype).tiny)))
    return sum(shares) / len(shares)
