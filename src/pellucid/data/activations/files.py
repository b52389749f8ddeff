"""The files of a capture: Parquet written whole or not at all, the running state, the sampled rows.

While it runs, a store holds `state-N.parquet` (the summary after N shards, one row per unit) and `sample-N.parquet`
(the activations of shard N at the sampled positions, a row group per site). In the end these are replaced by the tables
`units-S.parquet` and `contexts-S.parquet` of every site S.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32, Shaped

from pellucid.data.activations.summary import Summary, with_keys

LEVEL = 1
"""Of zstd: activations hardly get smaller at higher ones."""


def write_groups(path: Path, tables: Iterator[pa.Table] | Sequence[pa.Table]) -> None:
    """Write tables of one schema into a file, a row group each; the file appears once it is whole.

    Raises:
        OSError: it cannot be written; nothing is left of it.
    """
    part = path.with_suffix(".part")
    try:
        with part.open("wb") as file:
            _write(file, tables)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _write(file: object, tables: Iterator[pa.Table] | Sequence[pa.Table]) -> None:
    writer = None
    try:
        for table in tables:
            if writer is None:
                writer = pq.ParquetWriter(file, table.schema, compression="zstd", compression_level=LEVEL)
            writer.write_table(table, row_group_size=max(1, len(table)))
    finally:
        if writer is not None:
            writer.close()


# ---- the state


def state_file(directory: Path, shards: int) -> Path:
    """Where the state after so many shards lies."""
    return directory / f"state-{shards:05d}.parquet"


def write_state(path: Path, summary: Summary) -> None:
    """Write a summary, without the keys that places tell."""
    names = [field.name for field in dataclasses.fields(summary) if field.name != "kept_key"]
    write_groups(path, [pa.table({name: _column(getattr(summary, name)) for name in names})])


def read_state(path: Path, seed: int) -> Summary:
    """What `write_state` wrote, to the bit."""
    table = pq.read_table(path)
    return with_keys({name: _array(table[name].combine_chunks()) for name in table.column_names}, seed)


# ---- the sampled rows


def sample_file(directory: Path, shard: int) -> Path:
    """Where the sampled rows of a shard lie."""
    return directory / f"sample-{shard:05d}.parquet"


def write_sample(path: Path, rows: Sequence[Float32[np.ndarray, "chosen _"]]) -> None:
    """Write the sampled rows of each site, a row group each, a row per unit."""
    write_groups(path, (pa.table({"values": _column(np.ascontiguousarray(found.T))}) for found in rows))


def read_sample(paths: Sequence[Path], site: int) -> Float32[np.ndarray, "units sample"]:
    """The sampled activations of a site in all shards, in the order of the text."""
    parts = [pq.ParquetFile(path).read_row_group(site)["values"].combine_chunks() for path in paths]
    return np.concatenate([_array(part) for part in parts], axis=1)


def _column(values: Shaped[np.ndarray, "units ..."]) -> pa.Array:
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def _array(column: pa.Array) -> Shaped[np.ndarray, "units ..."]:
    if not pa.types.is_fixed_size_list(column.type):
        return np.array(column.to_numpy())
    return np.array(column.flatten().to_numpy()).reshape(len(column), column.type.list_size)


# ---- the tables


def units_file(directory: Path, site: int) -> Path:
    """Where the figures of the units of a site lie."""
    return directory / f"units-{site:05d}.parquet"


def contexts_file(directory: Path, site: int) -> Path:
    """Where the contexts of the units of a site lie."""
    return directory / f"contexts-{site:05d}.parquet"
