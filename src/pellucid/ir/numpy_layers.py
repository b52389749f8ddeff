"""The primitives that are whole layers, in numpy: twins of those in `pellucid.ir.torch_layers`.

A convolution is a sum over the positions of its kernel: each adds one matrix product with the shifted image, so that no
copy larger than the image is made, and a depthwise convolution is a sum of a few products element by element.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pellucid.ir.numpy_arrays import Array, relu, sigmoid
from pellucid.ir.numpy_axes import softmax


def matmul(x: Array, y: Array) -> Array:
    """Matrix product over the last two axes."""
    return x @ y


def einsum(formula: str, parts: Sequence[Array]) -> Array:
    """Sum of products by an index formula."""
    return np.einsum(formula, *parts, optimize=True)


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """x @ weight.T + bias; weight is [out, in]."""
    y = (x.reshape(-1, x.shape[-1]) @ weight.T).reshape(*x.shape[:-1], len(weight))
    return y if bias is None else y + bias


def affine(x: Array, weight: Array, bias: Array) -> Array:
    """x @ weight + bias; weight is [in, out]."""
    return (x.reshape(-1, x.shape[-1]) @ weight).reshape(*x.shape[:-1], weight.shape[-1]) + bias


def embedding(table: Array, ids: Array) -> Array:
    """Rows of a table."""
    return table[ids]


def layer_norm(x: Array, shape: Sequence[int], weight: Array | None, bias: Array | None, eps: float) -> Array:
    """(x - mean) / sqrt(variance + eps) over the last axes, times weight plus bias."""
    axes = tuple(range(-len(shape), 0))
    x = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def rms_norm(x: Array, weight: Array, eps: float) -> Array:
    """x / sqrt(mean of x squared + eps) over the last axis, times weight."""
    return weight * (x / np.sqrt(np.mean(x * x, -1, keepdims=True) + eps))


def batch_norm(x: Array, weight: Array | None, bias: Array | None, mean: Array, var: Array, eps: float) -> Array:
    """(x - mean) / sqrt(var + eps) per channel with stored statistics, times weight plus bias."""
    scale = 1 / np.sqrt(var + eps)
    scale = scale if weight is None else scale * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    channels = (-1,) + (1,) * (x.ndim - 2)
    return x * scale.reshape(channels) + shift.reshape(channels)


def group_norm(x: Array, groups: int, weight: Array | None, bias: Array | None, eps: float) -> Array:
    """Normalised over each group of channels, times weight plus bias."""
    grouped = x.reshape(x.shape[0], groups, -1)
    grouped = grouped - grouped.mean(-1, keepdims=True)
    grouped = grouped / np.sqrt(np.mean(grouped * grouped, -1, keepdims=True) + eps)
    channels = (-1,) + (1,) * (x.ndim - 2)
    x = grouped.reshape(x.shape) if weight is None else grouped.reshape(x.shape) * weight.reshape(channels)
    return x if bias is None else x + bias.reshape(channels)


def top_k(x: Array, k: int) -> Array:
    """Where x is above zero and no less than the k-th largest of the last axis, x; elsewhere zero."""
    least = np.partition(x, -k, axis=-1)[..., -k : x.shape[-1] - k + 1]
    return np.where((x >= least) & (x > 0), x, np.zeros_like(x))


def jump_relu(x: Array, thresholds: Array) -> Array:
    """x where it exceeds its threshold, elsewhere zero (thresholds along the last axis, none below zero)."""
    return np.where(x > thresholds, x, np.zeros_like(x))


def rotary(x: Array, cos: Array, sin: Array) -> Array:
    """Rotary position embedding: x turned by angles given as cos and sin [batch, position, feature] (halves paired)."""
    half = x.shape[-1] // 2
    turned = np.concatenate((-x[..., half:], x[..., :half]), axis=-1)
    return x * cos[:, None] + turned * sin[:, None]


def attention(
    q: Array, k: Array, v: Array, mask: Array | None = None, causal: bool = False, scale: float | None = None
) -> Array:
    """softmax(q kᵀ scale, where mask allows) v; scale is 1/sqrt(feature) when None; fewer key heads are repeated."""
    if q.ndim == 4 and k.shape[1] != q.shape[1]:
        k, v = (np.repeat(part, q.shape[1] // k.shape[1], axis=1) for part in (k, v))
    scores = q @ k.swapaxes(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if causal:
        mask = np.tri(q.shape[-2], k.shape[-2], dtype=bool)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf).astype(q.dtype) if mask.dtype == bool else scores + mask
    empty = np.all(scores == -np.inf, axis=-1, keepdims=True)
    return softmax(np.where(empty, 0, scores), -1) * ~empty @ v


def conv1d(
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Array:
    """Cross-correlation along the last axis; weight is [out, in / groups, width]."""
    flat = conv2d(x[:, :, None], weight[:, :, None], bias, (1, stride), (0, padding), (1, dilation), groups)
    return flat[:, :, 0]


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
) -> Array:
    """Cross-correlation over the last two axes; weight is [out, in / groups, height, width]."""
    batch, channels, out = len(x), weight.shape[1], len(weight)
    x = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    high, wide = ((x.shape[2 + i] - dilation[i] * (weight.shape[2 + i] - 1) - 1) // stride[i] + 1 for i in range(2))
    kernel = weight.reshape(groups, out // groups, channels, *weight.shape[2:])
    y = np.zeros((batch, groups, out // groups, high * wide), x.dtype)
    for i, j in np.ndindex(weight.shape[2:]):
        top, left = i * dilation[0], j * dilation[1]
        seen = x[:, :, top : top + stride[0] * high : stride[0], left : left + stride[1] * wide : stride[1]]
        seen = seen[:, :, :high, :wide].reshape(batch, groups, channels, high * wide)
        y += kernel[..., i, j] * seen if channels == 1 else kernel[..., i, j] @ seen
    y = y.reshape(batch, out, high, wide)
    return y if bias is None else y + bias[:, None, None]


def max_pool2d(x: Array, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int] = (0, 0)) -> Array:
    """Maximum over windows."""
    x = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(x, tuple(kernel), (2, 3))
    return windows[:, :, :: stride[0], :: stride[1]].max((-2, -1))


def avg_pool2d(x: Array, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int] = (0, 0)) -> Array:
    """Mean over windows, padding counted."""
    x = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    windows = np.lib.stride_tricks.sliding_window_view(x, tuple(kernel), (2, 3))
    return windows[:, :, :: stride[0], :: stride[1]].mean((-2, -1))


def adaptive_avg_pool2d(x: Array, shape: Sequence[int]) -> Array:
    """Mean over as many windows as `shape` says."""
    for axis, count in zip((-2, -1), shape, strict=True):
        length = x.shape[axis]
        spans = [range(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]
        x = np.concatenate([np.take(x, span, axis).mean(axis, keepdims=True) for span in spans], axis)
    return x


def recurrent(
    cell: str,
    x: Array,
    states: Sequence[Array],
    weights: Sequence[Array],
    layers: int,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Array, ...]:
    """nn.RNN, nn.GRU or nn.LSTM ("rnn_tanh", "rnn_relu", "gru", "lstm"): outputs, then last states.

    weights: for each layer and direction input-to-hidden, hidden-to-hidden and, where there are any, their biases.
    """
    directions = 2 if bidirectional else 1
    each = len(weights) // (layers * directions)
    x = x.swapaxes(0, 1) if batch_first else x
    lasts = []
    for layer in range(layers):
        ways = []
        for way in range(directions):
            place = layer * directions + way
            now, outputs = tuple(state[place] for state in states), []
            into, back, *biases = weights[each * place : each * (place + 1)]
            driven = x @ into.T + (biases[0] if biases else 0)
            for entry in driven[::-1] if way else driven:
                now = _step(cell, entry, now[0] @ back.T + (biases[1] if biases else 0), now)
                outputs.append(now[0])
            ways.append(np.stack(outputs[::-1] if way else outputs))
            lasts.append(now)
        x = np.concatenate(ways, -1)
    return (x.swapaxes(0, 1) if batch_first else x, *(np.stack(part) for part in zip(*lasts, strict=True)))


def recurrent_cell(cell: str, x: Array, states: Sequence[Array], weights: Sequence[Array]) -> Array | tuple[Array, ...]:
    """One step of "rnn_tanh_cell", "rnn_relu_cell", "gru_cell" (the new state) or "lstm_cell" (state and memory)."""
    into, back, *biases = weights
    driven, recalled = x @ into.T, states[0] @ back.T
    if biases:
        driven, recalled = driven + biases[0], recalled + biases[1]
    made = _step(cell.removesuffix("_cell"), driven, recalled, tuple(states))
    return made if cell == "lstm_cell" else made[0]


def _step(cell: str, driven: Array, recalled: Array, states: tuple[Array, ...]) -> tuple[Array, ...]:
    """The states after one step, from what the input and the last state add up to."""
    if cell == "rnn_tanh":
        return (np.tanh(driven + recalled),)
    if cell == "rnn_relu":
        return (relu(driven + recalled),)
    if cell == "gru":
        (r, z, n), (r2, z2, n2) = np.split(driven, 3, -1), np.split(recalled, 3, -1)
        kept = sigmoid(z + z2)
        return ((1 - kept) * np.tanh(n + sigmoid(r + r2) * n2) + kept * states[0],)
    i, f, g, o = np.split(driven + recalled, 4, -1)
    memory = sigmoid(f) * states[1] + sigmoid(i) * np.tanh(g)
    return (sigmoid(o) * np.tanh(memory), memory)
