"""How operations that change shapes carry the flow of units: where the features are afterwards."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from pellucid.ir.graph import Arg, Node, Ref, Weight
from pellucid.modules.linear_maps import Map, Place, Positions, Take
from pellucid.modules.unit_flows import Flow, Survey, Term, groups, sizes_at

OPEN = 0
"""The length of an axis of features that the network leaves open: channels times the size of an image."""


def numbers(arg: Arg) -> tuple[int, ...]:
    """An argument that is a whole number or a tuple of them."""
    items = arg if isinstance(arg, tuple) else (arg,)
    return tuple(item for item in items if isinstance(item, int))


def _axis(survey: Survey, arg: Arg, axis: Arg) -> int:
    assert isinstance(arg, Ref)
    assert isinstance(axis, int)
    rank = len(survey.kind_of(arg.name).axes)
    return axis % rank


def permuted(survey: Survey, node: Node) -> Flow | None:
    """transpose and permute: the features are where their axes go."""
    flow, source = survey.flow(node.args[0]), node.args[0]
    if flow is None or not isinstance(source, Ref):
        return None
    rank = len(survey.kind_of(source.name).axes)
    order = [axis % rank for axis in numbers(node.args[1])] if node.op == "permute" else [*range(rank)]
    if node.op == "transpose":
        a, b = _axis(survey, source, node.args[1]), _axis(survey, source, node.args[2])
        order[a], order[b] = b, a
    return flow.along([order.index(axis) for axis in flow.axes])


def reshaped(survey: Survey, node: Node) -> Flow | None:
    """Axes merged or taken apart; axes of positions that are merged with the features become entries of the units."""
    flow, source = survey.flow(node.args[0]), node.args[0]
    if flow is None or not isinstance(source, Ref):
        return None
    before, after = survey.kind_of(source.name).axes, survey.kind_of(node.id).axes
    if flow.axes == (1,) and len(after) == 2 < len(before) and isinstance(after[1], str):
        return flow.then(Positions(1, flow.entries, -1)).along((1,), (OPEN,))
    axes: list[int] = []
    steps: list[Map] = []
    for old, new in reversed(groups(before, after)):
        held = [axis for axis in old if axis in flow.axes]
        if not held:
            continue
        sizes = [int(before[axis]) for axis in old]
        if math.prod(sizes) != math.prod(int(before[axis]) for axis in held):
            if len(new) != 1 or len(held) != 1 or len(flow.axes) != 1:
                return None
            at = held[0] - old[0]
            steps.append(Positions(math.prod(sizes[:at]), sizes[at], math.prod(sizes[at + 1 :])))
        axes += [axis for axis in new if after[axis] != 1] or [new[0]]
    sizes_after = sizes_at(survey.kind_of(node.id), axes)
    return flow.then(*steps).along(axes, sizes_after) if axes and sizes_after is not None else None


def split_heads(survey: Survey, node: Node) -> Flow | None:
    """Features as heads and what each holds."""
    flow, sizes = survey.flow(node.args[0]), sizes_at(survey.kind_of(node.id), (1, 3))
    return None if flow is None or sizes is None or flow.entries != math.prod(sizes) else flow.along((1, 3), sizes)


def merge_heads(survey: Survey, node: Node) -> Flow | None:
    """Heads side by side again."""
    flow = survey.flow(node.args[0])
    return flow.along((2,), (flow.entries,)) if flow is not None and flow.axes == (1, 3) else None


def repeat_heads(survey: Survey, node: Node) -> Flow | None:
    """Every head several times in a row."""
    flow, times = survey.flow(node.args[0]), node.args[1]
    if flow is None or flow.axes != (1, 3) or not isinstance(times, int):
        return None
    return repeated(flow, times)


def repeated(flow: Flow, times: int) -> Flow:
    """Every head `times` times in a row."""
    heads, width = flow.sizes
    where = torch.arange(heads * width).reshape(heads, width).repeat_interleave(times, 0).reshape(-1)
    return flow.then(Take(where, flow.entries)).along(flow.axes, (heads * times, width))


def selected(survey: Survey, node: Node) -> Flow | None:
    """select, slice_axis and take along a known axis: positions fall away, features are chosen."""
    flow, source = survey.flow(node.args[0]), node.args[0]
    if flow is None:
        return None
    axis = _axis(survey, source, node.args[2] if node.op == "take" else node.args[1])
    gone = node.op == "select"
    if axis not in flow.axes:
        return flow.along([other - (gone and other > axis) for other in flow.axes])
    index = survey.graph.weights[node.args[1].name] if node.op == "take" and isinstance(node.args[1], Weight) else None
    if len(flow.axes) > 1 or gone or (node.op == "take" and index is None):
        return None
    bounds = [bound if isinstance(bound, int) else None for bound in (*node.args[2:], None, None, None)[:3]]
    where = torch.arange(flow.entries)[slice(*bounds)] if index is None else index.long().reshape(-1)
    return flow.then(Take(where, flow.entries)).along(flow.axes, (len(where),))


def inserted(survey: Survey, node: Node) -> Flow | None:
    """unsqueeze and squeeze."""
    flow, source = survey.flow(node.args[0]), node.args[0]
    if flow is None or not isinstance(source, Ref) or not isinstance(node.args[1], int):
        return None
    rank = len(survey.kind_of(source.name).axes)
    if node.op == "unsqueeze":
        axis = node.args[1] % (rank + 1)
        return flow.along([other + (other >= axis) for other in flow.axes])
    axis = node.args[1] % rank
    return None if axis in flow.axes else flow.along([other - (other > axis) for other in flow.axes])


def reduced(survey: Survey, node: Node) -> Flow | None:
    """mean, total and the like over positions."""
    flow, source = survey.flow(node.args[0]), node.args[0]
    if flow is None or not isinstance(source, Ref) or len(node.args) < 2 or node.args[1] is None:
        return None
    rank = len(survey.kind_of(source.name).axes)
    gone = {axis % rank for axis in numbers(node.args[1])}
    if gone & set(flow.axes):
        return None
    keep = len(node.args) > 2 and node.args[2] is True
    return flow if keep else flow.along([axis - sum(other < axis for other in gone) for axis in flow.axes])


def joined(survey: Survey, node: Node) -> Flow | None:
    """concat: side by side along the features, or one after another along positions."""
    parts = node.args[0] if isinstance(node.args[0], tuple) else ()
    flows = [(part, survey.flow(part)) for part in parts]
    first = next((flow for _, flow in flows if flow is not None), None)
    if first is None:
        return None
    rank = len(survey.kind_of(node.id).axes)
    axis = node.args[1] % rank if isinstance(node.args[1], int) else -1
    kept = [(part, flow) for part, flow in flows if flow is not None and flow.axes == first.axes]
    if axis not in first.axes:
        terms = tuple(term for _, flow in kept if flow.sizes == first.sizes for term in flow.terms)
        return Flow(first.axes, first.sizes, terms)
    sizes = sizes_at(survey.kind_of(node.id), (axis,))
    if first.axes != (axis,) or sizes is None:
        return None
    start, placed = 0, list[Term]()
    for part, flow in flows:
        width = survey.kind_of(part.name).axes[axis]
        assert isinstance(width, int)
        if flow is not None and flow.axes == first.axes:
            placed += flow.then(Place(start, width)).terms
        start += width
    return Flow((axis,), sizes, tuple(placed))


def pieces(survey: Survey, node: Node) -> Iterable[tuple[str, Flow]]:
    """The flows of the values of `split`, and of `unbind` along positions."""
    flow, source = survey.flow(node.args[0]), node.args[0]
    if flow is None:
        return
    axis = _axis(survey, source, node.args[2] if node.op == "split" else node.args[1])
    start = 0
    for position, name in enumerate(node.outputs):
        if axis not in flow.axes:
            gone = node.op == "unbind"
            yield name, flow.along([other - (gone and other > axis) for other in flow.axes])
        elif node.op == "split" and len(flow.axes) == 1:
            size = numbers(node.args[1])[position]
            yield name, flow.then(Take(torch.arange(start, start + size), flow.entries)).along(flow.axes, (size,))
            start += size
