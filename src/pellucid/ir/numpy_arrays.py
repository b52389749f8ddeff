"""The primitives that make, shape and compute arrays, in numpy: twins of those in `pellucid.ir.torch_ops`.

Element types follow torch: an integer array that meets a real number becomes float32, and float32 stays float32.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
else:
    Array = np.ndarray | np.generic  # numpy turns arrays without axes into scalars


def _floating(x: Array) -> Array:
    """x as it is if real, else as float32."""
    x = np.asarray(x)
    return x if x.dtype.kind == "f" else x.astype(np.float32)


def _common(*parts: Any) -> list[Array]:
    """Arrays and plain numbers as arrays of one element type, chosen as torch chooses it."""
    types = [part.dtype for part in parts if hasattr(part, "dtype")]
    real = [kind for kind in types if kind.kind == "f"]
    if real or any(isinstance(part, float) for part in parts):
        common = np.result_type(*real) if real else np.dtype(np.float32)
    else:
        common = np.result_type(*types) if types else np.dtype(np.int64)
        if common.kind == "b" and any(type(part) is int for part in parts):
            common = np.dtype(np.int64)
    return [np.asarray(part, common) for part in parts]


# ---- making


def zeros(shape: Sequence[int], dtype: str = "float32") -> Array:
    """All zeros."""
    return np.zeros(tuple(shape), dtype)


def full(shape: Sequence[int], value: float | int, dtype: str = "float32") -> Array:
    """One value everywhere."""
    return np.full(tuple(shape), value, dtype)


def arange(start: int, stop: int, step: int = 1, dtype: str = "int64") -> Array:
    """start, start + step, … below stop."""
    return np.arange(start, stop, step).astype(dtype)


def cast(x: Array, dtype: str) -> Array:
    """The same values as another element type."""
    return np.asarray(x).astype(dtype, copy=False)


# ---- shape


def size(x: Array, axis: int) -> int:
    """Length of an axis."""
    return x.shape[axis]


def reshape(x: Array, shape: Sequence[int]) -> Array:
    """The same values in another shape; -1 is worked out."""
    return x.reshape(tuple(shape))


def flatten(x: Array, start: int, end: int = -1) -> Array:
    """Axes start … end as one."""
    first, last = start % x.ndim, end % x.ndim
    return x.reshape(*x.shape[:first], -1, *x.shape[last + 1 :])


def transpose(x: Array, a: int, b: int) -> Array:
    """Two axes swapped."""
    return np.swapaxes(x, a, b)


def permute(x: Array, axes: Sequence[int]) -> Array:
    """All axes in another order."""
    return np.transpose(x, tuple(axes))


def unflatten(x: Array, axis: int, sizes: Sequence[int]) -> Array:
    """One axis as several; -1 is worked out."""
    axis = axis % x.ndim
    return x.reshape(*x.shape[:axis], *sizes, *x.shape[axis + 1 :])


def unsqueeze(x: Array, axis: int) -> Array:
    """A new axis of length 1."""
    return np.expand_dims(x, axis)


def squeeze(x: Array, axis: int) -> Array:
    """Without an axis of length 1."""
    return np.squeeze(x, axis) if x.shape[axis] == 1 else x


def expand(x: Array, shape: Sequence[int]) -> Array:
    """Axes of length 1 repeated to fill `shape`; -1 keeps an axis."""
    old = (1,) * (len(shape) - x.ndim) + x.shape
    return np.broadcast_to(x, tuple(old[i] if n == -1 else n for i, n in enumerate(shape)))


def repeat(x: Array, times: Sequence[int]) -> Array:
    """Tiled along each axis."""
    return np.tile(x, tuple(times))


def concat(parts: Sequence[Array], axis: int) -> Array:
    """Joined along an axis."""
    return np.concatenate(_common(*parts), axis)


def stack(parts: Sequence[Array], axis: int) -> Array:
    """Joined along a new axis."""
    return np.stack(_common(*parts), axis)


def split(x: Array, sizes: Sequence[int], axis: int) -> tuple[Array, ...]:
    """Cut into parts of the given sizes."""
    return tuple(np.split(x, np.cumsum(sizes)[:-1], axis))


def unbind(x: Array, axis: int) -> tuple[Array, ...]:
    """Cut into single entries of an axis."""
    return tuple(np.moveaxis(x, axis, 0))


def select(x: Array, axis: int, index: int) -> Array:
    """One entry of an axis."""
    return np.moveaxis(x, axis, 0)[index]


def slice_axis(x: Array, axis: int, start: int | None = None, stop: int | None = None, step: int = 1) -> Array:
    """A range of an axis."""
    before = (slice(None),) * (axis % x.ndim)
    return x[(*before, slice(start, stop, step))]


def take(x: Array, index: Array, axis: int) -> Array:
    """Entries of an axis by a vector of positions."""
    return np.take(x, index, axis)


def gather(x: Array, axis: int, index: Array) -> Array:
    """Entries of an axis, chosen for each position by `index` of the same rank."""
    where = list(np.ogrid[tuple(slice(n) for n in index.shape)])
    where[axis] = index
    return x[tuple(where)]


def index(x: Array, where: Sequence[Array | None]) -> Array:
    """x[where]: integer or Boolean arrays, broadcast together; None takes the whole axis."""
    return x[tuple(slice(None) if part is None else part for part in where)]


def pad(x: Array, widths: Sequence[int], value: float | int = 0.0) -> Array:
    """Constant padding; widths as (left, right) pairs from the last axis backwards."""
    pairs = [(0, 0)] * (x.ndim - len(widths) // 2) + list(zip(widths[::2], widths[1::2], strict=True))[::-1]
    kept = x[tuple(slice(max(0, -a), n + min(0, b)) for n, (a, b) in zip(x.shape, pairs, strict=True))]
    return np.pad(kept, [(max(0, a), max(0, b)) for a, b in pairs], constant_values=value)


def flip(x: Array, axes: Sequence[int]) -> Array:
    """Reversed along axes."""
    return np.flip(x, tuple(axes))


def tril(x: Array, diagonal: int = 0) -> Array:
    """Lower triangle; the rest zero."""
    return np.tril(x, diagonal)


def triu(x: Array, diagonal: int = 0) -> Array:
    """Upper triangle; the rest zero."""
    return np.triu(x, diagonal)


def split_heads(x: Array, heads: int) -> Array:
    """[batch, position, heads * feature] to [batch, head, position, feature]."""
    return x.reshape(x.shape[0], x.shape[1], heads, x.shape[2] // heads).swapaxes(1, 2)


def merge_heads(x: Array) -> Array:
    """[batch, head, position, feature] to [batch, position, heads * feature]."""
    return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], x.shape[1] * x.shape[3])


def repeat_heads(x: Array, times: int) -> Array:
    """Each head `times` times in a row (grouped queries)."""
    return np.repeat(x, times, axis=1)


# ---- element by element


def exp(x: Array) -> Array:
    """e to the x."""
    return np.exp(_floating(x))


def log(x: Array) -> Array:
    """Natural logarithm."""
    return np.log(_floating(x))


def sqrt(x: Array) -> Array:
    """Square root."""
    return np.sqrt(_floating(x))


def rsqrt(x: Array) -> Array:
    """One over the square root."""
    return 1 / np.sqrt(_floating(x))


def reciprocal(x: Array) -> Array:
    """One over x."""
    return 1 / _floating(x)


def absolute(x: Array) -> Array:
    """|x|."""
    return np.abs(x)


def sign(x: Array) -> Array:
    """-1, 0 or 1."""
    return np.sign(x)


def floor(x: Array) -> Array:
    """Rounded down."""
    return np.floor(x).astype(x.dtype, copy=False)


def ceil(x: Array) -> Array:
    """Rounded up."""
    return np.ceil(x).astype(x.dtype, copy=False)


def round_half_even(x: Array) -> Array:
    """Rounded to the nearest integer, halves to even."""
    return np.round(x)


def sin(x: Array) -> Array:
    """Sine."""
    return np.sin(_floating(x))


def cos(x: Array) -> Array:
    """Cosine."""
    return np.cos(_floating(x))


def erf(x: Array) -> Array:
    """The error function, by the rational approximations of W. J. Cody (1969), in float64."""
    y = np.abs(np.asarray(x, np.float64))
    near, far = np.minimum(y, 0.5) ** 2, np.clip(y, 0.4, 6.0)
    above = [1.85777706184603153e-1, 3.16112374387056560, 1.13864154151050156e2, 3.77485237685302021e2]
    below = [1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3]
    small = y * np.polyval([*above, 3.20937758913846947e3], near) / np.polyval(below, near)
    above = [2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594, 6.61191906371416295e1]
    above += [2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3]
    below = [1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3]
    below += [3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3]
    large = 1 - np.exp(-far * far) * np.polyval([*above, 1.23033935479799725e3], far) / np.polyval(below, far)
    return (np.sign(x) * np.where(y <= 0.46875, small, large)).astype(_floating(x).dtype)


def tanh(x: Array) -> Array:
    """Hyperbolic tangent."""
    return np.tanh(_floating(x))


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    small = np.exp(-np.abs(_floating(x)))
    return np.where(x >= 0, 1, small) / (1 + small)


def relu(x: Array) -> Array:
    """max(x, 0)."""
    return np.maximum(x, 0)


def leaky_relu(x: Array, slope: float = 0.01) -> Array:
    """x where positive, else slope * x."""
    return np.where(x > 0, x, x * slope)


def elu(x: Array, alpha: float = 1.0) -> Array:
    """x where positive, else alpha * (exp(x) - 1)."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def gelu(x: Array, approximate: str = "none") -> Array:
    """x times the normal distribution function of x; "tanh" for the usual approximation."""
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))
    return 0.5 * x * (1 + erf(x * 0.7071067811865476))


def silu(x: Array) -> Array:
    """x * sigmoid(x)."""
    return x * sigmoid(x)


def softplus(x: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """log(1 + exp(beta x)) / beta, and x itself where beta x is above the threshold."""
    return np.where(beta * x > threshold, x, np.log1p(np.exp(np.minimum(beta * x, threshold))) / beta)


def hardswish(x: Array) -> Array:
    """x * clip(x + 3, 0, 6) / 6."""
    return x * np.clip(x + 3, 0, 6) / 6


def hardsigmoid(x: Array) -> Array:
    """clip(x + 3, 0, 6) / 6."""
    return np.clip(x + 3, 0, 6) / 6


def clip(x: Array, low: float | int | None = None, high: float | int | None = None) -> Array:
    """Kept between two bounds."""
    if low is not None:
        x = np.maximum(*_common(x, low))
    return x if high is None else np.minimum(*_common(x, high))


def minimum(x: Array | float | int, y: Array | float | int) -> Array:
    """The smaller, element by element."""
    return np.minimum(*_common(x, y))


def maximum(x: Array | float | int, y: Array | float | int) -> Array:
    """The larger, element by element."""
    return np.maximum(*_common(x, y))


def where(condition: Array, x: Array | float | int, y: Array | float | int) -> Array:
    """x where the condition holds, else y."""
    return np.where(condition, *_common(x, y))


def logical_not(x: Array) -> Array:
    """True where x is false or zero."""
    return np.logical_not(x)


def masked_fill(x: Array, mask: Array, value: Array | float | int) -> Array:
    """`value` where the mask is true, else x."""
    return np.where(mask, np.asarray(value).astype(x.dtype), x)


# ---- finite functions


def lookup(table: Sequence[object], positions: Sequence[Array]) -> Array:
    """Entries of a nested table of numbers, chosen by one integer array for each of its axes."""
    entries = np.asarray(table)
    entries = entries.astype(np.float32) if entries.dtype.kind == "f" else entries
    return entries[tuple(np.asarray(part).astype(np.int64) for part in positions)]
