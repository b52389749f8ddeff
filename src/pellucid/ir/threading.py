"""Handing the token ids down: functions that words describe get the ids of the entry as a further input.

A pure pass from program to program. Which functions already have the ids among their inputs follows from the calls: an
input is the ids where every call passes them. All other functions on a way from the entry to a wanted one get a new
last input, their calls pass it, loops carry it along; what is computed stays the same to the bit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping

from pellucid.errors import BadInput
from pellucid.ir.graph import Block, Node, Ref, calls_made
from pellucid.ir.naming import callers_first, distinct
from pellucid.ir.program import Function, Program


def with_ids(program: Program, wanted: Collection[str]) -> Program:
    """The same program in which the wanted functions, and all on the way to them, take the token ids.

    Args:
        program: a language model: its only input is int64[batch, position].
        wanted: names of functions.

    Raises:
        BadInput: the program takes more than ids, or has no such function.
    """
    ids = ids_of(program)
    for name in wanted:
        _ = program[name]
    held = holders(program)
    reaching = _reaching(program, set(wanted) - held.keys())
    fresh = {name: _fresh(program[name], ids) for name in reaching if name not in held}
    known = {**held, **fresh}
    functions = {
        name: _threaded(function, fresh, known[name]) if name in reaching else function
        for name, function in program.functions.items()
    }
    values = {**program.values, **dict.fromkeys(fresh.values(), program.values[ids])}
    return dataclasses.replace(program, functions=functions, values=values)


def ids_of(program: Program) -> str:
    """The name of the program's input, the ids. Raises BadInput when it takes something else."""
    inputs = program[program.entry].inputs
    kind = program.values[inputs[0]] if len(inputs) == 1 else None
    if kind is None or "int" not in kind.dtype or len(kind.axes) != 2:
        taken = ", ".join(f"{name}: {program.values.get(name)}" for name in inputs)
        raise BadInput(f"program takes ({taken}); words describe networks that take token ids [batch, position] only")
    return inputs[0]


def holders(program: Program) -> dict[str, str]:
    """The functions that have the ids of the entry among their inputs, and what they call them."""
    held = {program.entry: ids_of(program)}
    passed: dict[str, list[frozenset[int]]] = {}
    for function in callers_first(program):
        own = held.get(function.name)
        if function.name in passed:
            places = frozenset.intersection(*passed[function.name])
            if places:
                own = held[function.name] = function.inputs[min(places)]
        for reading in function.readings:
            for node, inside in _calls(reading.body):
                places = frozenset(i for i, arg in enumerate(node.args) if not inside and arg == Ref(own or ""))
                passed.setdefault(node.function, []).append(places)
    return held


def _calls(block: Block, inside: bool = False) -> Iterator[tuple[Node, bool]]:
    """The calls in a block, and whether they stand in a loop."""
    for node in block.nodes:
        if node.op == "call":
            yield node, inside
        if node.body is not None:
            yield from _calls(node.body, True)


def _reaching(program: Program, wanted: set[str]) -> set[str]:
    """The wanted functions and all that call one of them, at any depth, in any reading."""
    found = set(wanted)
    for function in reversed([*callers_first(program)]):
        if found.intersection(callee for reading in function.readings for callee in calls_made(reading.body)):
            found.add(function.name)
    return found


def _fresh(function: Function, ids: str) -> str:
    """A name for the ids that no value of the function's readings has."""
    taken = {name for reading in function.readings for name in _names(reading.body)}
    return distinct(ids, taken)


def _names(block: Block) -> Iterator[str]:
    yield from block.inputs
    for node in block.nodes:
        yield from node.outputs
        if node.body is not None:
            yield from _names(node.body)


def _threaded(function: Function, fresh: Mapping[str, str], own: str) -> Function:
    """The function with the ids as a last input where they are new, and its calls passing them."""
    more = (own,) if function.name in fresh else ()

    def pass_on(node: Node) -> Node:
        return node.with_changes(args=(*node.args, Ref(own))) if node.function in fresh else node

    readings = []
    for reading in function.readings:
        block = _with_calls(reading.body, fresh, own, pass_on)
        readings.append(dataclasses.replace(reading, body=dataclasses.replace(block, inputs=(*block.inputs, *more))))
    return dataclasses.replace(function, inputs=(*function.inputs, *more), readings=tuple(readings))


def _with_calls(block: Block, fresh: Mapping[str, str], own: str, change: Callable[[Node], Node]) -> Block:
    """The block with its calls changed; loops around such calls carry the ids as a last fixed value."""
    nodes = []
    for node in block.nodes:
        if node.op == "call":
            nodes.append(change(node))
        elif node.body is not None and any(callee in fresh for callee in calls_made(node.body)):
            body = _with_calls(node.body, fresh, own, change)
            states, sequences, fixed = node.args
            assert isinstance(fixed, tuple)
            body = dataclasses.replace(body, inputs=(*body.inputs, own))
            nodes.append(node.with_changes(args=(states, sequences, (*fixed, Ref(own))), body=body))
        else:
            nodes.append(node)
    return dataclasses.replace(block, nodes=tuple(nodes))
