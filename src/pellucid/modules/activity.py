"""How far units vary on samples, and how far the output follows what they read.

The output's gradient is taken along random signs: its mean square is the sum of the squares over all outputs
(Hutchinson 1990), so that no labels are needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float

from pellucid.errors import BadInput
from pellucid.ir.graph import Graph
from pellucid.ir.interpret import Scope, Values, run_block
from pellucid.modules.survey import UnitPlan
from pellucid.modules.unit_flows import Reading, UnitBlock

Samples = Sequence[Values]
"""Calls of a graph: the values of its inputs."""


@dataclass(frozen=True, eq=False)
class Activity:
    """Standard deviations of what each block writes, entry by entry, and root mean squares of gradients by value."""

    written: tuple[Float[torch.Tensor, " _"], ...]
    gradients: Mapping[str, Float[torch.Tensor, " _"]] = field(default_factory=dict)

    def followed(self, reading: Reading) -> Float[torch.Tensor, " entries"]:
        """How far the output follows each entry of a reading; ones where it was not measured."""
        return self.gradients.get(reading.value, torch.ones(reading.flow.entries))


@dataclass
class _Moments:
    """Sums over samples of one value, by entry."""

    count: int = 0
    total: torch.Tensor | float = 0.0
    squares: torch.Tensor | float = 0.0

    def see(self, entries: torch.Tensor) -> None:
        self.count += len(entries)
        self.total = self.total + entries.sum(0)
        self.squares = self.squares + entries.square().sum(0)

    def deviation(self) -> torch.Tensor:
        mean = torch.as_tensor(self.total) / self.count
        return (torch.as_tensor(self.squares) / self.count - mean.square()).clamp_min(0).sqrt().float()

    def size(self) -> torch.Tensor:
        return (torch.as_tensor(self.squares) / self.count).sqrt().float()


def entries_of(value: torch.Tensor, axes: Sequence[int]) -> Float[torch.Tensor, "places entries"]:
    """A value with the features of `axes` last and all else in rows, in double precision."""
    others = [axis for axis in range(value.ndim) if axis not in axes]
    size = 1
    for axis in axes:
        size *= value.shape[axis]
    return value.detach().permute(*others, *axes).reshape(-1, size).double()


def measured(graph: Graph, plan: UnitPlan, samples: Samples, gradients: bool) -> Activity:
    """Run the network on samples and measure.

    Raises:
        BadInput: a block whose units lie in no value of the graph, like the inner layers of a recurrent stack.
    """
    writers = {term.block for readings in plan.readings for reading in readings for term in reading.flow.terms}
    written = {i: entry_axes(plan.blocks[i]) for i in sorted(writers) if _measurable(plan.blocks[i])}
    moments = {i: _Moments() for i in written}
    by_value: dict[str, list[int]] = {}
    for i in written:
        by_value.setdefault(plan.blocks[i].value, []).append(i)
    slopes = _slopes(plan) if gradients else {}
    sizes = {name: _Moments() for name in slopes}
    for call, values in enumerate(samples):
        seen: list[tuple[str, torch.Tensor]] = []

        def watch(name: str, value: object, seen: list[tuple[str, torch.Tensor]] = seen) -> None:
            if not isinstance(value, torch.Tensor):
                return
            for i in by_value.get(name, ()):
                moments[i].see(entries_of(value, written[i]))
            if name in slopes and value.requires_grad:
                value.retain_grad()
                seen.append((name, value))

        _run(graph, values, watch, gradients, call)
        for name, value in seen:
            if value.grad is not None:
                sizes[name].see(entries_of(value.grad, slopes[name]))
    ones = [torch.ones(block.size * block.width) for block in plan.blocks]
    deviations = tuple(moments[i].deviation() if i in moments else ones[i] for i in range(len(ones)))
    return Activity(deviations, {name: found.size() for name, found in sizes.items() if found.count})


def _run(graph: Graph, values: Values, watch: object, gradients: bool, seed: int) -> None:
    def no_functions(name: str, _: Values) -> Values:
        raise BadInput(f"a graph calls no functions, but a node calls {name!r}")

    tracked = gradients and not any(value.is_floating_point() for value in values)
    weights = {name: _tracked(tensor, tracked) for name, tensor in graph.weights.items()}
    with torch.set_grad_enabled(gradients):
        given = [_tracked(value, gradients) for value in values]
        for name, value in zip(graph.block.inputs, given, strict=True):
            watch(name, value)  # type: ignore[operator]
        outputs = run_block(graph.block, given, Scope(weights, no_functions, watch))  # type: ignore[arg-type]
        if not gradients:
            return
        generator = torch.Generator().manual_seed(seed)
        total = torch.zeros(())
        for output in outputs:
            if output.is_floating_point() and output.requires_grad:
                signs = torch.randint(0, 2, output.shape, generator=generator) * 2 - 1
                total = total + (output * signs).sum()
        total.backward()  # type: ignore[no-untyped-call]


def _tracked(value: torch.Tensor, gradients: bool) -> torch.Tensor:
    return value.detach().requires_grad_(True) if gradients and value.is_floating_point() else value


def _measurable(block: UnitBlock) -> bool:
    if block.kind == "token":
        return False
    if not block.value:
        raise BadInput(
            f"the units of {block.name!r} lie in no value that can be measured; take the weighting 'absolute'"
        )
    return True


def entry_axes(block: UnitBlock) -> tuple[int, ...]:
    """The axes of a block's value that hold its entries."""
    return (1, 3) if block.kind == "head" and block.axis == 1 else (block.axis,)


def _slopes(plan: UnitPlan) -> dict[str, tuple[int, ...]]:
    """Values that are read, with the axes of their features."""
    return {reading.value: reading.flow.axes for readings in plan.readings for reading in readings if reading.value}
