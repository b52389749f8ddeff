"""What a dictionary is trained for, by activation: the loss on one batch of centred, scaled pairs.

TopK as in Gao et al. 2024: squared error, and latents that have long been silent learn to write what the others miss.
Decoding and both gradients touch the active latents only. JumpReLU as in Rajamanoharan et al. 2024: squared error and a
quadratic penalty that draws the mean number of active latents to a target; the thresholds get their gradient straight
through a rectangular kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int

Parameters = Mapping[str, torch.Tensor]
Batch = Float[torch.Tensor, "batch _"]

AUXILIARY = 1 / 32
"""Weight of what silent latents learn."""

AUXILIARY_LATENTS = 256
"""At most so many silent latents take part at a position."""


def topk_loss(
    parameters: Parameters, x: Batch, y: Batch, k: int, silent: Bool[torch.Tensor, " latents"]
) -> tuple[torch.Tensor, Int[torch.Tensor, " latents"]]:
    """Loss of a batch and how often each latent was active in it."""
    encoder, bias, decoder = parameters["encoder"], parameters["encoder_bias"], parameters["decoder"]
    values, ids = _Largest.apply(x, encoder, bias, k)  # type: ignore[no-untyped-call]
    written = F.embedding_bag(ids, decoder, per_sample_weights=values, mode="sum") + parameters["decoder_bias"]
    missed = y - written
    loss = missed.square().sum(-1).mean()
    fired = torch.bincount(ids.flatten()[values.flatten() > 0], minlength=len(encoder))
    dead = silent.nonzero().flatten()
    if len(dead):
        most = min(len(dead), AUXILIARY_LATENTS, 2 * k)
        values, ids = _Largest.apply(x, encoder[dead], bias[dead], most)  # type: ignore[no-untyped-call]
        guess = F.embedding_bag(ids, decoder[dead], per_sample_weights=values, mode="sum")
        left = missed.detach()
        loss = loss + AUXILIARY * (left - guess).square().sum() / left.square().sum().clamp(min=1e-12)
    return loss, fired


def jump_loss(
    parameters: Parameters, x: Batch, y: Batch, target: float, weight: float, bandwidth: float
) -> tuple[torch.Tensor, Int[torch.Tensor, " latents"]]:
    """Loss of a batch and how often each latent was active in it; `weight` is that of the penalty."""
    raw = F.linear(x, parameters["encoder"], parameters["encoder_bias"])
    thresholds = parameters["log_thresholds"].exp()
    latents = _Jump.apply(raw, thresholds, bandwidth)  # type: ignore[no-untyped-call]
    written = latents @ parameters["decoder"] + parameters["decoder_bias"]
    steps = _Step.apply(raw, thresholds, bandwidth)  # type: ignore[no-untyped-call]
    active = steps.sum(-1).mean()
    loss = (y - written).square().sum(-1).mean() + weight * (active / target - 1).square()
    return loss, (latents.detach() > 0).sum(0)


class _Largest(torch.autograd.Function):
    """The k largest of encoder @ x + bias, above zero, and which they are; gradients of those alone."""

    @staticmethod
    def forward(
        ctx: Any, x: Batch, encoder: torch.Tensor, bias: torch.Tensor, k: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        values, ids = F.linear(x, encoder, bias).topk(k, dim=-1, sorted=False)
        values = values.relu()
        ctx.save_for_backward(x, values, ids)
        ctx.latents = len(encoder)
        ctx.mark_non_differentiable(ids)
        return values, ids

    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor, _: torch.Tensor) -> tuple[None, torch.Tensor, torch.Tensor, None]:
        x, values, ids = ctx.saved_tensors
        flat, slopes = ids.flatten(), (slope * (values > 0)).flatten()
        order = flat.argsort(stable=True)
        counts = torch.bincount(flat, minlength=ctx.latents)
        starts = counts.cumsum(0) - counts
        rows = order // ids.shape[1]
        encoder = F.embedding_bag(rows, x, starts, mode="sum", per_sample_weights=slopes[order])
        bias = torch.zeros(ctx.latents).index_add_(0, flat, slopes)
        return None, encoder, bias, None


def _near(raw: torch.Tensor, thresholds: torch.Tensor, bandwidth: float) -> torch.Tensor:
    return ((raw - thresholds).abs() < bandwidth / 2).to(raw.dtype) / bandwidth


class _Jump(torch.autograd.Function):
    """JumpReLU; the thresholds' gradient by a rectangular kernel."""

    @staticmethod
    def forward(ctx: Any, raw: torch.Tensor, thresholds: torch.Tensor, bandwidth: float) -> torch.Tensor:
        ctx.save_for_backward(raw, thresholds)
        ctx.bandwidth = bandwidth
        return raw * (raw > thresholds)

    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        raw, thresholds = ctx.saved_tensors
        near = _near(raw, thresholds, ctx.bandwidth)
        return slope * (raw > thresholds), -(thresholds * near * slope).sum(0), None


class _Step(torch.autograd.Function):
    """Whether a latent is active; the thresholds' gradient by a rectangular kernel."""

    @staticmethod
    def forward(ctx: Any, raw: torch.Tensor, thresholds: torch.Tensor, bandwidth: float) -> torch.Tensor:
        ctx.save_for_backward(raw, thresholds)
        ctx.bandwidth = bandwidth
        return (raw > thresholds).to(raw.dtype)

    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor) -> tuple[None, torch.Tensor, None]:
        raw, thresholds = ctx.saved_tensors
        return None, -(_near(raw, thresholds, ctx.bandwidth) * slope).sum(0), None
