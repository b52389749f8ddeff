"""How a matrix can be laid out as a convolution: axes, windows of taps, groups, and what each layout costs in bits.

All of it follows from where the nonzero entries are: for an axis the offsets `input - stride * output` in use give
dilation (their common divisor), padding and kernel size; the channel pairs in use give the groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import gcd

import numpy as np
from jaxtyping import Int

from pellucid.code.expressions.bits import FLOAT_BITS, naturals_bits


@dataclass(frozen=True)
class Axis:
    """One spatial axis: so many positions in, so many out, moving by `stride`."""

    size_in: int
    size_out: int
    stride: int


POINT = Axis(1, 1, 1)
"""The height of a 1-d signal."""


@dataclass(frozen=True)
class Window:
    """The taps along one axis: tap t of output position y reads input position stride*y - padding + dilation*t."""

    taps: int
    stride: int
    padding: int
    dilation: int


@dataclass(frozen=True)
class Layout:
    """One way to see a matrix as a convolution; `bits` is what kernel and layout numbers cost, without bias."""

    out_channels: int
    in_channels: int
    height: Axis
    width: Axis
    down: Window
    across: Window
    groups: int
    bits: int

    @property
    def numbers(self) -> int:
        """How many numbers the kernel has."""
        return self.out_channels * self.in_channels // self.groups * self.down.taps * self.across.taps

    def shares(self, entries: int) -> bool:
        """Is the kernel no wider than the image, and each of its numbers used for 1.5 of the `entries` on average?"""
        return 3 * self.numbers <= 2 * entries and all(
            window.dilation * (window.taps - 1) < axis.size_in for axis, window in self.spatial()
        )

    def spatial(self) -> tuple[tuple[Axis, Window], ...]:
        """The axes with their windows: one of a signal, two of an image."""
        width = (self.width, self.across)
        return (width,) if self.height == POINT else ((self.height, self.down), width)


def divisors(number: int) -> list[int]:
    """All divisors, ascending."""
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


def axes(inputs: int, size_out: int) -> Iterator[Axis]:
    """Axes to `size_out` positions whose input size divides `inputs`; strides 1 to 4 or, without overlap, the ratio."""
    for size_in in divisors(inputs)[1:]:
        strides = {1} if size_out == 1 else {1, 2, 3, 4, size_in // size_out}
        yield from (Axis(size_in, size_out, stride) for stride in sorted(strides) if 0 < stride < size_in)


def lay_out(
    rows: Int[np.ndarray, "entries"],
    columns: Int[np.ndarray, "entries"],
    shape: tuple[int, int],
    height: Axis,
    width: Axis,
) -> Layout:
    """The layout with these axes of a matrix of `shape` whose nonzero entries are at (rows, columns)."""
    row_y, out_x = np.divmod(rows, width.size_out)
    column_y, in_x = np.divmod(columns, width.size_in)
    out_channel, out_y = np.divmod(row_y, height.size_out)
    in_channel, in_y = np.divmod(column_y, height.size_in)
    out_channels = shape[0] // (height.size_out * width.size_out)
    in_channels = shape[1] // (height.size_in * width.size_in)
    down = find_window(height, np.flatnonzero(np.bincount(in_y - height.stride * (out_y - height.size_out + 1))))
    across = find_window(width, np.flatnonzero(np.bincount(in_x - width.stride * (out_x - width.size_out + 1))))
    groups = _count_groups(out_channel, in_channel, out_channels, in_channels)
    windows = (across,) if height == POINT else (down, across)
    told = [out_channels, in_channels, groups, height.size_in, width.size_in]
    told += [n for window in windows for n in (window.taps, window.stride, window.padding, window.dilation)]
    layout = Layout(out_channels, in_channels, height, width, down, across, groups, naturals_bits(told))
    return replace(layout, bits=layout.bits + FLOAT_BITS * layout.numbers)


def find_window(axis: Axis, used: Int[np.ndarray, "offsets"]) -> Window:
    """The smallest window of torch's kind that covers the used offsets and gives the right number of outputs.

    Offsets are indices: input position + stride * (last output - output), so the first possible one is 0. Where
    symmetric padding does not give a window, it is extended by taps in front or behind. An axis with one output does
    not show its stride: the smallest that needs no extension is taken.
    """
    first, last = (int(offset) - axis.stride * (axis.size_out - 1) for offset in (used[0], used[-1]))
    options = []
    for dilation in divisors(int(np.gcd.reduce(np.diff(used))) if used.size > 1 else 1):
        if first > 0 and first % dilation:
            continue
        padding = max(0, -first)
        taps = (last + padding) // dilation + 1
        room = axis.size_in + 2 * padding - dilation * (taps - 1) - 1
        stride = max(1, room + 1) if axis.size_out == 1 else axis.stride
        least = stride * (axis.size_out - 1)
        behind = max(0, -(-(room - least - stride + 1) // dilation))
        front = max(0, -(-(least - room) // dilation))
        if least <= room + dilation * (front - behind) < least + stride:
            options.append(Window(taps + front + behind, stride, padding + dilation * front, dilation))
    return min(options, key=lambda window: (window.taps, window.dilation))


def tap_places(axis: Axis, window: Window) -> Int[np.ndarray, "taps"]:
    """Offset index of each tap; below zero or beyond the end for taps that only ever meet padding."""
    return np.arange(window.taps) * window.dilation - window.padding + axis.stride * (axis.size_out - 1)


def _count_groups(
    out_channel: Int[np.ndarray, "entries"], in_channel: Int[np.ndarray, "entries"], outputs: int, inputs: int
) -> int:
    """The largest number of groups that keeps every entry within its group."""
    pairs = np.zeros((outputs, inputs), np.bool_)
    pairs[out_channel, in_channel] = True
    out_index, in_index = np.nonzero(pairs)
    fitting = (
        groups
        for groups in reversed(divisors(gcd(outputs, inputs)))
        if np.array_equal(out_index // (outputs // groups), in_index // (inputs // groups))
    )
    return next(fitting)
