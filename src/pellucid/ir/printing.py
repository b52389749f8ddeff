"""Programs as pseudocode: what is still weights first, then the functions level by level, equal ones once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pellucid.ir.expressions import broken
from pellucid.ir.graph import Block, Node, ValueType, calls_made, weights_read
from pellucid.ir.ledger import weights_left
from pellucid.ir.likeness import Likeness, Variant, likeness_of
from pellucid.ir.naming import GENERIC, all_nodes, given_name, relative, types_in
from pellucid.ir.notes import ReadingKind
from pellucid.ir.program import Function, Program
from pellucid.ir.statements import Callee, Line, Listing, Place, write_block

SHOWN = 6
"""Longest list of names that is written out."""


@dataclass
class Pseudocode:
    """How one function's calls and weights are written: by their paths below it."""

    likeness: Likeness
    function: Function
    inner: ReadingKind | None
    callees: dict[str, Callee] = field(default_factory=dict)

    def weight(self, weight: str) -> str:
        """The weight's name below the function."""
        text = relative(weight, self.function.scope) or weight
        return text if re.fullmatch(r"[A-Za-z0-9_.]+", text) else repr(text)

    def callee(self, node: Node) -> Callee:
        """The function by its name below this one."""
        if node.function not in self.callees:
            name = node.function
            text = relative(name, self.function.name) or name
            digest = self.likeness.digest(self.likeness.chosen(name, self.inner))
            outputs = self.likeness.program[name].outputs
            self.callees[name] = Callee(
                text, digest, text, self.likeness.names[name], tuple(_plain(v) for v in outputs)
            )
        return self.callees[node.function]

    def call(self, callee: Callee, args: Sequence[str], numbered: tuple[int, str] | None) -> tuple[str, list[str]]:
        """`name(args)`, or `layers[i](args)` in a run."""
        parts = callee.function.split(".")
        if numbered is not None:
            place, counter = numbered
            parts[place - 1 : place + 1] = [f"{parts[place - 1] if place else ''}[{counter}]"]
        return ".".join(parts), list(args)


def _plain(value: str) -> str:
    return given_name(value) or GENERIC["real"][0]


def program_text(program: Program, depth: int | None = 2, start: str | None = None) -> str:
    """A program as pseudocode, from `start` (the whole when None) opened down to `depth` levels below (None: all).

    Raises:
        BadInput: the program has no function `start`.
    """
    likeness = likeness_of(program)
    groups: dict[str, list[str]] = {}
    for name in _by_level(program, program.entry if start is None else program[start].name, depth):
        groups.setdefault(likeness.digest(likeness.chosen(name, None)), []).append(name)
    sections = [_header(program), *(_section(likeness, names) for names in groups.values())]
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def function_source(program: Program, name: str, kind: ReadingKind | None = None) -> str:
    """One function as pseudocode, in the reading `kind` (the chosen one when None).

    Raises:
        BadInput: the program has no such function.
    """
    variant = Variant(name, program[name].reading(kind).kind, kind)
    return "\n".join(_definition(likeness_of(program), variant)) + "\n"


def listing(likeness: Likeness, variant: Variant) -> Listing:
    """The lines of a function in pseudocode."""
    function = likeness.program[variant.function]
    style = Pseudocode(likeness, function, variant.inner)
    types = types_in(likeness.program, function, variant.kind)
    place = Place(function.name, function.scope, function.name == likeness.program.entry, types)
    return write_block(likeness.body(variant), likeness.names[function.name], place, style, ())


def laid_out(lines: Sequence[Line]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Lines of text with the nodes they compute, long ones broken."""
    for line in lines:
        for text in broken(line.text, line.indent):
            yield text, line.nodes


def _by_level(program: Program, start: str, depth: int | None) -> Iterator[str]:
    level, seen = [start], {start}
    while level and (depth is None or depth >= 0):
        yield from level
        below = [child for name in level for child in program.children(name)]
        level = [name for name in dict.fromkeys(below) if name not in seen]
        seen.update(level)
        depth = None if depth is None else depth - 1


# ---- what is said about the whole and about each function


def _header(program: Program) -> list[str]:
    ledger = program.ledger
    kinds: tuple[tuple[ReadingKind, str], ...] = (("weights", "still weights"), ("code", "code"), ("words", "words"))
    shares = ", ".join(f"{ledger.share(kind):.1%} {word}" for kind, word in kinds)
    units = f"{ledger.share('weights', by='units'):.1%} of {ledger.unit_count:,} units still weights"
    loss = f"; {ledger.share('code', by='loss'):.1%} of the loss recovered by code" if ledger.loss else ""
    lines = [f"{program.source or 'program'}: {ledger.parameter_count:,} parameters", f"{shares}; {units}{loss}"]
    return [*lines, *(f"note: {remark}" for remark in program.notes.remarks)]


def _section(likeness: Likeness, names: Sequence[str]) -> list[str]:
    program, first = likeness.program, likeness.program[names[0]]
    reading = first.reading()
    lines = [f"# {first.kind}, {_size(program, first.name)}"]
    how = f"# shown as {reading.kind} ({reading.method})"
    if reading.kind != "weights":
        how += f", {_bits(reading.bits)} instead of {_bits(program.exact_bits(first.name))}"
    lines.append(f"{how}: {reading.summary}" if reading.summary else how)
    lines += [f"# {line}" for line in _made_of(likeness, first)]
    if len(names) > 1:
        lines.append(f"# the same: {_list(names[1:])}")
    if first.name in program.notes.descriptions:
        lines.append(f"# {program.notes.descriptions[first.name]}")
    return [*lines, *_definition(likeness, likeness.chosen(first.name, None))]


def _definition(likeness: Likeness, variant: Variant) -> list[str]:
    function, values = likeness.program[variant.function], likeness.program.values
    found = listing(likeness, variant)
    inputs = [_typed(name, values.get(value)) for name, value in zip(found.parameters, function.inputs, strict=True)]
    outputs = [str(values.get(value, "unknown")) for value in function.outputs]
    head = f"def {function.name}({', '.join(inputs)}) -> {', '.join(outputs)}:"
    return [*broken(head, 0), *(text for text, _ in laid_out(found.lines))]


def _typed(name: str, kind: ValueType | None) -> str:
    return name if kind is None else f"{name}: {kind}"


def _size(program: Program, name: str) -> str:
    everything, left = set(_weights_below(program, name, "weights")), weights_left(program, name)
    count = sum(program.weights[weight].numel() for weight in everything)
    remaining = min(count, sum(program.weights[weight].numel() for weight in left))
    share = f", {remaining / count:.1%} still weights" if count else ""
    return f"{count:,} parameters{share}, {_bits(_bits_below(program, name))}"


def _weights_below(program: Program, name: str, kind: ReadingKind | None) -> Iterator[str]:
    body = program[name].reading(kind).body
    yield from weights_read(body)
    for child in calls_made(body):
        yield from _weights_below(program, child, kind)


def _bits_below(program: Program, name: str) -> float:
    """Bits of a function as chosen and of all functions below it, each once."""
    below, waiting = {name}, [name]
    while waiting:
        fresh = [child for child in program.children(waiting.pop()) if child not in below]
        below.update(fresh)
        waiting.extend(fresh)
    return sum(program[part].reading().bits for part in sorted(below))


def _made_of(likeness: Likeness, function: Function) -> Iterator[str]:
    """What a function is made of: the functions it calls, and the weights it reads itself."""
    body = function.reading().body
    parts: dict[str, list[str]] = {}
    for child in _calls_in_order(body):
        parts.setdefault(likeness.digest(likeness.chosen(child, None)), []).append(child)
    if parts:
        texts = [
            _list([relative(n, function.name) or n for n in names])
            if len(names) <= 2
            else f"{len(names)} × {likeness.program[names[0]].kind}"
            for names in parts.values()
        ]
        yield f"made of {', '.join(texts)}"
    weights = [
        f"{relative(name, function.scope) or name} {list(likeness.program.weights[name].shape)}"
        for name in weights_read(body)
    ]
    if weights:
        yield f"reads {_list(weights)}"


def _calls_in_order(body: Block) -> list[str]:
    return list(dict.fromkeys(node.function for node in all_nodes(body) if node.op == "call"))


def _list(names: Sequence[str]) -> str:
    if len(names) <= SHOWN:
        return ", ".join(names)
    return f"{', '.join(names[: SHOWN - 2])} … {names[-1]} ({len(names)})"


def _bits(bits: float) -> str:
    for unit, size in (("Gbit", 1e9), ("Mbit", 1e6), ("kbit", 1e3)):
        if bits >= size:
            return f"{bits / size:,.1f} {unit}"
    return f"{bits:,.0f} bits"
