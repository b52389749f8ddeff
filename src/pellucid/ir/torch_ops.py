"""The primitives, in torch. The emitter copies the functions a program uses into `program.py`, so each stands alone.

Whole layers are in `pellucid.ir.torch_layers`. `pellucid.ir.numpy_ops` has the same functions in numpy;
`pellucid.ir.primitives` says which are written as operators.
Shapes: batch and sequence first, features last, images as [batch, channel, height, width], heads as
[batch, head, position, feature]. Axes and sizes are plain integers, dtypes are names such as "float32".
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# ---- making


def zeros(shape: Sequence[int], dtype: str = "float32") -> Tensor:
    """All zeros."""
    return torch.zeros(tuple(shape), dtype=getattr(torch, dtype))


def full(shape: Sequence[int], value: float | int, dtype: str = "float32") -> Tensor:
    """One value everywhere."""
    return torch.full(tuple(shape), value, dtype=getattr(torch, dtype))


def arange(start: int, stop: int, step: int = 1, dtype: str = "int64") -> Tensor:
    """start, start + step, … below stop."""
    return torch.arange(start, stop, step, dtype=getattr(torch, dtype))


def cast(x: Tensor, dtype: str) -> Tensor:
    """The same values as another element type."""
    return x.to(getattr(torch, dtype))


# ---- shape


def size(x: Tensor, axis: int) -> int:
    """Length of an axis."""
    return x.shape[axis]


def reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    """The same values in another shape; -1 is worked out."""
    return x.reshape(tuple(shape))


def flatten(x: Tensor, start: int, end: int = -1) -> Tensor:
    """Axes start … end as one."""
    return x.flatten(start, end)


def unflatten(x: Tensor, axis: int, sizes: Sequence[int]) -> Tensor:
    """One axis as several; -1 is worked out."""
    axis = axis % x.ndim
    return x.reshape(*x.shape[:axis], *sizes, *x.shape[axis + 1 :])


def transpose(x: Tensor, a: int, b: int) -> Tensor:
    """Two axes swapped."""
    return x.transpose(a, b)


def permute(x: Tensor, axes: Sequence[int]) -> Tensor:
    """All axes in another order."""
    return x.permute(tuple(axes))


def unsqueeze(x: Tensor, axis: int) -> Tensor:
    """A new axis of length 1."""
    return x.unsqueeze(axis)


def squeeze(x: Tensor, axis: int) -> Tensor:
    """Without an axis of length 1."""
    return x.squeeze(axis)


def expand(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Axes of length 1 repeated to fill `shape`; -1 keeps an axis."""
    return x.expand(tuple(shape))


def repeat(x: Tensor, times: Sequence[int]) -> Tensor:
    """Tiled along each axis."""
    return x.repeat(tuple(times))


def concat(parts: Sequence[Tensor], axis: int) -> Tensor:
    """Joined along an axis."""
    return torch.cat(tuple(parts), dim=axis)


def stack(parts: Sequence[Tensor], axis: int) -> Tensor:
    """Joined along a new axis."""
    return torch.stack(tuple(parts), dim=axis)


def split(x: Tensor, sizes: Sequence[int], axis: int) -> tuple[Tensor, ...]:
    """Cut into parts of the given sizes."""
    return torch.split(x, list(sizes), dim=axis)


def unbind(x: Tensor, axis: int) -> tuple[Tensor, ...]:
    """Cut into single entries of an axis."""
    return torch.unbind(x, dim=axis)


def select(x: Tensor, axis: int, index: int) -> Tensor:
    """One entry of an axis."""
    return x.select(axis, index)


def slice_axis(x: Tensor, axis: int, start: int | None = None, stop: int | None = None, step: int = 1) -> Tensor:
    """A range of an axis."""
    before = (slice(None),) * (axis % x.ndim)
    return x[(*before, slice(start, stop, step))]


def take(x: Tensor, index: Tensor, axis: int) -> Tensor:
    """Entries of an axis by a vector of positions."""
    return x.index_select(axis, index)


def gather(x: Tensor, axis: int, index: Tensor) -> Tensor:
    """Entries of an axis, chosen for each position by `index` of the same rank."""
    return torch.gather(x, axis, index)


def index(x: Tensor, where: Sequence[Tensor | None]) -> Tensor:
    """x[where]: integer or Boolean arrays, broadcast together; None takes the whole axis."""
    return x[tuple(slice(None) if part is None else part for part in where)]


def pad(x: Tensor, widths: Sequence[int], value: float | int = 0.0) -> Tensor:
    """Constant padding; widths as (left, right) pairs from the last axis backwards."""
    return F.pad(x, tuple(widths), value=value)


def flip(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Reversed along axes."""
    return torch.flip(x, tuple(axes))


def tril(x: Tensor, diagonal: int = 0) -> Tensor:
    """Lower triangle; the rest zero."""
    return torch.tril(x, diagonal)


def triu(x: Tensor, diagonal: int = 0) -> Tensor:
    """Upper triangle; the rest zero."""
    return torch.triu(x, diagonal)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[batch, position, heads * feature] to [batch, head, position, feature]."""
    return x.reshape(x.shape[0], x.shape[1], heads, x.shape[2] // heads).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """[batch, head, position, feature] to [batch, position, heads * feature]."""
    return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], x.shape[1] * x.shape[3])


def repeat_heads(x: Tensor, times: int) -> Tensor:
    """Each head `times` times in a row (grouped queries)."""
    return x.repeat_interleave(times, dim=1)


# ---- element by element


def exp(x: Tensor) -> Tensor:
    """e to the x."""
    return torch.exp(x)


def log(x: Tensor) -> Tensor:
    """Natural logarithm."""
    return torch.log(x)


def sqrt(x: Tensor) -> Tensor:
    """Square root."""
    return torch.sqrt(x)


def rsqrt(x: Tensor) -> Tensor:
    """One over the square root."""
    return torch.rsqrt(x)


def reciprocal(x: Tensor) -> Tensor:
    """One over x."""
    return torch.reciprocal(x)


def absolute(x: Tensor) -> Tensor:
    """|x|."""
    return torch.abs(x)


def sign(x: Tensor) -> Tensor:
    """-1, 0 or 1."""
    return torch.sign(x)


def floor(x: Tensor) -> Tensor:
    """Rounded down."""
    return torch.floor(x)


def ceil(x: Tensor) -> Tensor:
    """Rounded up."""
    return torch.ceil(x)


def round_half_even(x: Tensor) -> Tensor:
    """Rounded to the nearest integer, halves to even."""
    return torch.round(x)


def sin(x: Tensor) -> Tensor:
    """Sine."""
    return torch.sin(x)


def cos(x: Tensor) -> Tensor:
    """Cosine."""
    return torch.cos(x)


def erf(x: Tensor) -> Tensor:
    """The error function."""
    return torch.erf(x)


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent."""
    return torch.tanh(x)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return torch.sigmoid(x)


def relu(x: Tensor) -> Tensor:
    """max(x, 0)."""
    return torch.relu(x)


def leaky_relu(x: Tensor, slope: float = 0.01) -> Tensor:
    """x where positive, else slope * x."""
    return F.leaky_relu(x, slope)


def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """x where positive, else alpha * (exp(x) - 1)."""
    return F.elu(x, alpha)


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """x times the normal distribution function of x; "tanh" for the usual approximation."""
    return F.gelu(x, approximate=approximate)


def silu(x: Tensor) -> Tensor:
    """x * sigmoid(x)."""
    return F.silu(x)


def softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta x)) / beta, and x itself where beta x is above the threshold."""
    return F.softplus(x, beta, threshold)


def hardswish(x: Tensor) -> Tensor:
    """x * clip(x + 3, 0, 6) / 6."""
    return F.hardswish(x)


def hardsigmoid(x: Tensor) -> Tensor:
    """clip(x + 3, 0, 6) / 6."""
    return F.hardsigmoid(x)


def clip(x: Tensor, low: float | int | None = None, high: float | int | None = None) -> Tensor:
    """Kept between two bounds."""
    return torch.clamp(x, low, high)


def minimum(x: Tensor | float | int, y: Tensor | float | int) -> Tensor:
    """The smaller, element by element."""
    return torch.minimum(torch.as_tensor(x), torch.as_tensor(y))


def maximum(x: Tensor | float | int, y: Tensor | float | int) -> Tensor:
    """The larger, element by element."""
    return torch.maximum(torch.as_tensor(x), torch.as_tensor(y))


def where(condition: Tensor, x: Tensor | float | int, y: Tensor | float | int) -> Tensor:
    """x where the condition holds, else y."""
    return torch.where(condition, x, y)


def logical_not(x: Tensor) -> Tensor:
    """True where x is false or zero."""
    return torch.logical_not(x)


def masked_fill(x: Tensor, mask: Tensor, value: Tensor | float | int) -> Tensor:
    """`value` where the mask is true, else x."""
    return x.masked_fill(mask, value)


# ---- over axes


def total(x: Tensor, axes: Sequence[int] | None = None, keep: bool = False) -> Tensor:
    """Sum over axes (all of them when None)."""
    return x.sum() if axes is None else x.sum(tuple(axes), keepdim=keep)


def mean(x: Tensor, axes: Sequence[int] | None = None, keep: bool = False) -> Tensor:
    """Mean over axes (all of them when None)."""
    return x.mean() if axes is None else x.mean(tuple(axes), keepdim=keep)


def variance(x: Tensor, axes: Sequence[int], correction: int = 1, keep: bool = False) -> Tensor:
    """Variance over axes, divided by count - correction."""
    return torch.var(x, tuple(axes), correction=correction, keepdim=keep)


def largest(x: Tensor, axes: Sequence[int], keep: bool = False) -> Tensor:
    """Maximum over axes."""
    return torch.amax(x, tuple(axes), keepdim=keep)


def smallest(x: Tensor, axes: Sequence[int], keep: bool = False) -> Tensor:
    """Minimum over axes."""
    return torch.amin(x, tuple(axes), keepdim=keep)


def argmax(x: Tensor, axis: int, keep: bool = False) -> Tensor:
    """Position of the maximum."""
    return torch.argmax(x, dim=axis, keepdim=keep)


def any_true(x: Tensor, axis: int, keep: bool = False) -> Tensor:
    """Whether any entry of an axis is true."""
    return torch.any(x, dim=axis, keepdim=keep)


def all_true(x: Tensor, axis: int, keep: bool = False) -> Tensor:
    """Whether all entries of an axis are true."""
    return torch.all(x, dim=axis, keepdim=keep)


def cumsum(x: Tensor, axis: int) -> Tensor:
    """Running sum along an axis."""
    return torch.cumsum(x, dim=axis)


def diff(x: Tensor, axis: int = -1, before: Tensor | None = None) -> Tensor:
    """Differences of neighbours along an axis, with `before` put in front."""
    return torch.diff(x, dim=axis, prepend=before)


def softmax(x: Tensor, axis: int) -> Tensor:
    """exp(x) over its sum along an axis."""
    return torch.softmax(x, dim=axis)


def log_softmax(x: Tensor, axis: int) -> Tensor:
    """Logarithm of softmax."""
    return torch.log_softmax(x, dim=axis)


# ---- finite functions


def lookup(table: Sequence[object], positions: Sequence[Tensor]) -> Tensor:
    """Entries of a nested table of numbers, chosen by one integer array for each of its axes."""
    return torch.tensor(table)[tuple(part.long() for part in positions)]
