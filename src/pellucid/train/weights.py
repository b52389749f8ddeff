"""What training does to weights between units, in place and without an autograd graph.

The term is the mean over layers of cut / total: the absolute weights between regions over all absolute weights of the
layer. The total is held, so that no weight grows to make the others look small; the gradient is then
sign(w) / (layers · total) on crossing weights and zero on all others. One tensor as large as one layer is made at a
time. The proximal step (Tibshirani 1996; Parikh & Boyd 2014, §6.5.2) moves weights towards zero by a threshold, after
and apart from the optimiser's step, as AdamW does with weight decay: they arrive at zero exactly.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch.nn.functional import softshrink

from pellucid.train.layers import Layer

Mask = Bool[torch.Tensor, "..."]


@torch.no_grad()
def add_cut_gradient(layers: Sequence[Layer], masks: Sequence[Mask], strength: float) -> Float[torch.Tensor, ""]:
    """Add `strength` times the gradient of the term to the weights' gradients; returns the term without strength."""
    term = torch.zeros((), device=layers[0].weight.device)
    for layer, mask in zip(layers, masks, strict=True):
        weight = layer.weight.detach()
        total = torch.linalg.vector_norm(weight, 1)
        scale = 1 / (len(layers) * total.clamp_min(torch.finfo(total.dtype).tiny))
        signs = torch.sign(weight).mul_(mask)
        term += torch.dot(signs.flatten(), weight.flatten()).mul_(scale)
        if layer.weight.grad is not None:
            layer.weight.grad.add_(signs.mul_(scale), alpha=strength)
    return term


@torch.no_grad()
def shrink(layers: Sequence[Layer], threshold: float) -> None:
    """Move every weight towards zero by a threshold; smaller ones become zero."""
    for layer in layers:
        layer.weight.copy_(softshrink(layer.weight, threshold))


@torch.no_grad()
def shrink_crossing(layers: Sequence[Layer], masks: Sequence[Mask], amount: float) -> None:
    """Move crossing weights towards zero by `amount` mean absolute weights of their layer."""
    for layer, mask in zip(layers, masks, strict=True):
        threshold = layer.weight.abs().mean().mul_(amount)
        pull = torch.minimum(torch.maximum(layer.weight, -threshold), threshold)
        layer.weight.sub_(pull.mul_(mask))


@torch.no_grad()
def cut(layers: Sequence[Layer], masks: Sequence[Mask]) -> None:
    """Set crossing weights to zero."""
    for layer, mask in zip(layers, masks, strict=True):
        layer.weight.masked_fill_(mask, 0.0)


@torch.no_grad()
def interface(layers: Sequence[Layer], labels: Int[torch.Tensor, " units"]) -> float:
    """The term: the mean over layers of the share of absolute weights that crosses between regions, from 0 to 1."""
    shares = []
    for layer in layers:
        sizes = layer.weight.abs()
        crossing = sizes[layer.crossing(labels).expand_as(sizes)].sum()
        shares.append(float(crossing / sizes.sum().clamp_min(torch.finfo(sizes.dtype).tiny)))
    return sum(shares) / len(shares)
