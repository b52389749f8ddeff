"""Parquet files of plain records: whole or not at all, with checksums, and with text that is read back as it was.

Text is UTF-8; a lone surrogate, which UTF-8 cannot hold, is written as the escape `\\ud800`, and a backslash as two.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pellucid.errors import BadInput
from pellucid.ir.directory import replaced

ROWS = 4096
"""Rows of a group: what a query for one unit has to read."""


def write_table(path: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    """Write rows as one file. Raises OSError."""
    table = pa.Table.from_pylist(rows, schema)
    with replaced(path) as scratch:
        pq.write_table(table, scratch, row_group_size=ROWS, compression="zstd", write_page_checksum=True)


def read_table(path: Path, schema: pa.Schema, key: str, wanted: list[str] | None) -> list[dict[str, Any]]:
    """The rows of a file, all or those whose `key` is one of `wanted`.

    Raises:
        BadInput: the file is missing, damaged, or has other columns.
    """
    chosen = None if wanted is None else [(key, "in", wanted)]
    try:
        if not pq.read_schema(path).equals(schema):
            raise BadInput(f"{path}: holds other columns than units have; run pellucid describe again")
        if wanted == []:
            return []
        table = pq.read_table(path, filters=chosen, partitioning=None, page_checksum_verification=True)
        found: list[dict[str, Any]] = table.to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise damaged(path, error) from error
    return found


def damaged(path: Path, error: Exception) -> BadInput:
    """What to raise for a file that cannot be read."""
    cause = "is missing" if isinstance(error, FileNotFoundError) else f"is damaged ({type(error).__name__})"
    return BadInput(f"{path}: {cause}; run pellucid describe again")


def known(value: float) -> float | None:
    """A score as it is stored: null where it is unknown."""
    return None if math.isnan(value) else value


def score_of(value: float | None) -> float:
    """The score that `known` was given."""
    return math.nan if value is None else float(value)


_ESCAPED = re.compile(r"\\(\\|u(d[89a-f][0-9a-f]{2}))")
_LONE = re.compile("[\\\\\ud800-\udfff]")


def stored(text: str) -> str:
    """The text as UTF-8 can hold it."""
    if text.isascii() and "\\" not in text:
        return text
    return _LONE.sub(lambda found: "\\\\" if found[0] == "\\" else f"\\u{ord(found[0]):04x}", text)


def shown(text: str) -> str:
    """The text that `stored` was given."""
    if "\\" not in text:
        return text
    return _ESCAPED.sub(lambda found: "\\" if found[1] == "\\" else chr(int(found[2], 16)), text)
