"""The header of a GGUF file (version 2 and 3), read with bounds checks before any library sees the file.

Layout: magic, version, number of tensors, number of metadata entries; metadata (key, type, value); tensor infos (name,
dimensions, type, offset); padding; data. The specification is docs/gguf.md of the ggml project.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

from pellucid.errors import BadInput
from pellucid.lift.containers import DAMAGED, TensorEntry, file_size, quote

BLOCKS = {
    **{0: ("F32", 1, 4), 1: ("F16", 1, 2), 30: ("BF16", 1, 2)},
    **{2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34)},
    **{10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176)},
    **{14: ("Q6_K", 256, 210), 16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98)},
    **{19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82)},
    **{23: ("IQ4_XS", 256, 136), 29: ("IQ1_M", 256, 56), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66)},
    39: ("MXFP4", 32, 17),
}
"""ggml type number -> name, values per block, bytes per block; the types that can be turned into floats."""

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
_BOOL, _STRING, _ARRAY = 7, 8, 9
_SMALLEST_ENTRY, _SMALLEST_TENSOR = 13, 32


@dataclass(frozen=True)
class ArrayLength:
    """Stands for a metadata array, of which only the length is kept."""

    length: int


@dataclass(frozen=True)
class GgufHeader:
    """Metadata by key, and the tensors in the order of the file (shapes row-major, as torch has them)."""

    metadata: dict[str, int | float | bool | str | ArrayLength]
    tensors: tuple[TensorEntry, ...]


@dataclass
class _Cursor:
    """A place in the file; refuses to step past its end."""

    data: mmap.mmap
    size: int
    path: Path
    at: int = 0

    def need(self, count: int, what: str) -> None:
        if count > self.size - self.at:
            raise BadInput(f"{self.path}: {what} needs {count} bytes where {self.size - self.at} are left; {DAMAGED}")

    def scalar(self, code: str, what: str) -> int | float:
        layout = "<" + code
        self.need(struct.calcsize(layout), what)
        value: int | float = struct.unpack_from(layout, self.data, self.at)[0]
        self.at += struct.calcsize(layout)
        return value

    def number(self, code: str, what: str) -> int:
        return int(self.scalar(code, what))

    def text(self, what: str) -> str:
        length = self.number("Q", what)
        self.need(length, what)
        raw = self.data[self.at : self.at + length]
        self.at += length
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadInput(f"{self.path}: {what} is not valid UTF-8; {DAMAGED}") from error


def read_gguf_header(path: Path) -> GgufHeader:
    """Metadata and tensors of a GGUF file; no tensor data is read.

    Raises:
        BadInput: the file is missing, cut short, damaged, split, big-endian or of a version or type not supported.
    """
    size = file_size(path, "a GGUF file")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        cursor = _Cursor(data, size, path)
        n_tensors, n_entries = _counts(cursor)
        metadata: dict[str, int | float | bool | str | ArrayLength] = {}
        for _ in range(n_entries):
            key = cursor.text("a metadata key")
            if key in metadata:
                raise BadInput(f"{path}: metadata key {quote(key)} occurs twice; {DAMAGED}")
            metadata[key] = _value(cursor, f"metadata {quote(key)}")
        tensors = _tensors(cursor, n_tensors, _alignment(metadata, path))
    if not isinstance(metadata.get("general.architecture"), str):
        raise BadInput(f"{path}: metadata general.architecture is missing; {DAMAGED}")
    if isinstance(parts := metadata.get("split.count", 0), int) and parts > 1:
        raise BadInput(f"{path}: is one of {parts} parts; join them with llama-gguf-split --merge")
    return GgufHeader(metadata, tensors)


def _counts(cursor: _Cursor) -> tuple[int, int]:
    cursor.need(24, "the GGUF header")
    if cursor.data[:4] != b"GGUF":
        raise BadInput(f"{cursor.path}: does not begin with GGUF; is it a GGUF file?")
    cursor.at = 4
    version = cursor.number("I", "the version")
    if version not in (2, 3):
        raise BadInput(f"{cursor.path}: GGUF version {version} is not supported (2 and 3, little-endian, are)")
    n_tensors, n_entries = cursor.number("Q", "the counts"), cursor.number("Q", "the counts")
    cursor.need(n_tensors * _SMALLEST_TENSOR + n_entries * _SMALLEST_ENTRY, f"{n_tensors} tensors, {n_entries} entries")
    return n_tensors, n_entries


def _value(cursor: _Cursor, what: str) -> int | float | bool | str | ArrayLength:
    kind = cursor.number("I", what)
    if kind == _STRING:
        return cursor.text(what)
    if kind == _ARRAY:
        return _skip_array(cursor, what)
    if kind not in _SCALARS:
        raise BadInput(f"{cursor.path}: {what} has the unknown type {kind}; {DAMAGED}")
    value = cursor.scalar(_SCALARS[kind], what)
    if kind == _BOOL and value not in (0, 1):
        raise BadInput(f"{cursor.path}: {what} is a boolean of value {value}; {DAMAGED}")
    return bool(value) if kind == _BOOL else value


def _skip_array(cursor: _Cursor, what: str) -> ArrayLength:
    kind, length = cursor.number("I", what), cursor.number("Q", what)
    if kind == _STRING:
        cursor.need(8 * length, what)
        for _ in range(length):
            cursor.text(what)
    elif kind in _SCALARS:
        width = struct.calcsize("<" + _SCALARS[kind])
        cursor.need(width * length, what)
        cursor.at += width * length
    else:
        raise BadInput(f"{cursor.path}: {what} is an array of type {kind}, which is not supported; {DAMAGED}")
    return ArrayLength(length)


def _alignment(metadata: dict[str, int | float | bool | str | ArrayLength], path: Path) -> int:
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or not 8 <= alignment <= 65536 or alignment & (alignment - 1):
        raise BadInput(f"{path}: general.alignment is {quote(alignment)}, not a power of two; {DAMAGED}")
    return alignment


def _tensors(cursor: _Cursor, count: int, alignment: int) -> tuple[TensorEntry, ...]:
    found = [_tensor(cursor) for _ in range(count)]
    if len({entry.name for entry in found}) != count:
        raise BadInput(f"{cursor.path}: a tensor name occurs twice; {DAMAGED}")
    base, end = -(-cursor.at // alignment) * alignment, 0
    for entry in found:
        if entry.start % alignment or entry.start < end or base + entry.stop > cursor.size:
            raise BadInput(
                f"{cursor.path}: tensor {quote(entry.name)} lies at bytes {base + entry.start} to {base + entry.stop} "
                f"of {cursor.size}, out of place; {DAMAGED}"
            )
        end = entry.stop
    return tuple(
        TensorEntry(entry.name, entry.dtype, entry.shape, base + entry.start, base + entry.stop) for entry in found
    )


def _tensor(cursor: _Cursor) -> TensorEntry:
    name = cursor.text("a tensor name")
    what = f"tensor {quote(name)}"
    n_dims = cursor.number("I", what)
    if not 1 <= n_dims <= 4:
        raise BadInput(f"{cursor.path}: {what} has {n_dims} dimensions (1 to 4 are possible); {DAMAGED}")
    dims = [cursor.number("Q", what) for _ in range(n_dims)]
    kind, offset = cursor.number("I", what), cursor.number("Q", what)
    if kind not in BLOCKS:
        raise BadInput(
            f"{cursor.path}: {what} has the ggml type {kind}, which is not supported; quantize the model as F16 or Q8_0"
        )
    dtype, per_block, width = BLOCKS[kind]
    if min(dims) < 1 or dims[0] % per_block:
        raise BadInput(f"{cursor.path}: {what} of type {dtype} has the shape {dims}, no whole blocks; {DAMAGED}")
    n_bytes = math.prod(dims) // per_block * width
    return TensorEntry(name, dtype, tuple(reversed(dims)), offset, offset + n_bytes)
