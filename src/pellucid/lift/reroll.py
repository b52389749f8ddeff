"""Unrolled loops become loops again.

A recurrent network written by hand exports one copy of its step for each position of the example. `reroll` finds such
copies (`unrolled`) and folds them into one `scan` each (`folding`), loop after loop. torch.export also takes the length
of a loop, or of torch's own recurrent layers, as fixed: `generalise` runs the graph on longer inputs; where that works,
the axis is general again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

import torch

from pellucid.errors import CannotRun
from pellucid.ir.graph import Arg, Axis, Block, Graph, Node, Ref, ValueType, map_arg
from pellucid.ir.interpret import run_graph
from pellucid.lift.folding import fold
from pellucid.lift.importing import drop_unused
from pellucid.lift.unrolled import element, find_loops, straighten

FARTHER = 2
"""How many positions longer the inputs are on which a graph with loops is tried."""

_ARITHMETIC = ("add", "sub", "mul", "div", "floordiv", "mod", "pow", "neg", "arange")
_SHAPING = ("reshape", "expand", "repeat", "unflatten", "zeros", "full")

OTHER_SIZES = (2, 16)
"""Sizes of general axes on which a graph is tried: small, or where that is too little for the network, larger."""


def reroll(graph: Graph) -> Graph:
    """The graph with its unrolled loops folded into `scan`s, or as it was when there is none."""
    current = graph
    while (folded := _fold_one(current)) is not None:
        current = folded
    return graph if current is graph else _from_the_end(current)


def _from_the_end(graph: Graph) -> Graph:
    """The last position of an axis of known size read as the last, so that it is the last of a longer one too."""

    def counted(node: Node) -> Node:
        at = element(node)
        known = graph.values.get(at[0].name) if at is not None and isinstance(at[0], Ref) else None
        if at is None or known is None or known.axes[at[1]] != at[2] + 1:
            return node
        return node.with_changes(args=(at[0], at[1], -1))

    block = graph.block
    return graph.with_changes(block=Block(block.inputs, tuple(counted(node) for node in block.nodes), block.outputs))


def _fold_one(graph: Graph) -> Graph | None:
    graph = straighten(graph)
    for loop in find_loops(graph.block):
        folded = fold(graph, loop)
        block = drop_unused(folded.block) if folded is not None else graph.block
        if folded is not None and _scans(block) > _scans(graph.block):
            remark = f"a loop over positions was traced at length {len(loop.steps)} and folded"
            return folded.with_changes(block=block, remarks=(*graph.remarks, remark))
    return None


def _scans(block: Block) -> int:
    """Steps that only pick positions (queries, keys and values unpacked, say) leave no loop that anything reads."""
    return sum(node.op == "scan" for node in block.nodes)


# ---- any length


def generalise(graph: Graph, holds: Callable[[Graph], bool]) -> Graph:
    """The graph with every axis general over which a loop runs, if it runs on longer inputs too.

    Args:
        holds: whether a graph with general axes still computes what the network does when these are longer.
    """
    for node in graph.block.nodes:
        source = _walked(node)
        if source is not None and isinstance(_axis(graph, *source), int):
            graph = _opened(graph, *source, holds)
    return graph


def _walked(node: Node) -> tuple[str, int] | None:
    """The value and the axis that a loop walks along."""
    source: Arg = None
    axis: Arg = 0
    if node.op == "scan" and isinstance(node.args[1], tuple):
        source, axis = node.args[1][0], node.option("axis", 1)
    elif node.op == "recurrent":
        source, axis = node.args[1], 1 if node.args[6] else 0
    return (source.name, axis) if isinstance(source, Ref) and isinstance(axis, int) else None


def _axis(graph: Graph, name: str, axis: int) -> Axis:
    return graph.values[name].axes[axis]


def _opened(graph: Graph, source: str, axis: int, holds: Callable[[Graph], bool]) -> Graph:
    for stretched in _candidates(graph, _axis(graph, source, axis)):
        for variant in (graph, _measured(graph, stretched[0])):
            for size in OTHER_SIZES:
                shapes, longer = (_shapes(variant, stretched, by, size) for by in (0, FARTHER))
                if shapes and longer and shapes[source][axis] < longer[source][axis]:
                    opened = _named(variant, stretched, shapes, longer)
                    if holds(opened):
                        return opened
                    break
    remark = f"the program holds only for sequences of length {_axis(graph, source, axis)}, which it was traced at"
    return graph.with_changes(remarks=tuple(dict.fromkeys((*graph.remarks, remark))))


def _measured(graph: Graph, place: tuple[str, int]) -> Graph:
    """The graph with the size of an input's axis measured where that number stands in shapes, bounds or arithmetic."""
    length = _axis(graph, *place)
    name = "length"
    while name in graph.values:
        name += "_"

    def measured(arg: Arg) -> Arg:
        return Ref(name) if type(arg) is int and arg == length else arg

    def change(node: Node) -> Node:
        args = enumerate(node.args)
        if node.op in _ARITHMETIC:
            return node.with_changes(args=tuple(measured(arg) for _, arg in args))
        if node.op in _SHAPING:
            return node.with_changes(args=tuple(map_arg(measured, a) if isinstance(a, tuple) else a for _, a in args))
        if node.op == "slice_axis":
            return node.with_changes(args=tuple(measured(arg) if i in (2, 3) else arg for i, arg in args))
        return node

    changed = tuple(change(node) for node in graph.block.nodes)
    size = Node((name,), "size", (Ref(place[0]), place[1]))
    block = Block(graph.block.inputs, (size, *changed), graph.block.outputs)
    return graph.with_changes(block=drop_unused(block), values={**graph.values, name: ValueType("int")})


def _candidates(graph: Graph, length: Axis) -> Iterator[list[tuple[str, int]]]:
    """Input axes that may be the length: all of one size together, then each alone; the loop's own length first."""
    by_size: dict[int, list[tuple[str, int]]] = {}
    for name in graph.block.inputs:
        for i, size in enumerate(graph.values[name].axes):
            if isinstance(size, int):
                by_size.setdefault(size, []).append((name, i))
    for size in sorted(by_size, key=lambda size: (size != length, size)):
        yield by_size[size]
        if len(by_size[size]) > 1:
            yield from ([place] for place in by_size[size])


def _shapes(graph: Graph, stretched: list[tuple[str, int]], by: int, size: int) -> dict[str, tuple[int, ...]]:
    """The shapes of all values with some input axes longer; nothing where the graph does not run so."""
    shapes: dict[str, tuple[int, ...]] = {}

    def watch(name: str, value: object) -> None:
        if isinstance(value, torch.Tensor):
            shapes[name] = tuple(value.shape)

    inputs = []
    for name in graph.block.inputs:
        kind = graph.values[name]
        sizes = [
            size if isinstance(axis, str) else axis + by * ((name, i) in stretched) for i, axis in enumerate(kind.axes)
        ]
        inputs.append(torch.zeros(sizes, dtype=getattr(torch, kind.dtype)))
        watch(name, inputs[-1])
    try:
        run_graph(graph, inputs, watch)
    except CannotRun:
        return {}
    return {name: shape for name, shape in shapes.items() if name in graph.values}


def _named(
    graph: Graph,
    stretched: list[tuple[str, int]],
    shapes: Mapping[str, tuple[int, ...]],
    longer: Mapping[str, tuple[int, ...]],
) -> Graph:
    """The graph with every axis that grew with the inputs named after their length."""
    length = shapes[stretched[0][0]][stretched[0][1]]
    graph, symbol = _free_symbol(graph)
    values = dict(graph.values)
    for name, shape in shapes.items():
        axes = list(values[name].axes)
        for i, (a, b) in enumerate(zip(shape, longer.get(name, shape), strict=True)):
            if a != b:
                axes[i] = _grown(axes[i], length, a, b, symbol)
        values[name] = ValueType(values[name].dtype, tuple(axes))
    return graph.with_changes(values=values)


def _free_symbol(graph: Graph) -> tuple[Graph, str]:
    """A name for the new axis: "seq", given back by an axis that only got it for being the second, if possible."""
    used = {word for kind in graph.values.values() for axis in kind.axes for word in re.findall(r"[a-z]\w*", str(axis))}
    if "seq" not in used:
        return graph, "seq"
    if "batch" in used:
        return graph, next(name for i in range(1, len(used) + 2) if (name := f"n{i}") not in used)
    values = {
        name: ValueType(
            kind.dtype,
            tuple(re.sub(r"\bseq\b", "batch", axis) if isinstance(axis, str) else axis for axis in kind.axes),
        )
        for name, kind in graph.values.items()
    }
    return graph.with_changes(values=values), "seq"


def _grown(axis: Axis, length: int, size: int, longer: int, symbol: str) -> Axis:
    """An axis in terms of the new symbol: linear in it, or a multiple of what it was."""
    if isinstance(axis, str):
        return re.sub(rf"^{length}\*", f"{symbol}*", axis) if axis.startswith(f"{length}*") else f"{axis}*{symbol}"
    times = (longer - size) // FARTHER
    rest = size - times * length
    scaled = symbol if times == 1 else f"{times}*{symbol}"
    return scaled if rest == 0 else f"{scaled} {'+' if rest > 0 else '-'} {abs(rest)}"
