"""Parts of a network written as one flat function around a residual stream.

A value is a waist where everything computed after it depends on nothing else that was computed before it. A stream is a
sequence of waists, each the one before plus what a branch adds. Cut there, the network is what makes the stream, the
branches in turn, and what reads the stream at its end. The additions themselves stay with the caller.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from itertools import pairwise

from pellucid.ir.graph import Graph, Node, Weight, leaves, refs
from pellucid.ir.regions import Region
from pellucid.modules.heads import head_regions

FEWEST = 2
"""Branches that a stream has at least."""

ACTIVATIONS = frozenset(("relu", "gelu", "silu", "elu", "leaky_relu", "tanh", "sigmoid", "softplus", "hardswish"))


def stream_parts(graph: Graph) -> list[Region]:
    """The parts of a network around a residual stream, in order; none where it has no such stream."""
    computed = list(_computed(graph))
    nodes = {node.id: node for node in computed}
    names = list(nodes)
    branches = _branches(names, nodes, _waists(computed, graph))
    if len(branches) < FEWEST:
        return []
    parts = [Region("embedding", "embedding", _nodes(graph, names[: names.index(branches[0][0]) + 1]))]
    for before, after in branches:
        between = names[names.index(before) + 1 : names.index(after) + 1]
        carriers = _carriers(nodes, before, after)
        inside = _nodes(graph, [name for name in between if name not in carriers])
        kind = _kind([nodes[name] for name in inside])
        part = Region(f"{kind}_{sum(part.kind == kind for part in parts)}", kind, inside)
        parts.append(replace(part, children=head_regions(graph, part)))
    end = names[names.index(branches[-1][1]) + 1 :]
    parts.append(Region("readout", "readout", _nodes(graph, end)))
    reading = {node.id for node in graph.block.nodes if any(isinstance(leaf, Weight) for leaf in leaves(node))}
    return parts if all(reading & {*part.nodes} for part in parts) else []


def _computed(graph: Graph) -> Iterator[Node]:
    """The nodes whose values depend on the inputs and are no plain numbers, in order."""
    depends = set(graph.block.inputs)
    for node in graph.block.nodes:
        if any(name in depends for name in refs(node)) and graph.values[node.id].dtype not in ("int", "float"):
            depends.update(node.outputs)
            yield node


def _waists(computed: Sequence[Node], graph: Graph) -> list[str]:
    """The values that are all that later nodes read of what was computed so far."""
    last: dict[str, int] = {}
    for position, node in enumerate(computed):
        last.update(dict.fromkeys(refs(node), position))
    last.update(dict.fromkeys(graph.block.outputs, len(computed)))
    live, found = set(graph.block.inputs), []
    for position, node in enumerate(computed):
        live = {name for name in (*live, *node.outputs) if last.get(name, -1) > position}
        if live == {node.id}:
            found.append(node.id)
    return found


def _carriers(nodes: Mapping[str, Node], before: str, after: str) -> Set[str]:
    """The additions that take the stream from `before` to `after`; none where it is not carried."""
    node = nodes[after]
    if node.op != "add" or len(refs(node)) == 0:
        return frozenset()
    for name in refs(node):
        if name == before:
            return {after}
        further = _carriers(nodes, before, name) if name in nodes else frozenset()
        if further:
            return {after, *further}
    return frozenset()


def _branches(names: Sequence[str], nodes: Mapping[str, Node], waists: Sequence[str]) -> list[tuple[str, str]]:
    """The stream before and after each branch, of the longest row of them; constants go with the branch before."""
    rows: list[list[tuple[str, str]]] = [[]]
    for before, after in pairwise(waists):
        carriers = _carriers(nodes, before, after)
        plain = len(carriers) == names.index(after) - names.index(before)
        if not carriers:
            rows.append([])
        elif not plain:
            rows[-1].append((before, after))
        elif rows[-1]:
            rows[-1][-1] = (rows[-1][-1][0], after)
    return max(rows, key=len)


def _nodes(graph: Graph, names: Sequence[str]) -> tuple[str, ...]:
    """The nodes, and those that do not depend on the inputs and are read by them alone, in the order of the graph."""
    inside = set(names)
    readers: dict[str, set[str]] = {}
    for node in graph.block.nodes:
        for name in refs(node):
            readers.setdefault(name, set()).add(node.id)
    fixed = {node.id for node in graph.block.nodes} - {node.id for node in _computed(graph)}
    for node in reversed(graph.block.nodes):
        if node.id in fixed and readers.get(node.id) and readers[node.id] <= inside:
            inside.add(node.id)
    return tuple(node.id for node in graph.block.nodes if node.id in inside)


def _kind(nodes: Sequence[Node]) -> str:
    operations = {node.op for node in nodes}
    if operations & {"softmax", "attention"}:
        return "attention"
    return "mlp" if operations & ACTIVATIONS else "layer"
