"""The hierarchy as a tree of cells: one for each function, wide in proportion to its parameters.

Functions may be called from several places; a cell hangs below its first caller (breadth first from the entry). A
tensor that several functions read is divided evenly among them, so that widths add up to the network.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from pellucid.ir.graph import calls_made, weights_read
from pellucid.ir.notes import ReadingKind
from pellucid.ir.program import Function, Program, Reading

KINDS: tuple[ReadingKind, ...] = ("weights", "code", "words")
NARROWEST = 0.012
"""The least share of its caller that a cell is drawn with."""


@dataclass(frozen=True)
class Cell:
    """A function's place in the hierarchy.

    Attributes:
        name: the function.
        caller: the function it hangs below, "" for the entry.
        level: how far below the entry.
        own: parameters that its exact reading reads itself.
        below: parameters of it and of all cells below it.
        carried: what runs in its place: its chosen reading, or the reading of a caller that runs instead of it.
        mix: how many of the parameters below each reading carries.
        start, width: its place across the page when nothing is zoomed, both from 0 to 1.
        children: the cells below it.
        called: whether anything reaches it from the entry.
    """

    name: str
    caller: str
    level: int
    own: float
    below: float
    carried: ReadingKind
    mix: Mapping[ReadingKind, float]
    start: float
    width: float
    children: tuple[str, ...]
    called: bool = True


@dataclass
class _Draft:
    callers: dict[str, str]
    children: dict[str, list[str]]
    order: list[str]
    uncalled: set[str]
    own: dict[str, float] = field(default_factory=dict)
    carried: dict[str, ReadingKind] = field(default_factory=dict)
    mix: dict[str, dict[ReadingKind, float]] = field(default_factory=dict)


def lay_out(program: Program) -> dict[str, Cell]:
    """The cells of a program by function name, callers before the functions they call, siblings in order of call."""
    draft = _hang(program)
    draft.own = _divide(program, {name: program[name].reading("weights") for name in draft.order})
    _find_carriers(program, draft)
    _mix(program, draft)
    cells: dict[str, Cell] = {}
    pending = [(program.entry, 0, 0.0, 1.0)]
    while pending:
        name, level, start, width = pending.pop()
        cells[name] = _cell(draft, name, level, start, width)
        pending.extend(reversed(_place_children(draft, name, level, start, width)))
    return cells


def functions_called(function: Function) -> tuple[str, ...]:
    """Names of the functions that any reading of `function` calls, the exact reading's first."""
    return tuple(dict.fromkeys(name for reading in function.readings for name in calls_made(reading.body)))


def _hang(program: Program) -> _Draft:
    draft = _Draft({program.entry: ""}, {}, [], set())
    queue = deque([program.entry])
    waiting = deque(program.functions)
    while queue or waiting:
        if not queue:
            name = waiting.popleft()
            if name not in draft.callers:
                draft.callers[name] = program.entry
                draft.children[program.entry].append(name)
                draft.uncalled.add(name)
                queue.append(name)
            continue
        name = queue.popleft()
        draft.order.append(name)
        known = [child for child in functions_called(program[name]) if child in program.functions]
        draft.children[name] = [child for child in known if child not in draft.callers]
        draft.callers.update(dict.fromkeys(draft.children[name], name))
        queue.extend(draft.children[name])
    return draft


def _divide(program: Program, readings: Mapping[str, Reading], among: Set[str] | None = None) -> dict[str, float]:
    """How many parameters each of these readings reads itself; tensors with several readers are divided evenly."""
    readers: dict[str, list[str]] = {}
    for name, reading in readings.items():
        for weight in weights_read(reading.body):
            if among is None or weight in among:
                readers.setdefault(weight, []).append(name)
    shares = dict.fromkeys(readings, 0.0)
    for weight, names in readers.items():
        for name in names:
            shares[name] += program.weights[weight].numel() / len(names)
    return shares


def _find_carriers(program: Program, draft: _Draft) -> None:
    for name in draft.order:
        above = draft.carried.get(draft.callers[name], "weights")
        draft.carried[name] = program[name].chosen if above == "weights" else above


def _mix(program: Program, draft: _Draft) -> None:
    """Parameters by what carries them, bottom up; weights that only the code reads count as weights of their caller."""
    running = _functions_that_run(program)
    original = {name for function in draft.order for name in weights_read(program[function].reading("weights").body)}
    still_read = {name for function in running for name in weights_read(program[function].reading().body)}
    new = _divide(program, {name: program[name].reading() for name in running}, still_read - original)
    kept = _divide(program, {name: program[name].reading("weights") for name in draft.order}, still_read & original)
    draft.mix = {name: dict.fromkeys(KINDS, 0.0) for name in draft.order}
    for name in reversed(draft.order):
        mix = draft.mix[name]
        mix["weights"] += kept.get(name, 0.0)
        mix[draft.carried[name]] += draft.own[name] - kept.get(name, 0.0)
        left = _turn_into_weights(mix, new.get(name, 0.0))
        caller = draft.callers[name]
        if caller:
            new[caller] = new.get(caller, 0.0) + left
            draft.mix[caller].update({kind: draft.mix[caller][kind] + mix[kind] for kind in KINDS})


def _turn_into_weights(mix: dict[ReadingKind, float], amount: float) -> float:
    for kind in KINDS[1:]:
        taken = min(amount, mix[kind])
        mix[kind] -= taken
        mix["weights"] += taken
        amount -= taken
    return amount


def _functions_that_run(program: Program) -> tuple[str, ...]:
    found: dict[str, None] = {}
    pending = [program.entry]
    while pending:
        name = pending.pop()
        if name not in found and name in program.functions:
            found[name] = None
            pending.extend(calls_made(program[name].reading().body))
    return tuple(found)


def _place_children(
    draft: _Draft, name: str, level: int, start: float, width: float
) -> list[tuple[str, int, float, float]]:
    children = draft.children[name]
    sizes = [_below(draft, child) for child in children]
    least = max(NARROWEST, 0.0) if len(children) * NARROWEST < 0.5 else 0.5 / len(children)
    total = sum(sizes) + draft.own[name]
    shares = [max(least, size / total) if total else 1.0 for size in sizes]
    scale = width / (sum(shares) + (draft.own[name] / total if total else 0.0) or 1.0)
    placed = []
    for child, share in zip(children, shares, strict=True):
        placed.append((child, level + 1, start, share * scale))
        start += share * scale
    return placed


def _below(draft: _Draft, name: str) -> float:
    return sum(draft.mix[name].values())


def _cell(draft: _Draft, name: str, level: int, start: float, width: float) -> Cell:
    return Cell(
        name=name,
        caller=draft.callers[name],
        level=level,
        own=draft.own[name],
        below=_below(draft, name),
        carried=draft.carried[name],
        mix=draft.mix[name],
        start=start,
        width=width,
        children=tuple(draft.children[name]),
        called=name not in draft.uncalled,
    )
