"""The dataflow of a network: every value is named once, every step is a node.

A `Node` applies one primitive (see `pellucid.ir.torch_ops`), calls a function, or repeats a block over time (`scan`).
A `Block` is a straight line of nodes with named inputs and outputs; a `Graph` is the block of a whole network together
with the types of its values and its weights. All of it is frozen; passes return new graphs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch

Axis: TypeAlias = int | str
"""The size of an axis: a number, or a symbol such as "batch" where the network takes any size."""


@dataclass(frozen=True, slots=True)
class Ref:
    """A value computed earlier in the same block, or an input of it."""

    name: str


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor of the network (parameter, buffer or constant), by its name there."""

    name: str


Arg: TypeAlias = "Ref | Weight | int | float | bool | str | None | tuple[Any, ...]"
"""What a node is applied to; tuples hold such arguments again."""


@dataclass(frozen=True, slots=True)
class ValueType:
    """Element type ("float32", "int64", "bool", or "int" for a plain number) and axes of a value."""

    dtype: str
    axes: tuple[Axis, ...] = ()

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(str(axis) for axis in self.axes)}]"


@dataclass(frozen=True, slots=True)
class Block:
    """A straight line of nodes: `outputs` are values that `nodes` define, or inputs passed through."""

    inputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """One step: `outputs = op(*args, **kwargs)`.

    Attributes:
        outputs: names of the values it defines; the first is also the node's id.
        op: a primitive's name; "aten.…" for an operation nobody recognised, run as it is by torch;
            "call" to run `function`; "scan" to repeat `body` over time.
        args: positional arguments. For "scan": (initial states, sequences, fixed values), three tuples.
        kwargs: named arguments as pairs. For "scan": ("axis", axis of the sequences that is time).
        function: the name of the function that "call" runs.
        body: what "scan" repeats; its inputs are states, elements, fixed values; its outputs new states, then elements
            of the output sequences. The node's outputs are the last states, then the sequences.
        scope: path of the torch module whose forward computed it.
        source: "file:line" in the user's code, for messages.
    """

    outputs: tuple[str, ...]
    op: str
    args: tuple[Arg, ...] = ()
    kwargs: tuple[tuple[str, Arg], ...] = ()
    function: str = ""
    body: Block | None = None
    scope: str = ""
    source: str = ""

    @property
    def id(self) -> str:
        """The name of the first value that the node defines."""
        return self.outputs[0]

    def option(self, name: str, default: Arg = None) -> Arg:
        """The named argument `name`, or `default`."""
        return dict(self.kwargs).get(name, default)

    def with_changes(self, **changes: object) -> Node:
        """A copy with some fields replaced."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class CalledModule:
    """A torch module whose forward ran: its class name, and the scope that called it."""

    kind: str
    parent: str


@dataclass(frozen=True)
class Graph:
    """The whole network as one block, with the types of its values and its weights (shared, not copied).

    `modules` tells which torch modules ran, by scope: their path, with "@1", "@2"… for further calls of the same one.
    `remarks` says what the reader has to know, for example which axes the trace could not keep general.
    """

    block: Block
    values: Mapping[str, ValueType]
    weights: Mapping[str, torch.Tensor] = field(repr=False)
    modules: Mapping[str, CalledModule] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def with_changes(self, **changes: object) -> Graph:
        """A copy with some fields replaced."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


def walk_arg(arg: Arg) -> Iterator[Arg]:
    """All leaves of a nested argument."""
    if isinstance(arg, tuple):
        for item in arg:
            yield from walk_arg(item)
    else:
        yield arg


def map_arg(change: Callable[[Arg], Any], arg: Arg) -> Any:
    """The nested argument with `change` applied to each leaf."""
    return tuple(map_arg(change, item) for item in arg) if isinstance(arg, tuple) else change(arg)


def leaves(node: Node) -> Iterator[Arg]:
    """All leaves of a node's arguments, positional first."""
    for arg in node.args:
        yield from walk_arg(arg)
    for _, arg in node.kwargs:
        yield from walk_arg(arg)


def refs(node: Node) -> tuple[str, ...]:
    """Names of the values that a node reads, each once, in order of first use."""
    return tuple(dict.fromkeys(leaf.name for leaf in leaves(node) if isinstance(leaf, Ref)))


def weights_read(block: Block) -> tuple[str, ...]:
    """Names of the weights that a block reads, bodies of its loops included, each once, in order of first use."""
    found: dict[str, None] = {}
    for node in block.nodes:
        found.update(dict.fromkeys(leaf.name for leaf in leaves(node) if isinstance(leaf, Weight)))
        if node.body is not None:
            found.update(dict.fromkeys(weights_read(node.body)))
    return tuple(found)


def calls_made(block: Block) -> tuple[str, ...]:
    """Names of the functions that a block calls, loops included, each once, in order of first call."""
    found: dict[str, None] = {}
    for node in block.nodes:
        if node.op == "call":
            found[node.function] = None
        if node.body is not None:
            found.update(dict.fromkeys(calls_made(node.body)))
    return tuple(found)


def map_node(node: Node, change: Callable[[Arg], Arg]) -> Node:
    """The node with `change` applied to each leaf of its arguments (not inside its body)."""
    return dataclasses.replace(
        node,
        args=tuple(map_arg(change, arg) for arg in node.args),
        kwargs=tuple((name, map_arg(change, arg)) for name, arg in node.kwargs),
    )


def rename_refs(node: Node, names: Mapping[str, str]) -> Node:
    """The node reading other values: each Ref in `names` is replaced."""
    return map_node(node, lambda leaf: Ref(names.get(leaf.name, leaf.name)) if isinstance(leaf, Ref) else leaf)
