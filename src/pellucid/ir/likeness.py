"""Which functions of a program are the same but for their weights, like the layers of a transformer.

A function's digest covers everything that its text is made from: operations, wiring by position, literals, weights and
modules by their paths below the function, and the digests of what it calls. Equal digests give equal text.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pellucid.ir.graph import Arg, Block, Node, Ref, ValueType, Weight
from pellucid.ir.naming import given_name, kind_of_value, parameter_names, relative, types_in
from pellucid.ir.notes import ReadingKind
from pellucid.ir.program import Function, Program


@dataclass(frozen=True)
class Variant:
    """A function in one reading, with the reading that the functions it calls have (None: the chosen ones)."""

    function: str
    kind: ReadingKind
    inner: ReadingKind | None


@dataclass
class Likeness:
    """Digests of variants, worked out as they are asked for; `names` are what the inputs of functions are called."""

    program: Program
    names: Mapping[str, tuple[str, ...]]
    bodies: Mapping[tuple[str, ReadingKind], Block] = field(default_factory=dict)
    digests: dict[Variant, str] = field(default_factory=dict)

    def chosen(self, name: str, inner: ReadingKind | None) -> Variant:
        """The variant that runs when `name` is called where callees have the reading `inner`."""
        return Variant(name, self.program[name].reading(inner).kind, inner)

    def body(self, variant: Variant) -> Block:
        """What a variant computes."""
        held = self.bodies.get((variant.function, variant.kind))
        return self.program[variant.function].reading(variant.kind).body if held is None else held

    def digest(self, variant: Variant) -> str:
        """Equal for variants of equal text."""
        if variant not in self.digests:
            function = self.program[variant.function]
            reader = _Reader(self, function, variant.inner, types_in(self.program, function, variant.kind))
            content = (self.names[function.name], reader.block(self.body(variant)))
            self.digests[variant] = hashlib.sha256(repr(content).encode()).hexdigest()
        return self.digests[variant]


class _Reader:
    """Reads blocks of one function into plain tuples."""

    def __init__(
        self, likeness: Likeness, function: Function, inner: ReadingKind | None, types: Mapping[str, ValueType]
    ) -> None:
        self.likeness, self.function, self.inner, self.types = likeness, function, inner, types
        self.numbers: dict[str, int] = {}

    def block(self, block: Block) -> object:
        """A block, its values by number."""
        inside = bool(self.numbers)
        inputs = [self._value(value, inside) for value in block.inputs]
        nodes = [self._node(node) for node in block.nodes]
        return inputs, nodes, [self.numbers[value] for value in block.outputs]

    def _value(self, value: str, named: bool = True) -> object:
        """What a value adds to a digest; the inputs of a function are called what `names` says, whatever they are."""
        self.numbers[value] = len(self.numbers)
        kind = self.types.get(value)
        return given_name(value) if named else "", kind_of_value(kind), None if kind is None else len(kind.axes)

    def _node(self, node: Node) -> object:
        args = [self._arg(arg) for arg in node.args]
        options = [(key, self._arg(value)) for key, value in node.kwargs]
        body = None if node.body is None else self._inside(node.body)
        place = relative(node.scope, self.function.name) or relative(node.scope, self.function.scope)
        return (
            node.op,
            args,
            options,
            self._called(node),
            body,
            place,
            self._size(node),
            [self._value(v) for v in node.outputs],
        )

    def _inside(self, body: Block) -> object:
        outer = dict(self.numbers)
        found = self.block(body)
        self.numbers = outer
        return found

    def _arg(self, arg: Arg) -> object:
        if isinstance(arg, tuple):
            return [self._arg(item) for item in arg]
        if isinstance(arg, Ref):
            return "value", self.numbers[arg.name]
        if isinstance(arg, Weight):
            below = relative(arg.name, self.function.scope)
            return ("weight", below) if below else ("weight of the network", arg.name)
        return type(arg).__name__, arg

    def _called(self, node: Node) -> object:
        if node.op != "call":
            return None
        callee = self.likeness.program[node.function]
        name = relative(callee.name, self.function.name) or callee.name
        return (
            self.likeness.digest(self.likeness.chosen(callee.name, self.inner)),
            name,
            path_of_weights(self.function, callee),
        )

    def _size(self, node: Node) -> object:
        source, kinds = node.args[0] if node.args else None, self.types
        if node.op != "size" or not isinstance(source, Ref) or source.name not in kinds:
            return None
        axes, axis = kinds[source.name].axes, node.args[1]
        symbol = axes[axis] if isinstance(axis, int) and -len(axes) <= axis < len(axes) else None
        return symbol if isinstance(symbol, str) else None


_latest: dict[int, tuple[weakref.ref[Program], Likeness]] = {}


def likeness_of(program: Program) -> Likeness:
    """The digests of a program's functions; those of the program asked for last are kept."""
    held = _latest.get(id(program))
    if held is None or held[0]() is not program:
        _latest.clear()
        unowned: Any = weakref.proxy(program)
        held = (weakref.ref(program), Likeness(unowned, parameter_names(program)))
        _latest[id(program)] = held
    return held[1]


def path_of_weights(caller: Function, callee: Function) -> tuple[bool, str]:
    """Where the weights of `callee` lie: whether below those of `caller`, and the path from there (or from the top)."""
    below = relative(callee.scope, caller.scope)
    return (True, below) if below is not None else (False, callee.scope)
