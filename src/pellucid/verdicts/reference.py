"""The judge's own program of a network: traced and structured anew, never taken from the directory that is judged.

It is exact, all weights. In double precision every "float32" of it reads "float64" and its weights are widened one at a
time as they are read, so that two programs can be compared far below the rounding of single precision.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Shaped

from pellucid.data import Batch, Domain, Inputs
from pellucid.errors import BadInput
from pellucid.ir.graph import Arg, Block, Node, leaves, map_node
from pellucid.ir.program import Function, Program
from pellucid.ir.regions import RegionTree
from pellucid.lift.load import Network
from pellucid.lift.trace import trace
from pellucid.modules.partition import partition
from pellucid.modules.structure import structure

Tensor = Shaped[torch.Tensor, "..."]

LONGEST_BATCH = 4
"""Rows of an example; torch takes another axis of that size for the same."""

_HALF = ("float16", "bfloat16")
_MAKERS = {"zeros": 1, "full": 2}
"""Primitives whose element type is float32 unless given, and the position where it is given."""


def derive(network: Network, inputs: Inputs, regions: RegionTree | None) -> Program:
    """The exact program of a network, along `regions` where they fit it, else along its own nesting."""
    example = _small(inputs).example
    graph = trace(network, example.args, example.kwargs)
    if regions is not None:
        with contextlib.suppress(BadInput):
            return structure(graph, regions)
    return structure(graph, partition(graph))


def _small(inputs: Inputs) -> Inputs:
    """The smallest samples, if they are given in several shapes: tracing runs them, and needs no large ones."""
    if isinstance(inputs.samples, Domain):
        return inputs
    general = [batch for batch in inputs.samples if min(_sizes(batch), default=0) > LONGEST_BATCH]
    if not general:
        return inputs
    return Inputs((min(general, key=lambda batch: batch.nbytes // len(batch)),), inputs.description)


def _sizes(batch: Batch) -> list[int]:
    return [size for array in batch.arrays.values() for size in array.shape[1:]]


class _Widened(Mapping[str, Tensor]):
    """Weights that are float64 where they were float32, converted as they are read."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._weights = weights

    def __getitem__(self, name: str) -> Tensor:
        weight = self._weights[name]
        return weight.double() if weight.dtype == torch.float32 else weight

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)


def widened(program: Program) -> Program:
    """The same program in double precision; run it inside `double_precision`."""
    functions = {name: _widened_function(function) for name, function in program.functions.items()}
    values = {
        name: dataclasses.replace(kind, dtype="float64") if kind.dtype == "float32" else kind
        for name, kind in program.values.items()
    }
    return dataclasses.replace(program, functions=functions, values=values, weights=_Widened(program.weights))


def why_not_widened(program: Program) -> str:
    """Why a program cannot be compared in double precision; empty when it can."""
    half = [n for n, weight in program.weights.items() if str(weight.dtype).removeprefix("torch.") in _HALF]
    if half:
        return f"weight {half[0]!r} is of half precision"
    blocks = [reading.body for function in program.functions.values() for reading in function.readings]
    halved = [node.id for block in blocks for node in _nodes(block) if any(leaf in _HALF for leaf in leaves(node))]
    return f"{halved[0]!r} is computed in half precision" if halved else ""


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    """Literals become float64 tensors meanwhile."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def widened_batch(batch: Batch) -> Batch:
    """A batch with its float32 arrays as float64."""
    return Batch({n: a.double() if a.dtype == torch.float32 else a for n, a in batch.arrays.items()})


def _nodes(block: Block) -> Iterator[Node]:
    for node in block.nodes:
        yield node
        if node.body is not None:
            yield from _nodes(node.body)


def _widened_function(function: Function) -> Function:
    readings = tuple(dataclasses.replace(reading, body=_widened_block(reading.body)) for reading in function.readings)
    return dataclasses.replace(function, readings=readings)


def _widened_block(block: Block) -> Block:
    return dataclasses.replace(block, nodes=tuple(_widened_node(node) for node in block.nodes))


def _widened_node(node: Node) -> Node:
    if node.body is not None:
        node = node.with_changes(body=_widened_block(node.body))
    given = len(node.args) > _MAKERS.get(node.op, 0) or "dtype" in dict(node.kwargs)
    if node.op in _MAKERS and not given:
        node = node.with_changes(kwargs=(*node.kwargs, ("dtype", "float64")))
    return map_node(node, _widened_leaf)


def _widened_leaf(leaf: Arg) -> Arg:
    return "float64" if leaf == "float32" else leaf
