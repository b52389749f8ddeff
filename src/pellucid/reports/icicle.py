"""The hierarchy as a drawing: one row a level, one cell a function, one link a cell.

Places across the page are percentages, so that the drawing fits any width without a script; the script that comes
with the page only changes them to zoom.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pellucid.ir.notes import Verdict
from pellucid.ir.program import Program
from pellucid.reports.parts import status_of
from pellucid.reports.tree import KINDS, Cell
from pellucid.reports.wording import count, percent, shorten

_TALL, _FLAT, _SPACE = 52, 30, 208
_LABELLED = 0.04


@dataclass(frozen=True)
class Box:
    """A cell as it is drawn: numbers from 0 to 1 across, pixels down.

    Attributes:
        start, width: to full precision, for zooming; `x` and `w` are the same in percent, for drawing.
        up: the anchor of its caller, "" for the entry.
        label, brief: its name below its caller, and the last piece of that.
        stripe: (start, width, kind) in percent of the cell: which readings carry the parameters below it.
    """

    anchor: str
    up: str
    name: str
    kind: str
    parameters: float
    share: str
    status: str
    carried: str
    label: str
    brief: str
    title: str
    start: str
    width: str
    x: str
    w: str
    y: int
    labelled: bool
    called: bool
    level: int
    stripe: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Icicle:
    """The drawing: its boxes in the order of the hierarchy, its height and the height of a row in pixels."""

    boxes: tuple[Box, ...]
    height: int
    row: int


def draw_icicle(
    program: Program, cells: Mapping[str, Cell], ids: Mapping[str, str], verdicts: Mapping[str, tuple[Verdict, ...]]
) -> Icicle:
    """The drawing of a program's cells."""
    total = cells[program.entry].below
    levels = 1 + max(cell.level for cell in cells.values())
    row = min(_TALL, max(_FLAT, _SPACE // levels))
    boxes = tuple(
        _box(cell, program[cell.name].kind, ids, status_of(verdicts.get(cell.name, ())), total, row)
        for cell in cells.values()
    )
    return Icicle(boxes, levels * row, row)


def _box(cell: Cell, kind: str, ids: Mapping[str, str], status: str, total: float, row: int) -> Box:
    share = percent(cell.below / total) if total else percent(0.0)
    size = count(round(cell.below))
    label = cell.name.removeprefix(f"{cell.caller}.") if cell.caller else cell.name
    return Box(
        anchor=ids[cell.name],
        up=ids[cell.caller] if cell.caller else "",
        name=cell.name,
        kind=kind,
        parameters=cell.below,
        share=share,
        status=status,
        carried=cell.carried,
        label=shorten(label, 40),
        brief=shorten(label.rpartition(".")[2] or label, 40),
        title=f"{shorten(cell.name, 100)} ({shorten(kind, 30)}): {size} parameters, {share}; {cell.carried}, {status}",
        start=f"{cell.start:.9g}",
        width=f"{cell.width:.9g}",
        x=f"{100 * cell.start:.4g}%",
        w=f"{100 * cell.width:.4g}%",
        y=cell.level * row,
        labelled=cell.width >= _LABELLED,
        called=cell.called,
        level=cell.level,
        stripe=_stripe(cell) if cell.children else (),
    )


def _stripe(cell: Cell) -> tuple[tuple[str, str, str], ...]:
    made, start = [], 0.0
    for kind in KINDS:
        share = cell.mix[kind] / cell.below if cell.below else 0.0
        if share > 0:
            made.append((f"{100 * start:.4g}%", f"{100 * share:.4g}%", kind))
        start += share
    return tuple(made)
