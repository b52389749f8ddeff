"""Inputs from parquet tables.

A column `text` of strings: one text per row, for language models. Columns of numbers alone: one float32 array
[rows, columns], the first argument. Otherwise every column is an argument by its name (a single list column: the first
argument): a number or a list per row. Lists may differ in length; rows of one shape go together.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, Shaped

from pellucid.data.arrays import one_line, tensor_of
from pellucid.data.batches import Batch, batch_of
from pellucid.data.bounds import Found, Terms, chosen, first
from pellucid.data.texts import sequences
from pellucid.errors import BadInput

ROWS = 1024
TEXT = "text"
SCALAR = -1
"""Stands for the length of a column that holds a number, not a list, in each row."""


def read_parquet(path: Path, terms: Terms) -> Found:
    """Read the samples of a parquet file (see the module for what it may hold). Raises BadInput."""
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            if file.metadata.num_rows == 0:
                raise BadInput(f"{path.name}: no rows: give at least one sample")
            rows, notes = chosen(file.metadata.num_rows, 0, terms)
            parts = _taken(file, rows, path.name)
            found = first(chain.from_iterable(_samples(part, path.name, terms) for part in parts), terms)
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise BadInput(f"{path.name}: not a whole parquet file ({one_line(error)}): write it again") from error
    return Found(found.batches, (*notes, *found.notes))


def _taken(file: Any, rows: Int64[np.ndarray, " rows"] | None, name: str) -> Iterator[Any]:
    """Yield the record batches of a file, reduced to the chosen rows, after checking that no value is missing."""
    start = 0
    for part in file.iter_batches(batch_size=ROWS):
        for column, values in zip(part.schema.names, part.columns, strict=True):
            if values.null_count:
                row = start + int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))
                raise BadInput(f"{name}, column {column!r}: no value in row {row}: fill or remove rows with nulls")
        stop = start + part.num_rows
        if rows is None:
            yield part
        elif (here := rows[(rows >= start) & (rows < stop)] - start).size:
            yield part.take(here)
        start = stop


def _samples(part: Any, name: str, terms: Terms) -> Iterator[Batch]:
    columns = dict(zip(part.schema.names, part.columns, strict=True))
    if len(columns) < part.num_columns:
        raise BadInput(f"{name}: columns {part.schema.names[:9]} are not distinct: rename them")
    if TEXT in columns and _is_text(columns[TEXT]):
        texts = columns[TEXT].to_pylist()
        yield from chain.from_iterable(sequences(t, terms.tokenizer, terms.context, name) for t in texts)
    elif any(_is_list(column) for column in columns.values()):
        yield from _grouped(columns, name, terms)
    else:
        arrays = [
            tensor_of(_flat(c, f"{name}, column {k!r}"), f"{name}, column {k!r}", floating=True)
            for k, c in columns.items()
        ]
        yield Batch({0: torch.stack(arrays, dim=1)})


def _grouped(columns: dict[str, Any], name: str, terms: Terms) -> Iterator[Batch]:
    """Yield one batch for every combination of list lengths."""
    values: dict[str, Any] = {}
    starts: dict[str, Int64[np.ndarray, " rows"]] = {}
    lengths: dict[str, Int64[np.ndarray, " rows"]] = {}
    for key, column in columns.items():
        ragged = _is_list(column)
        values[key] = _flat(column.flatten() if ragged else column, f"{name}, column {key!r}")
        lengths[key] = _lengths(column) if ragged else np.full(len(column), SCALAR)
        starts[key] = np.cumsum(np.abs(lengths[key])) - np.abs(lengths[key])
    shapes = np.stack(list(lengths.values()), axis=1)
    for shape in np.unique(shapes, axis=0):
        rows = np.flatnonzero((shapes == shape).all(axis=1))
        arrays = {k: _at(values[k], starts[k][rows], int(n)) for k, n in zip(columns, shape, strict=True)}
        yield batch_of(list(arrays.values()) if len(arrays) == 1 else arrays, name, floating=terms.floating)


def _at(
    values: Shaped[np.ndarray, "values ..."], starts: Int64[np.ndarray, " rows"], length: int
) -> Shaped[np.ndarray, "rows ..."]:
    return values[starts] if length == SCALAR else values[starts[:, None] + np.arange(length)]


def _flat(column: Any, where: str) -> Shaped[np.ndarray, "values ..."]:
    """Return the values of a column; nested lists must have equal lengths and become further axes."""
    if column.null_count:
        raise BadInput(f"{where}: a list holds a null: fill or remove it")
    if not _is_list(column):
        return np.asarray(column.to_numpy(zero_copy_only=False))
    lengths = np.unique(_lengths(column))
    if len(lengths) > 1:
        raise BadInput(f"{where}: inner lists differ in length ({lengths.min()} to {lengths.max()}): make them equal")
    inner = _flat(column.flatten(), where)
    return inner.reshape(len(column), -1, *inner.shape[1:]) if inner.size else inner


def _lengths(column: Any) -> Int64[np.ndarray, " rows"]:
    from pyarrow import compute

    return np.asarray(compute.list_value_length(column).to_numpy(zero_copy_only=False), dtype=np.int64)


def _is_text(column: Any) -> bool:
    from pyarrow import types

    return bool(types.is_string(column.type) or types.is_large_string(column.type))


def _is_list(column: Any) -> bool:
    from pyarrow import types

    return any(is_kind(column.type) for is_kind in (types.is_list, types.is_large_list, types.is_fixed_size_list))
