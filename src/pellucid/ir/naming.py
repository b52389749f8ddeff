"""Names for a reader: short, the same for equal parts, and safe to print.

A value is named for the module it came out of (`q_proj` gives `q`), for what the primitive that reads it calls it
(`mask`, `cos`), as a person named it, or for the operation. Numbers that torch.export appends are dropped, so that the
thirtieth layer reads like the first.
"""

from __future__ import annotations

import builtins
import functools
import inspect
import keyword
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch

from pellucid.ir.graph import Block, Node, Ref, ValueType, refs
from pellucid.ir.notes import ReadingKind
from pellucid.ir.primitives import OPERATORS, PREFIXES, TORCH
from pellucid.ir.program import Function, Program

RESERVED = frozenset(keyword.kwlist) | frozenset(keyword.softkwlist) | frozenset(dir(builtins))
"""Words that no emitted name may be."""

GENERIC: Mapping[str, tuple[str, ...]] = {
    "real": ("x", "h", "y", "z", "u", "v"),
    "whole": ("n", "m", "k"),
    "truth": ("mask",),
}
"""Names for values of which nothing else is known, by kind of element."""

NOUNS: Mapping[str, str] = {
    "embedding": "embedded", "attention": "mixed", "softmax": "probs", "log_softmax": "logprobs", "arange": "positions",
    "argmax": "best", "concat": "joined", "stack": "stacked", "lookup": "entry", "total": "added", "mean": "average",
    "variance": "spread", "largest": "peak", "smallest": "least", "cumsum": "running", "diff": "change", "cos": "cos",
    "sin": "sin", "zeros": "start", "full": "constant", "split": "part", "unbind": "part", "size": "length",
    "positions": "indices", "lengths": "length", "selector_width": "width", "aggregate": "average", "pick": "picked",
    **dict.fromkeys(("eq", "ne", "lt", "le", "gt", "ge", "logical_not", "any_true", "all_true"), "mask"),
    **dict.fromkeys(("is_in", "all_pairs"), "mask"),
}  # fmt: skip
"""What the result of an operation is called."""

HINTS = frozenset({"mask", "cos", "sin", "ids", "q", "k", "v", "condition"})
"""Parameters of primitives whose names say what the argument is."""

RESHAPING = frozenset(
    ("reshape", "unflatten", "transpose", "permute", "unsqueeze", "squeeze", "expand", "split_heads", "repeat_heads",
     "rotary", "cast")
)  # fmt: skip
"""Operations whose result is called what their first argument is called."""

_EXPORTED = re.compile(r"(_(before|last|sequence|\d+))+$")
_SUFFIX = re.compile(r"(?<=.)_(proj|projection)$")


def identifier(text: str) -> str:
    """The letters, digits and underscores of `text` as a name of at most 40 characters; "" if that gives none."""
    plain = re.sub(r"[^A-Za-z0-9_]+", "_", text).strip("_")[:40].rstrip("_")
    return plain if plain[:1].isalpha() else ""


def given_name(value: str) -> str:
    """The name of a value without the numbers of torch.export, or "" if it only says which operation made it."""
    base = identifier(_EXPORTED.sub("", value))
    return "" if _is_operation(base) else base


@functools.cache
def _is_operation(base: str) -> bool:
    known = base in TORCH or base in {"getitem", "sym_size_int", "seq_size", "batch_size", "size"}
    return not base or known or hasattr(torch.ops.aten, base)


def last_part(path: str) -> str:
    """What the last component of a module's path is called, "" when that is a number: "h.3.attn.q_proj" gives "q"."""
    return _SUFFIX.sub("", identifier(path.split("@")[0].rpartition(".")[2]))


def relative(path: str, base: str) -> str | None:
    """`path` below `base`, "" for `base` itself, None if it lies elsewhere."""
    if not base or path == base:
        return "" if path == base else path
    return path[len(base) + 1 :] if path.startswith(f"{base}.") else None


def kind_of_value(kind: ValueType | None) -> str:
    """A key of GENERIC."""
    dtype = kind.dtype if kind is not None else "float32"
    return "truth" if dtype == "bool" else "real" if "float" in dtype else "whole"


def types_in(program: Program, function: Function, kind: ReadingKind) -> Mapping[str, ValueType]:
    """Types of the values in a reading: all for the exact one; for others, whose names are new, of the signature."""
    if kind == "weights":
        return program.values
    return {v: program.values[v] for v in (*function.inputs, *function.outputs) if v in program.values}


def parameter_names(program: Program) -> dict[str, tuple[str, ...]]:
    """What the inputs of every function are called inside it, the same for all its readings."""
    states = _state_inputs(program)
    names: dict[str, tuple[str, ...]] = {}
    for function in reversed(list(callers_first(program))):
        body = function.readings[0].body
        hints = _hints(function.inputs, body, names)
        wishes = [hint and (given_name(value) or hint) for value, hint in hints.items()]
        if function.name == program.entry:
            wishes = [identifier(value) for value in function.inputs]
        for position, value in enumerate(function.inputs):
            if not wishes[position] and (function.name, position) in states:
                wishes[position] = given_name(value) or "state"
        names[function.name] = _filled(program, function, wishes)
    return names


def _filled(program: Program, function: Function, wishes: Iterable[str]) -> tuple[str, ...]:
    """Wishes completed by what the values are: the first real one is x."""
    found: list[str] = []
    for value, wish in zip(function.inputs, wishes, strict=True):
        generic = GENERIC[kind_of_value(program.values.get(value))]
        if not wish:
            first = generic[0] == "x" and "x" not in found
            wish = "x" if first else given_name(value) or next((g for g in generic if g not in found), generic[0])
        found.append(distinct(f"{wish}_" if wish in RESERVED else wish, found))
    return tuple(found)


def distinct(wish: str, taken: Iterable[str]) -> str:
    """`wish`, or `wish` with the first number from 2 on that is free."""
    held = set(taken)
    options = (wish if number == 1 else f"{wish}{number}" for number in range(1, len(held) + 2))
    return next(option for option in options if option not in held)


def callers_first(program: Program) -> Iterator[Function]:
    """All functions of a program, each after every function that calls it in any reading."""
    waiting = {name: 0 for name in program.functions}
    calls = {name: _callees(function) for name, function in program.functions.items()}
    for callees in calls.values():
        for callee in callees:
            waiting[callee] += 1
    ready = [name for name, count in waiting.items() if not count]
    while ready:
        name = ready.pop(0)
        yield program.functions[name]
        for callee in calls[name]:
            waiting[callee] -= 1
            if not waiting[callee]:
                ready.append(callee)


def _callees(function: Function) -> list[str]:
    nodes = (node for reading in function.readings for node in all_nodes(reading.body))
    return list(dict.fromkeys(node.function for node in nodes if node.op == "call"))


def all_nodes(block: Block) -> Iterator[Node]:
    """The nodes of a block and of the loops in it, in order."""
    for node in block.nodes:
        yield node
        if node.body is not None:
            yield from all_nodes(node.body)


def _state_inputs(program: Program) -> set[tuple[str, int]]:
    """Inputs of functions that are given the state of a loop, as (function, position)."""
    found: set[tuple[str, int]] = set()
    bodies = (reading.body for function in program.functions.values() for reading in function.readings)
    for scan in (node for body in bodies for node in all_nodes(body) if node.op == "scan"):
        assert scan.body is not None
        states = scan.args[0] if isinstance(scan.args[0], tuple) else ()
        held = {Ref(name) for name in scan.body.inputs[: len(states)]}
        for node in scan.body.nodes:
            if node.op == "call":
                found.update((node.function, position) for position, arg in enumerate(node.args) if arg in held)
    return found


def _hints(inputs: Sequence[str], body: Block, names: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """What those that read the inputs of a function call them, "" where that says nothing."""
    readers: dict[str, list[Node]] = {}
    for node in all_nodes(body):
        for value in refs(node):
            readers.setdefault(value, []).append(node)
    return {
        value: purpose(value, lambda one: readers.get(one, []), lambda node: names[node.function]) for value in inputs
    }


def purpose(
    value: str, readers: Callable[[str], Sequence[Node]], inputs: Callable[[Node], Sequence[str]], far: int = 6
) -> str:
    """What the primitives and functions that read a value call it, looking through changes of its shape."""
    nodes = readers(value)
    for node in nodes:
        known: Sequence[str] = ()
        if node.op == "call":
            known = inputs(node)
        elif node.op in TORCH and node.op not in OPERATORS and node.op not in PREFIXES:
            known = _parameters(node.op)
        for parameter, arg in zip(known, node.args, strict=False):
            if parameter in HINTS and arg == Ref(value):
                return "mask" if parameter == "condition" else parameter
    if len(nodes) == 1 and nodes[0].op in RESHAPING and far:
        return purpose(nodes[0].id, readers, inputs, far - 1)
    return ""


@functools.cache
def _parameters(op: str) -> tuple[str, ...]:
    return tuple(inspect.signature(TORCH[op]).parameters)
