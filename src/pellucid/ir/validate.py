"""What makes a program valid: one table of rules, each a name and a function that yields what breaks it.

The rules hold for everything that is saved, loaded, emitted or judged. They also bound what a hostile file can ask for:
names are safe to print and to emit, operations only compute, calls end.
"""

from __future__ import annotations

import inspect
import keyword
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import chain
from typing import TypeAlias

import torch

from pellucid.errors import CannotRun, InvalidProgram
from pellucid.ir.graph import Block, Node, Ref, Weight, calls_made, leaves, refs
from pellucid.ir.primitives import STRUCTURAL, TORCH, opaque
from pellucid.ir.program import Function, Program, Reading

RUN_LIMIT = 10_000_000
"""Nodes that one run of a program may reach through calls (loops counted once)."""

_VALUE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")
_FUNCTION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@/-]{0,299}")
_DTYPES = frozenset(name for name in dir(torch) if isinstance(getattr(torch, name), torch.dtype))
_CELLS = tuple(f"{cell}{step}" for cell in ("rnn_tanh", "rnn_relu", "gru", "lstm") for step in ("", "_cell"))

Problems: TypeAlias = Iterator[str]


def problems(program: Program) -> tuple[str, ...]:
    """What breaks the rules, one line each; empty for a valid program."""
    found = [problem for _, rule in PROGRAM_RULES for problem in rule(program)]
    for function in program.functions.values():
        found += _in_function(program, function)
    return tuple(" ".join(problem.split())[:400] for problem in found)


def validate(program: Program) -> None:
    """Check a program against all rules.

    Raises:
        InvalidProgram: names the first problem.
    """
    found = problems(program)
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise InvalidProgram(f"invalid program: {found[0]}{more}")


def _in_function(program: Program, function: Function) -> Problems:
    for _, rule in FUNCTION_RULES:
        yield from (f"function {function.name!r}: {problem}" for problem in rule(function))
    for reading in function.readings:
        where = f"function {function.name!r}, reading {reading.kind!r}: "
        for _, check in READING_RULES:
            yield from (where + problem for problem in check(function, reading))
        yield from (where + problem for problem in _in_block(program, reading.body))


def _in_block(program: Program, block: Block) -> Problems:
    for _, rule in BLOCK_RULES:
        yield from rule(block)
    for node in block.nodes:
        where = f"node {node.outputs[0]!r} ({node.op}): " if node.outputs else f"a node ({node.op}): "
        for _, check in NODE_RULES:
            yield from (where + problem for problem in check(program, node))
        if node.body is not None:
            yield from (where + problem for problem in _in_block(program, node.body))


# ---- the program


def _entry(program: Program) -> Problems:
    if program.entry not in program.functions:
        yield f"the entry {program.entry!r} is not a function of the program"
        return
    untyped = [name for name in program.functions[program.entry].inputs if name not in program.values]
    yield from (f"input {name!r} of the program has no type" for name in untyped)


def _function_names(program: Program) -> Problems:
    for key, function in program.functions.items():
        if key != function.name:
            yield f"function {function.name!r} is kept under the name {key!r}"
        if not _FUNCTION.fullmatch(function.name):
            yield f"function name {function.name!r} is not letters, digits and _ . @ / -"


def _weight_names(program: Program) -> Problems:
    for name in program.weights:
        if not name.isprintable() or not 0 < len(name) <= 500 or name == "__metadata__":
            yield f"weight name {name!r} is not printable, too long or reserved"


def _values(program: Program) -> Problems:
    for name, kind in program.values.items():
        if kind.dtype not in _DTYPES and kind.dtype not in ("int", "float"):
            yield f"value {name!r} has the unknown type {kind.dtype!r}"
        if any(axis < 0 if isinstance(axis, int) else not _is_line(axis) for axis in kind.axes):
            yield f"value {name!r} has an axis that is neither a size nor a symbol"


def _regions(program: Program) -> Problems:
    names = Counter(region.name for region in program.regions.walk()) if program.regions is not None else Counter()
    for name, count in names.items():
        if count > 1:
            yield f"{count} regions are called {name!r}"
        if not _FUNCTION.fullmatch(name):
            yield f"region name {name!r} is not letters, digits and _ . @ / -"


def _no_recursion(program: Program) -> Problems:
    """Every run ends: no function calls itself, even through others, and no run reaches more than RUN_LIMIT nodes."""
    called = {
        name: {callee for reading in function.readings for callee in calls_made(reading.body)}
        & program.functions.keys()
        for name, function in program.functions.items()
    }
    cost: dict[str, int] = {}
    while ready := [name for name, callees in called.items() if name not in cost and callees <= cost.keys()]:
        for name in ready:
            readings = program.functions[name].readings
            cost[name] = max((_cost(reading.body, cost) for reading in readings), default=0)
    if circular := [name for name in called if name not in cost]:
        yield f"function {circular[0]!r} calls itself, directly or through others"
    elif cost and max(cost.values()) > RUN_LIMIT:
        yield f"one run would reach {max(cost.values()):,} nodes; {RUN_LIMIT:,} are allowed"


def _cost(block: Block, cost: Mapping[str, int]) -> int:
    inner = (cost.get(node.function, 0) if node.op == "call" else 0 for node in block.nodes)
    bodies = (_cost(node.body, cost) for node in block.nodes if node.body is not None)
    return len(block.nodes) + sum(inner) + sum(bodies)


# ---- functions and readings


def _texts(function: Function) -> Problems:
    held = {"kind": function.kind, "scope": function.scope}
    for reading in function.readings:
        held |= {f"method of {reading.kind}": reading.method, f"summary of {reading.kind}": reading.summary}
    yield from (f"its {name} is not one line of text" for name, line in held.items() if not _is_line(line))


def _signature_names(function: Function) -> Problems:
    yield from (f"input {name!r} is repeated" for name, n in Counter(function.inputs).items() if n > 1)
    if not function.outputs:
        yield "it has no output"


def _readings(function: Function) -> Problems:
    kinds = [reading.kind for reading in function.readings]
    if not kinds or kinds[0] != "weights":
        yield "its readings do not start with 'weights'"
    if len(set(kinds)) < len(kinds):
        yield "it has two readings of one kind"
    if function.chosen not in kinds:
        yield f"it has chosen the reading {function.chosen!r}, which it does not have"


def _signature(function: Function, reading: Reading) -> Problems:
    if reading.body.inputs != function.inputs:
        yield f"takes ({', '.join(reading.body.inputs)}), the function takes ({', '.join(function.inputs)})"
    if reading.body.outputs != function.outputs:
        yield f"gives ({', '.join(reading.body.outputs)}), the function gives ({', '.join(function.outputs)})"


def _budget(function: Function, reading: Reading) -> Problems:
    if not 0 <= reading.budget < float("inf"):
        yield f"its budget is {reading.budget}"


# ---- blocks


def _value_names(block: Block) -> Problems:
    for name in chain(block.inputs, *(node.outputs for node in block.nodes)):
        if not _VALUE.fullmatch(name) or keyword.iskeyword(name):
            yield f"value name {name!r} is not an identifier"


def _defined_once(block: Block) -> Problems:
    counts = Counter(chain(block.inputs, *(node.outputs for node in block.nodes)))
    yield from (f"value {name!r} is defined {count} times" for name, count in counts.items() if count > 1)


def _defined_before_use(block: Block) -> Problems:
    known = set(block.inputs)
    for node in block.nodes:
        yield from (
            f"node {node.outputs[:1]} reads {name!r} before it is defined" for name in refs(node) if name not in known
        )
        known.update(node.outputs)
    yield from (f"output {name!r} is never defined" for name in block.outputs if name not in known)


# ---- nodes


def _has_outputs(program: Program, node: Node) -> Problems:
    if not node.outputs:
        yield "it defines no value"


def _known_weights(program: Program, node: Node) -> Problems:
    read = {leaf.name: None for leaf in leaves(node) if isinstance(leaf, Weight)}
    yield from (
        f"reads the weight {name!r}, which the program does not have" for name in read if name not in program.weights
    )


def _literals(program: Program, node: Node) -> Problems:
    for leaf in leaves(node):
        if isinstance(leaf, int) and not -(2**63) <= leaf < 2**64:
            yield "an integer needs more than 64 bits"
        if isinstance(leaf, str) and not _is_line(leaf):
            yield "a string is not one line of text"
        if not isinstance(leaf, Ref | Weight | int | float | bool | str | None):
            yield f"an argument is a {type(leaf).__name__}"


def _origin(program: Program, node: Node) -> Problems:
    if not _is_line(node.scope) or not _is_line(node.source):
        yield "its origin is not one line of text"


def _operation(program: Program, node: Node) -> Problems:
    if node.op in STRUCTURAL:
        return
    if node.function or node.body is not None:
        yield "only calls name a function and only scans have a body"
    if node.op not in TORCH:
        yield from _opaque(node.op)
        return
    try:
        given = _parameters(node.op).bind(*node.args, **dict(node.kwargs)).arguments
    except TypeError as error:
        yield f"its arguments do not fit the operation ({error})"
        return
    if "dtype" in given and given["dtype"] not in _DTYPES:
        yield f"the element type {given['dtype']!r} is unknown"
    if "cell" in given and given["cell"] not in _CELLS:
        yield f"the recurrent cell {given['cell']!r} is unknown"


def _opaque(op: str) -> Problems:
    if any(part.startswith("__") for part in op.split(".")):
        yield "unknown operation"
        return
    try:
        opaque(op)
    except CannotRun as error:
        yield str(error)


@cache
def _parameters(op: str) -> inspect.Signature:
    return inspect.signature(TORCH[op])


def _call(program: Program, node: Node) -> Problems:
    if node.op != "call":
        return
    callee = program.functions.get(node.function)
    if callee is None:
        yield f"calls {node.function!r}, which is not a function of the program"
        return
    if node.kwargs or node.body is not None or len(node.args) != len(callee.inputs):
        yield f"passes {len(node.args)} arguments, {callee.name!r} takes {len(callee.inputs)}"
    if len(node.outputs) != len(callee.outputs):
        yield f"takes {len(node.outputs)} results, {callee.name!r} gives {len(callee.outputs)}"


def _scan(program: Program, node: Node) -> Problems:
    if node.op != "scan":
        return
    parts = [part if isinstance(part, tuple) else None for part in node.args]
    if node.body is None or len(parts) != 3 or None in parts:
        yield "a scan has a body and three tuples: states, sequences, fixed values"
        return
    states, sequences, fixed = (part or () for part in parts)
    if not sequences:
        yield "a scan needs a sequence to walk along"
    if len(node.body.inputs) != len(states) + len(sequences) + len(fixed):
        yield f"its body takes {len(node.body.inputs)} values, it is given {len(states) + len(sequences) + len(fixed)}"
    if len(node.body.outputs) != len(node.outputs) or len(node.outputs) < len(states):
        yield f"its body gives {len(node.body.outputs)} values for {len(states)} states and {len(node.outputs)} results"
    if any(name != "axis" or type(value) is not int for name, value in node.kwargs) or len(node.kwargs) > 1:
        yield "its only option is the axis of time, a whole number"


def _is_line(line: str) -> bool:
    return len(line) <= 10_000 and line.isprintable()


PROGRAM_RULES: tuple[tuple[str, Callable[[Program], Problems]], ...] = (
    ("the entry is a function whose inputs have types", _entry),
    ("functions are kept under their own, safe names", _function_names),
    ("names of weights are printable", _weight_names),
    ("types of values are known", _values),
    ("regions have safe names, each once", _regions),
    ("every run ends", _no_recursion),
)
FUNCTION_RULES: tuple[tuple[str, Callable[[Function], Problems]], ...] = (
    ("texts are one line", _texts),
    ("inputs are distinct, and there is an output", _signature_names),
    ("the exact reading comes first, each kind once, the chosen one is there", _readings),
)
READING_RULES: tuple[tuple[str, Callable[[Function, Reading], Problems]], ...] = (
    ("a reading has its function's signature", _signature),
    ("a budget is a finite share", _budget),
)
BLOCK_RULES: tuple[tuple[str, Callable[[Block], Problems]], ...] = (
    ("names of values are identifiers", _value_names),
    ("a value is defined once", _defined_once),
    ("a value is defined before it is used", _defined_before_use),
)
NODE_RULES: tuple[tuple[str, Callable[[Program, Node], Problems]], ...] = (
    ("a node defines a value", _has_outputs),
    ("weights that are read exist", _known_weights),
    ("literals are plain and bounded", _literals),
    ("origins are one line", _origin),
    ("operations are known, safe, and given what they take", _operation),
    ("a call fits the function it calls", _call),
    ("a scan fits its body", _scan),
)
