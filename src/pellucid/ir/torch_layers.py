"""The primitives that are whole layers, in torch; conventions as in `pellucid.ir.torch_ops`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def matmul(x: Tensor, y: Tensor) -> Tensor:
    """Matrix product over the last two axes."""
    return torch.matmul(x, y)


def einsum(formula: str, parts: Sequence[Tensor]) -> Tensor:
    """Sum of products by an index formula."""
    return torch.einsum(formula, *parts)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x @ weight.T + bias; weight is [out, in]."""
    return F.linear(x, weight, bias)


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x @ weight + bias; weight is [in, out]."""
    return torch.addmm(bias, x.reshape(-1, x.shape[-1]), weight).reshape(*x.shape[:-1], weight.shape[-1])


def embedding(table: Tensor, ids: Tensor) -> Tensor:
    """Rows of a table."""
    return F.embedding(ids, table)


def layer_norm(x: Tensor, shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """(x - mean) / sqrt(variance + eps) over the last axes, times weight plus bias."""
    return F.layer_norm(x, tuple(shape), weight, bias, eps)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean of x squared + eps) over the last axis, times weight."""
    return weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps))


def batch_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor, eps: float) -> Tensor:
    """(x - mean) / sqrt(var + eps) per channel with stored statistics, times weight plus bias."""
    return F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)


def group_norm(x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Normalised over each group of channels, times weight plus bias."""
    return F.group_norm(x, groups, weight, bias, eps)


def top_k(x: Tensor, k: int) -> Tensor:
    """Where x is above zero and no less than the k-th largest of the last axis, x; elsewhere zero."""
    least = torch.topk(x, k, dim=-1, sorted=True).values[..., -1:]
    return torch.where((x >= least) & (x > 0), x, torch.zeros_like(x))


def jump_relu(x: Tensor, thresholds: Tensor) -> Tensor:
    """x where it exceeds its threshold, elsewhere zero (thresholds along the last axis, none below zero)."""
    return torch.where(x > thresholds, x, torch.zeros_like(x))


def rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding: x turned by angles given as cos and sin [batch, position, feature] (halves paired)."""
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return x * cos.unsqueeze(1) + turned * sin.unsqueeze(1)


def attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, causal: bool = False, scale: float | None = None
) -> Tensor:
    """softmax(q kᵀ scale, where mask allows) v; scale is 1/sqrt(feature) when None; fewer key heads are repeated."""
    grouped = q.ndim == 4 and k.shape[1] != q.shape[1]
    return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, scale=scale, enable_gqa=grouped)


def conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation along the last axis; weight is [out, in / groups, width]."""
    return F.conv1d(x, weight, bias, stride, padding, dilation, groups)


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
) -> Tensor:
    """Cross-correlation over the last two axes; weight is [out, in / groups, height, width]."""
    return F.conv2d(x, weight, bias, tuple(stride), tuple(padding), tuple(dilation), groups)


def max_pool2d(x: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int] = (0, 0)) -> Tensor:
    """Maximum over windows."""
    return F.max_pool2d(x, tuple(kernel), tuple(stride), tuple(padding))


def avg_pool2d(x: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int] = (0, 0)) -> Tensor:
    """Mean over windows, padding counted."""
    return F.avg_pool2d(x, tuple(kernel), tuple(stride), tuple(padding))


def adaptive_avg_pool2d(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Mean over as many windows as `shape` says."""
    height, width = shape
    return F.adaptive_avg_pool2d(x, (height, width))


def recurrent(
    cell: str,
    x: Tensor,
    states: Sequence[Tensor],
    weights: Sequence[Tensor],
    layers: int,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    """nn.RNN, nn.GRU or nn.LSTM ("rnn_tanh", "rnn_relu", "gru", "lstm"): outputs, then last states.

    weights: for each layer and direction input-to-hidden, hidden-to-hidden and, where there are any, their biases.
    """
    biases = len(weights) == 4 * layers * (1 + bidirectional)
    run = getattr(torch, cell)
    first = tuple(states) if cell == "lstm" else states[0]
    return tuple(run(x, first, tuple(weights), biases, layers, 0.0, False, bidirectional, batch_first))


def recurrent_cell(
    cell: str, x: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor]
) -> Tensor | tuple[Tensor, ...]:
    """One step of "rnn_tanh_cell", "rnn_relu_cell", "gru_cell" (the new state) or "lstm_cell" (state and memory)."""
    made: Tensor = getattr(torch, cell)(x, tuple(states) if cell == "lstm_cell" else states[0], *weights)
    return made
