"""How a division between attention heads carries over: from projections to heads, through attention, and back.

Heads lie along axis 1 of [batch, heads, position, features]; side by side they are the last axis of
[batch, position, heads · features]. Where several heads share one of keys and values, those stay together.
"""

from __future__ import annotations

from pellucid.ir.graph import Graph, Node, Ref
from pellucid.modules.division import Division

HEADED = frozenset(("attention", "rotary", "split_heads", "merge_heads"))
"""Operations that treat every head by itself."""


def head_operands(node: Node, division: Division, graph: Graph) -> dict[str, Division] | None:
    """The divisions that the operands need; None where the division is not one of heads."""
    source = node.args[0]
    assert isinstance(source, Ref)
    if node.op == "merge_heads":
        heads = _heads(division, _size(graph, source.name, 1))
        return None if heads is None or division.axis != 2 else {source.name: heads.along(1)}
    if division.axis != 1 or len(graph.values[node.id].axes) != 4:
        return None
    if node.op == "split_heads":
        return {source.name: _features(division, _size(graph, source.name, 2) // division.size).along(2)}
    if node.op == "rotary":
        return {source.name: division}
    return _attended(node, division, graph)


def _attended(node: Node, division: Division, graph: Graph) -> dict[str, Division] | None:
    """What attention needs of its queries, keys and values."""
    mask = node.args[3] if len(node.args) > 3 else None
    if isinstance(mask, Ref) and graph.values[mask.name].axes[1:2] == (division.size,):
        return None
    found: dict[str, Division] = {}
    for arg in node.args[:3]:
        if not isinstance(arg, Ref):
            return None
        shared = _heads(division, _size(graph, arg.name, 1))
        if shared is None or found.get(arg.name, shared) != shared:
            return None
        found[arg.name] = shared.along(1)
    return found


def by_heads(node: Node, division: Division, graph: Graph) -> Division | None:
    """The division of the result that follows from that of the first operand, if it is one of heads."""
    if node.op == "split_heads":
        heads = _heads(division, _size(graph, node.id, 1)) if division.axis == 2 else None
        return None if heads is None else heads.along(1)
    if division.axis != 1:
        return None
    if node.op == "merge_heads":
        return _features(division, _size(graph, node.id, 2) // division.size).along(2)
    return division


def _size(graph: Graph, value: str, axis: int) -> int:
    size = graph.values[value].axes[axis]
    return size if isinstance(size, int) else 0


def _features(division: Division, width: int) -> Division:
    """Parts of heads as parts of features."""
    parts = (tuple(head * width + i for head in part for i in range(width)) for part in division.parts)
    return Division(division.axis, division.owners, tuple(parts))


def _heads(division: Division, count: int) -> Division | None:
    """Parts of features, or of more heads, as parts of `count` heads; None where a part holds a piece of one."""
    if not count or division.size % count:
        return None
    width = division.size // count
    heads = tuple(tuple(i // width for i in part[::width]) for part in division.parts)
    found = Division(division.axis, division.owners, heads)
    return found if _features(found, width).parts == division.parts else None
