"""The first hierarchy: the network's own nesting.

Each torch module that ran is a region, named by its path. Modules of a single node (a linear layer, a norm) dissolve
into their callers, as do shells around a single region. Containers that hold weights but are never called (layers
kept as bare `nn.Module`s) become regions by data flow: a node without a place of its own goes with the latest such
container it reads from. A flat chain of layers is cut at each node that reads weights, a flat residual network between
the additions to its stream (`pellucid.modules.stream`). The body of a loop is a region, "step".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from pellucid.ir.graph import Block, CalledModule, Graph, Node, Ref, Weight, leaves, refs
from pellucid.ir.regions import Region, RegionTree
from pellucid.modules.stream import stream_parts

KINDS = (
    ("attention", ("attention", "attn")),
    ("mlp", ("mlp", "feedforward", "ffn")),
    ("norm", ("norm",)),
    ("embedding", ("embed", "rotary")),
    ("recurrent", ("lstm", "gru", "rnn")),
    ("layer", ("layer", "block")),
)
"""Kinds of region, and the words in a class name that tell them, first match wins."""

_RESHAPING = ("size", "zeros", "full", "arange")


@dataclass
class _Building:
    """A region while its nodes are being collected."""

    name: str
    kind: str
    nodes: list[str] = field(default_factory=list)
    children: dict[str, _Building] = field(default_factory=dict)


def partition(graph: Graph) -> RegionTree:
    """The hierarchy of the network's own modules; the root is called "network"."""
    root = _Building("network", "network")
    _place(graph, graph.block, root, "")
    return RegionTree(_distinctly_named(_finished(root, graph), set()), "nesting")


def _distinctly_named(region: Region, taken: set[str]) -> Region:
    """The region and those below it with names that functions may have, each once."""
    stem = re.sub(r"[^A-Za-z0-9_.@/-]", "_", region.name)
    name, count = stem, 2
    while name in taken:
        name, count = f"{stem}_{count}", count + 1
    taken.add(name)
    return replace(region, name=name, children=tuple(_distinctly_named(child, taken) for child in region.children))


def _place(graph: Graph, block: Block, root: _Building, prefix: str) -> None:
    """Put every node of a block below `root`, along the path of the modules that called it."""
    bare = _bare_containers(graph, block)
    home: dict[str, str] = {}
    for node in block.nodes:
        path = _path(node, graph.modules, bare, home)
        for name in node.outputs:
            home[name] = path[-1] if path else ""
        region = root
        for scope in path:
            known = graph.modules.get(scope)
            kind = kind_of(known.kind) if known else kind_of(scope.rpartition(".")[2])
            region = region.children.setdefault(scope, _Building(_joined(prefix, scope), kind))
        region.nodes.append(node.id)
        if node.body is not None:
            step = _Building(_joined(region.name if region.name != "network" else "", "step"), "step")
            _place(graph, node.body, step, "")
            region.children[f"{node.id}.step"] = step


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def kind_of(class_name: str) -> str:
    """What sort of part a class is, from its name."""
    lowered = class_name.lower()
    for kind, words in KINDS:
        if any(word in lowered for word in words):
            return kind
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", class_name).lower()
    return "layer" if snake.isdigit() or not snake else snake


def _path(node: Node, modules: Mapping[str, CalledModule], bare: set[str], home: Mapping[str, str]) -> list[str]:
    """Scopes from the outermost module to the node's own."""
    path: list[str] = []
    scope = node.scope
    while scope:
        path.append(scope)
        scope = modules[scope].parent if scope in modules else ""
    path.reverse()
    if not bare:
        return path
    container = _container_of(path[-1] if path else "", bare)
    if container is None and not any(isinstance(leaf, Weight) for leaf in leaves(node)) and node.op not in _RESHAPING:
        sources = [home.get(name, "") for name in refs(node)]
        container = next((_container_of(source, bare) for source in reversed(_by_order(sources, home)) if source), None)
    if container is None:
        return path
    return (
        [scope for scope in path if container.startswith(f"{scope}.")]
        + [container]
        + [scope for scope in path if scope.startswith(f"{container}.")]
    )


def _by_order(sources: Sequence[str], home: Mapping[str, str]) -> list[str]:
    order = {scope: position for position, scope in enumerate(dict.fromkeys(home.values()))}
    return sorted(sources, key=lambda scope: order.get(scope, -1))


def _container_of(scope: str, bare: set[str]) -> str | None:
    while scope:
        if scope in bare:
            return scope
        scope = scope.rpartition(".")[0]
    return None


def _bare_containers(graph: Graph, block: Block) -> set[str]:
    """Paths that hold the weights of several called single-node modules, but whose own forward never ran."""
    sizes: dict[str, int] = {}
    for node in block.nodes:
        sizes[node.scope] = sizes.get(node.scope, 0) + 1
    holders: dict[str, list[str]] = {}
    for scope in sizes:
        parent = scope.rpartition(".")[0]
        if parent and graph.modules.get(scope) is not None and graph.modules[scope].parent != parent:
            holders.setdefault(parent, []).append(scope)
    nested = {info.parent for info in graph.modules.values()}
    return {
        parent
        for parent, scopes in holders.items()
        if parent not in graph.modules and len(scopes) > 1 and not any(scope in nested for scope in scopes)
    }


def _finished(building: _Building, graph: Graph) -> Region:
    children: list[Region] = []
    nodes = list(building.nodes)
    for child in building.children.values():
        done = _finished(child, graph)
        if child.kind != "step" and not done.children and len(done.nodes) <= 1:
            nodes.extend(done.nodes)
        elif child.kind != "step" and not done.nodes and len(done.children) == 1:
            children.extend(done.children)
        else:
            children.append(done)
    order = {name: position for position, name in enumerate(_all_ids(graph.block))}
    nodes.sort(key=order.__getitem__)
    if not children and building.kind in ("network", "sequential"):
        children, nodes = _cut_chain(nodes, graph, building)
    if not children and building.kind == "network":
        children = stream_parts(graph)
        nodes = [name for name in nodes if not any(name in child.nodes for child in children)]
    return Region(building.name, building.kind, tuple(nodes), (), tuple(children))


def _all_ids(block: Block) -> Iterator[str]:
    for node in block.nodes:
        yield node.id
        if node.body is not None:
            yield from _all_ids(node.body)


def _cut_chain(nodes: Sequence[str], graph: Graph, building: _Building) -> tuple[list[Region], list[str]]:
    """A chain of layers, each a node that reads weights and what follows it, as regions; else nothing."""
    by_id = {node.id: node for node in _all_nodes(graph.block)}
    chain = [by_id[name] for name in nodes if by_id[name].op != "size"]
    starts = [i for i, node in enumerate(chain) if _reads_weights(node)]
    if len(starts) < 2 or not all(_data(node) == (before.id,) for before, node in pairwise(chain)):
        return [], list(nodes)
    bounds = [*starts, len(chain)]
    regions: list[Region] = []
    for start, stop in pairwise(bounds):
        name = _layer_name(chain[start], building.name, len(regions))
        regions.append(Region(name, "layer", tuple(node.id for node in chain[start:stop])))
    placed = {name for region in regions for name in region.nodes}
    return _merge_single(regions), [name for name in nodes if name not in placed]


def _merge_single(regions: list[Region]) -> list[Region]:
    """Normalisations go with the layer before them."""
    merged: list[Region] = []
    for region in regions:
        if merged and re.search(r"norm", region.name.rpartition(".")[2]):
            last = merged.pop()
            region = Region(last.name, last.kind, (*last.nodes, *region.nodes))
        merged.append(region)
    return merged


def _all_nodes(block: Block) -> Iterator[Node]:
    for node in block.nodes:
        yield node
        if node.body is not None:
            yield from _all_nodes(node.body)


def _reads_weights(node: Node) -> bool:
    return any(isinstance(leaf, Weight) for leaf in leaves(node))


def _data(node: Node) -> tuple[str, ...]:
    first = node.args[0] if node.args else None
    return (first.name,) if isinstance(first, Ref) else ()


def _layer_name(node: Node, parent: str, position: int) -> str:
    prefix = "" if parent == "network" else f"{parent}."
    last = node.scope.rpartition(".")[2]
    if last.isdigit() or not last:
        return f"{prefix}{node.op}_{position + 1}" if last == "" else f"{prefix}{node.op}_{last}"
    return node.scope
