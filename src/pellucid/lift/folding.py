"""An unrolled loop as one `scan`.

1. Check that every step does the same on the values of its own step, of the step before, and of before the loop; what
the first step reads in place of the step before are the initial states. 2. Read each element from a sequence, cut and
turned so that its positions are those of the steps. 3. Bring the results into the form in which they are used: stacked
sequences, last states, single positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pellucid.ir.graph import Arg, Block, Graph, Node, Ref, ValueType, Weight, refs, rename_refs
from pellucid.lift.unrolled import Loop, element, flat, same_work

Key = tuple[int, int]
"""A value of a step: position of its node, and slot among the node's outputs."""


@dataclass(frozen=True)
class _Place:
    """Where a value lives: a step, and its key there."""

    step: int
    key: Key


@dataclass
class _Folding:
    """A loop being folded: places of the steps' values, initial states, and new nodes around the scan."""

    graph: Graph
    loop: Loop
    where: Mapping[str, _Place]
    values: dict[str, ValueType]
    carried: dict[Key, Arg] = field(default_factory=dict)
    columns: dict[Key, str] = field(default_factory=dict)
    head: list[Node] = field(default_factory=list)
    tail: list[Node] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    listed: set[Key] = field(default_factory=set)
    """Values of which single steps before the last are read."""
    axis: int = 0
    apart: bool = False
    """Whether single values of the loop are read."""

    @property
    def length(self) -> int:
        return len(self.loop.steps)

    def name(self, key: Key, step: int = 1) -> str:
        return self.loop.steps[step][key[0]].outputs[key[1]]

    def fresh(self, stem: str, kind: ValueType) -> str:
        """A new value name, with its type noted."""
        name, count = stem, 2
        while name in self.values:
            name, count = f"{stem}_{count}", count + 1
        self.values[name] = kind
        return name

    def emit(self, nodes: list[Node], stem: str, op: str, args: tuple[Arg, ...], kind: ValueType) -> Ref:
        name = self.fresh(stem, kind)
        nodes.append(Node((name,), op, args, scope=self.loop.steps[0][0].scope))
        return Ref(name)


def fold(graph: Graph, loop: Loop) -> Graph | None:
    """The graph with a `scan` in place of the loop's steps, or None where they are no loop."""
    folded = _fold(graph, loop)
    return _fold(graph, loop.without_first()) if folded is None and len(loop.steps) > 2 else folded


def _fold(graph: Graph, loop: Loop) -> Graph | None:
    where = {
        name: _Place(step, (position, slot))
        for step, nodes in enumerate(loop.steps)
        for position, node in enumerate(nodes)
        for slot, name in enumerate(node.outputs)
    }
    folding = _Folding(graph, loop, where, dict(graph.values))
    for step in range(1, folding.length):
        twins = zip(loop.steps[step - 1], loop.steps[step], strict=True)
        if not all(_aligned(folding, old, new, step) for old, new in twins):
            return None
    sequences = _sequences(folding) if _start_states(folding) else None
    if sequences is None:
        return None
    after = _results(folding)
    return _built(folding, sequences, after) if folding.carried or not folding.apart else None


# ---- the steps


def _aligned(folding: _Folding, old: Node, new: Node, step: int) -> bool:
    """Whether a node of `step` does what its twin in the step before did; notes what the first step starts from."""
    if not same_work(old, new):
        return False
    a, b = element(old), element(new)
    if a is not None and b is not None and a[:2] == b[:2] and a[2] != b[2]:
        first, second = (element(nodes[folding.where[new.id].key[0]]) for nodes in folding.loop.steps[:2])
        pace = second[2] - first[2] if first is not None and second is not None else 0
        return b[2] - a[2] == pace and abs(pace) == 1
    return all(_same_arg(folding, x, y, step) for x, y in zip(flat(old), flat(new), strict=True))


def _same_arg(folding: _Folding, x: Arg, y: Arg, step: int) -> bool:
    place = folding.where.get(y.name) if isinstance(y, Ref) else None
    if place is None:
        return x == y and type(x) is type(y)
    before = folding.where.get(x.name) if isinstance(x, Ref) else None
    if place.step == step:
        return before == _Place(step - 1, place.key)
    if place.step != step - 1:
        return False
    if step > 1:
        return before == _Place(step - 2, place.key)
    return before is None and isinstance(x, Ref | Weight) and folding.carried.setdefault(place.key, x) == x


def _start_states(folding: _Folding) -> bool:
    """Whether each initial state has the type of the state, if need be after it was broadcast to its shape."""
    for key, first in folding.carried.items():
        kind = folding.values[folding.name(key, 0)]
        given = _type_of(first, folding)
        if given == kind:
            continue
        shape = _shape(folding, kind) if given is not None and _broadcasts(given, kind) else None
        if shape is None:
            return False
        folding.carried[key] = folding.emit(folding.head, f"{folding.name(key)}_start", "expand", (first, shape), kind)
    return True


def _type_of(arg: Arg, folding: _Folding) -> ValueType | None:
    if isinstance(arg, Weight):
        tensor = folding.graph.weights[arg.name]
        return ValueType(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
    return folding.values.get(arg.name) if isinstance(arg, Ref) else None


def _broadcasts(given: ValueType, kind: ValueType) -> bool:
    ends = zip(reversed(given.axes), reversed(kind.axes), strict=False)
    return given.dtype == kind.dtype and len(given.axes) <= len(kind.axes) and all(a in (1, b) for a, b in ends)


def _shape(folding: _Folding, kind: ValueType) -> tuple[Arg, ...] | None:
    """A shape as arguments; general axes are measured on inputs of the network."""
    shape: list[Arg] = []
    for axis in kind.axes:
        if isinstance(axis, int):
            shape.append(axis)
            continue
        holder = next((name for name in folding.graph.block.inputs if axis in folding.values[name].axes), None)
        if holder is None:
            return None
        args = (Ref(holder), folding.values[holder].axes.index(axis))
        shape.append(folding.emit(folding.head, "length", "size", args, ValueType("int")))
    return tuple(shape)


# ---- what the loop reads


def _sequences(folding: _Folding) -> dict[int, Arg] | None:
    """For each position of a step that reads an element, the sequence that holds it along the axis of the loop.

    The first one decides how many steps there are; a sequence that depends on the inputs comes first.
    """
    found: dict[int, tuple[Arg, int, int, int]] = {}
    for position, (old, new) in enumerate(zip(*folding.loop.steps[:2], strict=True)):
        a, b = element(old), element(new)
        if a is not None and b is not None and a[2] != b[2]:
            found[position] = (*a, b[2] - a[2])
    ordered = sorted(found, key=lambda position: isinstance(found[position][0], Weight))
    if not ordered:
        return None
    folding.axis = found[ordered[0]][1]
    sequences: dict[int, Arg] = {}
    for position in ordered:
        source = _sequence(folding, *found[position])
        if source is None:
            return None
        sequences[position] = source
    return sequences


def _sequence(folding: _Folding, source: Arg, axis: int, first: int, step: int) -> Arg | None:
    kind = _type_of(source, folding)
    size = kind.axes[axis] if kind is not None else None
    if kind is None or not isinstance(size, int) or len(kind.axes) <= folding.axis:
        return None
    low = first if step > 0 else first - folding.length + 1
    high = low + folding.length
    if low > 0 or (high < size and (step < 0 or isinstance(source, Ref))):
        part = _resized(kind, axis, folding.length)
        bounds = (low or None, None if high == size else high - size, 1)
        source = folding.emit(folding.head, "part", "slice_axis", (source, axis, *bounds), part)
        kind = part
    if step < 0:
        source = folding.emit(folding.head, "reversed", "flip", (source, (axis,)), kind)
    if axis != folding.axis:
        order = [i for i in range(len(kind.axes)) if i != axis]
        order.insert(folding.axis, axis)
        kind = ValueType(kind.dtype, tuple(kind.axes[i] for i in order))
        source = folding.emit(folding.head, "along", "permute", (source, tuple(order)), kind)
    return source


def _resized(kind: ValueType, axis: int, size: int) -> ValueType:
    return ValueType(kind.dtype, (*kind.axes[:axis], size, *kind.axes[axis + 1 :]))


# ---- what is read of the loop


def _results(folding: _Folding) -> list[Node]:
    """The nodes after the loop, reading its results from the scan."""
    spans = {node.id: _span(folding, node) for node in folding.loop.after}
    read = {name for node in folding.loop.after if spans[node.id] is None for name in refs(node)}
    places = [folding.where[name] for name in read if name in folding.where]
    folding.listed = {place.key for place in places if place.step < folding.length - 1}
    after: list[Node] = []
    for node in folding.loop.after:
        span = spans[node.id]
        kept = node if span is None else _gathered(folding, node, *span)
        if kept is not None:
            for name in refs(kept):
                _alone(folding, name)
            kept = rename_refs(kept, folding.names)
        after.extend(folding.tail)
        after.extend([] if kept is None else [kept])
        folding.tail.clear()
    for name in folding.graph.block.outputs:
        _alone(folding, name)
    return [*after, *folding.tail]


def _alone(folding: _Folding, name: str) -> str:
    """A single value of one step: a last state, an element, or one position of a sequence."""
    place = folding.where.get(name)
    if place is None or name in folding.names:
        return folding.names.get(name, name)
    at = element(folding.loop.steps[place.step][place.key[0]])
    outside = at is not None and not (isinstance(at[0], Ref) and at[0].name in folding.where)
    if (
        place.step == folding.length - 1
        and place.key in folding.carried
        and not (outside or place.key in folding.listed)
    ):
        folding.names[name] = f"{name}_last"
        return folding.names[name]
    args: tuple[Arg, ...] = (
        at if at is not None and outside else (Ref(_column(folding, place.key)), folding.axis, place.step)
    )
    folding.apart = folding.apart or not outside
    folding.names[name] = folding.emit(folding.tail, f"{name}_alone", "select", args, folding.values[name]).name
    return folding.names[name]


def _column(folding: _Folding, key: Key) -> str:
    """The name of the sequence of a value over all steps."""
    if key not in folding.columns:
        kind = folding.values[folding.name(key)]
        axes = (*kind.axes[: folding.axis], folding.length, *kind.axes[folding.axis :])
        folding.columns[key] = folding.fresh(f"{folding.name(key)}_sequence", ValueType(kind.dtype, axes))
    return folding.columns[key]


def _span(folding: _Folding, node: Node) -> tuple[int, Key, bool] | None:
    """Where among its parts a stack or concat joins all steps, of which value, and whether backwards."""
    parts = node.args[0] if node.op in ("stack", "concat") else None
    if not isinstance(parts, tuple) or not isinstance(node.args[1], int):
        return None
    places = [folding.where.get(part.name) if isinstance(part, Ref) else None for part in parts]
    inside = [i for i, place in enumerate(places) if place is not None]
    found = [place for place in places if place is not None]
    steps, every = [place.step for place in found], list(range(folding.length))
    if steps not in (every, every[::-1]) or len({place.key for place in found}) > 1:
        return None
    neighbours = inside == list(range(inside[0], inside[0] + folding.length))
    return (inside[0], found[0].key, steps != every) if neighbours else None


def _gathered(folding: _Folding, node: Node, first: int, key: Key, backwards: bool) -> Node | None:
    """A stack or concat that joins all steps, reading the whole sequence; None where it does nothing else."""
    parts, axis = node.args
    assert isinstance(parts, tuple)
    assert isinstance(axis, int)
    axis %= len(folding.values[node.id].axes)
    whole = _joined(folding, key, axis, node.op == "stack")
    if backwards:
        whole = folding.emit(folding.tail, "reversed", "flip", (whole, (axis,)), folding.values[whole.name])
    if len(parts) == folding.length:
        folding.names[node.id] = whole.name
        return None
    before = (_widened(folding, node, part, axis) for part in parts[:first])
    after = (_widened(folding, node, part, axis) for part in parts[first + folding.length :])
    return node.with_changes(op="concat", args=((*before, whole, *after), axis))


def _joined(folding: _Folding, key: Key, axis: int, stacked: bool) -> Ref:
    """The values of all steps along `axis`: a new one, or their own."""
    maker = folding.loop.steps[1][key[0]]
    if not stacked and maker.op == "unsqueeze" and maker.args[1] == axis and isinstance(maker.args[0], Ref):
        inner = folding.where.get(maker.args[0].name)
        if inner is not None and inner.step == 1:
            key, stacked = inner.key, True
    whole = Ref(_column(folding, key))
    kind = folding.values[whole.name]
    if axis != folding.axis:
        order = [i for i in range(len(kind.axes)) if i != folding.axis]
        order.insert(axis, folding.axis)
        kind = ValueType(kind.dtype, tuple(kind.axes[i] for i in order))
        whole = folding.emit(folding.tail, "along", "permute", (whole, tuple(order)), kind)
    if stacked:
        return whole
    each = kind.axes[axis + 1]
    size = folding.length * each if isinstance(each, int) else f"{folding.length}*{each}"
    kind = ValueType(kind.dtype, (*kind.axes[:axis], size, *kind.axes[axis + 2 :]))
    return folding.emit(folding.tail, "joined", "flatten", (whole, axis, axis + 1), kind)


def _widened(folding: _Folding, node: Node, part: Arg, axis: int) -> Arg:
    """A part that is stacked beside the sequence, with an axis for its position."""
    kind = _type_of(part, folding)
    if node.op == "concat" or kind is None:
        return part
    wide = ValueType(kind.dtype, (*kind.axes[:axis], 1, *kind.axes[axis:]))
    return folding.emit(folding.tail, "beside", "unsqueeze", (part, axis), wide)


# ---- the scan


def _built(folding: _Folding, sequences: Mapping[int, Arg], after: Sequence[Node]) -> Graph:
    """The graph with one `scan` in place of the steps. Names inside the loop are those of its second step."""
    graph, loop = folding.graph, folding.loop
    before = {
        key: folding.fresh(f"{folding.name(key)}_before", folding.values[folding.name(key)]) for key in folding.carried
    }
    previous = {folding.name(key, 0): name for key, name in before.items()}
    nodes = tuple(
        rename_refs(node, previous).with_changes(scope=first.scope)
        for position, (first, node) in enumerate(zip(*loop.steps[:2], strict=True))
        if position not in sequences
    )
    inside = {*before.values(), *(name for node in loop.steps[1] for name in node.outputs)}
    fixed = tuple(dict.fromkeys(name for node in nodes for name in refs(node) if name not in inside))
    elements = tuple(folding.name((position, 0)) for position in sequences)
    body = Block(
        (*before.values(), *elements, *fixed),
        nodes,
        tuple(folding.name(key) for key in (*folding.carried, *folding.columns)),
    )
    states = tuple(f"{folding.name(key, -1)}_last" for key in folding.carried)
    folding.values.update({name: folding.values[name.removesuffix("_last")] for name in states})
    read = loop.steps[0][next(iter(sequences))]
    scan = Node(
        (*states, *folding.columns.values()),
        "scan",
        (tuple(folding.carried.values()), tuple(sequences.values()), tuple(Ref(name) for name in fixed)),
        (("axis", folding.axis),),
        body=body,
        scope=_common_scope(nodes),
        source=read.source,
    )
    outputs = tuple(folding.names.get(name, name) for name in graph.block.outputs)
    block = Block(graph.block.inputs, (*loop.before, *folding.head, scan, *after), outputs)
    return graph.with_changes(block=block, values=folding.values)


def _common_scope(nodes: Sequence[Node]) -> str:
    """The scope that all of the nodes' modules share."""
    parts = [node.scope.split(".") for node in nodes]
    shared: list[str] = []
    for column in zip(*parts, strict=False):
        if len(set(column)) > 1:
            break
        shared.append(column[0])
    return ".".join(shared) if any(node.scope == ".".join(shared) for node in nodes) else ".".join(shared[:-1])
