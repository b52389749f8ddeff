"""Weights as pictures: a tensor becomes a plane of at most 64 x 64 cells and then a PNG inside a data URI.

A tensor with more values than cells is averaged over blocks, and a second picture shows the root mean square of each
block, because the mean of many weights hides how large they are. The PNG (palette, 8 bits, filter 0) is written with
zlib and struct; nothing else is needed to draw it or to read it.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8

from pellucid.reports.spread import as_array, as_matrix
from pellucid.reports.wording import count, number

SIDES = (64, 48, 32, 24, 16, 8)
LEVELS = 31
BROKEN, BLANK = LEVELS, LEVELS + 1
_DIVERGING = (
    "053061",
    "2166ac",
    "4393c3",
    "92c5de",
    "d1e5f0",
    "f7f7f7",
    "fddbc7",
    "f4a582",
    "d6604d",
    "b2182b",
    "67001f",
)
_RISING = ("f7f7f7", "d9d9d9", "bdbdbd", "969696", "737373", "525252", "252525", "0a0a0a")
_BROKEN_RGB = (0, 170, 60)


@dataclass(frozen=True)
class Picture:
    """A drawn tensor: the image, the size to show it at in pixels, and what a reader needs to read it.

    Attributes:
        kind: "value" (one cell is one weight), "mean" or "magnitude" (of a block of weights).
        low, high: the values at the two ends of the colour scale; cells beyond are drawn in the end colours.
    """

    uri: str
    kind: str
    rows: int
    columns: int
    width: int
    height: int
    low: str
    high: str
    caption: str


def side_for(shapes: Iterable[tuple[int, ...]], budget: int) -> int:
    """The largest side of pictures with which all tensors of these shapes stay within `budget` bytes; 0 if none."""
    known = list(shapes)
    for side in SIDES:
        if sum(_estimate(shape, side) for shape in known) <= budget:
            return side
    return 0


def _estimate(shape: tuple[int, ...], side: int) -> int:
    size = int(np.prod(shape)) if shape else 1
    cells = min(size, side * side)
    return (1 if size <= cells else 2) * (420 + int(0.85 * cells))


def draw(tensor: Shaped[torch.Tensor, "..."], side: int) -> tuple[Picture, ...]:
    """The pictures of a tensor: its values, or the means and magnitudes of blocks of them; none of an empty tensor."""
    if side == 0 or tensor.numel() == 0 or tensor.is_complex():
        return ()
    plane, blank = _as_plane(tensor, side)
    if plane.shape[0] <= side and plane.shape[1] <= side:
        return (_picture(plane, blank, "value", f"each cell is one of {count(tensor.numel())} values"),)
    rows, columns = min(plane.shape[0], side), min(plane.shape[1], side if plane.shape[0] > 1 else side * side)
    with np.errstate(over="ignore", invalid="ignore"):
        means, squares = (_pool(x, rows, columns).reshape(-1, min(columns, side)) for x in (plane, plane * plane))
    tall, wide = (f"{n:.3g}" for n in (plane.shape[0] / rows, plane.shape[1] / columns))
    block = f"{wide} values in a row" if rows == 1 else f"{tall} × {wide} values"
    return (
        _picture(means, 0, "mean", f"each cell is the mean of {block}"),
        _picture(np.sqrt(squares), 0, "magnitude", f"each cell is the root mean square of {block}"),
    )


def _as_plane(tensor: Shaped[torch.Tensor, "..."], side: int) -> tuple[Float[np.ndarray, "rows columns"], int]:
    """The tensor as a matrix, and how many cells at its end are no values."""
    array = as_array(tensor)
    matrix = as_matrix(array if array.dtype == np.float64 else array.astype(np.float32, copy=False))
    if 1 not in matrix.shape:
        return matrix, 0
    flat = matrix.reshape(-1)
    if flat.size > side * side:
        return flat.reshape(1, -1), 0
    columns = min(side, flat.size)
    blank = -flat.size % columns
    return np.pad(flat, (0, blank)).reshape(-1, columns), blank


def _pool(plane: Float[np.ndarray, "height width"], rows: int, columns: int) -> Float[np.ndarray, "rows columns"]:
    """The means of `rows` by `columns` blocks, as equal as whole numbers allow."""
    cuts = [np.arange(parts + 1) * size // parts for size, parts in zip(plane.shape, (rows, columns), strict=True)]
    means = np.stack([plane[top:end].mean(axis=0, dtype=np.float64) for top, end in pairwise(cuts[0])])
    return np.asarray(np.add.reduceat(means, cuts[1][:-1], axis=1) / np.diff(cuts[1]))


def _picture(plane: Float[np.ndarray, "rows columns"], blank: int, kind: str, caption: str) -> Picture:
    finite = np.isfinite(plane)
    sizes = np.abs(plane[finite])
    most = float(sizes.max(initial=0.0)) or 1.0
    top = float(np.quantile(sizes, 0.995)) or most if sizes.size > 256 else most
    low = float(np.quantile(sizes, 0.005, method="inverted_cdf")) if kind == "magnitude" and sizes.size else -top
    low = low if low < top else 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = np.clip((plane / top - low / top) / (1.0 - low / top), 0.0, 1.0)
    cells = np.where(finite, np.rint(np.where(finite, scaled, 0.0) * (LEVELS - 1)), BROKEN).astype(np.uint8)
    if blank:
        cells[-1, -blank:] = BLANK
    width, height = _shown_size(*plane.shape)
    return Picture(
        uri=_uri(_png(cells, _RISING if kind == "magnitude" else _DIVERGING)),
        kind=kind,
        rows=plane.shape[0],
        columns=plane.shape[1],
        width=width,
        height=height,
        low=number(low, 2),
        high=number(top, 2),
        caption=caption,
    )


def _shown_size(rows: int, columns: int) -> tuple[int, int]:
    cell = max(3, min(16, 256 // columns, 256 // rows))
    return columns * cell, rows * cell


def _uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _palette(stops: tuple[str, ...]) -> bytes:
    anchors = np.array([[int(stop[i : i + 2], 16) for i in (0, 2, 4)] for stop in stops], dtype=float)
    places = np.linspace(0, len(stops) - 1, LEVELS)
    channels = [np.interp(places, np.arange(len(stops)), anchors[:, channel]) for channel in range(3)]
    colours = np.rint(np.stack(channels, axis=1)).astype(np.uint8)
    return bytes(colours) + bytes(_BROKEN_RGB) + bytes(3)


def _png(cells: UInt8[np.ndarray, "rows columns"], stops: tuple[str, ...]) -> bytes:
    rows, columns = cells.shape
    header = struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)
    lines: bytes = np.pad(cells, ((0, 0), (1, 0))).tobytes()
    opacity = [(b"tRNS", b"\xff" * BLANK + b"\x00")] if (cells == BLANK).any() else []
    chunks = [
        (b"IHDR", header),
        (b"PLTE", _palette(stops)),
        *opacity,
        (b"IDAT", zlib.compress(lines, 9)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
