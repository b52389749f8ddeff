"""Is a dense matrix the matrix of a convolution? Find the shortest one, exactly or within a budget.

A matrix W [out, in] over channel-first images (row = (co, y, x), column = (ci, i, j)) is a convolution iff its entries
depend only on co, ci and the offsets i - stride*y, j - stride*x. So:

1. For each split of rows into channels, from few to many, and of rows and columns into images, ask two rows whether
   they obey the shift rule W[.., x + 1, .., j + stride] = W[.., x, .., j] along the width, then along the height.
2. What passes gets a layout and its cost from the places of the nonzero entries alone. Only where that is shorter than
   the best so far are all rows asked, and one number per (co, ci, offset) read out: the mean over its occurrences.
3. The shortest in bits wins, and must be shorter than the matrix itself. A split into n channels costs at least the
   busiest row of each channel, which ends the search as soon as no later split can be shorter.

Any matrix with equal diagonals is a convolution with a kernel as wide as that takes. That is no finding: a kernel has
to fit into the image, each of its numbers has to be used 1.5 times on average, and a quarter of them must not be zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from pellucid.code.expressions.bits import FLOAT_BITS, floats_bits, matrix_bits, require_finite
from pellucid.code.linear.convolution_layout import POINT, Axis, Layout, axes, divisors, lay_out, tap_places


@dataclass(frozen=True, eq=False)
class Convolution:
    """A convolution in torch's conventions; shapes are (channels, length) or (channels, height, width).

    `bias` is one number per channel; where that does not hold, `dense_bias` has one per output. `residual` is the
    largest absolute deviation of any entry of matrix or bias; `bits` counts kernel, bias and the layout.
    """

    kernel: Float[np.ndarray, "out_channels group_channels *size"]
    bias: Float[np.ndarray, "out_channels"] | None
    dense_bias: Float[np.ndarray, "outputs"] | None
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    residual: float
    bits: int


def find_convolution(
    weight: Float[np.ndarray, "outputs inputs"], bias: Float[np.ndarray, "outputs"] | None = None, *, budget: float
) -> Convolution | None:
    """The shortest 1-d or 2-d convolution with zero padding whose matrix is `weight` up to `budget` per entry, or None.

    With budget 0 kernel numbers are bitwise those of the matrix; above, they are means over their occurrences. A bias
    that is not constant (within budget) over each channel is kept as it is. Raises `BadInput` on NaN or infinity.
    """
    require_finite("convolution weight", weight)
    if bias is not None:
        require_finite("convolution bias", bias)
    limit = matrix_bits(weight, budget)
    if limit == 0 or (budget == 0 and FLOAT_BITS * (np.unique(weight).size - 1) >= limit):
        return None
    limit += 0 if bias is None else floats_bits(bias)
    search = _Search(np.ascontiguousarray(weight), budget)
    best = None
    for floor, out_channels in search.channel_splits():
        if floor >= limit:
            break
        channel_bias, bias_residual = _channel_bias(bias, out_channels, budget)
        dense_bias = bias if channel_bias is None else None
        bias_bits = sum(floats_bits(part) for part in (channel_bias, dense_bias) if part is not None)
        for layout in search.layouts(out_channels):
            if layout.bits + bias_bits >= limit or not layout.shares(search.rows.size):
                continue
            kernel, residual = search.read(layout)
            if kernel is not None:
                limit = layout.bits + bias_bits
                best = _describe(layout, kernel, channel_bias, dense_bias, max(residual, bias_residual), limit)
    return best


def dense_matrix(
    kernel: Float[np.ndarray, "out_channels group_channels *size"],
    in_shape: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...] | None = None,
    groups: int = 1,
) -> Float[np.ndarray, "outputs inputs"]:
    """The matrix of a 1-d or 2-d convolution on channel-first flattened images: the inverse of the search."""
    dilation = dilation or (1,) * len(stride)
    if kernel.ndim == 3:
        image = (in_shape[0], 1, in_shape[1])
        return dense_matrix(kernel[:, :, None], image, (1, *stride), (0, *padding), (1, *dilation), groups)
    channel = np.arange(in_shape[0]).reshape(groups, 1, -1).repeat(kernel.shape[0] // groups, axis=1)
    channel = channel.reshape(kernel.shape[:2])[:, :, None, None]
    places = [
        _meetings(*numbers) for numbers in zip(in_shape[1:], kernel.shape[2:], stride, padding, dilation, strict=True)
    ]
    matrix = np.zeros((kernel.shape[0], places[0][0], places[1][0], *in_shape), kernel.dtype)
    (_, tap_y, out_y, in_y), (_, tap_x, out_x, in_x) = places
    down, across = np.meshgrid(np.arange(tap_y.size), np.arange(tap_x.size), indexing="ij")
    matrix[
        np.arange(kernel.shape[0])[:, None, None, None], out_y[down], out_x[across], channel, in_y[down], in_x[across]
    ] = kernel[:, :, tap_y[down], tap_x[across]]
    return matrix.reshape(-1, int(np.prod(in_shape)))


def matrix_of(convolution: Convolution) -> Float[np.ndarray, "outputs inputs"]:
    """The dense matrix that a found convolution stands for."""
    c = convolution
    return dense_matrix(c.kernel, c.in_shape, c.stride, c.padding, c.dilation, c.groups)


def _meetings(
    size: int, taps: int, stride: int, padding: int, dilation: int
) -> tuple[int, Int[np.ndarray, "n"], Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
    """Output size of an axis, and (tap, output position, input position) of every meeting of a tap with an input."""
    size_out = (size + 2 * padding - dilation * (taps - 1) - 1) // stride + 1
    tap, output = np.meshgrid(np.arange(taps), np.arange(size_out), indexing="ij")
    place = stride * output - padding + dilation * tap
    inside = (place >= 0) & (place < size)
    return size_out, tap[inside], output[inside], place[inside]


class _Search:
    """One matrix and its splits into images; each width is tested once."""

    def __init__(self, weight: Float[np.ndarray, "outputs inputs"], budget: float) -> None:
        self.weight = weight
        self.budget = budget
        used = np.abs(weight) > budget
        self.busy = np.count_nonzero(used, axis=1)
        self.rows, self.columns = np.nonzero(used)
        self.widths: dict[Axis, bool] = {}

    def channel_splits(self) -> list[tuple[int, int]]:
        """(bits no convolution with so many output channels can go below, output channels), shortest first.

        A split into channels of one output each shares nothing and is left out.
        """
        splits = divisors(self.weight.shape[0])[:-1]
        return sorted((FLOAT_BITS * int(self.busy.reshape(split, -1).max(axis=1).sum()), split) for split in splits)

    def layouts(self, out_channels: int) -> Iterator[Layout]:
        """Layouts with so many output channels whose middle rows obey the shift rule."""
        outputs, inputs = self.weight.shape
        positions = outputs // out_channels
        for width in (axis for size_out in divisors(positions) for axis in axes(inputs, size_out)):
            if width not in self.widths:
                self.widths[width] = self._shifts(POINT, width, probe=True)
            if not self.widths[width]:
                continue
            height_out = positions // width.size_out
            for height in [POINT] if height_out == 1 else axes(inputs // width.size_in, height_out):
                if self._shifts(height, width, probe=True):
                    yield lay_out(self.rows, self.columns, (outputs, inputs), height, width)

    def read(self, layout: Layout) -> tuple[Float[np.ndarray, "out_channels group_channels kh kw"] | None, float]:
        """Kernel and largest deviation of a layout; no kernel where a row breaks the shift rule or the budget."""
        height, width = layout.height, layout.width
        if not (self._shifts(POINT, width) and self._shifts(height, width)):
            return None, np.inf
        low, high, mean = _collect(self.weight, height, width)
        rows, columns = tap_places(height, layout.down), tap_places(width, layout.across)
        groups = np.arange(layout.groups).repeat(layout.out_channels // layout.groups)
        shared = groups[:, None] == np.arange(layout.groups).repeat(layout.in_channels // layout.groups)
        grid = np.isin(np.arange(low.shape[2]), rows)[:, None] & np.isin(np.arange(low.shape[3]), columns)
        numbers = np.where(shared[:, :, None, None] & grid, mean, 0)
        residual = float(np.maximum(high - numbers, numbers - low).max())
        if residual > self.budget:
            return None, residual
        if 4 * np.count_nonzero(numbers) < layout.numbers:
            return None, residual
        members = np.nonzero(shared)[1].reshape(layout.out_channels, -1, 1, 1)
        return np.take_along_axis(_take(_take(numbers, rows, 2), columns, 3), members, axis=1), residual

    def _shifts(self, height: Axis, width: Axis, *, probe: bool = False) -> bool:
        """Does a step to the next output row (of a signal: position) move the entries by the stride?"""
        step = width if height == POINT else height
        if step.size_out == 1:
            return True
        inner_out, inner_in = (1, 1) if height == POINT else (width.size_out, width.size_in)
        view = self.weight.reshape(
            -1, step.size_out, inner_out, self.weight.shape[1] // (step.size_in * inner_in), step.size_in, inner_in
        )
        if probe:
            outer, out, inner = (size // 2 for size in view.shape[:3])
            view = view[outer : outer + 1, out - 1 : out + 1, inner : inner + 1]
        one, other = view[:, 1:, ..., step.stride :, :], view[:, :-1, ..., : -step.stride, :]
        if self.budget == 0:
            return not bool((one != other).any())
        return bool((np.abs(one - other) <= 2 * self.budget * (1 + 1e-6)).all())


def _collect(
    weight: Float[np.ndarray, "outputs inputs"], height: Axis, width: Axis
) -> tuple[Float[np.ndarray, "co ci dh dw"], Float[np.ndarray, "co ci dh dw"], Float[np.ndarray, "co ci dh dw"]]:
    """Smallest, largest and mean entry per (co, ci, offset down, offset across), offset indices as in `tap_places`."""
    pixels = height.size_in * width.size_in
    shape = (-1, height.size_out, width.size_out, weight.shape[1] // pixels, height.size_in, width.size_in)
    view = weight.reshape(shape)
    reach_down, reach_across = height.stride * (height.size_out - 1), width.stride * (width.size_out - 1)
    offsets = (view.shape[0], view.shape[3], height.size_in + reach_down, width.size_in + reach_across)
    low, high = np.full(offsets, np.inf, weight.dtype), np.full(offsets, -np.inf, weight.dtype)
    total, count = np.zeros(offsets), np.zeros(offsets[2:])
    for y in range(height.size_out):
        for x in range(width.size_out):
            top, left = reach_down - height.stride * y, reach_across - width.stride * x
            place = np.s_[..., top : top + height.size_in, left : left + width.size_in]
            block = view[:, y, x]
            np.minimum(low[place], block, out=low[place])
            np.maximum(high[place], block, out=high[place])
            total[place] += block
            count[place[1:]] += 1
    return low, high, np.where(low == high, low, (total / count).astype(weight.dtype))


def _take(
    numbers: Float[np.ndarray, "co ci dh dw"], places: Int[np.ndarray, "taps"], axis: int
) -> Float[np.ndarray, "co ci kh kw"]:
    """`numbers` at `places` along an axis, zero outside."""
    inside = (places >= 0) & (places < numbers.shape[axis])
    taken = np.take(numbers, np.where(inside, places, 0), axis=axis)
    taken[(slice(None),) * axis + (~inside,)] = 0
    return taken


def _channel_bias(
    bias: Float[np.ndarray, "outputs"] | None, channels: int, budget: float
) -> tuple[Float[np.ndarray, "channels"] | None, float]:
    """One bias per channel and how far off it is at most; (None, 0) without bias or where that exceeds the budget."""
    if bias is None:
        return None, 0.0
    per_channel = bias.reshape(channels, -1)
    constant = (per_channel == per_channel[:, :1]).all(axis=1)
    mean = per_channel.mean(axis=1, dtype=np.float64).astype(bias.dtype)
    value = np.where(constant, per_channel[:, 0], mean)
    residual = float(np.abs(per_channel - value[:, None]).max())
    return (value, residual) if residual <= budget else (None, 0.0)


def _describe(
    layout: Layout,
    kernel: Float[np.ndarray, "out_channels group_channels kh kw"],
    bias: Float[np.ndarray, "out_channels"] | None,
    dense_bias: Float[np.ndarray, "outputs"] | None,
    residual: float,
    bits: int,
) -> Convolution:
    spatial = layout.spatial()
    return Convolution(
        kernel=kernel[:, :, 0] if len(spatial) == 1 else kernel,
        bias=bias,
        dense_bias=dense_bias,
        in_shape=(layout.in_channels, *(axis.size_in for axis, _ in spatial)),
        out_shape=(layout.out_channels, *(axis.size_out for axis, _ in spatial)),
        stride=tuple(window.stride for _, window in spatial),
        padding=tuple(window.padding for _, window in spatial),
        dilation=tuple(window.dilation for _, window in spatial),
        groups=layout.groups,
        residual=residual,
        bits=bits,
    )
