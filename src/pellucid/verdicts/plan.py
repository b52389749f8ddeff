"""Which inputs are run: samples by work, rows by memory, fresh ones by seed, longer ones by joining.

Fresh inputs cannot have been stored by a program: floats are moved by a tenth of their spread, integers are shuffled
along the batch (so that they stay ids that the network knows). They are fair for the exact reading, which claims to
equal the network everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Shaped

from pellucid.data import Batch, Domain, Inputs
from pellucid.ir.graph import Axis, Node, Weight, leaves
from pellucid.ir.interpret import bind
from pellucid.ir.program import Program

Tensor = Shaped[torch.Tensor, "..."]

ELEMENTS = 2**24
"""Elements that the largest value of one run may have (64 MB in single precision)."""

ROWS = 4096
UNKNOWN_AXIS = 256
FRESH_ROWS = 4
FRESH_LENGTH = 32


def entry_values(program: Program, batch: Batch) -> list[Tensor]:
    """A batch in the order and types of the program's entry."""
    return list(bind(program, batch.args, batch.kwargs))


def portions(inputs: Inputs, program: Program) -> Iterator[Batch]:
    """All samples, in batches that fit into memory; whole batches only, where the network has a fixed batch size."""
    for batch in inputs.batches(ROWS):
        fixed = batch_axis(program)
        rows = fixed if isinstance(fixed, int) else _rows(program, batch)
        yield from (part for part in batch.cut(rows) if not isinstance(fixed, int) or len(part) == fixed)


def batch_axis(program: Program) -> Axis:
    """The first axis of the program's first input: a symbol, or a size that the network fixes."""
    return program.values[program[program.entry].inputs[0]].axes[0]


def time_axis(program: Program) -> str | None:
    """The symbol of the second axis of an input, where it may have any length: time. None where there is no such."""
    first = batch_axis(program)
    names = program[program.entry].inputs
    symbols = (axis for name in names for axis in program.values[name].axes[1:2] if isinstance(axis, str))
    return next((axis for axis in symbols if axis != first), None)


def _rows(program: Program, batch: Batch) -> int:
    sizes = _symbol_sizes(program, entry_values(program, batch.rows(slice(0, 1))))
    largest = max(math.prod(_size(axis, sizes) for axis in kind.axes) for kind in program.values.values())
    return max(1, min(ROWS, ELEMENTS // max(1, largest)))


def _symbol_sizes(program: Program, values: Sequence[Tensor]) -> Mapping[str, int]:
    names = program[program.entry].inputs
    pairs = (
        pair
        for name, value in zip(names, values, strict=True)
        for pair in zip(program.values[name].axes, value.shape, strict=True)
    )
    return {axis: size for axis, size in pairs if isinstance(axis, str)}


def _size(axis: Axis, sizes: Mapping[str, int]) -> int:
    return axis if isinstance(axis, int) else sizes.get(axis, UNKNOWN_AXIS)


def affordable(program: Program, inputs: Inputs, work: float, least: int, seed: int, parts: bool = False) -> Inputs:
    """As many samples as `work` multiply-adds allow, but not fewer than `least`, drawn with a seed; where `parts` are
    run, every function counts with all that it calls."""
    example = inputs.example.rows(slice(0, 1))
    sizes = _symbol_sizes(program, entry_values(program, example))
    run = program.functions if parts else (program.entry,)
    each = sum(_work_of(program, name, sizes) for name in run) * _mean_bytes(inputs) / max(1, example.nbytes)
    return inputs.take(max(least, int(work / max(1.0, each))), seed)


def _mean_bytes(inputs: Inputs) -> float:
    """Bytes of a sample, on average."""
    if isinstance(inputs.samples, Domain):
        return float(inputs.example.rows(slice(0, 1)).nbytes)
    return sum(batch.nbytes for batch in inputs.samples) / max(1, len(inputs))


def _work_of(program: Program, name: str, sizes: Mapping[str, int]) -> float:
    """Multiply-adds of one function for one sample, those of what it calls included."""
    return sum(_work(program, node, sizes) for node in program[name].reading("weights").body.nodes)


def _work(program: Program, node: Node, sizes: Mapping[str, int]) -> float:
    """Multiply-adds of one node for one sample, roughly: each output takes a row of each matrix that the node reads."""
    inner = sum(_work(program, step, sizes) for step in node.body.nodes) if node.body is not None else 0.0
    inner += _work_of(program, node.function, sizes) if node.op == "call" else 0.0
    steps = max(sizes.values(), default=UNKNOWN_AXIS) if node.body is not None else 1
    kind = program.values.get(node.id)
    if kind is None or node.op in ("embedding", "call"):
        return inner * steps
    elements = math.prod(_size(axis, sizes) for axis in kind.axes)
    read = (program.weights[leaf.name] for leaf in leaves(node) if isinstance(leaf, Weight))
    rows = sum(weight[0].numel() for weight in read if weight.ndim > 1 and len(weight))
    return inner * steps + float(elements * rows)


def fresh(program: Program, batch: Batch, seed: int) -> Batch:
    """A few rows like those of `batch` that no program has seen, short where the network takes any length."""
    generator = torch.Generator().manual_seed(seed)
    short = shortened(program, batch.rows(slice(0, _fresh_rows(program))), FRESH_LENGTH)
    return Batch({name: _moved(array, generator) for name, array in short.arrays.items()})


def _fresh_rows(program: Program) -> int:
    fixed = batch_axis(program)
    return fixed if isinstance(fixed, int) else FRESH_ROWS


def shortened(program: Program, batch: Batch, length: int) -> Batch:
    """The first `length` steps along the time axis."""
    axes = _time_axes(program, batch)
    return Batch(
        {n: a.narrow(axes[n], 0, min(length, a.shape[axes[n]])) if n in axes else a for n, a in batch.arrays.items()}
    )


def _time_axes(program: Program, batch: Batch) -> Mapping[int | str, int]:
    """Where the time axis is, for the arguments that have one."""
    symbol, names = time_axis(program), program[program.entry].inputs
    placed = {name: program.values[names[name] if isinstance(name, int) else name].axes for name in batch.arrays}
    return {name: axes.index(symbol) for name, axes in placed.items() if symbol is not None and symbol in axes}


def _moved(array: Tensor, generator: torch.Generator) -> Tensor:
    if array.is_floating_point():
        spread = float(array.std()) if array.numel() > 1 else 0.0
        return array + 0.1 * (spread or 1.0) * torch.randn(array.shape, generator=generator, dtype=array.dtype)
    if array.dtype == torch.bool or array.ndim < 2:
        return array
    axis = 0 if len(array) > 1 else 1
    order = torch.rand(array.shape, generator=generator).argsort(axis)
    return array.gather(axis, order)


def of_length(program: Program, batch: Batch, length: int, rows: int, seed: int) -> Batch | None:
    """`rows` sequences of `length` steps, samples of `batch` drawn and joined; None without a time axis."""
    axes = _time_axes(program, batch)
    if not axes:
        return None
    generator = torch.Generator().manual_seed(seed)
    shortest = min(batch.arrays[name].shape[axis] for name, axis in axes.items())
    picks = torch.randint(len(batch), (-(-length // shortest), rows), generator=generator)
    made: dict[int | str, Tensor] = {}
    for name, array in batch.arrays.items():
        if name in axes:
            joined = torch.cat([array[pick] for pick in picks], axes[name])
            made[name] = joined.narrow(axes[name], 0, length)
        else:
            made[name] = array[picks[0]]
    return Batch(made)
