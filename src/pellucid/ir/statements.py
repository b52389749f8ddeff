"""Blocks as Python statements that a person would have written.

1. Nodes that nothing needs are left out. 2. A value that is used once waits as an expression and is folded into its
use, as long as the line stays short and calls are nested at most twice; otherwise it gets a line and a name. 3. A name
is given again when the value that held it has just been used up (`x = relu(x)`). 4. Runs of equal calls and scans
become `for` loops (`pellucid.ir.loops`); nothing is folded into a loop from outside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

from pellucid.ir import loops
from pellucid.ir.expressions import Expr, call, joined, listed, literal, name, operation
from pellucid.ir.graph import Arg, Block, Node, Ref, ValueType, Weight, leaves, refs
from pellucid.ir.naming import GENERIC, RESERVED, given_name
from pellucid.ir.primitives import PREFIXES, TORCH, opaque
from pellucid.ir.stems import generic_name, stem_of

FOLDED = 88
"""Longest line that folding may make."""

NESTED = 2
"""Deepest nesting of calls that folding may make."""

_TUPLES = frozenset({"split", "unbind", "recurrent"})
_ALIKE = 0.75


@dataclass(frozen=True)
class Line:
    """A line of code: its text, the columns it is indented by, and the ids of the nodes it computes."""

    text: str
    indent: int = 0
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Callee:
    """How the function of a call is written.

    Attributes:
        function: what stands before the brackets.
        key: equal for functions of equal text.
        path: where its own part lies below the caller's, None if the call does not say so.
        inputs, outputs: what it calls its inputs and results.
    """

    function: str
    key: str
    path: str | None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@runtime_checkable
class Style(Protocol):
    """What differs between pseudocode and Python that runs."""

    def weight(self, weight: str) -> str:
        """A weight, by its name in the network."""

    def callee(self, node: Node) -> Callee:
        """The function that a call runs."""

    def call(self, callee: Callee, args: Sequence[str], numbered: tuple[int, str] | None) -> tuple[str, list[str]]:
        """What is called and with which arguments; in a run, component `numbered[0]` of the path is a variable."""


@dataclass(frozen=True)
class Place:
    """Where a block belongs: name and scope of its function, whether that is the entry, and the types of values."""

    function: str
    scope: str
    entry: bool
    types: Mapping[str, ValueType]


@dataclass(frozen=True)
class Listing:
    """A block as text: what its inputs and outputs are called, and its lines."""

    parameters: tuple[str, ...]
    outputs: tuple[str, ...]
    lines: tuple[Line, ...]


def write_block(
    block: Block, parameters: Sequence[str], place: Place, style: Style, reserved: Iterable[str]
) -> Listing:
    """The statements of a function whose inputs are called `parameters`; no local name is one of `reserved`."""
    live = living(block)
    banned = RESERVED | set(reserved) | set(called_names(live, style))
    parameters = [f"{parameter}_in" if parameter in banned else parameter for parameter in parameters]
    writer = Writer(block, live, place, style, set(parameters), banned, indent=4)
    writer.kept = frozenset(parameters) if place.entry else frozenset()
    for value, parameter in zip(block.inputs, parameters, strict=True):
        writer.hold(value, parameter)
    writer.write()
    outputs = writer.results()
    writer.emit(f"return {', '.join(part.text for part in outputs)}", outputs)
    stems = tuple(writer.stems.get(value, GENERIC["real"][0]) for value in block.outputs)
    return Listing(tuple(parameters), stems, tuple(writer.lines))


def living(block: Block) -> tuple[Node, ...]:
    """The nodes that the outputs of a block depend on."""
    needed, kept = set(block.outputs), []
    for node in reversed(block.nodes):
        if needed.intersection(node.outputs):
            kept.append(node)
            needed.update(refs(node))
    return tuple(reversed(kept))


def called_names(nodes: Iterable[Node], style: Style) -> set[str]:
    """The names that are called in these nodes, which no local name may hide."""
    found: set[str] = set()
    for node in nodes:
        if node.op == "call":
            found.add(style.callee(node).function)
        elif node.body is not None:
            found |= {"stack"} | called_names(node.body.nodes, style)
        else:
            found.add(node.op)
    return found


class Writer:
    """Turns the nodes of one block into lines; loops in it get writers of their own."""

    def __init__(
        self,
        block: Block,
        live: Sequence[Node],
        place: Place,
        style: Style,
        used: set[str],
        banned: set[str] | frozenset[str],
        indent: int,
        targets: Mapping[str, str] | None = None,
    ) -> None:
        self.block, self.live, self.place, self.style = block, live, place, style
        self.used, self.banned, self.indent = used, banned, indent
        self.targets = dict(targets or {})
        self.left = Counter(leaf.name for node in live for leaf in leaves(node) if isinstance(leaf, Ref))
        self.left.update(block.outputs)
        self.readers: dict[str, list[Node]] = {}
        for node in live:
            for value in refs(node):
                self.readers.setdefault(value, []).append(node)
        self.kept: frozenset[str] = frozenset()
        self.spare: set[str] = set()
        self.ranks: dict[str, int | None] = {}
        self.called = {value for node in live if node.op == "call" for value in node.outputs}
        self.env: dict[str, Expr] = {}
        self.waiting: dict[str, str] = {}
        self.holders: dict[str, str] = {}
        self.stems: dict[str, str] = {}
        self.lines: list[Line] = []

    # ---- the walk

    def write(self) -> None:
        """Write all nodes."""
        position = 0
        while position < len(self.live):
            node = self.live[position]
            run = loops.run_of_calls(self.live, position, self.style, self.left)
            if run is not None:
                loops.write_run(self, run)
                position += len(run.nodes)
                continue
            if node.op == "scan":
                loops.write_scan(self, node)
            elif _gives_tuple(node):
                self._unpack(node)
            else:
                self._single(node)
            position += 1

    def results(self) -> list[Expr]:
        """The outputs of the block, short enough for one line where that can be."""
        while True:
            parts = [self.env[value] for value in self.block.outputs]
            length = self.indent + len("return ") + sum(len(part.text) + 2 for part in parts)
            waiting = [value for value in self.block.outputs if value in self.waiting]
            if length <= FOLDED or len(parts) == 1 or not waiting:
                return parts
            self.settle(max(waiting, key=lambda value: len(self.env[value].text)))

    def _single(self, node: Node) -> None:
        stem = stem_of(self, node, 0)
        expr = self._built(node, len(stem) + 3)
        self._use_up(node)
        self.ranks[node.id] = self.rank(node.args[0]) if node.op in ("cast", "clip", *PREFIXES) else None
        self.define(node.id, expr, stem)

    def define(self, value: str, expr: Expr, stem: str) -> None:
        """Let a value wait to be folded into its only use, or write it if it has several."""
        self.stems[value] = stem or given_name(value) or generic_name(self, value)
        target = self.targets.get(value)
        if self.left[value] == 1 and (target is None or not self.free(target)):
            self.env[value] = expr
            self.waiting[value] = self.stems[value]
        else:
            self.assign(value, expr, self.stems[value])

    def nested(self, block: Block, targets: Mapping[str, str], guarded: Collection[str]) -> Writer:
        """A writer for the body of a loop; values in `targets` take the names of the states they replace.

        Names whose values are used up by now, and that the loop does not read (`guarded`), may be given again.
        """
        inner = Writer(block, living(block), self.place, self.style, self.used, self.banned, self.indent + 4, targets)
        inner.spare = {local for local in self.holders if local not in guarded and self.free(local)}
        return inner

    def _unpack(self, node: Node) -> None:
        stems = [stem_of(self, node, j) for j in range(len(node.outputs))]
        expr = self._built(node, sum(len(stem) + 2 for stem in stems) + 1)
        self._use_up(node)
        names = []
        for value, stem in zip(node.outputs, stems, strict=True):
            self.stems[value] = stem
            names.append(self._allocate(value, stem, expr) if self.left[value] else "_")
            if self.left[value]:
                self.hold(value, names[-1])
        self.emit(f"{', '.join(names) if len(names) > 1 else f'({names[0]},)'} = {expr.text}", [expr])

    # ---- expressions

    def part(self, arg: Arg) -> Expr | None:
        """An argument as an expression; None stays None."""
        if arg is None:
            return None
        if isinstance(arg, tuple):
            return listed([self.part(item) or Expr("None", plain=True) for item in arg])
        if isinstance(arg, Ref):
            return self.env[arg.name]
        return Expr(self.style.weight(arg.name)) if isinstance(arg, Weight) else literal(arg)

    def _built(self, node: Node, head: int) -> Expr:
        """The expression of a node; operands that would make the line long or deep get lines of their own."""
        for value in refs(node) if node.op == "call" else ():
            if value in self.waiting and value in self.called:
                self.settle(value)
        while True:
            expr = self._expression(node)
            waiting = [value for value in refs(node) if value in self.waiting]
            fits = self.indent + head + len(expr.text) <= FOLDED and expr.depth <= NESTED
            foldable = [value for value in waiting if self.env[value].depth or len(self.env[value].text) > 12]
            if fits or not foldable:
                return expr
            worst = max((self.env[value].depth, len(self.env[value].text)) for value in foldable)
            for value in foldable:
                if self.env[value].depth == worst[0] and len(self.env[value].text) > _ALIKE * worst[1]:
                    self.settle(value)

    def _expression(self, node: Node) -> Expr:
        args = [self.part(arg) for arg in node.args]
        options = {key: self.part(value) or Expr("None", plain=True) for key, value in node.kwargs}
        if node.op == "call":
            parts = [part or Expr("None") for part in args]
            function, texts = self.style.call(self.style.callee(node), [part.text for part in parts], None)
            return call(function, texts, parts, node)
        first = node.args[0] if node.args else None
        return operation(node, args, options, self.rank(first))

    def rank(self, value: Arg) -> int | None:
        """The number of axes of a value, if it is known."""
        if not isinstance(value, Ref):
            return None
        kind = self.place.types.get(value.name)
        return self.ranks.get(value.name) if kind is None else len(kind.axes)

    def _use_up(self, node: Node) -> None:
        for leaf in leaves(node):
            if isinstance(leaf, Ref):
                self.use(leaf.name)

    def use(self, value: str) -> None:
        """Count one use of a value; a waiting one is then part of its user."""
        self.left[value] -= 1
        if not self.left[value]:
            self.waiting.pop(value, None)

    # ---- names

    def hold(self, value: str, local: str) -> None:
        """From here on `value` is called `local`."""
        self.env[value] = name(local)
        self.used.add(local)
        self.holders[local] = value
        self.stems.setdefault(value, local)

    def settle(self, value: str, stem: str = "", protected: frozenset[str] = frozenset()) -> None:
        """Give a waiting value a line and a name, which is none of `protected`."""
        waiting = self.waiting.pop(value)
        self.assign(value, self.env[value], stem or waiting, protected)

    def assign(self, value: str, expr: Expr, stem: str, protected: frozenset[str] = frozenset()) -> None:
        """Write `name = expr`."""
        local = self._allocate(value, stem, expr, protected)
        self.emit(f"{local} = {expr.text}", [expr])
        self.hold(value, local)

    def fresh(self, stem: str, protected: Iterable[str] = ()) -> str:
        """A name for something new, none of `protected`."""
        return self._allocate("", stem, Expr(""), frozenset(protected))

    def free(self, local: str) -> bool:
        """Whether the value that a name stands for is used up, and nothing that waits reads it."""
        holder = self.holders.get(local)
        waiting = any(local in self.env[value].reads for value in self.waiting)
        return holder is not None and not self.left[holder] and not waiting

    def _allocate(self, value: str, stem: str, expr: Expr, protected: frozenset[str] = frozenset()) -> str:
        target = self.targets.get(value)
        if target is not None and self.free(target):
            return target
        wish = f"{stem}_out" if stem in self.banned else stem
        if wish in expr.reads and wish in self.holders and not self.left[self.holders[wish]] and wish not in protected:
            for other in [other for other in self.waiting if wish in self.env[other].reads]:
                self.settle(other, protected=protected | expr.reads)
        family = next((names for names in GENERIC.values() if wish in names), ())
        again = [option for option in (wish, *family) if option in expr.reads or option in family]
        for option in dict.fromkeys((wish, *family)):
            if option in protected or option in self.banned:
                continue
            if option not in self.used or option in self.spare or (option in again and self.free(option)):
                self.used.add(option)
                self.spare.discard(option)
                return option
        number = 2
        while f"{wish}{number}" in self.used or f"{wish}{number}" in self.banned:
            number += 1
        self.used.add(f"{wish}{number}")
        return f"{wish}{number}"

    # ---- lines

    def emit(self, text: str, parts: Sequence[Expr] = (), nodes: Sequence[str] = ()) -> None:
        """Add a line."""
        made = joined("", 0, parts).nodes
        self.lines.append(Line(text, self.indent, tuple(dict.fromkeys((*made, *nodes)))))


def _gives_tuple(node: Node) -> bool:
    if len(node.outputs) > 1 or node.op in _TUPLES:
        return True
    if node.op in TORCH or not node.op.startswith("aten."):
        return False
    returns = opaque(node.op)._schema.returns  # type: ignore[attr-defined]
    return len(returns) != 1 or isinstance(returns[0].type, torch.ListType)
