"""Casts that numpy needs and torch does not.

Written as an operator, an int64 array times a float32 array is float32 in torch and float64 in numpy. Element types are
followed through a block (given types first, else by the rule of the operation), and where the two would part, the
operand is cast as torch does it. Primitives that are functions see to this themselves.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Shaped

from pellucid.ir.graph import Arg, Block, Node, Ref, ValueType, Weight, leaves
from pellucid.ir.primitives import TORCH

NUMBERS = {bool: "a truth value", int: "an integer", float: "a real number"}
"""Element types of plain Python numbers; they take the type of an array that they meet, if it can hold them."""

_ARITHMETIC = frozenset({"add", "sub", "mul", "div", "floordiv", "mod", "pow"})
_TRUTH = frozenset({"eq", "ne", "lt", "le", "gt", "ge", "logical_not", "any_true", "all_true", "is_in", "all_pairs"})
_COUNTING = frozenset({"total", "cumsum"})
_REAL = frozenset("exp log sqrt rsqrt reciprocal sin cos erf tanh sigmoid".split())  # noqa: SIM905


def with_casts(
    block: Block, types: Mapping[str, ValueType], weights: Mapping[str, Shaped[torch.Tensor, "..."]]
) -> Block:
    """`block` with the casts that make it compute in numpy what it computes in torch; `types` of values, if known."""
    return _Typing(types, weights).block(block)


@dataclass
class _Typing:
    """Follows element types through a block."""

    given: Mapping[str, ValueType]
    weights: Mapping[str, Shaped[torch.Tensor, "..."]]
    found: dict[str, str] = field(default_factory=dict)

    def block(self, block: Block) -> Block:
        """The block with casts put before the nodes that need them."""
        nodes: list[Node] = []
        for node in block.nodes:
            if node.body is not None:
                self._enter(node, node.body)
                node = node.with_changes(body=self.block(node.body))
            casts, node = self._cast_operands(node)
            nodes += [*casts, node]
            for value in node.outputs:
                self.found[value] = self._result(node)
        return Block(block.inputs, tuple(nodes), block.outputs)

    def _enter(self, node: Node, body: Block) -> None:
        outside = [arg for part in node.args if isinstance(part, tuple) for arg in part]
        self.found.update({value: self._type(arg) for value, arg in zip(body.inputs, outside, strict=True)})

    def _type(self, arg: Arg) -> str:
        """Element type of an argument, "" if it is not known."""
        if isinstance(arg, Ref):
            kind = self.given.get(arg.name)
            if kind is None:
                return self.found.get(arg.name, "")
            plain = {"int": NUMBERS[int], "float": NUMBERS[float]}
            return plain.get(kind.dtype, kind.dtype)
        if isinstance(arg, Weight):
            return str(self.weights[arg.name].dtype).removeprefix("torch.")
        return NUMBERS.get(type(arg), "")

    def _cast_operands(self, node: Node) -> tuple[list[Node], Node]:
        if node.op not in _ARITHMETIC:
            return [], node
        types = [self._type(arg) for arg in node.args]
        wanted = _meeting(node.op, types)
        casts: list[Node] = []
        args = list(node.args)
        for position, kind in enumerate(types):
            widened = kind == "bool" and any(other.startswith("float") for other in types)
            if wanted and _is_array(kind) and not kind.startswith("float") and not widened:
                name = f"{node.id}_cast{position}"
                casts.append(Node((name,), "cast", (args[position], wanted), scope=node.scope))
                self.found[name] = wanted
                args[position] = Ref(name)
        return casts, node.with_changes(args=tuple(args))

    def _result(self, node: Node) -> str:
        """Element type of what a node gives, where the program does not say."""
        if node.op in _TRUTH:
            return "bool"
        if node.op in ("size", "argmax", "positions", "lengths", "selector_width", "index_of"):
            return NUMBERS[int] if node.op == "size" else "int64"
        if node.op in TORCH and (named := _named_type(node)):
            return named
        if node.op == "pick":
            return self._type(node.args[1])
        if node.op == "lookup":
            return _entries(node.args[0])
        types = [kind for kind in map(self._type, leaves(node)) if kind]
        if node.op in _ARITHMETIC or node.op in ("where", "minimum", "maximum"):
            return _common(types[1:] if node.op == "where" else types)
        first = next(iter(types), "")
        if node.op in _REAL and not first.startswith("float"):
            return "float32" if first else ""
        if node.op in _COUNTING and _is_array(first) and not first.startswith("float"):
            return "int64"
        return first if node.op in TORCH else ""


def _is_array(kind: str) -> bool:
    return bool(kind) and kind not in NUMBERS.values()


def _meeting(op: str, types: list[str]) -> str:
    """The real type that operands meet in, "" if they are no integer arrays that become real."""
    arrays = [kind for kind in types if _is_array(kind)]
    whole = [kind for kind in arrays if not kind.startswith("float")]
    if not whole or "" in types:
        return ""
    real = [kind for kind in arrays if kind.startswith("float")]
    return real[0] if real else "float32" if op == "div" or NUMBERS[float] in types else ""


def _common(types: list[str]) -> str:
    arrays = [kind for kind in types if _is_array(kind)]
    real = sorted((kind for kind in arrays if kind.startswith("float")), key=lambda kind: int(kind[5:]))
    if real or not arrays:
        return real[-1] if real else next(iter(types), "")
    if NUMBERS[float] in types:
        return "float32"
    return "int64" if "int64" in arrays or NUMBERS[int] in types else arrays[0]


def _named_type(node: Node) -> str:
    """The element type that a node names, or the default of its primitive."""
    try:
        bound = inspect.signature(TORCH[node.op]).bind(*node.args, **dict(node.kwargs))
    except TypeError:
        return ""
    bound.apply_defaults()
    return str(bound.arguments.get("dtype", ""))


def _entries(table: Arg) -> str:
    kinds = {type(entry) for entry in _flat(table)}
    return "float32" if float in kinds else "int64" if int in kinds else "bool"


def _flat(table: Arg) -> Iterator[Arg]:
    for entry in table if isinstance(table, tuple) else (table,):
        if isinstance(entry, tuple):
            yield from _flat(entry)
        else:
            yield entry
