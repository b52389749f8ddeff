"""Which units a network has, and which linear maps lie between those that write a value and those that read it.

The graph is read once, in order. Every value with features is a sum of terms: a block of units and a chain of linear
maps from them. Layers, sums, norms and changes of shape extend the chains (`flow_rules`); whatever bends its input, an
activation or a product of two values, makes a block of units that reads what came in. So a residual stream is never a
node: it is the sum of all that was written to it, and a reader meets each writer through norm gains and both weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from pellucid.ir.graph import Arg, Axis, Graph, Ref, ValueType, Weight
from pellucid.modules.linear_maps import Chain, Map, is_diagonal

UnitKind = Literal["input", "neuron", "channel", "state", "pattern", "head", "token", "output"]
"""What units are. "pattern" is the QK half of an attention head, "head" its OV half."""


@dataclass(frozen=True)
class UnitBlock:
    """Units of one layer: slices of one axis of one value.

    Attributes:
        name: short and unique.
        kind: what the units are.
        size: how many units.
        width: entries of a unit, more than one for heads.
        value: the value of the graph that they are slices of; "" where no one value holds them.
        axis: the axis of that value, from the front; -1 where they take several.
        claimable: whether a region can claim them.
        members: for tokens, which rows of the table each unit stands for.
    """

    name: str
    kind: UnitKind
    size: int
    width: int = 1
    value: str = ""
    axis: int = -1
    claimable: bool = False
    members: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Term:
    """What one block adds to a value: its entries through a chain, outermost map first."""

    block: int
    chain: Chain = ()


@dataclass(frozen=True)
class Flow:
    """A value as a sum of terms. Its features are the axes `axes`, of the lengths `sizes`, the first one slowest."""

    axes: tuple[int, ...]
    sizes: tuple[int, ...]
    terms: tuple[Term, ...]

    def then(self, *steps: Map) -> Flow:
        """The flow after linear steps, the first one done first."""
        chain = tuple(reversed(steps))
        return replace(self, terms=tuple(Term(term.block, (*chain, *term.chain)) for term in self.terms))

    def along(self, axes: Sequence[int], sizes: Sequence[int] | None = None) -> Flow:
        """The same entries on other axes."""
        return replace(self, axes=tuple(axes), sizes=self.sizes if sizes is None else tuple(sizes))

    @property
    def entries(self) -> int:
        """How many features the value has."""
        return math.prod(self.sizes)


@dataclass(frozen=True)
class Reading:
    """What a block reads: a flow of one or more entries for each unit, those of a unit next to each other.

    `value` names the value of the graph that holds these entries in this order, "" where there is none.
    """

    flow: Flow
    value: str = ""


@dataclass
class Survey:
    """What has been found so far; blocks that turn out to be the same units are merged.

    `couplings` are pairs of a block of patterns and the block of heads that they steer; `tables` are values that are
    weights with their axes in another order.
    """

    graph: Graph
    clusters: int
    blocks: list[UnitBlock] = field(default_factory=list)
    readings: list[list[Reading]] = field(default_factory=list)
    same: list[int] = field(default_factory=list)
    flows: dict[str, Flow] = field(default_factory=dict)
    couplings: list[tuple[int, int]] = field(default_factory=list)
    tables: dict[str, torch.Tensor] = field(default_factory=dict)

    def add(self, block: UnitBlock, readings: Sequence[Reading] = ()) -> int:
        """A new block; returns its number."""
        names = {known.name for known in self.blocks}
        name, count = block.name, 2
        while name in names:
            name, count = f"{block.name}_{count}", count + 1
        self.blocks.append(replace(block, name=name))
        self.readings.append([*readings])
        self.same.append(len(self.blocks) - 1)
        return len(self.blocks) - 1

    def find(self, block: int) -> int:
        """The block that a merged block has become."""
        while self.same[block] != block:
            block = self.same[block]
        return block

    def merge(self, old: int, new: int) -> None:
        """The units of `old` are those of `new`."""
        old, new = self.find(old), self.find(new)
        if old != new:
            self.readings[new] = [*self.readings[old], *self.readings[new]]
            self.same[old] = new

    def kind_of(self, name: str) -> ValueType:
        """The type of a value."""
        return self.graph.values[name]

    def flow(self, arg: Arg) -> Flow | None:
        """The flow of an argument, if it has one."""
        return self.flows.get(arg.name) if isinstance(arg, Ref) else None

    def weight(self, arg: Arg) -> torch.Tensor | None:
        """The tensor that an argument is, whatever the inputs."""
        if isinstance(arg, Weight):
            return self.graph.weights[arg.name]
        return self.tables.get(arg.name) if isinstance(arg, Ref) else None

    def own(self, flow: Flow) -> int | None:
        """The block whose entries, scaled at most, a flow is; None where it is anything else."""
        if len(flow.terms) != 1 or not is_diagonal(flow.terms[0].chain):
            return None
        block = self.find(flow.terms[0].block)
        known = self.blocks[block]
        return block if known.size * known.width == flow.entries and known.kind not in ("input", "token") else None


def is_real(kind: ValueType) -> bool:
    """Whether a value holds real numbers along axes."""
    return bool(kind.axes) and kind.dtype in ("float16", "bfloat16", "float32", "float64")


def identity(block: int, axes: Sequence[int], sizes: Sequence[int]) -> Flow:
    """The flow of a block's own value."""
    return Flow(tuple(axes), tuple(sizes), (Term(block),))


def new_units(survey: Survey, name: str, sources: Sequence[Flow], kind: UnitKind) -> Flow:
    """The flow of a value that bends its sources entry by entry: new units, one with those that it only transforms."""
    axes, sizes, size = sources[0].axes, sources[0].sizes, sources[0].entries
    single = len(axes) == 1
    block = survey.add(UnitBlock(name, kind, size, 1, name if single else "", axes[0] if single else -1))
    for source in sources:
        before = survey.own(source)
        if before is None or survey.blocks[before].width > 1:
            survey.readings[block].append(Reading(source, _value_of(survey, source)))
        else:
            survey.merge(before, block)
    return identity(block, axes, sizes)


def _value_of(survey: Survey, flow: Flow) -> str:
    return next((name for name, known in reversed(survey.flows.items()) if known is flow), "")


def sizes_at(kind: ValueType, axes: Sequence[int]) -> tuple[int, ...] | None:
    """Lengths of axes, None where one is not fixed."""
    sizes = tuple(kind.axes[axis] for axis in axes if 0 <= axis < len(kind.axes))
    found = tuple(size for size in sizes if isinstance(size, int))
    return found if len(found) == len(axes) else None


def groups(before: Sequence[Axis], after: Sequence[Axis]) -> list[tuple[range, range]]:
    """The axes of a value before and after it is reshaped, in the smallest groups of equal size, from the back."""
    found: list[tuple[range, range]] = []
    i, j = len(before), len(after)
    while i > 0 and j > 0:
        top, other = i, j
        i, j = i - 1, j - 1
        left, right = before[i], after[j]
        while isinstance(left, int) and isinstance(right, int) and left != right:
            source = before[i - 1] if left < right and i > 0 else after[j - 1] if left > right and j > 0 else None
            if not isinstance(source, int):
                break
            if left < right:
                i, left = i - 1, left * source
            else:
                j, right = j - 1, right * source
        if left != right:
            break
        found.append((range(i, top), range(j, other)))
    return found
