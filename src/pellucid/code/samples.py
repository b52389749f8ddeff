"""A function from outside: rows of numbers in, rows of numbers out, and formulas written back as a body.

A function of tensors is a function of rows where its leading axes (samples, positions) are those of all its inputs and
of its output, and the other axes have fixed sizes. Where some of the leading axes may belong to either, all splits are
offered, most leading axes first: what holds for each position alone says more than what holds for all of them together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from jaxtyping import Float

from pellucid.code.propose import Part
from pellucid.code.recurrent.writing import Writer
from pellucid.ir.graph import Arg, Axis, Block, Ref, ValueType

MOST_ROWS = 8192
"""Rows that are looked at."""

ROUNDING = 1e-5
"""Outputs this close, as a share of the largest, count as equal."""

Place = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Samples:
    """What went in and came out, one row for each place along the leading axes.

    Attributes:
        inputs, outputs: thinned out to `MOST_ROWS`.
        columns: for each column of `inputs` the input value, and the place within its fixed axes.
        lead: how many axes lead.
        shape: the fixed axes of the output.
        dtypes: element types of the inputs, and last of the output.
    """

    inputs: Float[np.ndarray, "rows in"]
    outputs: Float[np.ndarray, "rows out"]
    columns: tuple[tuple[str, Place], ...]
    lead: int
    shape: tuple[int, ...]
    dtypes: tuple[str, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for each column."""
        return tuple("_".join([source, *map(str, place)]) for source, place in self.columns)

    def same(self) -> bool:
        """Whether equal rows in gave equal rows out, up to rounding."""
        order = np.lexsort(self.inputs.T[::-1])
        inputs, outputs = self.inputs[order], self.outputs[order]
        again = (inputs[1:] == inputs[:-1]).all(axis=1)
        apart = np.abs(outputs[1:] - outputs[:-1])[again].max(initial=0.0)
        return bool(apart <= ROUNDING * np.abs(outputs).max(initial=0.0))


def samples_of(part: Part, most_in: int, most_out: int) -> Iterator[Samples]:
    """The function's samples by rows of at most so many numbers, for each way to tell leading from fixed axes."""
    kinds = [part.program.values.get(name) for name in (*part.function.inputs, *part.function.outputs)]
    if len(part.function.outputs) != 1 or len(kinds) < 2 or not part.inputs:
        return
    known = [kind for kind in kinds if kind is not None and kind.axes]
    if len(known) < len(kinds) or "float" not in known[-1].dtype:
        return
    for lead in range(min(len(kind.axes) for kind in known), 0, -1):
        fixed = [_sizes(kind, lead) for kind in known]
        if any(kind.axes[:lead] != known[0].axes[:lead] for kind in known) or None in fixed:
            continue
        *shapes, shape = [sizes for sizes in fixed if sizes is not None]
        if sum(_count(sizes) for sizes in shapes) > most_in or _count(shape) > most_out:
            continue
        places = zip(part.function.inputs, shapes, strict=True)
        columns = tuple((name, place) for name, sizes in places for place in product(*map(range, sizes)))
        inputs, outputs = (_rows(calls, lead) for calls in (part.inputs, part.outputs))
        if not len(inputs) or not np.isfinite(outputs).all():
            return
        step = max(1, len(inputs) // MOST_ROWS)
        yield Samples(inputs[::step], outputs[::step], columns, lead, shape, tuple(k.dtype for k in known))


def _sizes(kind: ValueType, lead: int) -> tuple[int, ...] | None:
    sizes = tuple(axis for axis in kind.axes[lead:] if isinstance(axis, int))
    return sizes if len(sizes) == len(kind.axes) - lead else None


def _count(sizes: Sequence[int]) -> int:
    return int(np.prod(sizes, dtype=np.int64))


def _rows(calls: Sequence[Sequence[torch.Tensor]], lead: int) -> Float[np.ndarray, "rows columns"]:
    tables = []
    for values in calls:
        flat = [value.detach().double().reshape(_count(value.shape[:lead]), -1) for value in values]
        tables.append(torch.cat(flat, dim=1))
    rows: Float[np.ndarray, "rows columns"] = torch.cat(tables).numpy()
    return rows


def ask(part: Part, samples: Samples, rows: Float[np.ndarray, "rows in"]) -> Float[np.ndarray, "rows out"]:
    """What the function gives for other rows, each of them at every place of a sample of its own."""
    values, start = [], 0
    for name, given in zip(part.function.inputs, part.inputs[0], strict=True):
        width = sum(column == name for column, _ in samples.columns)
        block = torch.from_numpy(np.ascontiguousarray(rows[:, start : start + width])).to(given.dtype)
        places, fixed = given.shape[1 : samples.lead], given.shape[samples.lead :]
        values.append(block.reshape(len(rows), *(1 for _ in places), *fixed).expand(-1, *places, *fixed))
        start += width
    answers = _rows([part.run(values)], samples.lead)
    return answers[:: len(answers) // len(rows)]


# ---- writing


def begin(part: Part, samples: Samples, used: Sequence[int], dtype: str) -> Writer:
    """A writer that knows the used columns by their labels, each an array over the leading axes of type `dtype`."""
    writer = Writer(dtype, taken={*part.program.values, *part.function.inputs, *part.function.outputs})
    types = dict(zip(part.function.inputs, samples.dtypes, strict=False))
    sources: dict[str, Ref] = {}
    for column in used:
        source, place = samples.columns[column]
        if source not in sources:
            given = Ref(source)
            sources[source] = (
                given if types[source] == dtype else writer.node("cast", given, dtype, name=f"{source}_whole")
            )
        value = sources[source]
        for depth, index in enumerate(place, start=1):
            last = depth == len(place)
            name = samples.labels[column] if last else ""
            value = writer.node("select", value, -1 if last else samples.lead, index, name=name)
        writer.known[samples.labels[column]] = value
    return writer


def finish(part: Part, samples: Samples, writer: Writer, outputs: Sequence[Ref]) -> Block:
    """The block that puts outputs over the leading axes together as the function does, in its element type."""
    alone = writer.node("unsqueeze", outputs[0], -1) if samples.shape == (1,) else outputs[0]
    value = alone if len(outputs) == 1 else writer.node("stack", tuple(outputs), -1)
    if len(samples.shape) > 1:
        value = value if len(outputs) > 1 else writer.node("unsqueeze", value, -1)
        value = writer.node("unflatten", value, -1, samples.shape)
    if writer.dtype != samples.dtypes[-1]:
        value = writer.node("cast", value, samples.dtypes[-1])
    return named(part, writer, value)


def named(part: Part, writer: Writer, value: Ref) -> Block:
    """The body that gives `value`, under the name of the function's output."""
    if not writer.nodes or writer.nodes[-1].id != value.name:
        writer.node("add", value, 0)
    *nodes, last = writer.nodes
    return Block(
        part.function.inputs, (*nodes, last.with_changes(outputs=part.function.outputs)), part.function.outputs
    )


def constant_block(part: Part, values: Float[np.ndarray, "out"] | Sequence[float | int]) -> Block | None:
    """The body of a function that gives the same numbers in every row, None where its sizes cannot be read."""
    (target,) = part.function.outputs
    axes = part.program.values[target].axes
    writer = Writer(taken=set(part.program.values))
    lead = len(axes) - 1 if isinstance(axes[-1], int) and len(values) > 1 else len(axes)
    sizes = [_size(part, writer, axis) for axis in axes[:lead]]
    if any(size is None for size in sizes):
        return None
    dtype = part.program.values[target].dtype
    told = () if dtype == "float32" else (dtype,)
    columns = [writer.node("full", tuple(sizes), value, *told) for value in values]
    value = columns[0] if lead == len(axes) else writer.node("stack", tuple(columns), -1)
    return named(part, writer, value)


def _size(part: Part, writer: Writer, axis: Axis) -> Arg:
    """The length of an axis: a number, or read from an input that has it."""
    if isinstance(axis, int):
        return axis
    for name in part.function.inputs:
        kind = part.program.values.get(name)
        if kind is not None and axis in kind.axes:
            return writer.node("size", Ref(name), kind.axes.index(axis))
    return None
