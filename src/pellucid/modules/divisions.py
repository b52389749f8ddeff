"""Which values are divided between regions, and how the division of one value carries over to its neighbours.

Units that regions claim divide a value along its feature or channel axis. The division spreads backwards through
operations that treat every unit by itself (activations, products of two values, norms per channel, pooling) up to the
layer that makes the units, and forwards in the same way down to the layers that read them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pellucid.errors import BadInput
from pellucid.ir.graph import Arg, Graph, Node, Ref, Weight, refs
from pellucid.ir.regions import RegionTree, Unit
from pellucid.modules.division import Division
from pellucid.modules.head_divisions import HEADED, by_heads, head_operands

ELEMENTWISE = frozenset((
    "exp", "log", "sqrt", "rsqrt", "reciprocal", "absolute", "sign", "floor", "ceil", "round_half_even", "sin", "cos",
    "erf", "tanh", "sigmoid", "relu", "leaky_relu", "elu", "gelu", "silu", "softplus", "hardswish", "hardsigmoid",
    "clip", "minimum", "maximum", "where", "logical_not", "masked_fill", "cast", "neg", "invert", "or", "xor", "and",
    "eq", "ne", "lt", "le", "gt", "ge", "add", "sub", "mul", "div", "floordiv", "mod", "pow",
))  # fmt: skip
"""Operations that treat every entry by itself, broadcasting their operands."""

POOLING = frozenset((
    "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d",
    "aten.max_pool1d.default", "aten.avg_pool1d.default", "aten.adaptive_avg_pool1d.default",
))  # fmt: skip
"""Operations that treat every channel (axis 1) by itself."""

REDUCING = frozenset(("mean", "total", "largest", "smallest"))
"""Operations that take axes away and treat the others entry by entry."""


@dataclass(frozen=True)
class Layer:
    """How a layer's weight is laid out: its axes of what goes out and what comes in, and the axis of the values."""

    out_axis: int
    in_axis: int
    value_axis: int


LAYERS: Mapping[str, Layer] = {
    "linear": Layer(0, 1, -1),
    "affine": Layer(1, 0, -1),
    "conv1d": Layer(0, 1, 1),
    "conv2d": Layer(0, 1, 1),
}
"""Operations (x, weight, bias, …) whose outputs are sums over their inputs, one for each unit."""


def divisions(graph: Graph, tree: RegionTree) -> dict[str, Division]:
    """Every value that is divided, claimed or reached from a claimed one.

    Raises:
        BadInput: a unit of a value that the graph does not have, of another axis than that of the features or channels,
            out of range, or claimed twice.
    """
    found = _claimed(graph, tree)
    makers = {name: node for node in graph.block.nodes for name in node.outputs}
    waiting = [*found]
    while waiting:
        value = waiting.pop(0)
        node = makers.get(value)
        if node is None or len(node.outputs) != 1:
            continue
        for source, division in (operands(node, found[value], graph) or {}).items():
            if source not in found:
                found[source] = division
                waiting.append(source)
    for node in graph.block.nodes:
        if len(node.outputs) == 1 and node.id not in found:
            carried = carried_over(node, found, graph)
            if carried is not None:
                found[node.id] = carried
    return found


# ---- what regions claim


def _claimed(graph: Graph, tree: RegionTree) -> dict[str, Division]:
    claims: dict[str, tuple[int, dict[int, str]]] = {}
    for region in tree.walk():
        for unit in region.units:
            axis = _checked_axis(graph, unit, region.name)
            known, owners = claims.setdefault(unit.value, (axis, {}))
            if known != axis:
                raise BadInput(
                    f"units of {unit.value!r} are claimed along the axes {known} and {axis}; use one of them"
                )
            for index in unit.indices:
                if index in owners:
                    raise BadInput(
                        f"unit {index} of {unit.value!r} is claimed by {owners[index]!r} and {region.name!r}; "
                        "give it to one of them"
                    )
                owners[index] = region.name
    order = [region.name for region in tree.walk()]
    return {value: _division(graph, value, axis, owners, order) for value, (axis, owners) in claims.items() if owners}


def _checked_axis(graph: Graph, unit: Unit, region: str) -> int:
    """The axis of a unit counted from the front."""
    if unit.value not in _values_of(graph):
        raise BadInput(
            f"region {region!r} claims units of {unit.value!r}, which is no value of the graph outside loops"
        )
    axes = graph.values[unit.value].axes
    axis = unit.axis + len(axes) if unit.axis < 0 else unit.axis
    size = axes[axis] if 0 <= axis < len(axes) else None
    if not isinstance(size, int) or axis not in unit_axes(graph, unit.value):
        raise BadInput(
            f"region {region!r} claims units of {unit.value!r} along axis {unit.axis}, which is not its axis of "
            f"features or channels; its type is {graph.values[unit.value]}"
        )
    wrong = next((index for index in unit.indices if not 0 <= index < size), None)
    if wrong is not None:
        raise BadInput(f"region {region!r} claims unit {wrong} of {unit.value!r}, which has the units 0 to {size - 1}")
    return axis


def _values_of(graph: Graph) -> set[str]:
    return {*graph.block.inputs, *(name for node in graph.block.nodes for name in node.outputs)}


def unit_axes(graph: Graph, value: str) -> tuple[int, ...]:
    """Axes that hold units: channels where convolutions or images are at work, heads, else the last."""
    rank = len(graph.values[value].axes)
    makers = {name: node for node in graph.block.nodes for name in node.outputs}
    node = makers.get(value)
    while node is not None and node.op in ELEMENTWISE:
        node = next((makers[name] for name in refs(node) if name in makers), None)
    if node is not None and (node.op in ("conv1d", "conv2d", "batch_norm") or node.op in POOLING):
        return (1,)
    return (1, 3) if rank == 4 else (rank - 1,)


def _division(graph: Graph, value: str, axis: int, owners: Mapping[int, str], order: list[str]) -> Division:
    size = graph.values[value].axes[axis]
    assert isinstance(size, int)
    names: list[str | None] = [name for name in order if name in owners.values()]
    parts = [tuple(i for i in range(size) if owners.get(i) == name) for name in names]
    rest = tuple(i for i in range(size) if i not in owners)
    if rest:
        names, parts = [*names, None], [*parts, rest]
    return Division(axis, tuple(names), tuple(parts))


# ---- how divisions spread


def operands(node: Node, division: Division, graph: Graph) -> dict[str, Division] | None:
    """The divisions that a node's operands need so that it can work part by part; None where it cannot."""
    rank = len(graph.values[node.id].axes)
    source = node.args[0] if node.args else None
    if node.op in ELEMENTWISE:
        return {name: found for name in refs(node) if (found := _broadcast(graph, name, division, rank)) is not None}
    if not isinstance(source, Ref):
        return None
    if node.op in HEADED:
        return head_operands(node, division, graph)
    if is_per_channel(node, graph) and division.axis == 1:
        return {source.name: division}
    if node.op in REDUCING:
        axes = _reduced(node, graph)
        before = next((i for i, kept in _kept(node, axes, graph) if kept == division.axis), None)
        return None if before is None or before in axes else {source.name: division.along(before)}
    return None


def _broadcast(graph: Graph, name: str, division: Division, rank: int) -> Division | None:
    """How an operand of a broadcasting operation is divided; None where it lacks the axis or repeats along it."""
    axes = graph.values[name].axes
    axis = division.axis - (rank - len(axes))
    return division.along(axis) if axis >= 0 and axes[axis] == division.size and division.size > 1 else None


def is_per_channel(node: Node, graph: Graph) -> bool:
    """Whether a node treats every channel by itself: pooling, a norm by channel, a convolution with as many groups."""
    if node.op == "batch_norm":
        return all(isinstance(arg, Weight) or arg is None for arg in node.args[1:5])
    return node.op in POOLING or is_depthwise(node, graph)


def is_depthwise(node: Node, graph: Graph) -> bool:
    """Whether a node is a convolution with one kernel for each channel."""
    source = node.args[0] if node.op in ("conv1d", "conv2d") else None
    if not isinstance(source, Ref) or not isinstance(node.args[1], Weight) or len(node.args) < 7:
        return False
    channels = (graph.values[source.name].axes[1], graph.values[node.id].axes[1])
    return channels == (node.args[6], node.args[6]) and not isinstance(node.args[2], Ref)


def _reduced(node: Node, graph: Graph) -> set[int]:
    source, axes = node.args[0], node.args[1] if len(node.args) > 1 else None
    assert isinstance(source, Ref)
    rank = len(graph.values[source.name].axes)
    return {axis % rank for axis in axes if isinstance(axis, int)} if isinstance(axes, tuple) else set(range(rank))


def _kept(node: Node, axes: set[int], graph: Graph) -> Iterator[tuple[int, int]]:
    """Each axis of a reduced value with the axis that it becomes."""
    source, keep = node.args[0], len(node.args) > 2 and node.args[2]
    assert isinstance(source, Ref)
    after = 0
    for axis in range(len(graph.values[source.name].axes)):
        if keep or axis not in axes:
            yield axis, after
            after += 1


def carried_over(node: Node, found: Mapping[str, Division], graph: Graph) -> Division | None:
    """The division of a node's result that follows from those of all its operands, if they allow one."""
    name = next((name for name in refs(node) if name in found), None)
    candidate = None if name is None else _candidate(node, name, found[name], graph)
    if candidate is None or flattens(node, graph):
        return candidate
    needed = operands(node, candidate, graph)
    return candidate if needed and all(found.get(name) == division for name, division in needed.items()) else None


def _candidate(node: Node, name: str, division: Division, graph: Graph) -> Division | None:
    """The division of a node's result that one operand suggests."""
    if node.op in ELEMENTWISE:
        return division.along(division.axis + len(graph.values[node.id].axes) - len(graph.values[name].axes))
    if flattens(node, graph) and division.axis == 1:
        inner = math.prod(axis for axis in graph.values[name].axes[2:] if isinstance(axis, int))
        parts = (tuple(i * inner + k for i in part for k in range(inner)) for part in division.parts)
        return Division(1, division.owners, tuple(parts))
    if node.op in REDUCING and node.args[0] == Ref(name):
        axes = _reduced(node, graph)
        after = next((j for i, j in _kept(node, axes, graph) if i == division.axis and i not in axes), None)
        return None if after is None else division.along(after)
    if node.op in HEADED:
        return by_heads(node, division, graph) if node.args[0] == Ref(name) else None
    return division if is_per_channel(node, graph) and node.args[0] == Ref(name) else None


def flattens(node: Node, graph: Graph) -> bool:
    """Whether a node makes one axis of all axes but the first, whose sizes are known."""
    source = node.args[0] if node.op in ("flatten", "reshape") else None
    if not isinstance(source, Ref):
        return False
    axes, made = graph.values[source.name].axes, graph.values[node.id].axes
    inner = [axis for axis in axes[1:] if isinstance(axis, int)]
    return len(axes) > 2 and len(inner) == len(axes) - 1 and made == (axes[0], math.prod(inner))


def is_layer(node: Node, graph: Graph) -> bool:
    """Whether a node is a layer with a weight of its own that connects all its inputs to all its outputs."""
    if node.op not in LAYERS or not isinstance(node.args[0], Ref) or not isinstance(node.args[1], Weight):
        return False
    bias: Arg = node.args[2] if len(node.args) > 2 else None
    connected = not node.op.startswith("conv") or len(node.args) < 7 or node.args[6] == 1
    return connected and len(graph.values[node.id].axes) > 1 and (bias is None or _is_vector(bias, graph))


def _is_vector(bias: Arg, graph: Graph) -> bool:
    return isinstance(bias, Weight) and graph.weights[bias.name].ndim == 1


def layer_axis(node: Node, graph: Graph) -> int:
    """The axis of a layer's result that holds its units."""
    return LAYERS[node.op].value_axis % len(graph.values[node.id].axes)
