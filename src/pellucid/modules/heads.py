"""Attention in one piece, divided into its heads: each head with its slices of the weights, and the sum of all heads.

Heads are an axis that a contraction of a weight with the stream makes, that everything up to the output matrix carries
along, and over which the output matrix sums. A region asks for its head by units of that axis. Then the nodes of the
attention are written once for each head, on slices of length one, and the heads are added up. The sums come out equal
up to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from pellucid.ir.graph import Arg, Block, Graph, Node, Ref, ValueType, Weight, map_node, refs, weights_read
from pellucid.ir.regions import Region, RegionTree, Unit
from pellucid.modules.divisions import ELEMENTWISE


@dataclass(frozen=True)
class _Heads:
    """An attention that can be divided.

    Attributes:
        count: how many heads.
        axes: where each value inside has its heads.
        makers: contractions that make the axis, by the axis of their weight.
        last: the output matrix.
        columns: how many of its columns belong to each head.
    """

    count: int
    axes: Mapping[str, int]
    makers: Mapping[str, int]
    last: str
    columns: int


def head_regions(graph: Graph, region: Region) -> tuple[Region, ...]:
    """A region for each head of an attention, none where it cannot be divided."""
    found = _heads_of(graph, region.nodes)
    if found is None:
        return ()
    return tuple(
        Region(f"{region.name}.head_{h}", "head", (), tuple(Unit(v, found.axes[v], (h,)) for v in found.makers))
        for h in range(found.count)
    )


def split_heads(graph: Graph, tree: RegionTree) -> tuple[Graph, RegionTree]:
    """Divide the attentions whose heads are asked for by regions of their own; both unchanged where there are none."""
    parents = [region for region in tree.walk() if any(child.kind == "head" for child in region.children)]
    for parent in parents:
        found = _heads_of(graph, parent.nodes)
        wanted = [child for child in parent.children if child.kind == "head"]
        if found is not None and len(wanted) == found.count == len(parent.children):
            graph, changed = _divided(graph, parent, found)
            tree = replace(tree, root=_with(tree.root, changed))
    return graph, tree


def _with(region: Region, changed: Region) -> Region:
    if region.name == changed.name:
        return changed
    return replace(region, children=tuple(_with(child, changed) for child in region.children))


# ---- what can be divided


def _heads_of(graph: Graph, names: Sequence[str]) -> _Heads | None:
    """The heads of an attention with these nodes."""
    inside, by_id = set(names), {node.id: node for node in graph.block.nodes}
    axes: dict[str, int] = {}
    makers: dict[str, int] = {}
    count = columns = 0
    for node in (by_id[name] for name in names if name in by_id):
        made = _made(node, graph)
        if made is not None:
            axes[node.id], makers[node.id], size = made
            if count not in (0, size):
                return None
            count = size
        elif any(name in axes for name in refs(node)):
            source = node.args[0]
            if node.op == "linear" and columns and isinstance(source, Ref) and source.name in axes:
                plain = node.id == names[-1] and len(refs(node)) == 1 and (len(node.args) < 3 or node.args[2] is None)
                return _Heads(count, axes, makers, node.id, columns) if plain and count > 1 else None
            axis = _carried(node, axes, graph)
            if axis is None or any(node.id in refs(by_id[other]) for other in by_id if other not in inside):
                return None
            axes[node.id] = axis
            columns = _merged(node, graph) if node.op == "flatten" else columns
    return None


def _made(node: Node, graph: Graph) -> tuple[int, int, int] | None:
    """The axis of heads of a contraction with a weight, that of the weight, and how many there are."""
    if node.op != "einsum" or not isinstance(node.args[0], str) or not isinstance(node.args[1], tuple):
        return None
    terms, _, result = node.args[0].replace(" ", "").partition("->")
    operands = list(zip(terms.split(","), node.args[1], strict=True))
    weights = [(letters, arg) for letters, arg in operands if isinstance(arg, Weight)]
    if len(operands) != 2 or len(weights) != 1 or graph.weights[weights[0][1].name].ndim != 3:
        return None
    letters, weight = weights[0]
    other = next(text for text, arg in operands if arg is not weight)
    head = letters[0]
    if head in other or head not in result:
        return None
    return result.index(head), 0, graph.weights[weight.name].shape[0]


def _carried(node: Node, axes: Mapping[str, int], graph: Graph) -> int | None:
    """Where the heads are in what a node makes, if it treats every head by itself."""
    names = refs(node)
    held = {axes.get(name) for name in names}
    axis = next(iter(held))
    rank = len(graph.values[names[0]].axes)
    if len(held) != 1 or axis is None or any(isinstance(arg, Weight) for arg in node.args):
        return None
    if node.op in ELEMENTWISE:
        return axis
    if node.op in ("matmul", "attention"):
        return axis if axis < rank - 2 else None
    where = [arg % rank for arg in node.args[1:] if isinstance(arg, int)]
    if node.op == "softmax":
        return axis if axis not in where else None
    if node.op == "transpose":
        return {where[0]: where[1], where[1]: where[0]}.get(axis, axis)
    return axis if node.op == "flatten" and where == [axis, axis + 1] == [rank - 2, rank - 1] else None


def _merged(node: Node, graph: Graph) -> int:
    source = node.args[0]
    assert isinstance(source, Ref)
    size = graph.values[source.name].axes[-1]
    return size if isinstance(size, int) else 0


# ---- dividing


@dataclass
class _Division:
    """The new nodes while they are made; `tag` tells new names from those that there are."""

    graph: Graph
    found: _Heads
    values: dict[str, ValueType]
    weights: dict[str, torch.Tensor]
    tag: str
    owned: list[list[str]]
    nodes: list[Node] = field(default_factory=list)

    def name(self, value: str, head: int) -> str:
        """What a value is called in one head."""
        return f"{value}{self.tag}_{head}"

    def slice(self, weight: Arg, axis: int, start: int, size: int, head: int) -> Weight:
        """The part of a weight that belongs to a head."""
        assert isinstance(weight, Weight)
        name = f"{weight.name}[{head}]"
        self.weights[name] = self.graph.weights[weight.name].narrow(axis, start, size).contiguous()
        return Weight(name)

    def copy(self, node: Node, head: int) -> None:
        """The node for one head."""
        found = self.found
        changed = map_node(node, lambda arg: self._own(arg, head))
        kind = self.graph.values[node.id]
        axes = list(kind.axes)
        if node.id in found.makers:
            formula, parts = node.args[0], node.args[1]
            assert isinstance(parts, tuple)
            cut = tuple(self.slice(p, 0, head, 1, head) if isinstance(p, Weight) else p for p in parts)
            changed = changed.with_changes(args=(formula, cut))
        if node.id == found.last:
            weight = self.slice(node.args[1], 1, head * found.columns, found.columns, head)
            changed = changed.with_changes(args=(changed.args[0], weight, None))
        else:
            axis = found.axes[node.id]
            axes[axis] = found.columns if node.op == "flatten" else 1
        made = self.name(node.id, head)
        self.values[made] = ValueType(kind.dtype, tuple(axes))
        self.nodes.append(changed.with_changes(outputs=(made,)))
        self.owned[head].append(made)

    def _own(self, arg: Arg, head: int) -> Arg:
        return Ref(self.name(arg.name, head)) if isinstance(arg, Ref) and arg.name in self.found.axes else arg


def _divided(graph: Graph, parent: Region, found: _Heads) -> tuple[Graph, Region]:
    """The graph with the attention of `parent` head by head, and the region with those nodes."""
    tag = "_0" * (1 + max(name.count("_0") for name in graph.values))
    owned: list[list[str]] = [[] for _ in range(found.count)]
    division = _Division(graph, found, dict(graph.values), dict(graph.weights), tag, owned)
    own = [name for name in parent.nodes if name not in found.axes and name != found.last]
    moved = [node for node in graph.block.nodes if node.id in parent.nodes and node.id not in own]
    last = moved[-1]
    for node in graph.block.nodes:
        if node.id == last.id:
            for head in range(found.count):
                for inner in moved:
                    division.copy(inner, head)
            own += _summed(division, last)
        elif node not in moved:
            division.nodes.append(node)
    block = Block(graph.block.inputs, tuple(division.nodes), graph.block.outputs)
    kept = {name: division.weights[name] for name in weights_read(block)}
    heads = (
        replace(child, nodes=tuple(names), units=())
        for child, names in zip(parent.children, division.owned, strict=True)
    )
    return (
        graph.with_changes(block=block, values=division.values, weights=kept),
        replace(parent, nodes=tuple(own), children=tuple(heads)),
    )


def _summed(division: _Division, last: Node) -> list[str]:
    """The sum of the heads, under the name of what the attention gave."""
    total = division.name(last.id, 0)
    made = []
    for head in range(1, division.found.count):
        name = last.id if head == division.found.count - 1 else division.name(last.id, division.found.count + head)
        node = Node((name,), "add", (Ref(total), Ref(division.name(last.id, head))), scope=last.scope)
        division.nodes.append(node)
        division.values[name] = division.graph.values[last.id]
        made.append(name)
        total = name
    return made
