"""The header of a `.npy` array, read by three patterns and believed only where it agrees with the bytes that follow.

numpy's own reader evaluates the header as a Python literal and allocates what it claims; here nothing is evaluated,
nothing but plain numbers is accepted, and a header that claims more than there is is refused.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from pellucid.errors import BadInput

MAGIC = b"\x93NUMPY"
LONGEST = 10_000
"""numpy writes headers of about 120 bytes."""

DESCR = re.compile(r"""['"]descr['"]\s*:\s*(?:['"]([^'"]*)['"]|\[)""")
ORDER = re.compile(r"""['"]fortran_order['"]\s*:\s*(True|False)\b""")
SHAPE = re.compile(r"""['"]shape['"]\s*:\s*\(([\d\s,L]*)\)""")
NUMBERS = re.compile(r"[<>|=]?[biuf]\d{1,2}")
AXES = 32


@runtime_checkable
class Readable(Protocol):
    """A stream of bytes."""

    def read(self, count: int, /) -> bytes:
        """Return the next `count` bytes, or as many as there are."""
        ...


@dataclass(frozen=True)
class Header:
    """What the array is (`order` as numpy means it), and at which byte its values begin."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: Literal["C", "F"]
    start: int

    @property
    def nbytes(self) -> int:
        """The length of its values in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(stream: Readable, total: int, where: str) -> Header:
    """Read the header of an array from a stream of `total` bytes, of which none is read yet.

    Raises BadInput if it is none, holds anything but numbers, or does not fit the number of bytes.
    """
    text, start = _text(stream, where)
    descr, order, shape = (pattern.search(text) for pattern in (DESCR, ORDER, SHAPE))
    if not (descr and order and shape):
        raise BadInput(f"{where}: not a whole array (unreadable header): write it again with numpy")
    axes = re.findall(r"\d+", shape[1])
    if len(axes) > AXES or any(len(axis) > 18 for axis in axes):
        raise BadInput(f"{where}: not a whole array (impossible shape): write it again with numpy")
    header = Header(tuple(map(int, axes)), _numbers(descr[1], where), "F" if order[1] == "True" else "C", start)
    if header.start + header.nbytes != total:
        have, needed = (
            total - header.start,
            f"shape {list(header.shape)} of {header.dtype} needs {header.nbytes:,} bytes",
        )
        raise BadInput(f"{where}: not a whole array ({needed}, there are {have:,}): write it again with numpy")
    return header


def _text(stream: Readable, where: str) -> tuple[str, int]:
    """Return the text of a header, and where it ends."""
    begin = stream.read(8)
    width = {1: 2, 2: 4, 3: 4}.get(begin[6] if len(begin) == 8 and begin.startswith(MAGIC) else 0)
    if width is None:
        raise BadInput(f"{where}: not an array in numpy's format: write it with numpy.save or numpy.savez")
    length = int.from_bytes(stream.read(width), "little")
    if length > LONGEST:
        raise BadInput(f"{where}: not a whole array (a header of {length:,} bytes): write it again with numpy")
    return stream.read(length).decode("latin1"), 8 + width + length


def _numbers(descr: str | None, where: str) -> np.dtype[Any]:
    if descr is None or "O" in descr:
        raise BadInput(f"{where}: holds objects or records, which are never loaded: save plain arrays of numbers")
    if NUMBERS.fullmatch(descr):
        try:
            return np.dtype(descr)
        except TypeError as error:
            raise BadInput(f"{where}: not a whole array (no type {descr!r}): write it again with numpy") from error
    raise BadInput(f"{where}: type {descr[:20]!r} holds no real numbers: save float32, int64 or bool")
