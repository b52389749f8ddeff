"""Records as lines of JSON: a file that is written whole or not at all, and read back or refused with its cause."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pellucid.errors import BadInput
from pellucid.ir.codecs import Codec, Wrong, compact, parse
from pellucid.ir.directory import replaced

T = TypeVar("T")


def write_lines(records: Sequence[T], codec: Codec[T], file: Path) -> None:
    """Write records, one a line.

    Raises:
        BadInput: the file cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replaced(file) as scratch:
            scratch.write_text("".join(f"{compact(codec.write(one))}\n" for one in records), encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{file}: cannot be written ({error.strerror}); choose another place") from error


def read_lines(file: Path, codec: Codec[T], remedy: str) -> tuple[T, ...]:
    """The records in a file, in the order they were written.

    Args:
        remedy: what to do about a file that cannot be read.

    Raises:
        BadInput: it is missing, damaged or something else.
    """
    try:
        return tuple(codec.read(parse(line)) for line in file.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError, Wrong) as error:
        cause = str(error) if isinstance(error, Wrong) else type(error).__name__
        raise BadInput(f"{file}: cannot be read ({cause}); {remedy}") from error
