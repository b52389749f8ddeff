"""Bounds-checked reading of what surrounds tensors in a file: byte ranges, JSON, the header of a safetensors file.

Nothing is believed before it is checked: every count and offset is compared with the size of the file before anything
of that size is allocated, and every byte of the tensor data has to belong to exactly one tensor.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pellucid.errors import BadInput

MAX_HEADER = 64 * 2**20
"""Longest header or JSON file in bytes: parsed JSON takes some ten times its length in memory."""

DAMAGED = "the file is damaged or cut short; download or save it again"

SAFETENSORS_BYTES = {
    **{"BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "I32": 4, "I64": 8},
    **{"F16": 2, "BF16": 2, "F32": 4, "F64": 8},
}
"""Bytes of one value of each dtype that a program can hold; other dtypes (float8, float4 ...) are refused."""


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of a file: its bytes are [start, stop) of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def quote(text: object) -> str:
    """A name from a file as one printable word of a message: control characters escaped, cut at 80 characters."""
    shown = str(text).encode("unicode_escape", "backslashreplace").decode("ascii")
    return shown if len(shown) <= 80 else shown[:77] + "..."


def first_line(error: BaseException) -> str:
    """The first line of a foreign error, short enough for a one-line message."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return line if len(line) <= 200 else line[:197] + "..."


def file_size(path: Path, kind: str) -> int:
    """Size in bytes of a regular file.

    Raises:
        BadInput: it does not exist, is no regular file, is empty or cannot be read.
    """
    try:
        if not path.exists():
            raise BadInput(f"{path}: no such file; give the path of {kind}")
        if not path.is_file():
            raise BadInput(f"{path}: not a regular file; give the path of {kind}")
        with path.open("rb"):
            size = path.stat().st_size
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror or error}); check its permissions") from error
    if size == 0:
        raise BadInput(f"{path}: the file is empty; download or save it again")
    return size


def read_bytes(path: Path, kind: str, limit: int = MAX_HEADER) -> bytes:
    """All bytes of a small file.

    Raises:
        BadInput: see `file_size`; or it is longer than `limit`.
    """
    size = file_size(path, kind)
    if size > limit:
        raise BadInput(f"{path}: {size} bytes are too many for {kind} (at most {limit}); is it another file?")
    return path.read_bytes()


def parse_json(data: bytes, label: str) -> dict[str, object]:
    """The object that a JSON text holds; names have to be unique.

    Raises:
        BadInput: no JSON, another value than an object, too deep, or a name occurs twice.
    """
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{label}: not valid JSON ({first_line(error)}); {DAMAGED}") from error
    if not isinstance(value, dict):
        raise BadInput(f"{label}: holds a JSON {type(value).__name__}, not an object; {DAMAGED}")
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the name {quote(name)} occurs twice")
        found[name] = value
    return found


def read_safetensors_header(path: Path) -> dict[str, TensorEntry]:
    """The tensors of a safetensors file by name; no tensor data is read.

    The file is eight bytes with the length of the header, a JSON header, and the data, which the tensors have to tile.

    Raises:
        BadInput: the file is missing, cut short or damaged, or a dtype cannot be handled.
    """
    size = file_size(path, "a safetensors file")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 10 or length > size - 8:
            raise BadInput(f"{path}: the header claims {length} bytes but the file has {size}; {DAMAGED}")
        if length > MAX_HEADER:
            raise BadInput(f"{path}: a header of {length} bytes is too long (at most {MAX_HEADER}); is it safetensors?")
        header = parse_json(file.read(length), f"{path}: header")
    header.pop("__metadata__", None)
    entries = [_safetensors_entry(name, entry, 8 + length, path) for name, entry in header.items()]
    check_tiling(entries, 8 + length, size, path)
    return {entry.name: entry for entry in entries}


def _safetensors_entry(name: str, entry: object, base: int, path: Path) -> TensorEntry:
    if not isinstance(entry, Mapping) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise BadInput(f"{path}: tensor {quote(name)} lacks one of dtype, shape, data_offsets; {DAMAGED}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not (_are_counts(shape) and _are_counts(offsets) and len(offsets) == 2):
        raise BadInput(f"{path}: tensor {quote(name)} has a shape or offsets that are no counts; {DAMAGED}")
    if not isinstance(dtype, str) or dtype not in SAFETENSORS_BYTES:
        raise BadInput(
            f"{path}: tensor {quote(name)} has dtype {quote(dtype)}, which is not supported; "
            f"convert it to one of {', '.join(SAFETENSORS_BYTES)}"
        )
    wanted = math.prod(shape) * SAFETENSORS_BYTES[dtype]
    if offsets[1] - offsets[0] != wanted:
        raise BadInput(
            f"{path}: tensor {quote(name)} of shape {quote(shape)} needs {quote(wanted)} bytes "
            f"but has {quote(offsets[1] - offsets[0])}; {DAMAGED}"
        )
    return TensorEntry(name, dtype, tuple(shape), base + offsets[0], base + offsets[1])


def check_tiling(entries: Iterable[TensorEntry], start: int, stop: int, path: Path) -> None:
    """Refuses tensors that overlap, leave gaps or do not cover [start, stop) of the file.

    Raises:
        BadInput: names the first tensor out of place.
    """
    at = start
    for entry in sorted(entries, key=lambda entry: (entry.start, entry.stop)):
        if entry.start != at or entry.stop > stop:
            raise BadInput(
                f"{path}: tensor {quote(entry.name)} lies at bytes {quote(entry.start)} to {quote(entry.stop)} "
                f"where byte {at} of {stop} is due; {DAMAGED}"
            )
        at = entry.stop
    if at != stop:
        raise BadInput(f"{path}: the tensors end at byte {at} but the file at {stop}; {DAMAGED}")


def _are_counts(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**63 for item in value)
