"""From a graph to its blocks of units and what each of them reads: one walk, with the rules of `flow_rules`.

Here are the operations that make several values or units of their own: attention, tables, recurrent layers and loops.
In a loop the state is a block before its body is read; what the body makes of it is then found to be the same units.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch

from pellucid.ir.graph import Arg, Block, Graph, Node, Ref, Weight, refs
from pellucid.ir.primitives import TORCH
from pellucid.modules.divisions import POOLING, unit_axes
from pellucid.modules.flow_rules import carried
from pellucid.modules.flow_shapes import pieces, repeated
from pellucid.modules.linear_maps import Average, Dense, Place, Take
from pellucid.modules.tokens import mean_rows, token_clusters
from pellucid.modules.unit_flows import Flow, Reading, Survey, Term, UnitBlock, identity, is_real, sizes_at

CLUSTERS = 64
"""Units that stand for the tokens of a larger vocabulary."""


@dataclass(frozen=True)
class UnitPlan:
    """Blocks of units in the network's order; `readings[i]` is what block i reads, by numbers of blocks.

    `couplings` are pairs of a block of attention patterns and the block of heads that they steer, unit by unit.
    """

    blocks: tuple[UnitBlock, ...]
    readings: tuple[tuple[Reading, ...], ...]
    couplings: tuple[tuple[int, int], ...]


def unit_plan(graph: Graph, clusters: int = CLUSTERS) -> UnitPlan:
    """The units of a network and the linear maps between them; blocks that no output depends on are left out."""
    survey = Survey(graph, clusters)
    for name in graph.block.inputs:
        _input(survey, name)
    _walk(survey, graph.block, _told(graph.block))
    for name in dict.fromkeys(graph.block.outputs):
        _output(survey, name)
    return _finished(survey)


def _told(block: Block) -> set[str]:
    """Values that depend on what the inputs hold, not on their sizes alone."""
    told = set(block.inputs)
    for node in block.nodes:
        if node.op != "size" and any(name in told for name in refs(node)):
            told.update(node.outputs)
    return told


def _walk(survey: Survey, block: Block, told: set[str]) -> None:
    for node in block.nodes:
        if node.op == "scan":
            _loop(survey, node)
        elif node.op == "recurrent":
            _recurrent(survey, node)
        elif node.op == "recurrent_cell":
            _cell(survey, node)
        elif node.op in ("split", "unbind"):
            survey.flows.update(pieces(survey, node))
        elif len(node.outputs) == 1:
            _single(survey, node, told)


def _single(survey: Survey, node: Node, told: set[str]) -> None:
    if node.op == "attention":
        flow = _attention(survey, node)
    elif node.op in ("embedding", "index") and survey.weight(node.args[0]) is not None:
        flow = _embedding(survey, node) if set(refs(node)) & told else None
    elif node.op in ("permute", "transpose") and isinstance(node.args[0], Weight):
        survey.tables[node.id] = TORCH[node.op](survey.graph.weights[node.args[0].name], *node.args[1:])
        flow = None
    else:
        flow = carried(survey, node)
    if flow is not None:
        survey.flows[node.id] = flow


# ---- where values come in and go out


def _input(survey: Survey, name: str) -> None:
    kind = survey.kind_of(name)
    axes = _input_axes(survey, name) if is_real(kind) else []
    sizes = sizes_at(kind, axes)
    if not sizes:
        return
    single = len(axes) == 1
    flow = identity(0, axes, sizes)
    block = UnitBlock(name, "input", flow.entries, 1, name, axes[0] if single else -1)
    survey.flows[name] = identity(survey.add(block), axes, sizes)


def _input_axes(survey: Survey, name: str) -> list[int]:
    """Channels for a convolution, all that is fixed for what is flattened at once, else the last axis."""
    axes = survey.kind_of(name).axes
    readers = [node.op for node in survey.graph.block.nodes if name in refs(node) and node.op != "size"]
    image = len(axes) == 4 and any(op in POOLING or op == "pad" for op in readers)
    if image or any(op in ("conv1d", "conv2d", "batch_norm") for op in readers):
        return [1]
    fixed = len(axes)
    while fixed > 1 and isinstance(axes[fixed - 1], int):
        fixed -= 1
    if readers and all(op in ("flatten", "reshape") for op in readers):
        return [*range(fixed, len(axes))]
    return [len(axes) - 1] if len(axes) > 1 else []


def _output(survey: Survey, name: str) -> None:
    """An output is a block of its own, unless it is what units made and nobody else reads."""
    flow = survey.flows.get(name)
    if flow is None or not is_real(survey.kind_of(name)):
        return
    own = survey.own(flow)
    if own is not None and not any(survey.find(term.block) == own for term in _all_terms(survey, own)):
        survey.blocks[own] = replace(survey.blocks[own], kind="output")
        return
    single, size, group = len(flow.axes) == 1, flow.entries, _token_groups(survey, flow)
    block = UnitBlock(name, "output", size, 1, name, flow.axes[0] if single else -1)
    if group is not None:
        size = int(group.max()) + 1
        block = UnitBlock(name, "token", size, members=_members(group))
        flow = replace(flow.then(Average(group)), sizes=(size,))
    survey.add(block, [Reading(flow, "" if group is not None else name)])


def _all_terms(survey: Survey, apart: int) -> Iterable[Term]:
    """What other blocks read."""
    for block, readings in enumerate(survey.readings):
        if survey.find(block) != apart:
            for reading in readings:
                yield from reading.flow.terms


def _token_groups(survey: Survey, flow: Flow) -> torch.Tensor | None:
    """The clusters of the outputs of a layer that has too many to be units, by its rows."""
    chain = flow.terms[0].chain if flow.terms else ()
    table = chain[0] if chain else None
    if flow.entries <= max(survey.clusters, 1024) or not isinstance(table, Dense):
        return None
    return token_clusters(table.weight.T if table.turned else table.weight, survey.clusters)


def _members(group: torch.Tensor) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(torch.nonzero(group == k)[:, 0].tolist()) for k in range(int(group.max()) + 1))


# ---- operations with units of their own


def _attention(survey: Survey, node: Node) -> Flow | None:
    """Two units a head: the pattern reads queries and keys, the head reads values and writes."""
    q, k, v = (survey.flow(arg) for arg in node.args[:3])
    axes = (1, 3) if len(survey.kind_of(node.id).axes) == 4 else (len(survey.kind_of(node.id).axes) - 1,)
    sizes = sizes_at(survey.kind_of(node.id), axes)
    if sizes is None:
        return None
    heads, width = sizes if len(sizes) == 2 else (1, sizes[0])
    readers: list[list[Reading]] = [[], []]
    for position, flow in enumerate((q, k, v)):
        if flow is not None and flow.axes == axes:
            times = heads // flow.sizes[0] if len(axes) == 2 else 1
            arg = node.args[position]
            value = arg.name if isinstance(arg, Ref) and times == 1 else ""
            readers[position == 2].append(Reading(repeated(flow, times) if times > 1 else flow, value))
    claim = (node.id, 1) if len(axes) == 2 else ("", -1)
    head = survey.add(UnitBlock(node.id, "head", heads, width, *claim), readers[1])
    if readers[0]:
        pattern = survey.add(UnitBlock(f"{node.id}.pattern", "pattern", heads), readers[0])
        survey.couplings.append((pattern, head))
    return identity(head, axes, sizes)


def _embedding(survey: Survey, node: Node) -> Flow | None:
    table, rank = survey.weight(node.args[0]), len(survey.kind_of(node.id).axes)
    plain = node.op == "embedding" or (isinstance(node.args[1], tuple) and len(node.args[1]) == 1)
    if table is None or table.ndim != 2 or not plain:
        return None
    group = token_clusters(table, survey.clusters)
    block = survey.add(UnitBlock(node.id, "token", int(group.max()) + 1, members=_members(group)))
    return identity(block, (rank - 1,), (table.shape[1],)).then(Dense(mean_rows(table, group), turned=True))


def _gates(flow: Flow, weight: torch.Tensor, size: int) -> Flow:
    """What the units of a recurrent layer read through a weight whose rows are ordered by gate."""
    rows = len(weight)
    order = torch.arange(rows).reshape(rows // size, size).T.reshape(-1)
    return flow.then(Dense(weight), Take(order, rows)).along(flow.axes[:1], (rows,))


def _recurrent(survey: Survey, node: Node) -> None:
    """Each layer and direction is a block that reads what comes in and itself."""
    flow, states, weights = survey.flow(node.args[1]), node.args[2], node.args[3]
    layers, both = int(str(node.args[4])), bool(node.args[5])
    assert isinstance(weights, tuple)
    tensors = [survey.graph.weights[arg.name] for arg in weights if isinstance(arg, Weight)]
    runs = layers * (1 + both)
    if not isinstance(states, tuple) or len(tensors) != len(weights) or len(weights) % runs:
        return
    each, rank = len(weights) // runs, len(survey.kind_of(node.id).axes)
    for layer in range(layers):
        made: list[Flow] = []
        for direction in range(1 + both):
            into, own = tensors[(layer * (1 + both) + direction) * each :][:2]
            size = own.shape[1]
            last = layer == layers - 1 and not both
            block = UnitBlock(node.id, "state", size, 1, node.id if last else "", rank - 1 if last else -1)
            number = survey.add(block)
            itself = identity(number, (rank - 1,), (size,))
            survey.readings[number].append(Reading(_gates(itself, own, size)))
            if flow is not None and flow.entries == into.shape[1]:
                survey.readings[number].append(Reading(_gates(flow, into, size)))
            made.append(itself)
        flow = _side_by_side(made)
    if flow is not None:
        survey.flows[node.id] = flow
        if runs == 1:
            survey.flows.update(dict.fromkeys(node.outputs[1:], flow.along((2,))))


def _side_by_side(flows: Sequence[Flow]) -> Flow:
    if len(flows) == 1:
        return flows[0]
    size = flows[0].entries
    placed = [term for i, flow in enumerate(flows) for term in flow.then(Place(i * size, size)).terms]
    return Flow(flows[0].axes, (size * len(flows),), tuple(placed))


def _cell(survey: Survey, node: Node) -> None:
    states, weights = node.args[2], node.args[3]
    assert isinstance(states, tuple)
    assert isinstance(weights, tuple)
    tensors = [survey.graph.weights[arg.name] if isinstance(arg, Weight) else None for arg in weights[:2]]
    if tensors[0] is None or tensors[1] is None:
        return
    size, axis = tensors[1].shape[1], len(survey.kind_of(node.id).axes) - 1
    sources: list[tuple[Arg, torch.Tensor]] = [(node.args[1], tensors[0]), (states[0], tensors[1])]
    block = survey.add(UnitBlock(node.id, "state", size, 1, node.id, axis))
    for arg, weight in sources:
        flow = survey.flow(arg)
        if flow is not None and flow.entries == weight.shape[1]:
            survey.readings[block].append(Reading(_gates(flow, weight, size)))
    survey.flows.update(dict.fromkeys(node.outputs, identity(block, (axis,), (size,))))


def _loop(survey: Survey, node: Node) -> None:
    assert node.body is not None
    states, sequences, fixed = (part if isinstance(part, tuple) else () for part in node.args)
    time = node.option("axis", 1)
    assert isinstance(time, int)
    names = node.body.inputs
    blocks = [_state(survey, name, start) for name, start in zip(names, states, strict=False)]
    for name, arg in zip(names[len(states) :], sequences, strict=False):
        flow = survey.flow(arg)
        if flow is not None and time not in flow.axes:
            survey.flows[name] = flow.along([axis - (axis > time) for axis in flow.axes])
    for name, arg in zip(names[len(states) + len(sequences) :], fixed, strict=True):
        flow = survey.flow(arg)
        if flow is not None:
            survey.flows[name] = flow
    _walk(survey, node.body, _told(node.body))
    for block, name in zip(blocks, node.body.outputs, strict=False):
        _close(survey, block, name)
    for position, (made, name) in enumerate(zip(node.outputs, node.body.outputs, strict=True)):
        flow = survey.flows.get(name)
        if flow is not None:
            later = position >= len(states)
            survey.flows[made] = flow.along([axis + (later and axis >= time) for axis in flow.axes])


def _state(survey: Survey, name: str, start: Arg) -> int | None:
    """A block for a state of a loop, before it is known what the loop makes of it."""
    kind = survey.kind_of(name)
    axis = len(kind.axes) - 1
    sizes = sizes_at(kind, (axis,)) if is_real(kind) and axis > 0 else None
    if sizes is None:
        return None
    first = survey.flow(start)
    readings = [Reading(first)] if first is not None and first.sizes == sizes else []
    block = survey.add(UnitBlock(name, "state", sizes[0], 1, name, axis), readings)
    survey.flows[name] = identity(block, (axis,), sizes)
    return block


def _close(survey: Survey, block: int | None, name: str) -> None:
    """What a loop makes of a state: the same units, or what they read."""
    flow = survey.flows.get(name)
    if block is None or flow is None:
        return
    own, size = survey.own(flow), survey.blocks[block].size
    if own is not None and survey.blocks[own].size == size:
        survey.merge(block, own)
        survey.blocks[own] = replace(survey.blocks[own], kind="state")
    elif flow.entries == size:
        survey.readings[survey.find(block)].append(Reading(flow, name))


# ---- the result


def _finished(survey: Survey) -> UnitPlan:
    """Merged blocks by one number, without those that no output depends on."""
    reads = {
        block: {survey.find(term.block) for reading in readings for term in reading.flow.terms}
        for block, readings in enumerate(survey.readings)
    }
    outputs = {value for value in survey.graph.block.outputs if value in survey.flows}
    waiting = [
        block
        for block, known in enumerate(survey.blocks)
        if survey.same[block] == block and (known.kind == "output" or known.name in outputs)
    ]
    waiting += [survey.find(term.block) for value in outputs for term in survey.flows[value].terms]
    steering = {survey.find(head): pattern for pattern, head in survey.couplings}
    alive: set[int] = set()
    while waiting:
        block = waiting.pop()
        if block not in alive:
            alive.add(block)
            waiting += [*reads[block], *([steering[block]] if block in steering else [])]
    order = {block: number for number, block in enumerate(sorted(alive))}
    top = {*survey.graph.block.inputs, *(name for node in survey.graph.block.nodes for name in node.outputs)}
    return UnitPlan(
        tuple(_named(survey, block, top) for block in order),
        tuple(tuple(_renumbered(survey, reading, order) for reading in survey.readings[block]) for block in order),
        tuple((order[p], order[survey.find(h)]) for p, h in survey.couplings if p in order and survey.find(h) in order),
    )


def _named(survey: Survey, number: int, top: set[str]) -> UnitBlock:
    block = survey.blocks[number]
    claimable = block.value in top and block.axis in unit_axes(survey.graph, block.value) and block.kind != "token"
    return replace(block, claimable=claimable)


def _renumbered(survey: Survey, reading: Reading, order: dict[int, int]) -> Reading:
    terms = tuple(Term(order[survey.find(term.block)], term.chain) for term in reading.flow.terms)
    return replace(reading, flow=replace(reading.flow, terms=terms))
