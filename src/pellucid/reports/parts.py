"""The page of one function: what it is, how it may be computed, what it reads, whom it serves, what was shown of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from pellucid.ir.graph import weights_read
from pellucid.ir.naming import parameter_names
from pellucid.ir.notes import Attempt, Verdict
from pellucid.ir.program import Function, Program, Reading
from pellucid.reports.findings import WHOLE
from pellucid.reports.listings import Listing
from pellucid.reports.tensor_views import TensorView
from pellucid.reports.tree import Cell, functions_called
from pellucid.reports.wording import percent, ratio


@dataclass(frozen=True)
class Link:
    """A way to another function's page."""

    anchor: str
    name: str


@dataclass(frozen=True)
class Value:
    """A value of a signature: what it is called in the code, in the network, and its type, "" where it is not known."""

    name: str
    value: str
    type: str


@dataclass(frozen=True)
class ReadingRow:
    """A reading as a line of the table: the reading, whether it runs, and its length against the exact one."""

    reading: Reading
    chosen: bool
    against_exact: str


@dataclass(frozen=True)
class Part:
    """Everything the page of one function shows; `status` is "failed", "passed" or "unchecked"."""

    anchor: str
    function: Function
    cell: Cell
    status: str
    share: str
    description: str
    path: tuple[Link, ...]
    before: Link | None
    after: Link | None
    readings: tuple[ReadingRow, ...]
    listings: tuple[tuple[Reading, Markup, str], ...]
    tensors: tuple[TensorView, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    callers: tuple[Link, ...]
    callees: tuple[Link, ...]
    verdicts: tuple[Verdict, ...]
    trail: tuple[Attempt, ...]


def anchors(program: Program) -> dict[str, str]:
    """An id for the page of each function: its name where that is plain, else its position."""
    return {
        name: f"part/{name}" if _is_plain(name) else f"part-number/{position}"
        for position, name in enumerate(program.functions)
    }


def _is_plain(name: str) -> bool:
    return len(name) <= 120 and name.isascii() and all(char.isalnum() or char in "._-" for char in name) and name != ""


def status_of(verdicts: Sequence[Verdict]) -> str:
    """ "failed" if any verdict failed, "passed" if all passed, "unchecked" if there are none."""
    if not verdicts:
        return "unchecked"
    return "passed" if all(verdict.passed for verdict in verdicts) else "failed"


def verdicts_by_part(program: Program, verdicts: Sequence[Verdict]) -> dict[str, tuple[Verdict, ...]]:
    """The verdicts of each function; those of the whole program belong to its entry."""
    found: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        part = program.entry if verdict.part == WHOLE and WHOLE not in program.functions else verdict.part
        found.setdefault(part, []).append(verdict)
    return {part: tuple(members) for part, members in found.items()}


def describe_parts(
    program: Program,
    cells: Mapping[str, Cell],
    verdicts: Mapping[str, tuple[Verdict, ...]],
    listings: Mapping[str, tuple[Listing, ...]],
    tensors: Mapping[str, TensorView],
) -> tuple[Part, ...]:
    """The pages of all functions in the order of the hierarchy."""
    ids = anchors(program)
    links = {name: Link(anchor, name) for name, anchor in ids.items()}
    names = parameter_names(program)
    callers = _callers(program)
    trail: dict[str, list[Attempt]] = {}
    for attempt in program.notes.trail:
        trail.setdefault(attempt.part, []).append(attempt)
    order = list(cells)
    total = cells[program.entry].below
    neighbours = {name: (order[i - 1] if i else None, order[i + 1 : i + 2]) for i, name in enumerate(order)}
    parts = []
    for name, cell in cells.items():
        function = program[name]
        before, after = neighbours[name]
        parts.append(
            Part(
                anchor=ids[name],
                function=function,
                cell=cell,
                status=status_of(verdicts.get(name, ())),
                share=percent(cell.below / total) if total else percent(0.0),
                description=program.notes.descriptions.get(name, ""),
                path=tuple(links[above] for above in _path(cells, name)),
                before=links[before] if before is not None else None,
                after=links[after[0]] if after else None,
                readings=_readings(program, function),
                listings=tuple((listing.reading, listing.html, listing.numbers) for listing in listings[name]),
                tensors=tuple(tensors[weight] for weight in _tensors_read(function)),
                inputs=_values(program, names[name], function.inputs),
                outputs=_values(program, function.outputs, function.outputs),
                callers=tuple(links[caller] for caller in callers.get(name, ())),
                callees=tuple(links[callee] for callee in functions_called(function) if callee in links),
                verdicts=verdicts.get(name, ()),
                trail=tuple(trail.get(name, ())),
            )
        )
    return tuple(parts)


def _path(cells: Mapping[str, Cell], name: str) -> list[str]:
    path: list[str] = []
    while cells[name].caller:
        name = cells[name].caller
        path.append(name)
    return path[::-1]


def _callers(program: Program) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for name, function in program.functions.items():
        for callee in functions_called(function):
            found.setdefault(callee, []).append(name)
    return {name: tuple(callers) for name, callers in found.items()}


def _readings(program: Program, function: Function) -> tuple[ReadingRow, ...]:
    exact = function.reading("weights")
    before = program.exact_bits(function.name)
    chosen = function.reading()
    return tuple(
        ReadingRow(reading, reading is chosen, "" if reading is exact else ratio(before, reading.bits))
        for reading in function.readings
    )


def _tensors_read(function: Function) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for reading in function.readings for name in weights_read(reading.body)))


def _values(program: Program, names: Sequence[str], values: Sequence[str]) -> tuple[Value, ...]:
    types = program.values
    return tuple(
        Value(name, value, str(types[value]) if value in types else "")
        for name, value in zip(names, values, strict=True)
    )
