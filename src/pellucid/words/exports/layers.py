"""Which layer a function is in, from the calls of a program and not from names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from pellucid.ir.graph import calls_made
from pellucid.ir.program import Program


def layers_of(program: Program) -> Mapping[str, int]:
    """The number of the layer, from 0, of every function that the exact program calls.

    A layer is the outermost function, on the way to a function, whose kind is there more than once; it is counted among
    those of its kind in the order of calls. Where there is none, the number is 0.
    """
    often = Counter(program[name].kind for name in {name for name, _ in _called(program, program.entry, ())})
    found: dict[str, int] = {}
    numbers: dict[str, dict[str, int]] = {}
    for name, above in _called(program, program.entry, ()):
        if name in found:
            continue
        layer = next((one for one in (*above, name) if often[program[one].kind] > 1), None)
        if layer is None:
            found[name] = 0
        else:
            alike = numbers.setdefault(program[layer].kind, {})
            found[name] = alike.setdefault(layer, len(alike))
    return found


def _called(program: Program, name: str, callers: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every call of the exact program, with the callers, outermost first."""
    yield name, callers
    for one in calls_made(program[name].reading("weights").body):
        yield from _called(program, one, (*callers, name))
