"""Reading and writing safetensors files.

Writing streams: no copy of all weights is made, and equal tensors give equal bytes (largest element size first, then by
name). Reading checks the header against the size of the file before anything is allocated, then maps the file.
A tensor whose axes lie in memory in another order than its own (a transposed weight, say) is stored row by row as the
format wants, and that order in the file's metadata: float32 products round by it.
Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import torch
from jaxtyping import Shaped, UInt8
from safetensors import SafetensorError, safe_open

from pellucid.errors import BadInput
from pellucid.ir.codecs import Wrong, compact, parse

Tensor = Shaped[torch.Tensor, "..."]

HEADER_LIMIT = 100_000_000
"""Bytes; the format's own bound."""

_NAMES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
_CODES = {dtype: name for name, dtype in _NAMES.items()}

MEMORY_ORDER = "memory_order"
"""The metadata's key for them: a JSON object, tensor to its axes from the slowest in memory to the fastest."""


@dataclass(frozen=True)
class Stored:
    """Where a tensor lies in a file: element type, shape, and its bytes' range after the header."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    stop: int


def raw_bytes(tensor: Tensor) -> UInt8[torch.Tensor, " bytes"]:
    """The elements of a tensor as bytes, in row-major order."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)


def digest(tensor: Tensor) -> str:
    """SHA-256 of a tensor's elements."""
    return hashlib.sha256(raw_bytes(tensor).numpy().data).hexdigest()


def memory_order(tensor: Tensor) -> tuple[int, ...]:
    """A tensor's axes from the slowest in memory to the fastest; none if that is their own order, or there are gaps."""
    if tensor.is_contiguous():
        return ()
    strides = tensor.stride()
    order = tuple(sorted(range(tensor.ndim), key=lambda axis: (-strides[axis], axis)))
    return order if tensor.permute(order).is_contiguous() else ()


def in_memory_order(tensor: Tensor, order: Sequence[int]) -> Tensor:
    """An equal tensor whose axes lie in memory in the order given."""
    back = sorted(range(len(order)), key=order.__getitem__)
    return tensor.permute(tuple(order)).contiguous().permute(back)


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file. Raises BadInput for an element type that the format does not have."""
    unfit = [name for name, tensor in tensors.items() if tensor.dtype not in _CODES or tensor.layout != torch.strided]
    if unfit:
        raise BadInput(
            f"tensor {unfit[0]!r} is {tensors[unfit[0]].dtype}; safetensors cannot hold it, convert it first"
        )
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    orders = {name: axes for name in order if (axes := memory_order(tensors[name]))}
    stated = {MEMORY_ORDER: json.dumps(orders, separators=(",", ":"))} if orders else {}
    header: dict[str, object] = {"__metadata__": {"format": "pt", **stated}}
    position = 0
    for name in order:
        size = tensors[name].numel() * tensors[name].element_size()
        shape = list(tensors[name].shape)
        header[name] = {
            "dtype": _CODES[tensors[name].dtype],
            "shape": shape,
            "data_offsets": [position, position + size],
        }
        position += size
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    with path.open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for name in order:
            file.write(raw_bytes(tensors[name]).numpy().data)


def read_header(path: Path) -> Mapping[str, Stored]:
    """The tensors that a safetensors file holds, after checking that they fit into it exactly.

    Raises:
        BadInput: the file is missing, truncated, damaged, or not a safetensors file.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or not 2 <= length <= min(HEADER_LIMIT, size - 8):
                raise Wrong(f"its header says {length:,} bytes, the file has {size:,}")
            entries = parse(file.read(length).decode())
        return _checked(entries, size - 8 - length)
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file; give the path of a safetensors file") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    except (Wrong, UnicodeDecodeError) as error:
        cause = str(error) if isinstance(error, Wrong) else "its header is not text"
        raise BadInput(f"{path}: damaged or truncated safetensors file ({cause}); get or write it again") from None


def _checked(entries: object, size: int) -> Mapping[str, Stored]:
    if not isinstance(entries, dict):
        raise Wrong("its header is not an object")
    found = {name: _stored(name, entry) for name, entry in entries.items() if name != "__metadata__"}
    position = 0
    for name, stored in sorted(found.items(), key=lambda item: (item[1].start, item[1].stop)):
        if stored.start != position:
            raise Wrong(f"tensor {name[:80]!r} begins at byte {stored.start}, not {position}")
        position = stored.stop
    if position != size:
        raise Wrong(f"its tensors need {position:,} bytes, it has {size:,}")
    return found


def _stored(name: str, entry: object) -> Stored:
    fields = entry if isinstance(entry, dict) else {}
    dtype, shape, offsets = _NAMES.get(str(fields.get("dtype"))), fields.get("shape"), fields.get("data_offsets")
    if dtype is None:
        raise Wrong(f"tensor {name[:80]!r} has the unknown element type {compact(fields.get('dtype'))[:40]}")
    if not _naturals(shape) or not _naturals(offsets) or len(offsets) != 2:
        raise Wrong(f"tensor {name[:80]!r} has no proper shape and place")
    if offsets[1] - offsets[0] != math.prod(shape) * dtype.itemsize:
        raise Wrong(
            f"tensor {name[:80]!r} of shape {str(shape)[:80]} does not fit its {offsets[1] - offsets[0]:,} bytes"
        )
    return Stored(dtype, tuple(shape), offsets[0], offsets[1])


def _naturals(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**63 for item in value)


def _orders(text: str, header: Mapping[str, Stored]) -> Mapping[str, list[int]]:
    orders = parse(text)
    if not isinstance(orders, dict) or not all(
        name in header and _naturals(axes) and sorted(axes) == [*range(len(header[name].shape))]
        for name, axes in orders.items()
    ):
        raise Wrong(f"its {MEMORY_ORDER} names no orders of its tensors' axes")
    return orders


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, memory-mapped where the library can.

    Raises:
        BadInput: see `read_header`.
    """
    header = read_header(path)
    try:
        with safe_open(str(path), framework="pt") as file:
            orders = _orders((file.metadata() or {}).get(MEMORY_ORDER, "{}"), header)
            found = {name: file.get_tensor(name) for name in header}
        return {name: in_memory_order(t, orders[name]) if name in orders else t for name, t in found.items()}
    except Wrong as error:
        raise BadInput(f"{path}: damaged safetensors file ({error}); get or write it again") from None
    except (SafetensorError, RuntimeError, OSError) as error:
        cause = str(error).splitlines()[0]
        raise BadInput(f"{path}: damaged safetensors file ({cause}); get or write it again") from error
