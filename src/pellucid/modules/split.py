"""Values divided between regions: the graph rewritten so that every part is computed by nodes of its own.

A layer whose units are divided becomes one layer for each part, with the rows of its weight and bias; what treats every
unit by itself is done part by part; a layer that reads the parts becomes the sum of one product for each, less those
whose weights are all zero; a part that nothing reads is left out. Where anything else reads the whole value, the parts
are joined again. The sums come out equal up to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from pellucid.ir.graph import Arg, Block, Graph, Node, Ref, ValueType, Weight, map_node, refs, weights_read
from pellucid.ir.regions import Region, RegionTree
from pellucid.modules.division import Division
from pellucid.modules.divisions import (
    ELEMENTWISE,
    LAYERS,
    carried_over,
    divisions,
    flattens,
    is_depthwise,
    is_layer,
    layer_axis,
    operands,
)


@dataclass
class _Splitting:
    """The new graph while it is built.

    `pieces` names the parts of each divided value, `whole` the divided values that exist undivided too, `owned` the
    nodes that each region gains, and `home` is the region that held a node of the old graph.
    """

    graph: Graph
    divided: Mapping[str, Division]
    home: Mapping[str, str]
    root: str
    values: dict[str, ValueType]
    weights: dict[str, torch.Tensor]
    nodes: list[Node] = field(default_factory=list)
    pieces: dict[str, list[str]] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)
    owned: dict[str, list[str]] = field(default_factory=dict)
    slices: dict[tuple[object, ...], str] = field(default_factory=dict)

    def fresh(self, stem: str) -> str:
        name, count = stem, 2
        while name in self.values:
            name, count = f"{stem}_{count}", count + 1
        return name

    def emit(self, stem: str, kind: ValueType, owner: str, like: Node, op: str, args: tuple[Arg, ...]) -> str:
        """Add a node for a new value of the region `owner`; returns the name of the value."""
        name = self.fresh(stem)
        self.add(Node((name,), op, args, scope=like.scope, source=like.source), kind, owner)
        return name

    def add(self, node: Node, kind: ValueType, owner: str) -> None:
        self.values[node.id] = kind
        self.nodes.append(node)
        self.owned.setdefault(owner, []).append(node.id)

    def region(self, node: Node, owner: str | None) -> str:
        """The region of a part of what `node` makes: its owner, or the region that held the node."""
        return owner if owner is not None else self.home.get(node.id, self.root)

    def cut(self, weight: Arg, cuts: Mapping[int, tuple[int, ...]], label: str) -> Arg:
        """A weight with only these positions of some axes, stored under its name and `label`."""
        if not isinstance(weight, Weight) or not cuts:
            return weight
        key = (weight.name, *sorted(cuts.items()))
        if key not in self.slices:
            name, count = f"{weight.name}[{label}]", 2
            while name in self.weights:
                name, count = f"{weight.name}[{label}]_{count}", count + 1
            tensor = self.graph.weights[weight.name]
            for axis, positions in cuts.items():
                tensor = tensor.index_select(axis, torch.tensor(positions))
            self.weights[name] = tensor.contiguous()
            self.slices[key] = name
        return Weight(self.slices[key])


def split_units(graph: Graph, tree: RegionTree) -> tuple[Graph, RegionTree]:
    """Divide the values whose units regions claim; what no region claims stays with the region of its node.

    Returns:
        A graph that computes the same up to rounding, and the tree with the new nodes of each part in the region that
        claims its units, and no units left. Both unchanged where no region claims any.

    Raises:
        BadInput: a unit of an unknown value, of an axis that is not that of the features or channels, out of range, or
            claimed twice.
    """
    if not any(region.units for region in tree.walk()):
        return graph, tree
    home = {name: region.name for region in tree.walk() for name in region.nodes}
    divided = divisions(graph, tree)
    splitting = _Splitting(graph, divided, home, tree.root.name, dict(graph.values), dict(graph.weights))
    for name in graph.block.inputs:
        if name in divided:
            _take_parts(splitting, Node((name,), "input"), name)
    for node in graph.block.nodes:
        _split_node(splitting, node)
    for name in graph.block.outputs:
        _join(splitting, name)
    splitting.nodes = _read(splitting)
    block = Block(graph.block.inputs, tuple(splitting.nodes), graph.block.outputs)
    kept = {name: splitting.weights[name] for name in weights_read(block)}
    known = {node.id for node in splitting.nodes} | {inner for node in splitting.nodes for inner in _inner_ids(node)}
    changed = graph.with_changes(block=block, values=splitting.values, weights=kept)
    return changed, replace(tree, root=_with_nodes(tree.root, splitting.owned, known))


def _read(splitting: _Splitting) -> list[Node]:
    """The nodes without those parts that neither another node nor whoever runs the graph reads."""
    wanted, kept = set(splitting.graph.block.outputs), []
    for node in reversed(splitting.nodes):
        if node.id not in splitting.graph.values and wanted.isdisjoint(node.outputs):
            continue
        wanted.update(refs(node))
        kept.append(node)
    return kept[::-1]


def _inner_ids(node: Node) -> list[str]:
    inside = node.body.nodes if node.body is not None else ()
    return [name for inner in inside for name in (inner.id, *_inner_ids(inner))]


def _with_nodes(region: Region, owned: Mapping[str, Sequence[str]], known: set[str]) -> Region:
    """The region with the nodes it gained in place of those that are gone, without units."""
    nodes = dict.fromkeys(name for name in (*region.nodes, *owned.get(region.name, ())) if name in known)
    children = tuple(
        child
        for child in (_with_nodes(child, owned, known) for child in region.children)
        if child.nodes or child.children
    )
    return replace(region, nodes=tuple(nodes), units=(), children=children)


# ---- one node


def _split_node(splitting: _Splitting, node: Node) -> None:
    division = splitting.divided.get(node.id) if len(node.outputs) == 1 else None
    layer = is_layer(node, splitting.graph)
    if division is not None and layer and division.axis == layer_axis(node, splitting.graph):
        splitting.pieces[node.id] = [_layer_part(splitting, node, division, k) for k in range(len(division.parts))]
    elif division is not None and _works_by_parts(splitting, node, division):
        splitting.pieces[node.id] = [_own_part(splitting, node, division, k) for k in range(len(division.parts))]
    elif division is not None:
        _keep(splitting, node)
        _take_parts(splitting, node, node.id)
    elif layer and _incoming(splitting, node) is not None:
        _sum(splitting, node)
    else:
        _keep(splitting, node)
        for name in node.outputs:
            if name in splitting.divided:
                _take_parts(splitting, node, name)


def _keep(splitting: _Splitting, node: Node) -> None:
    """The node as it is, on whole values."""
    for name in refs(node):
        _join(splitting, name)
    splitting.nodes.append(node)
    splitting.whole.update(node.outputs)


def _take_parts(splitting: _Splitting, node: Node, value: str) -> None:
    """The parts of a value that `node` makes whole, or that is given."""
    division = splitting.divided[value]
    splitting.whole.add(value)
    splitting.pieces[value] = []
    for k, (owner, part) in enumerate(zip(division.owners, division.parts, strict=True)):
        index = _positions(splitting, f"{value}[{k}]", part)
        kind = _part_type(splitting, value, division, k)
        args = (Ref(value), index, division.axis)
        name = splitting.emit(f"{value}_part{k}", kind, splitting.region(node, owner), node, "take", args)
        splitting.pieces[value].append(name)


def _positions(splitting: _Splitting, stem: str, positions: Sequence[int]) -> Weight:
    name, count = stem, 2
    while name in splitting.weights:
        name, count = f"{stem}_{count}", count + 1
    splitting.weights[name] = torch.tensor(positions)
    return Weight(name)


def _part_type(splitting: _Splitting, value: str, division: Division, k: int) -> ValueType:
    kind = splitting.graph.values[value]
    size = len(division.parts[k])
    return ValueType(kind.dtype, (*kind.axes[: division.axis], size, *kind.axes[division.axis + 1 :]))


def _join(splitting: _Splitting, name: str) -> None:
    """Make a divided value whole, if it is not yet: its parts in a row, put back into order."""
    if name not in splitting.pieces or name in splitting.whole:
        return
    splitting.whole.add(name)
    division, kind = splitting.divided[name], splitting.graph.values[name]
    like = next(node for node in splitting.nodes if node.id == splitting.pieces[name][0])
    owner = splitting.home.get(name, splitting.root)
    parts = tuple(Ref(piece) for piece in splitting.pieces[name])
    row = splitting.emit(f"{name}_parts", kind, owner, like, "concat", (parts, division.axis))
    order = [i for part in division.parts for i in part]
    back = _positions(splitting, f"{name}[order]", sorted(range(len(order)), key=order.__getitem__))
    node = Node((name,), "take", (Ref(row), back, division.axis), scope=like.scope, source=like.source)
    splitting.add(node, kind, owner)


# ---- part by part


def _works_by_parts(splitting: _Splitting, node: Node, division: Division) -> bool:
    """Whether the division of a node's result is that of its operands."""
    return carried_over(node, splitting.divided, splitting.graph) == division


def _own_part(splitting: _Splitting, node: Node, division: Division, k: int) -> str:
    """Part k of a node that treats every unit by itself."""
    graph = splitting.graph
    divided = set(operands(node, division, graph) or (name for name in refs(node) if name in splitting.divided))
    for name in refs(node):
        if name not in divided:
            _join(splitting, name)
    changed = map_node(node, lambda arg: _own_arg(splitting, node, division, k, arg, divided))
    op, args = (node.op, changed.args) if not flattens(node, graph) else ("flatten", (changed.args[0], 1, -1))
    if is_depthwise(node, graph):
        args = (*args[:6], len(division.parts[k]))
    if node.op == "split_heads":
        args = (args[0], len(division.parts[k]))
    owner = splitting.region(node, division.owners[k])
    return splitting.emit(f"{node.id}_part{k}", _part_type(splitting, node.id, division, k), owner, node, op, args)


def _own_arg(splitting: _Splitting, node: Node, division: Division, k: int, arg: Arg, divided: set[str]) -> Arg:
    """What part k of a node reads in place of `arg`: a part of a value or of a weight that varies by unit."""
    if isinstance(arg, Ref):
        return Ref(splitting.pieces[arg.name][k]) if arg.name in divided else arg
    if not isinstance(arg, Weight):
        return arg
    shape = splitting.graph.weights[arg.name].shape
    axis = division.axis - (len(splitting.graph.values[node.id].axes) - len(shape)) if node.op in ELEMENTWISE else 0
    varies = 0 <= axis < len(shape) and shape[axis] == division.size > 1
    return splitting.cut(arg, {axis: division.parts[k]}, str(k)) if varies else arg


# ---- layers


def _incoming(splitting: _Splitting, node: Node) -> Division | None:
    """How the input of a layer is divided along the axis over which it sums."""
    source = node.args[0]
    division = splitting.divided.get(source.name) if isinstance(source, Ref) else None
    if division is None or not isinstance(source, Ref):
        return None
    rank = len(splitting.graph.values[source.name].axes)
    return division if division.axis == LAYERS[node.op].value_axis % rank else None


def _layer_part(splitting: _Splitting, node: Node, division: Division, k: int) -> str:
    """Part k of the units of a layer."""
    owner = splitting.region(node, division.owners[k])
    kind = _part_type(splitting, node.id, division, k)
    layout, rows = LAYERS[node.op], {LAYERS[node.op].out_axis: division.parts[k]}
    incoming = _incoming(splitting, node)
    bias = splitting.cut(_bias(node), {0: division.parts[k]}, str(k))
    stem = splitting.fresh(f"{node.id}_part{k}")
    if incoming is None:
        for name in refs(node):
            _join(splitting, name)
        args = (node.args[0], splitting.cut(node.args[1], rows, str(k)), bias, *node.args[3:])
        return splitting.emit(stem, kind, owner, node, node.op, args)
    products: list[str] = []
    for i, columns in enumerate(incoming.parts):
        cuts = {**rows, layout.in_axis: columns}
        if _adds_nothing(splitting, node, cuts) and len(products) + len(incoming.parts) - i > 1:
            continue
        weight = splitting.cut(node.args[1], cuts, f"{k},{i}")
        products.append(_product(splitting, node, f"{stem}_from{i}", kind, owner, i, weight))
    return _added(splitting, node, stem, kind, owner, products, bias)


def _sum(splitting: _Splitting, node: Node) -> None:
    """A layer that reads a divided value: each region adds what comes from its units."""
    incoming, kind, source = _incoming(splitting, node), splitting.graph.values[node.id], node.args[0]
    assert incoming is not None
    assert isinstance(source, Ref)
    products: list[str] = []
    for i, (owner, columns) in enumerate(zip(incoming.owners, incoming.parts, strict=True)):
        cuts = {LAYERS[node.op].in_axis: columns}
        if _adds_nothing(splitting, node, cuts) and len(products) + len(incoming.parts) - i > 1:
            continue
        weight = splitting.cut(node.args[1], cuts, str(i))
        region = owner or splitting.home.get(source.name, splitting.root)
        products.append(_product(splitting, node, f"{node.id}_from{i}", kind, region, i, weight))
    home = splitting.home.get(node.id, splitting.root)
    _added(splitting, node, node.id, kind, home, products, _bias(node))
    splitting.whole.add(node.id)


def _adds_nothing(splitting: _Splitting, node: Node, cuts: Mapping[int, tuple[int, ...]]) -> bool:
    """Whether the weights at these positions are all zero: no interface at all."""
    assert isinstance(node.args[1], Weight)
    tensor = splitting.graph.weights[node.args[1].name]
    for axis, positions in cuts.items():
        tensor = tensor.index_select(axis, torch.tensor(positions))
    return not bool(tensor.any())


def _bias(node: Node) -> Arg:
    return node.args[2] if len(node.args) > 2 else None


def _product(splitting: _Splitting, node: Node, stem: str, kind: ValueType, owner: str, i: int, weight: Arg) -> str:
    """What part i of a layer's input adds to its result."""
    source = node.args[0]
    assert isinstance(source, Ref)
    piece = Ref(splitting.pieces[source.name][i])
    if node.op == "affine":
        return splitting.emit(stem, kind, owner, node, "matmul", (piece, weight))
    return splitting.emit(stem, kind, owner, node, node.op, (piece, weight, None, *node.args[3:]))


def _added(
    splitting: _Splitting, node: Node, stem: str, kind: ValueType, owner: str, products: Sequence[str], bias: Arg
) -> str:
    """The sum of products and a bias, as the value `stem`."""
    terms: list[Arg] = [Ref(product) for product in products]
    if isinstance(bias, Weight):
        terms.append(_spread(splitting, bias, node.op))
    total = terms[0]
    for term in terms[1:-1]:
        total = Ref(splitting.emit(f"{stem}_sum", kind, owner, node, "add", (total, term)))
    last = (total, terms[-1]) if len(terms) > 1 else (total, 0)
    splitting.add(Node((stem,), "add", last, scope=node.scope, source=node.source), kind, owner)
    return stem


def _spread(splitting: _Splitting, bias: Weight, op: str) -> Weight:
    """A bias as it is added to values: for convolutions with axes of length 1 for the positions."""
    if not op.startswith("conv"):
        return bias
    name = f"{bias.name}[column]"
    tensor = splitting.weights[bias.name]
    splitting.weights[name] = tensor.reshape(-1, *(1 for _ in range(int(op[4]))))
    return Weight(name)
