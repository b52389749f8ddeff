"""A small language of patterns over dataflow, and the rewriting that uses it.

A pattern is an operation with patterns for its arguments; a string "?x" stands for any argument and must be the same
wherever it occurs; anything else stands for itself. Addition and multiplication match in either order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from pellucid.ir.graph import Arg, Block, Graph, Node, Ref, ValueType, Weight, leaves, refs, rename_refs

COMMUTATIVE = ("add", "mul")


@dataclass(frozen=True)
class Pattern:
    """`op` applied to `args`, each a pattern, a variable "?name", a literal, or a tuple of these."""

    op: str
    args: tuple[object, ...]


def P(op: str, *args: object) -> Pattern:
    """Shorthand for Pattern."""
    return Pattern(op, args)


@dataclass(frozen=True)
class Match:
    """Where a pattern was found: the root node, what its variables stand for, and the graph around it.

    `makers` has the node of every value of the block that is no input of it.
    """

    node: Node
    bound: Mapping[str, Arg]
    graph: Graph
    makers: Mapping[str, Node]

    def made(self) -> tuple[int | str, ...]:
        """Axes of the value that the root node makes."""
        return self.graph.values[self.node.id].axes

    def axes(self, variable: str) -> tuple[int | str, ...]:
        """Axes of the value or weight that a variable stands for; none for anything else."""
        arg = self.bound[variable]
        if isinstance(arg, Weight):
            return tuple(self.graph.weights[arg.name].shape)
        return self.graph.values[arg.name].axes if isinstance(arg, Ref) else ()

    def dtype(self, variable: str) -> str:
        """Element type of the value or weight that a variable stands for; "" for anything else."""
        arg = self.bound[variable]
        if isinstance(arg, Weight):
            return str(self.graph.weights[arg.name].dtype).removeprefix("torch.")
        return self.graph.values[arg.name].dtype if isinstance(arg, Ref) else ""

    def is_weight(self, variable: str, rank: int) -> bool:
        """Whether a variable stands for a weight of this many axes."""
        return isinstance(self.bound[variable], Weight) and len(self.axes(variable)) == rank


@dataclass(frozen=True)
class New:
    """An argument that is a value to be made: by `op` of `args`, of the type `kind`."""

    op: str
    args: tuple[Arg, ...]
    kind: ValueType


Step: TypeAlias = "tuple[str, tuple[Arg | New, ...]]"
Build: TypeAlias = "Callable[[Match], Step | None]"
"""From a match to the operation and the arguments that take its place, or None."""


@dataclass(frozen=True)
class Rule:
    """Where `pattern` matches, its root becomes the operation and arguments that `build` returns (None: leave it)."""

    name: str
    pattern: Pattern
    build: Build = field(repr=False)


def matches(pattern: object, arg: Arg, makers: Mapping[str, Node], bound: dict[str, Arg]) -> bool:
    """Whether `arg` is what the pattern says; extends `bound`."""
    if isinstance(pattern, str) and pattern.startswith("?"):
        return bound.setdefault(pattern, arg) == arg
    if isinstance(pattern, Pattern):
        node = makers.get(arg.name) if isinstance(arg, Ref) else None
        return node is not None and node.op == pattern.op and _match_args(pattern, node.args, makers, bound)
    if isinstance(pattern, tuple):
        return (
            isinstance(arg, tuple)
            and len(arg) == len(pattern)
            and all(matches(p, a, makers, bound) for p, a in zip(pattern, arg, strict=True))
        )
    return bool(pattern == arg) and isinstance(pattern, bool) == isinstance(arg, bool)


def _match_args(pattern: Pattern, args: Sequence[Arg], makers: Mapping[str, Node], bound: dict[str, Arg]) -> bool:
    if len(pattern.args) != len(args):
        return False
    orders: list[Sequence[Arg]] = [args]
    if pattern.op in COMMUTATIVE:
        orders.append(tuple(reversed(args)))
    for order in orders:
        trial = dict(bound)
        if all(matches(p, a, makers, trial) for p, a in zip(pattern.args, order, strict=True)):
            bound.update(trial)
            return True
    return False


def rewrite(graph: Graph, rules: Sequence[Rule]) -> Graph:
    """The graph with every rule applied wherever it matches, loops included, until none does."""
    graph = graph.with_changes(values=dict(graph.values))
    return graph.with_changes(block=_rewrite_block(graph.block, graph, rules))


def _rewrite_block(block: Block, graph: Graph, rules: Sequence[Rule]) -> Block:
    changed = True
    while changed:
        changed = False
        makers = {name: node for node in block.nodes for name in node.outputs if len(node.outputs) == 1}
        nodes: list[Node] = []
        for node in block.nodes:
            new = _first_rewriting(node, makers, graph, rules)
            changed = changed or new != [node]
            nodes.extend(new)
            makers.update({made.id: made for made in new if len(made.outputs) == 1})
        block = without_copies(Block(block.inputs, tuple(nodes), block.outputs))
    bodies = [
        node if node.body is None else node.with_changes(body=_rewrite_block(node.body, graph, rules))
        for node in block.nodes
    ]
    return Block(block.inputs, tuple(bodies), block.outputs)


def _first_rewriting(node: Node, makers: Mapping[str, Node], graph: Graph, rules: Sequence[Rule]) -> list[Node]:
    for rule in rules:
        if rule.pattern.op != node.op or len(node.outputs) != 1:
            continue
        bound: dict[str, Arg] = {}
        if _match_args(rule.pattern, node.args, makers, bound):
            step = rule.build(Match(node, bound, graph, makers))
            if step is not None:
                return _replaced(node, step, graph)
    return [node]


def _replaced(node: Node, step: Step, graph: Graph) -> list[Node]:
    """The node with another operation and other arguments, after the nodes that make those that are new."""
    made: list[Node] = []
    args: list[Arg] = []
    for arg in step[1]:
        if isinstance(arg, New):
            name = f"{node.id}_{arg.op}"
            while name in graph.values:
                name += "_"
            graph.values[name] = arg.kind  # type: ignore[index]
            made.append(Node((name,), arg.op, arg.args, scope=node.scope, source=node.source))
            arg = Ref(name)
        args.append(arg)
    return [*made, node.with_changes(op=step[0], args=tuple(args), kwargs=())]


def without_copies(block: Block) -> Block:
    """The block without "same" nodes and without nodes that nothing reads."""
    stands_for: dict[str, str] = {}
    taken = {*block.inputs, *block.outputs}
    nodes: list[Node] = []
    for node in block.nodes:
        node = rename_refs(node, stands_for)
        source = node.args[0] if node.op == "same" else None
        if isinstance(source, Ref) and not (node.id in block.outputs and source.name in taken):
            stands_for[node.id] = source.name
        else:  # an output of its own, equal to an input or to another output
            nodes.append(node if source is None else node.with_changes(op="concat", args=((source,), 0)))
    outputs = tuple(stands_for.get(name, name) for name in block.outputs)
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if needed.intersection(node.outputs):
            kept.append(node)
            needed.update(refs(node))
    return Block(block.inputs, tuple(reversed(kept)), outputs)


def share_repeats(block: Block) -> Block:
    """The block with equal computations of the same module done once."""
    first: dict[object, str] = {}
    nodes: list[Node] = []
    stands_for: dict[str, str] = {}
    for node in block.nodes:
        node = rename_refs(node, stands_for)
        if node.body is not None:
            node = node.with_changes(body=share_repeats(node.body))
        elif len(node.outputs) == 1 and node.id not in block.outputs:
            kinds = tuple(type(leaf).__name__ for leaf in leaves(node))
            known = first.setdefault((node.op, node.args, node.kwargs, kinds, node.scope), node.id)
            if known != node.id:
                stands_for[node.id] = known
                continue
        nodes.append(node)
    return Block(block.inputs, tuple(nodes), block.outputs)
