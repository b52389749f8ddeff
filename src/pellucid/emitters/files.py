"""A program as files: program.py that runs, program.json and weights.safetensors to load it, and the source map."""

from __future__ import annotations

import json
from os import PathLike

from pellucid.emitters.python import Source, program_source
from pellucid.emitters.sources import Dialect
from pellucid.ir.directory import CODE, MAP, staged
from pellucid.ir.program import Program
from pellucid.ir.serialize import save_program


def emit(program: Program, directory: str | PathLike[str], dialect: Dialect | None = None) -> None:
    """Write a program into `directory`: all of its files or none.

    Args:
        program: what to write.
        directory: a new or empty one, or one that pellucid wrote.
        dialect: what program.py computes with; None for numpy where that can be (see `dialect_of`), else torch. Where
            the rounding of single precision decides the outputs, only torch gives them as the network did.

    Raises:
        BadInput: the directory is not ours, or cannot be written.
        InvalidProgram: the program breaks a rule.
    """
    source = program_source(program, dialect)
    with staged(directory) as place:
        save_program(program, place)
        (place / CODE).write_text(source.text, encoding="utf-8")
        (place / MAP).write_text(map_text(source), encoding="utf-8")


def map_text(source: Source) -> str:
    """The source map as JSON: line of program.py to [function, reading, ids of nodes], one line to a line."""
    lines: dict[int, list[tuple[str, str, tuple[str, ...]]]] = {}
    for origin in source.source_map:
        lines.setdefault(origin.line, []).append((origin.function, origin.reading, origin.nodes))
    rows = [f'"{line}": {json.dumps(origins, separators=(",", ":"))}' for line, origins in sorted(lines.items())]
    body = ",\n".join(rows)
    return f'{{"file": "{CODE}", "lines": {{\n{body}\n}}}}\n'
