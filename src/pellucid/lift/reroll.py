"""Unrolled loops become loops again.

A recurrent network written by hand exports one copy of its step for each position of the example. 1. Find values that
are read position by position (`x[:, 0]`, `x[:, 1]`, …). 2. Give each node the latest position it depends on. 3. If the
steps are the same nodes in the same order, reading the same weights, the same values of the step before and of before
the loop, fold them into one `scan`. 4. Run the folded graph at another length; if it does, that axis is general.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from pellucid.errors import CannotRun
from pellucid.ir.graph import Arg, Axis, Block, Graph, Node, Ref, ValueType, Weight, map_arg, map_node, refs
from pellucid.ir.interpret import run_graph

SHORTEST = 3
"""Fewer steps than this are no loop."""


@dataclass(frozen=True)
class _Loop:
    """Nodes of each step, aligned by position; the nodes before and after; the axis that is time."""

    steps: tuple[tuple[Node, ...], ...]
    before: tuple[Node, ...]
    after: tuple[Node, ...]
    axis: int


@dataclass(frozen=True)
class _Place:
    """Where a value lives: node `position` of step `step`, output `slot`."""

    step: int
    position: int
    slot: int


def reroll(graph: Graph) -> Graph:
    """The graph with its unrolled loop folded into a `scan`, and with the lengths open that torch's own loops fix."""
    return _open_recurrent(_fold_loop(graph))


def _open_recurrent(graph: Graph) -> Graph:
    """torch.export takes the length of the sequences of nn.RNN, nn.GRU and nn.LSTM as fixed, though any length runs."""
    for node in graph.block.nodes:
        source = node.args[1] if node.op == "recurrent" else None
        if isinstance(source, Ref):
            axis = 1 if node.args[6] else 0
            length = graph.values[source.name].axes[axis]
            if isinstance(length, int):
                graph = _generalise(graph, length, axis)
    return graph


def _fold_loop(graph: Graph) -> Graph:
    opened = _unbound_one_by_one(graph)
    loop = _find_steps(opened.block)
    if loop is None:
        return graph
    folded = _fold(opened, loop)
    return graph if folded is None else _generalise(folded, len(loop.steps), loop.axis)


def _unbound_one_by_one(graph: Graph) -> Graph:
    """`for x_t in x` exports all positions at once; here each is read on its own."""
    nodes: list[Node] = []
    for node in graph.block.nodes:
        if node.op == "unbind":
            nodes.extend(
                node.with_changes(outputs=(name,), op="select", args=(*node.args, t))
                for t, name in enumerate(node.outputs)
            )
        else:
            nodes.append(node)
    return graph.with_changes(block=Block(graph.block.inputs, tuple(nodes), graph.block.outputs))


def _find_steps(block: Block) -> _Loop | None:
    reads: dict[tuple[Arg, int], dict[int, str]] = {}
    for node in block.nodes:
        if node.op == "select" and isinstance(node.args[1], int) and isinstance(node.args[2], int):
            reads.setdefault((node.args[0], node.args[1]), {})[node.args[2]] = node.id
    complete = {key: at for key, at in reads.items() if len(at) >= SHORTEST and sorted(at) == list(range(len(at)))}
    if not complete:
        return None
    length = Counter(len(at) for at in complete.values()).most_common(1)[0][0]
    position_of = {name: t for at in complete.values() if len(at) == length for t, name in at.items()}
    axes = {axis for (_, axis), at in complete.items() if len(at) == length}
    if len(axes) != 1:
        return None
    steps, before, after = _assign(block, position_of, length)
    size = len(steps[1]) if length > 1 else 0
    rest = steps[-1][size:]
    steps[-1] = steps[-1][:size]
    if size == 0 or any(len(step) != size for step in steps):
        return None
    ordered = [node for node in block.nodes if node in set(rest) | set(after)]
    return _Loop(tuple(tuple(step) for step in steps), tuple(before), tuple(ordered), axes.pop())


def _assign(
    block: Block, position_of: Mapping[str, int], length: int
) -> tuple[list[list[Node]], list[Node], list[Node]]:
    """Each node to a step, to before the loop, or (where it gathers several steps) to after it."""
    when: dict[str, int] = {}
    steps: list[list[Node]] = [[] for _ in range(length)]
    before: list[Node] = []
    after: list[Node] = []
    for node in block.nodes:
        depends = [when[name] for name in refs(node) if name in when]
        step = position_of.get(node.id, max(depends, default=-1))
        if depends and (min(depends) < step - 1 or length in depends):
            step = length
        if step < 0:
            before.append(node)
            continue
        (after if step == length else steps[step]).append(node)
        when.update(dict.fromkeys(node.outputs, step))
    return steps, before, after


def _fold(graph: Graph, loop: _Loop) -> Graph | None:
    where = {
        name: _Place(t, position, slot)
        for t, step in enumerate(loop.steps)
        for position, node in enumerate(step)
        for slot, name in enumerate(node.outputs)
    }
    carried: dict[tuple[int, int], Arg] = {}
    for t in range(1, len(loop.steps)):
        for old, new in zip(loop.steps[t - 1], loop.steps[t], strict=True):
            if not _aligned(old, new, t, where, carried):
                return None
    gathered = _gather_outputs(graph, loop, where)
    if gathered is None or not _states_keep_type(graph, loop, carried):
        return None
    return _build(graph, loop, where, carried, gathered)


def _aligned(old: Node, new: Node, t: int, where: Mapping[str, _Place], carried: dict[tuple[int, int], Arg]) -> bool:
    """Whether a node of step t does what its twin of step t - 1 did; notes first values of what is carried over."""
    if (old.op, old.scope.split("@")[0], len(old.outputs)) != (new.op, new.scope.split("@")[0], len(new.outputs)):
        return False
    if _is_element(old, t - 1) and _is_element(new, t):
        return old.args[:2] == new.args[:2]
    a, b = _flat(old), _flat(new)
    return len(a) == len(b) and all(_same_arg(x, y, t, where, carried) for x, y in zip(a, b, strict=True))


def _is_element(node: Node, t: int) -> bool:
    return node.op == "select" and node.args[2] == t


def _flat(node: Node) -> list[Arg]:
    found: list[Arg] = []
    for arg in (*node.args, *(value for _, value in node.kwargs)):
        map_arg(lambda leaf: found.append(leaf), arg)
        found.append(len(arg) if isinstance(arg, tuple) else None)
    return found


def _same_arg(x: Arg, y: Arg, t: int, where: Mapping[str, _Place], carried: dict[tuple[int, int], Arg]) -> bool:
    place = where.get(y.name) if isinstance(y, Ref) else None
    if place is None:
        return x == y
    before = where.get(x.name) if isinstance(x, Ref) else None
    key = (place.position, place.slot)
    if place.step == t:
        return before == _Place(t - 1, *key)
    if place.step != t - 1:
        return False
    if t > 1:
        return before == _Place(t - 2, *key)
    return before is None and isinstance(x, Ref | Weight) and carried.setdefault(key, x) == x


def _states_keep_type(graph: Graph, loop: _Loop, carried: Mapping[tuple[int, int], Arg]) -> bool:
    def type_of(arg: Arg) -> ValueType | None:
        if isinstance(arg, Weight):
            return ValueType(str(graph.weights[arg.name].dtype)[6:], tuple(graph.weights[arg.name].shape))
        return graph.values.get(arg.name) if isinstance(arg, Ref) else None

    return all(
        type_of(first) == graph.values[loop.steps[0][position].outputs[slot]]
        for (position, slot), first in carried.items()
    )


def _gather_outputs(
    graph: Graph, loop: _Loop, where: Mapping[str, _Place]
) -> dict[str, tuple[str, tuple[int, int], int]] | None:
    """How each use after the loop reads it: node id to ("stack", value, axis), or value to ("last", value, 0)."""
    found: dict[str, tuple[str, tuple[int, int], int]] = {}
    last = len(loop.steps) - 1
    for node in loop.after:
        names = [name for name in refs(node) if name in where]
        places = [where[name] for name in names]
        keys = {(place.position, place.slot) for place in places}
        if node.op in ("stack", "concat") and [place.step for place in places] == list(range(last + 1)):
            if len(keys) != 1:
                return None
            way = _stacking(node, keys.pop(), loop)
            if way is None:
                return None
            found[node.id] = way
        elif all(place.step == last for place in places):
            found.update({name: ("last", (where[name].position, where[name].slot), 0) for name in names})
        else:
            return None
    for name in graph.block.outputs:
        if name in where:
            if where[name].step != last:
                return None
            found[name] = ("last", (where[name].position, where[name].slot), 0)
    return found


def _stacking(node: Node, key: tuple[int, int], loop: _Loop) -> tuple[str, tuple[int, int], int] | None:
    axis = node.args[1]
    assert isinstance(axis, int)
    if node.op == "stack":
        return ("stack", key, axis) if abs(axis - loop.axis) <= 1 else None
    maker = loop.steps[1][key[0]]
    source = maker.args[0] if maker.op == "unsqueeze" else None
    if not isinstance(source, Ref) or maker.args[1] != axis or abs(axis - loop.axis) > 1:
        return None
    for position, candidate in enumerate(loop.steps[1]):
        if source.name in candidate.outputs:
            return "stack", (position, candidate.outputs.index(source.name)), axis
    return None


def _build(
    graph: Graph,
    loop: _Loop,
    where: Mapping[str, _Place],
    carried: Mapping[tuple[int, int], Arg],
    gathered: Mapping[str, tuple[str, tuple[int, int], int]],
) -> Graph:
    """The graph with one `scan` in place of the steps. Names inside the loop are those of step 1."""
    step, last = loop.steps[1], loop.steps[-1]
    values = dict(graph.values)

    def named(key: tuple[int, int], nodes: Sequence[Node] = step) -> str:
        return nodes[key[0]].outputs[key[1]]

    states = list(carried)
    before_names = {key: f"{named(key)}_before" for key in states}
    values.update({name: values[named(key)] for key, name in before_names.items()})
    elements = [node for node in step if _is_element(node, 1)]
    inside = {name for node in step for name in node.outputs}
    previous = {named(key, loop.steps[0]): before_names[key] for key in states}
    first_scopes = [node.scope for node in loop.steps[0]]
    body_nodes = [
        _reading(node, previous).with_changes(scope=scope)
        for node, scope in zip(step, first_scopes, strict=True)
        if node not in elements
    ]
    own = inside | set(before_names.values())
    fixed = list(dict.fromkeys(name for node in body_nodes for name in refs(node) if name not in own))
    columns = list(dict.fromkeys(key for kind, key, _ in gathered.values() if kind == "stack" or key not in carried))
    inputs = (*before_names.values(), *(node.id for node in elements), *fixed)
    body = Block(inputs, tuple(body_nodes), tuple(named(key) for key in (*states, *columns)))
    scan = Node(
        (*(f"{named(key, last)}_last" for key in states), *(f"{named(key)}_sequence" for key in columns)),
        "scan",
        (tuple(carried.values()), tuple(node.args[0] for node in elements), tuple(Ref(name) for name in fixed)),
        (("axis", loop.axis),),
        body=body,
        scope=_common_scope(body_nodes),
        source=next((node.source for node in elements), ""),
    )
    for key, name in zip(states, scan.outputs, strict=False):
        values[name] = values[named(key)]
    length = len(loop.steps)
    for key, name in zip(columns, scan.outputs[len(states) :], strict=True):
        axes = list(values[named(key)].axes)
        values[name] = ValueType(values[named(key)].dtype, (*axes[: loop.axis], length, *axes[loop.axis :]))
    tail, renamed = _read_results(loop, gathered, states, columns, scan)
    after = [_reading(node, renamed) for node in loop.after if node.id not in gathered]
    nodes = (*loop.before, scan, *tail, *after)
    outputs = tuple(renamed.get(name, name) for name in graph.block.outputs)
    remark = f"a loop over positions was traced at length {length} and folded"
    return graph.with_changes(
        block=Block(graph.block.inputs, nodes, outputs), values=values, remarks=(*graph.remarks, remark)
    )


def _reading(node: Node, names: Mapping[str, str]) -> Node:
    return map_node(node, lambda leaf: Ref(names.get(leaf.name, leaf.name)) if isinstance(leaf, Ref) else leaf)


def _read_results(
    loop: _Loop,
    gathered: Mapping[str, tuple[str, tuple[int, int], int]],
    states: list[tuple[int, int]],
    columns: list[tuple[int, int]],
    scan: Node,
) -> tuple[list[Node], dict[str, str]]:
    """Nodes that bring the loop's results into the form in which they are used, and which names they replace."""
    tail: list[Node] = []
    renamed: dict[str, str] = {}
    sequence = dict(zip(columns, scan.outputs[len(states) :], strict=True))
    final = dict(zip(states, scan.outputs, strict=False))
    for name, (kind, key, axis) in gathered.items():
        if kind == "last" and key in final:
            renamed[name] = final[key]
        elif kind == "last":
            tail.append(Node((name,), "select", (Ref(sequence[key]), loop.axis, -1)))
        elif axis == loop.axis:
            renamed[name] = sequence[key]
        else:
            tail.append(Node((name,), "transpose", (Ref(sequence[key]), loop.axis, axis)))
    return tail, renamed


def _common_scope(nodes: Sequence[Node]) -> str:
    """The scope that all of the nodes' modules share."""
    parts = [node.scope.split(".") for node in nodes]
    shared: list[str] = []
    for column in zip(*parts, strict=False):
        if len(set(column)) > 1:
            break
        shared.append(column[0])
    return ".".join(shared) if any(node.scope == ".".join(shared) for node in nodes) else ".".join(shared[:-1])


def _generalise(graph: Graph, length: int, axis: int) -> Graph:
    """The folded graph with the axis of the loop named "seq" wherever it follows the input, if other lengths run."""
    shapes = [_shapes_at(graph, length, axis, wanted) for wanted in (length, length + 2)]
    if shapes[0] is None or shapes[1] is None:
        return graph.with_changes(remarks=(*graph.remarks, f"the network takes only sequences of length {length}"))
    values: dict[str, ValueType] = dict(graph.values)
    for name, shape in shapes[0].items():
        longer = shapes[1][name]
        axes: list[Axis] = list(values[name].axes)
        for i, (a, b) in enumerate(zip(shape, longer, strict=True)):
            axes[i] = "seq" if a == length and b == length + 2 else axes[i]
        values[name] = ValueType(values[name].dtype, tuple(axes))
    return graph.with_changes(values=values)


def _shapes_at(graph: Graph, length: int, axis: int, wanted: int) -> dict[str, tuple[int, ...]] | None:
    shapes: dict[str, tuple[int, ...]] = {}

    def watch(name: str, value: object) -> None:
        if isinstance(value, torch.Tensor):
            shapes[name] = tuple(value.shape)

    inputs = []
    for name in graph.block.inputs:
        kind = graph.values[name]
        sizes = [2 if isinstance(size, str) else size for size in kind.axes]
        if len(sizes) > axis and kind.axes[axis] == length:
            sizes[axis] = wanted
        inputs.append(torch.zeros(sizes, dtype=getattr(torch, kind.dtype)))
        watch(name, inputs[-1])
    try:
        run_graph(graph, inputs, watch)
    except CannotRun:
        return None
    return {name: shape for name, shape in shapes.items() if name in graph.values}
