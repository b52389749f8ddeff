"""Where an unrolled loop lies in a graph.

The trace of a loop holds its steps one after another, in the order in which they ran. `straighten` brings every way of
reading and collecting positions (`x[:, t]`, `x[:, t:t+1]`, `for x_t in x`, writing into `out[:, t]`, joining piece by
piece) into one form. `find_loops` then looks for a period: nodes that do what the node one period later does, with
every value either the same or one period later. The longest such stretch is the loop; where it starts later or ends
sooner than the network's own loop (a first step without a state), the other steps stay as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pellucid.ir.graph import Arg, Block, Graph, Node, Ref, ValueType, Weight, refs, rename_refs, walk_arg
from pellucid.lift.importing import drop_unused

SHORTEST = 3
"""Fewer steps than this are no loop."""

_FIRST = ("size", "zeros", "full", "arange")
"""Operations that no loop needs to have inside; they move to the front."""

_SCATTER = "aten.select_scatter.default"


@dataclass(frozen=True)
class Loop:
    """Nodes of each step, aligned by position, and the nodes before and after."""

    steps: tuple[tuple[Node, ...], ...]
    before: tuple[Node, ...]
    after: tuple[Node, ...]

    def without_first(self) -> Loop:
        """The loop with its first step left as it is."""
        return Loop(self.steps[1:], (*self.before, *self.steps[0]), self.after)


def element(node: Node) -> tuple[Arg, int, int] | None:
    """Source, axis and position, for a node that reads one position of an axis counted from the front."""
    if node.op != "select":
        return None
    source, axis, position = node.args
    plain = type(axis) is int and type(position) is int
    return (source, axis, position) if plain and position >= 0 else None  # type: ignore[operator,return-value]


# ---- one form for all ways of writing a loop


def straighten(graph: Graph) -> Graph:
    """The same graph with single positions read by "select", right before they are used, and collected at once."""
    values = dict(graph.values)
    nodes = _read_one_by_one(graph.block.nodes, values)
    nodes = _collected_at_once(nodes, values, graph.block.outputs)
    block = drop_unused(Block(graph.block.inputs, tuple(nodes), graph.block.outputs))
    nodes = _sunk(_shared(block.nodes))
    return graph.with_changes(block=Block(block.inputs, tuple(nodes), block.outputs), values=values)


def _read_one_by_one(nodes: Sequence[Node], values: dict[str, ValueType]) -> list[Node]:
    """`unbind` and slices of length 1 as reads of one position."""
    made: list[Node] = []
    for node in nodes:
        if node.op == "unbind":
            made.extend(
                node.with_changes(outputs=(name,), op="select", args=(*node.args, t))
                for t, name in enumerate(node.outputs)
            )
            continue
        at = _single(node, values)
        if at is None:
            made.append(node)
            continue
        axis, position = at
        name = f"{node.id}_at"
        axes = values[node.id].axes
        values[name] = ValueType(values[node.id].dtype, (*axes[:axis], *axes[axis + 1 :]))
        made.append(node.with_changes(outputs=(name,), op="select", args=(node.args[0], axis, position)))
        made.append(node.with_changes(op="unsqueeze", args=(Ref(name), axis)))
    return made


def _single(node: Node, values: Mapping[str, ValueType]) -> tuple[int, int] | None:
    """Axis and position of a slice of length 1 of an axis of known size."""
    if node.op != "slice_axis" or f"{node.id}_at" in values:
        return None
    source, axis, start, stop, step = node.args
    start = 0 if start is None else start
    if not (type(axis) is type(start) is int and isinstance(source, Ref) and step == 1) or axis < 0 or start < 0:
        return None
    size = values[source.name].axes[axis]
    last = type(size) is int and stop is None and start == size - 1
    return (axis, start) if type(size) is int and (stop == start + 1 or last) else None


def _collected_at_once(nodes: Sequence[Node], values: Mapping[str, ValueType], outputs: Sequence[str]) -> list[Node]:
    """Chains that add one part after another to a result, as one node each."""
    readers: dict[str, int] = dict.fromkeys(outputs, 2)
    for node in nodes:
        for name in refs(node):
            readers[name] = readers.get(name, 0) + 1
    makers: dict[str, Node] = {}
    made: list[Node] = []
    for node in nodes:
        node = _joined(node, makers, readers, values)
        makers[node.id] = node
        made.append(node)
    return [_filled(node, makers, readers, values) if node.op == _SCATTER else node for node in made]


def _joined(
    node: Node, makers: Mapping[str, Node], readers: Mapping[str, int], values: Mapping[str, ValueType]
) -> Node:
    """`concat((concat((a, b)), c))` as `concat((a, b, c))`; parts of length 0 fall away."""
    if node.op != "concat" or not isinstance(node.args[0], tuple) or not isinstance(node.args[1], int):
        return node
    axis = node.args[1]
    parts: list[Arg] = []
    for part in node.args[0]:
        inner = makers.get(part.name) if isinstance(part, Ref) and readers[part.name] == 1 else None
        if inner is not None and inner.op == "concat" and inner.args[1] == axis and isinstance(inner.args[0], tuple):
            parts.extend(inner.args[0])
        else:
            parts.append(part)
    left = [part for part in parts if not (isinstance(part, Ref) and values[part.name].axes[axis] == 0)]
    return node.with_changes(args=(tuple(left or parts), axis))


def _filled(
    node: Node, makers: Mapping[str, Node], readers: Mapping[str, int], values: Mapping[str, ValueType]
) -> Node:
    """A tensor whose every position is written once, as a stack of what is written."""
    axis = node.args[2]
    written: dict[Arg, Arg] = {}
    at: Node | None = node
    while at is not None and at.op == _SCATTER and at.args[2] == axis and at.args[3] not in written:
        written[at.args[3]] = at.args[1]
        base = at.args[0]
        at = makers.get(base.name) if isinstance(base, Ref) and (readers[base.name] == 1) else None
    size = values[node.id].axes[axis] if isinstance(axis, int) else None
    if not isinstance(size, int) or set(written) != set(range(size)) or size == 0:
        return node
    return node.with_changes(op="stack", args=(tuple(written[t] for t in range(size)), axis), kwargs=())


def _shared(nodes: Sequence[Node]) -> list[Node]:
    """Each position read once, and what no loop needs inside at the front."""
    known: dict[tuple[Arg, int, int], str] = {}
    names: dict[str, str] = {}
    front: list[Node] = []
    early: set[str] = set()
    rest: list[Node] = []
    written = {name for node in nodes for name in node.outputs}
    for node in nodes:
        node = rename_refs(node, names)
        at = element(node)
        if at is not None and known.setdefault(at, node.id) != node.id:
            names[node.id] = known[at]
        elif node.op in _FIRST and all(name in early or name not in written for name in refs(node)):
            front.append(node)
            early.update(node.outputs)
        else:
            rest.append(node)
    return [*front, *rest]


def _sunk(nodes: Sequence[Node]) -> list[Node]:
    """Reads of single positions, where an axis is read position by position, right before their first use."""
    reads = Counter(at[:2] for node in nodes if (at := element(node)) is not None)
    waiting: dict[str, Node] = {}
    made: list[Node] = []

    def release(name: str) -> None:
        if name in waiting:
            node = waiting.pop(name)
            for source in refs(node):
                release(source)
            made.append(node)

    for node in nodes:
        at = element(node)
        if at is not None and reads[at[:2]] >= SHORTEST:
            waiting[node.id] = node
            continue
        for name in refs(node):
            release(name)
        made.append(node)
    for name in [*waiting]:
        release(name)
    return made


# ---- the period


@dataclass(frozen=True)
class _Line:
    """A block as a line of nodes: where each value is made, as (index of its node, slot)."""

    nodes: tuple[Node, ...]
    made: Mapping[str, tuple[int, int]]

    def repeats(self, i: int, period: int, first: bool) -> bool:
        """Whether node i + period does what node i does one period later.

        In the `first` step, what the later node reads from the step before may be anything here.
        """
        if not 0 <= i < i + period < len(self.nodes):
            return False
        old, new = self.nodes[i], self.nodes[i + period]
        if not same_work(old, new):
            return False
        a, b = element(old), element(new)
        if a is not None and b is not None and a[:2] == b[:2]:
            return abs(a[2] - b[2]) == 1
        return all(self._follows(x, y, i, period, first) for x, y in zip(flat(old), flat(new), strict=True))

    def _follows(self, x: Arg, y: Arg, i: int, period: int, first: bool) -> bool:
        if x == y:
            return type(x) is type(y)
        there = self.made.get(y.name) if isinstance(y, Ref) else None
        if there is None:
            return False
        here = self.made.get(x.name) if isinstance(x, Ref) else None
        if here is not None and (here[0] + period, here[1]) == there:
            return True
        return first and isinstance(x, Ref | Weight) and there[0] < i + period


def same_work(old: Node, new: Node) -> bool:
    """Whether two nodes have the same operation, module and form of arguments."""
    kinds = [(node.op, node.scope.partition("@")[0], len(node.outputs), node.body) for node in (old, new)]
    return kinds[0] == kinds[1] and len(flat(old)) == len(flat(new))


def flat(node: Node) -> list[Arg]:
    """All leaves of a node's arguments, each nested argument followed by its length."""
    found: list[Arg] = []
    for arg in (*node.args, *(value for _, value in node.kwargs)):
        found.extend(walk_arg(arg))
        found.append(len(arg) if isinstance(arg, tuple) else None)
    return found


def find_loops(block: Block) -> Iterator[Loop]:
    """Stretches of a straightened block that look like loops."""
    made = {name: (i, slot) for i, node in enumerate(block.nodes) for slot, name in enumerate(node.outputs)}
    line = _Line(block.nodes, made)
    for anchors in _runs(block.nodes):
        yield from _around(line, anchors)


def _runs(nodes: Sequence[Node]) -> Iterator[list[int]]:
    """Indices of nodes that read an axis position by position, up or down, in the order of the line."""
    groups: dict[tuple[Arg, int], list[tuple[int, int]]] = {}
    for i, node in enumerate(nodes):
        at = element(node)
        if at is not None:
            groups.setdefault(at[:2], []).append((i, at[2]))
    for reads in groups.values():
        run = reads[:1]
        for before, now in pairwise(reads):
            step = now[1] - before[1]
            if abs(step) != 1 or (len(run) > 1 and step != run[1][1] - run[0][1]):
                if len(run) >= SHORTEST:
                    yield [i for i, _ in run]
                run = [before] if abs(step) == 1 else []
            run = [*run, now]
        if len(run) >= SHORTEST:
            yield [i for i, _ in run]


def _around(line: _Line, anchors: Sequence[int]) -> Iterator[Loop]:
    """Loops whose steps read the anchors, if the nodes around them repeat; the one of most steps first."""
    for inner, following in pairwise(anchors[1:4]):
        span = _stretch(line, inner, following - inner)
        if span is None:
            continue
        period = following - inner
        begins = dict.fromkeys((next(anchor for anchor in anchors if anchor >= span[0]), span[0]))
        for begin in sorted(begins, key=lambda begin: -((span[1] - begin) // period)):
            bounds = range(begin, span[1] + 1, period)
            steps = tuple(line.nodes[low:high] for low, high in pairwise(bounds))
            if len(steps) >= SHORTEST:
                yield Loop(steps, line.nodes[:begin], line.nodes[bounds[-1] :])


def _stretch(line: _Line, inner: int, period: int) -> tuple[int, int] | None:
    """Where the nodes around `inner` begin and end to repeat."""
    stop = inner
    while line.repeats(stop, period, first=False):
        stop += 1
    if stop - inner < period:
        return None
    start, inexact = inner, -1
    while line.repeats(start - 1, period, first=True):
        start -= 1
        if inexact < 0 and not line.repeats(start, period, first=False):
            inexact = start
    return max(start, inexact - period + 1), stop + period
