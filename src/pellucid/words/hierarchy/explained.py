"""What a labeller said of modules and interfaces, as plain records, and the file of JSON lines that keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pellucid.ir.codecs import maybe, record, text
from pellucid.words.hierarchy.modules import TESTED, Tested
from pellucid.words.lines import read_lines, write_lines

PLACE = Path("words", "modules-explained.jsonl")
"""Where the directory of a described program holds them."""


@dataclass(frozen=True)
class ExplainedModule:
    """What a labeller says of a module or an interface.

    Attributes:
        part: the module, or the MLP whose interface it is.
        name: None where it is missing or was taken back.
        label: None where it is missing.
        taken_back: the name, where it was.
        missing: why there is no reply, or no test of one; None where there is.
        told_apart: balanced accuracy of name and label at telling the module's contexts from its siblings'.
    """

    part: str
    name: str | None
    label: str | None
    taken_back: str | None = None
    missing: str | None = None
    told_apart: Tested | None = None


_explained = record(
    ExplainedModule, part=text, name=maybe(text), label=maybe(text), taken_back=maybe(text), missing=maybe(text),
    told_apart=maybe(TESTED),
)  # fmt: skip


def write_explained(explained: Sequence[ExplainedModule], file: Path) -> None:
    """Write records.

    Raises:
        BadInput: the file cannot be written.
    """
    write_lines(explained, _explained, file)


def read_explained(file: Path) -> tuple[ExplainedModule, ...]:
    """The records in a file; none where nothing was asked.

    Raises:
        BadInput: the file is damaged or something else.
    """
    if not file.exists():
        return ()
    return read_lines(file, _explained, "ask the labeller again with pellucid describe --endpoint")
