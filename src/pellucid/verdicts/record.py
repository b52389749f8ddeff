"""Verdicts as a file: `verdicts.json`, strict JSON, one line for each."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from pellucid.errors import BadInput
from pellucid.ir.codecs import Wrong, layout, many, parse
from pellucid.ir.directory import replaced
from pellucid.ir.notes import Verdict
from pellucid.ir.serialize import verdict_codec

FORMAT = "pellucid verdicts"
VERSION = 1

_codec = many(verdict_codec)


def write_verdicts(verdicts: Sequence[Verdict], path: str | PathLike[str]) -> None:
    """Write verdicts; the file is replaced in one step."""
    document = layout({"format": FORMAT, "version": VERSION, "verdicts": _codec.write(tuple(verdicts))})
    with replaced(Path(path)) as temporary:
        temporary.write_text(document + "\n", encoding="utf-8")


def read_verdicts(path: str | PathLike[str]) -> tuple[Verdict, ...]:
    """Read what `write_verdicts` wrote.

    Raises:
        BadInput: the file is missing, damaged, or of another version.
    """
    try:
        plain = parse(Path(path).read_text(encoding="utf-8"))
        if not isinstance(plain, dict) or plain.get("format") != FORMAT or plain.get("version") != VERSION:
            raise Wrong(f"not {FORMAT} of version {VERSION}")
        return _codec.read(plain.get("verdicts"))
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file; run `pellucid verify` on its directory") from None
    except (Wrong, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: damaged ({error}); run `pellucid verify` again") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
