"""A batch: samples that one call of a network takes, and what identifies a sample.

A sample is one row of every array of its batch. Its key is a hash of argument names, dtypes, shapes and values, so that
two samples have the same key exactly if the network cannot tell them apart (-0.0 counts as 0.0).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from pellucid.data.arrays import tensor_of
from pellucid.errors import BadInput

Argument = int | str
"""Which argument of the network: its position (int) or its name (str)."""

Signature = tuple[tuple[Argument, torch.dtype, tuple[int, ...]], ...]
"""Per argument: name or position, dtype, and the shape of one sample."""

ARRAYS = "a tensor, an array, a mapping of argument names to these, or a tuple of these"


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples that run in one call: `module(*batch.args, **batch.kwargs)`. Row i of all arrays is sample i."""

    arrays: Mapping[Argument, Shaped[Tensor, "rows ..."]]

    @property
    def args(self) -> tuple[Tensor, ...]:
        """The positional arguments, in order."""
        return tuple(self.arrays[name] for name in sorted(name for name in self.arrays if isinstance(name, int)))

    @property
    def kwargs(self) -> dict[str, Tensor]:
        """The named arguments."""
        return {name: array for name, array in self.arrays.items() if isinstance(name, str)}

    @property
    def signature(self) -> Signature:
        """Name, dtype and sample shape of every argument, sorted. Batches of one signature can be joined."""
        return tuple(
            (name, self.arrays[name].dtype, tuple(self.arrays[name].shape[1:])) for name in _sorted(self.arrays)
        )

    @property
    def nbytes(self) -> int:
        """Memory of all arrays, in bytes."""
        return sum(array.numel() * array.element_size() for array in self.arrays.values())

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def rows(self, index: slice | Tensor) -> Batch:
        """Return the samples at `index` (a slice or a tensor of row numbers)."""
        return Batch({name: array[index] for name, array in self.arrays.items()})

    def floating(self, which: bool | Collection[Argument] = True) -> Batch:
        """Return the same samples with integers and booleans as float32: of all arguments, or of those named."""
        chosen = self.arrays if which is True else which or ()
        return Batch({k: a.to(torch.float32) if k in chosen else a for k, a in self.arrays.items()})

    def cut(self, rows: int) -> Iterator[Batch]:
        """Yield the samples in batches of at most `rows`."""
        for start in range(0, len(self), rows):
            yield self.rows(slice(start, start + rows))


def batch_of(value: object, where: str, *, floating: bool | Collection[Argument] = False) -> Batch:
    """Return one user value as a batch: one array, a tuple or list of positional arrays, or a mapping of named arrays.

    Raises BadInput; see `checked`.
    """
    return checked(by_argument(value, where), where, floating=floating)


def by_argument(value: object, where: str) -> dict[Argument, object]:
    """Return what one user value gives for each argument, unchecked. Raises BadInput if it is no arrays at all."""
    named: dict[Argument, object]
    if isinstance(value, Batch):
        named = dict(value.arrays)
    elif isinstance(value, Mapping):
        named = dict(value)
        if not all(isinstance(name, str) for name in named):
            raise BadInput(f"{where}: mapping keys {list(named)[:5]} are not argument names: use strings")
    elif isinstance(value, tuple | list):
        named = dict(enumerate(value))
    elif isinstance(value, Tensor) or hasattr(value, "__array__"):
        named = {0: value}
    else:
        raise BadInput(f"{where}: {type(value).__name__} is not {ARRAYS}")
    if not named:
        raise BadInput(f"{where}: no arrays: give {ARRAYS}")
    return named


def checked(named: Mapping[Argument, object], where: str, *, floating: bool | Collection[Argument]) -> Batch:
    """Return the arrays as a batch.

    `floating`: whether integers and booleans become float32, for all arguments or for those named.
    Raises BadInput if an array is not fit for a network (see `tensor_of`) or the arrays differ in their number of rows.
    """
    floats = set(named) if floating is True else set(floating or ())
    arrays = {k: tensor_of(v, f"{where}, {argument_label(k)}", floating=k in floats) for k, v in named.items()}
    rows = {argument_label(name): len(array) for name, array in arrays.items()}
    if len(set(rows.values())) > 1:
        raise BadInput(f"{where}: arguments differ in their number of rows ({_listed(rows)}): give one row per sample")
    return Batch(arrays)


def argument_label(name: Argument) -> str:
    """Return how messages call an argument."""
    return f"argument {name!r}" if isinstance(name, str) else f"argument {name}"


def joined(batches: Iterable[Batch], where: str) -> tuple[Batch, ...]:
    """Join batches of one signature, in order of first appearance.

    Raises BadInput if they do not all have the same arguments, dtypes and numbers of axes (lengths of axes may differ).
    """
    groups: dict[Signature, list[Batch]] = {}
    for batch in batches:
        groups.setdefault(batch.signature, []).append(batch)
    kinds = {tuple((name, dtype, len(shape)) for name, dtype, shape in signature): None for signature in groups}
    if len(kinds) > 1:
        first, second = list(kinds)[:2]
        raise BadInput(
            f"{where}: batches differ ({_kind(first)}; {_kind(second)}): give all batches the same arguments"
        )
    return tuple(_concatenated(group) for group in groups.values())


def _concatenated(group: Sequence[Batch]) -> Batch:
    if len(group) == 1:
        return group[0]
    return Batch({name: torch.cat([batch.arrays[name] for batch in group]) for name in group[0].arrays})


def keys(batch: Batch) -> list[bytes]:
    """Return the key of every sample: 16 bytes that are equal exactly for equal samples.

    The name of an only argument does not count: the same samples by position and by name have the same keys.
    """
    kind = [(name if len(batch.arrays) > 1 else 0, dtype, shape) for name, dtype, shape in batch.signature]
    head = hashlib.blake2b(repr(kind).encode(), digest_size=16)
    columns = [_row_bytes(batch.arrays[name]) for name in _sorted(batch.arrays)]
    found = []
    for rows in zip(*columns, strict=True):
        sample = head.copy()
        for row in rows:
            sample.update(memoryview(row))
        found.append(sample.digest())
    return found


def _sorted(names: Iterable[Argument]) -> list[Argument]:
    return sorted(names, key=lambda name: (isinstance(name, str), str(name)))


def _row_bytes(array: Shaped[Tensor, "rows ..."]) -> Shaped[np.ndarray, "rows bytes"]:
    plain = (array + 0.0 if array.is_floating_point() else array).contiguous().numpy()
    return plain.reshape(len(plain), -1).view(np.uint8)


def _kind(kind: tuple[tuple[Argument, torch.dtype, int], ...]) -> str:
    parts = (f"{argument_label(n)}: {str(dtype).removeprefix('torch.')}, {axes + 1} axes" for n, dtype, axes in kind)
    return ", ".join(parts)


def _listed(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in rows.items())
