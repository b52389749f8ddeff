"""From a graph and a hierarchy of regions to a program that is all weights, and exact.

Each region becomes a function: 1. Its nodes are contracted in the block that holds them; where that would make calls go
round in a circle, the region is cut into segments that do not. 2. Inputs are the values it reads from outside, outputs
those read outside. 3. Sizes are read again inside from an input that has the axis, so that signatures carry data only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from pellucid.errors import BadInput
from pellucid.ir.bits import block_bits
from pellucid.ir.graph import Axis, Block, Graph, Node, Ref, ValueType, calls_made, refs, rename_refs, weights_read
from pellucid.ir.program import Function, Program, Reading
from pellucid.ir.regions import Region, RegionTree
from pellucid.ir.validate import validate
from pellucid.modules.heads import split_heads
from pellucid.modules.split import split_units


@dataclass
class _Assembly:
    """What has been built so far."""

    values: dict[str, ValueType]
    weights: Mapping[str, torch.Tensor]
    symbols: Mapping[str, Axis]
    numbers: Mapping[str, Node]
    functions: dict[str, Function] = field(default_factory=dict)


def structure(graph: Graph, tree: RegionTree) -> Program:
    """The program of `graph` along `tree`; every function has its exact reading, `weights`.

    Raises:
        BadInput: two regions claim the same node, a region names a node or unit that the graph does not have, or is
            empty.
    """
    given = tree
    _check_held(tree)
    graph, tree = split_units(*split_heads(graph, tree))
    _check_regions(graph, tree)
    symbols = dict(_axis_numbers(graph, graph.block))
    assembly = _Assembly(dict(graph.values), graph.weights, symbols, dict(_arithmetic(graph, graph.block)))
    entry = _build(tree.root, graph.block, assembly)
    ordered = {name: assembly.functions[name] for name in _callers_first(entry, assembly)}
    program = Program(entry, ordered, assembly.values, graph.weights, regions=given)
    program = program.with_notes(remarks=graph.remarks)
    validate(program)
    return program


def _axis_numbers(graph: Graph, block: Block) -> Iterable[tuple[str, Axis]]:
    """Values that are the length of an axis, each with that axis."""
    for node in block.nodes:
        source = node.args[0] if node.args else None
        if node.op == "size" and isinstance(source, Ref) and isinstance(node.args[1], int):
            yield node.id, graph.values[source.name].axes[node.args[1]]
        if node.body is not None:
            yield from _axis_numbers(graph, node.body)


def _arithmetic(graph: Graph, block: Block) -> Iterable[tuple[str, Node]]:
    """Numbers that are worked out from numbers alone, each with its node."""
    for node in block.nodes:
        if len(node.outputs) == 1 and all(
            graph.values[name].dtype in ("int", "float") for name in (node.id, *refs(node))
        ):
            yield node.id, node
        if node.body is not None:
            yield from _arithmetic(graph, node.body)


def _callers_first(entry: str, assembly: _Assembly) -> Iterable[str]:
    yield entry
    for child in calls_made(assembly.functions[entry].readings[0].body):
        yield from _callers_first(child, assembly)


def _fresh(name: str, taken: Mapping[str, object]) -> str:
    """`name`, or `name` with a number if it is taken."""
    candidate, count = name, 2
    while candidate in taken:
        candidate, count = f"{name}_{count}", count + 1
    return candidate


def _check_held(tree: RegionTree) -> None:
    for region in tree.root.children:
        for inner in region.walk():
            if not inner.nodes and not inner.children and not any(unit.indices for unit in inner.units):
                raise BadInput(f"region {inner.name!r} is empty; leave it out, or give it nodes, units or regions")


def _check_regions(graph: Graph, tree: RegionTree) -> None:
    known = set(_node_ids(graph.block))
    owner: dict[str, str] = {}
    for region in tree.walk():
        for name in region.nodes:
            if name not in known:
                raise BadInput(f"region {region.name!r} names {name!r}, which is no node of the graph")
            if name in owner:
                raise BadInput(f"regions {owner[name]!r} and {region.name!r} both claim node {name!r}")
            owner[name] = region.name


def _node_ids(block: Block) -> Iterable[str]:
    for node in block.nodes:
        yield node.id
        if node.body is not None:
            yield from _node_ids(node.body)


def _build(region: Region, block: Block, assembly: _Assembly) -> str:
    """Make a function of `block`, with functions for the children of `region`; returns its name."""
    body = _without_unread(_with_own_sizes(_contract(region.children, block, assembly), assembly), assembly)
    name = _fresh(region.name, assembly.functions)
    reading = Reading("weights", body, "exact", block_bits(body, assembly.weights))
    scope = _common_prefix(_weights_below(body, assembly))
    assembly.functions[name] = Function(name, region.kind, scope, body.inputs, body.outputs, (reading,))
    return name


def _without_unread(body: Block, assembly: _Assembly) -> Block:
    """Numbers that only functions below needed are read there now."""
    read = set(body.outputs)
    nodes: list[Node] = []
    for node in reversed(body.nodes):
        number = len(node.outputs) == 1 and assembly.values[node.id].dtype in ("int", "float")
        if not number or node.id in read:
            nodes.append(node)
            read.update(refs(node))
    return Block(body.inputs, tuple(reversed(nodes)), body.outputs)


def _weights_below(body: Block, assembly: _Assembly) -> list[str]:
    names = list(weights_read(body))
    for node in body.nodes:
        for inner in (node, *(node.body.nodes if node.body else ())):
            if inner.op == "call":
                names.extend(_weights_below(assembly.functions[inner.function].readings[0].body, assembly))
    return names


def _common_prefix(names: Sequence[str]) -> str:
    """The longest dotted path that all names share, without their last part."""
    if not names:
        return ""
    parts = [name.split(".")[:-1] for name in names]
    shared = []
    for column in zip(*parts, strict=False):
        if len(set(column)) > 1:
            break
        shared.append(column[0])
    return ".".join(shared)


def _contract(children: Sequence[Region], block: Block, assembly: _Assembly) -> Block:
    """The block with each child's nodes replaced by calls; loops are contracted inside."""
    owner = {name: child for child in children for part in child.walk() for name in part.nodes}
    nodes = [
        node.with_changes(body=_contract(children, node.body, assembly))
        if node.body is not None and node.id not in owner
        else node
        for node in block.nodes
    ]
    groups = _segments(nodes, owner)
    read_by = _readers(nodes, block.outputs)
    produced = {name: index for index, group in enumerate(groups) for node in group.nodes for name in node.outputs}
    made: list[Node] = []
    for index in _in_order(groups, produced):
        group = groups[index]
        if group.region is None:
            made.extend(group.nodes)
            continue
        inside = {name for node in group.nodes for name in node.outputs}
        inputs = tuple(dict.fromkeys(name for node in group.nodes for name in refs(node) if name not in inside))
        outputs = tuple(
            name
            for node in group.nodes
            for name in node.outputs
            if read_by.get(name, set()) - {id(n) for n in group.nodes}
        )
        if not outputs:
            continue
        made.append(_call(group.region, Block(inputs, tuple(group.nodes), outputs), assembly))
    return Block(block.inputs, tuple(made), block.outputs)


@dataclass
class _Group:
    """Nodes that become one call (or a single node that stays, when `region` is None)."""

    region: Region | None
    nodes: list[Node]


def _segments(nodes: Sequence[Node], owner: Mapping[str, Region]) -> list[_Group]:
    """Nodes in order, each put into its region's open segment unless that would close a circle."""
    groups: list[_Group] = []
    needs: list[set[int]] = []
    made_by: dict[str, int] = {}
    latest: dict[str, int] = {}
    for node in nodes:
        region = owner.get(node.id)
        sources = {made_by[name] for name in refs(node) if name in made_by}
        index = latest.get(region.name) if region is not None else None
        if index is None or any(index in _reach(needs, source) for source in sources if source != index):
            index = len(groups)
            groups.append(_Group(region, []))
            needs.append(set())
            if region is not None:
                latest[region.name] = index
        groups[index].nodes.append(node)
        needs[index] |= sources - {index}
        made_by.update(dict.fromkeys(node.outputs, index))
    return groups


def _reach(needs: Sequence[set[int]], start: int) -> set[int]:
    """All groups that `start` depends on, itself included."""
    seen, stack = {start}, [start]
    while stack:
        for other in needs[stack.pop()] - seen:
            seen.add(other)
            stack.append(other)
    return seen


def _in_order(groups: Sequence[_Group], produced: Mapping[str, int]) -> list[int]:
    """Groups so that each comes after those it reads from; otherwise in the network's own order."""
    done: set[int] = set()
    order: list[int] = []

    def visit(index: int) -> None:
        stack = [index]
        while stack:
            top = stack[-1]
            waiting = [
                produced[name]
                for node in groups[top].nodes
                for name in refs(node)
                if name in produced and produced[name] not in done and produced[name] != top
            ]
            if waiting:
                stack.append(min(waiting))
                continue
            stack.pop()
            if top not in done:
                done.add(top)
                order.append(top)

    for index in range(len(groups)):
        if index not in done:
            visit(index)
    return order


def _readers(nodes: Sequence[Node], outputs: Sequence[str]) -> dict[str, set[int]]:
    readers: dict[str, set[int]] = {}
    for node in nodes:
        for name in refs(node):
            readers.setdefault(name, set()).add(id(node))
    for name in outputs:
        readers.setdefault(name, set()).add(0)
    return readers


def _call(region: Region, block: Block, assembly: _Assembly) -> Node:
    name = _build(region, block, assembly)
    function = assembly.functions[name]
    args = tuple(Ref(value) for value in function.inputs)
    return Node(function.outputs, "call", args, function=name, scope=region.name)


def _with_own_sizes(body: Block, assembly: _Assembly) -> Block:
    """Numbers that come in as inputs are worked out from the axes of the other inputs instead."""
    made: list[Node] = []
    names: dict[str, str] = {}

    def own(number: str) -> str | None:
        """The name of this number in the body, after the nodes that make it; None where the inputs do not tell."""
        if number in names:
            return names[number]
        node = _measure(body, number, assembly) or assembly.numbers.get(number)
        if node is None or (node.op != "size" and any(own(name) is None for name in refs(node))):
            return None
        names[number] = _fresh("size" if node.op != "size" else _size_name(number, assembly), assembly.values)
        assembly.values[names[number]] = assembly.values[number]
        made.append(rename_refs(node, names).with_changes(outputs=(names[number],)))
        return names[number]

    for name in body.inputs:
        if assembly.values[name].dtype in ("int", "float"):
            own(name)
    if not names:
        return body
    nodes = tuple(rename_refs(node, names) for node in body.nodes)
    inputs = tuple(name for name in body.inputs if name not in names)
    return Block(inputs, (*made, *nodes), body.outputs)


def _measure(body: Block, number: str, assembly: _Assembly) -> Node | None:
    """The node that reads a number from the axis of an input that has it."""
    symbol = assembly.symbols.get(number)
    for other in body.inputs:
        axes = assembly.values[other].axes
        if symbol is not None and symbol in axes:
            return Node((number,), "size", (Ref(other), axes.index(symbol)))
    return None


def _size_name(number: str, assembly: _Assembly) -> str:
    symbol = str(assembly.symbols[number])
    return f"{symbol}_size" if symbol.isidentifier() else "size"
