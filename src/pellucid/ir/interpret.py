"""Running programs in memory: a straight interpreter over torch.

Nodes run in order; a value is let go after its last use, so that memory stays near that of the network itself.
Functions are looked up by name, and any can be replaced (`replace`) or watched (`watch`): that is what substitution is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Shaped

from pellucid.errors import BadInput, CannotRun
from pellucid.ir.graph import Arg, Block, Graph, Node, Ref, Weight, map_arg, refs
from pellucid.ir.notes import ReadingKind
from pellucid.ir.primitives import implementation
from pellucid.ir.program import Program

Tensor = Shaped[torch.Tensor, "..."]
Values: TypeAlias = Sequence[Any]
Replacement: TypeAlias = Callable[[Values], Values]
Watcher: TypeAlias = Callable[[str, Values, Values], None]
ValueWatcher: TypeAlias = Callable[[str, Any], None]


@dataclass(frozen=True)
class Scope:
    """What a block sees beside its inputs: the weights, and how functions are called."""

    weights: Mapping[str, torch.Tensor]
    call: Callable[[str, Values], Values]
    watch_value: ValueWatcher | None = field(default=None)


def run_block(block: Block, inputs: Values, scope: Scope) -> tuple[Any, ...]:
    """The outputs of a block for its inputs, both in the order of its signature."""
    if len(inputs) != len(block.inputs):
        raise CannotRun(f"a block of {len(block.inputs)} inputs was given {len(inputs)}")
    env: dict[str, Any] = dict(zip(block.inputs, inputs, strict=True))
    last_use = _last_uses(block)
    for position, node in enumerate(block.nodes):
        try:
            results = run_node(node, env, scope)
        except (RuntimeError, TypeError, IndexError, ValueError) as error:
            raise CannotRun(_failure(node, error)) from error
        env.update(zip(node.outputs, results, strict=True))
        if scope.watch_value is not None:
            for name in node.outputs:
                scope.watch_value(name, env[name])
        for name in last_use[position]:
            env.pop(name, None)
    return tuple(env[name] for name in block.outputs)


def run_node(node: Node, env: Mapping[str, Any], scope: Scope) -> tuple[Any, ...]:
    """The values that one node defines."""

    def resolve(leaf: Arg) -> Any:
        if isinstance(leaf, Ref):
            return env[leaf.name]
        return scope.weights[leaf.name] if isinstance(leaf, Weight) else leaf

    args = [map_arg(resolve, arg) for arg in node.args]
    if node.op == "call":
        return tuple(scope.call(node.function, args))
    if node.op == "scan":
        return _run_scan(node, args, scope)
    result = implementation(node.op)(*args, **{name: map_arg(resolve, arg) for name, arg in node.kwargs})
    if len(node.outputs) == 1 and not isinstance(result, tuple | list):
        return (result,)
    return tuple(result)


def _run_scan(node: Node, args: Sequence[Any], scope: Scope) -> tuple[Any, ...]:
    assert node.body is not None
    states, sequences, fixed = (list(part) for part in args)
    axis = node.option("axis", 1)
    assert isinstance(axis, int)
    length = sequences[0].shape[axis]
    made: list[list[Any]] = []
    for t in range(length):
        elements = [sequence.select(axis, t) for sequence in sequences]
        results = run_block(node.body, [*states, *elements, *fixed], scope)
        states = list(results[: len(states)])
        made.append(list(results[len(states) :]))
    if not made:
        raise CannotRun(f"the loop {node.id!r} was given a sequence of length 0; give at least one step")
    return (*states, *(torch.stack(column, axis) for column in zip(*made, strict=True)))


def _last_uses(block: Block) -> list[list[str]]:
    used_at: dict[str, int] = {}
    for position, node in enumerate(block.nodes):
        for name in (*node.outputs, *refs(node)):
            used_at[name] = position
    dying: list[list[str]] = [[] for _ in block.nodes]
    for name, position in used_at.items():
        if name not in block.outputs:
            dying[position].append(name)
    return dying


def _failure(node: Node, error: Exception) -> str:
    place = f" ({node.source})" if node.source else ""
    return f"{node.op} computing {node.id!r}{place} failed: {str(error).splitlines()[0] if str(error) else error!r}"


def run_graph(graph: Graph, inputs: Values, watch_value: ValueWatcher | None = None) -> tuple[Any, ...]:
    """The outputs of a graph; `watch_value` sees every value as it is computed."""

    def no_functions(name: str, _: Values) -> Values:
        raise CannotRun(f"a graph calls no functions, but a node calls {name!r}")

    with torch.no_grad():
        return run_block(graph.block, inputs, Scope(graph.weights, no_functions, watch_value))


def run_functions(
    program: Program,
    inputs: Values,
    reading: ReadingKind | None = None,
    replace: Mapping[str, Replacement] | None = None,
    watch: Watcher | None = None,
    start: str | None = None,
    watch_values: Mapping[str, ValueWatcher] | None = None,
    gradients: bool = False,
) -> tuple[Any, ...]:
    """Run a function of a program (the entry when `start` is None) on the values of its signature.

    Args:
        reading: the kind to run wherever it exists, None for the chosen ones.
        replace: functions that run something else: from their inputs to their outputs.
        watch: called after each function with its name, inputs and outputs (callees before callers).
        watch_values: by function, what is called with every value of its body as it is computed, inputs first.
        gradients: whether they pass from the outputs to what is given or stands in for functions.
    """
    instead, inside = replace or {}, watch_values or {}

    def call(name: str, values: Values) -> Values:
        if name in instead:
            results = tuple(instead[name](values))
        else:
            results = run_body(name, program[name].reading(reading).body, values)
        if watch is not None:
            watch(name, values, results)
        return results

    def run_body(name: str, body: Block, values: Values) -> tuple[Any, ...]:
        if name not in inside:
            return run_block(body, values, scope)
        for taken, value in zip(body.inputs, values, strict=False):
            inside[name](taken, value)
        return run_block(body, values, dataclasses.replace(scope, watch_value=inside[name]))

    scope = Scope(program.weights, call)
    with torch.set_grad_enabled(gradients):
        return tuple(call(start or program.entry, inputs))


def run_program(
    program: Program, args: Sequence[object], kwargs: Mapping[str, object], reading: ReadingKind | None
) -> Tensor | tuple[Tensor, ...]:
    """Run a whole program on what the network takes; one output comes alone, several as a tuple."""
    outputs = run_functions(program, bind(program, args, kwargs), reading)
    return outputs[0] if len(outputs) == 1 else outputs


def bind(program: Program, args: Sequence[object], kwargs: Mapping[str, object]) -> list[torch.Tensor]:
    """Arguments in the order of the program's inputs, as tensors of the types it was traced with.

    Raises:
        BadInput: an argument is missing, unknown or of a wrong shape or element type.
    """
    names = program[program.entry].inputs
    if len(args) > len(names) or set(kwargs) - set(names):
        unknown = ", ".join(sorted(set(kwargs) - set(names))) or f"{len(args)} positional ones"
        raise BadInput(f"program takes {', '.join(names)}; it was given {unknown}")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    missing = [name for name in names if name not in given]
    if missing:
        raise BadInput(f"program needs the argument{'s' * (len(missing) > 1)} {', '.join(missing)}")
    return [_as_tensor(program, name, given[name]) for name in names]


def _as_tensor(program: Program, name: str, value: object) -> torch.Tensor:
    if not isinstance(value, torch.Tensor | np.ndarray | list | tuple | int | float):
        raise BadInput(f"argument {name!r} is a {type(value).__name__}; give a tensor or an array")
    tensor = torch.as_tensor(value)
    wanted = program.values[name]
    if getattr(torch, wanted.dtype).is_floating_point != tensor.is_floating_point():
        raise BadInput(f"argument {name!r} is {str(tensor.dtype)[6:]}; the network takes {wanted}")
    fixed = [(i, axis) for i, axis in enumerate(wanted.axes) if isinstance(axis, int)]
    if tensor.ndim != len(wanted.axes) or any(tensor.shape[i] != axis for i, axis in fixed):
        raise BadInput(f"argument {name!r} has shape {list(tensor.shape)}; the network takes {wanted}")
    return tensor.to(getattr(torch, wanted.dtype))
