"""A small language of patterns over dataflow, and the rewriting that uses it.

A pattern is an operation with patterns for its arguments; a string "?x" stands for any argument and must be the same
wherever it occurs; anything else stands for itself. Addition and multiplication match in either order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pellucid.ir.graph import Arg, Block, Graph, Node, Ref, ValueType, leaves, map_node, refs

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
    """Where a pattern was found: the root node, what its variables stand for, and the types of all values."""

    node: Node
    bound: Mapping[str, Arg]
    values: Mapping[str, ValueType]

    def axes(self, variable: str) -> tuple[int | str, ...]:
        """Axes of the value that a variable stands for; none for anything else."""
        arg = self.bound[variable]
        return self.values[arg.name].axes if isinstance(arg, Ref) else ()


@dataclass(frozen=True)
class Rule:
    """Where `pattern` matches, its root becomes the operation and arguments that `build` returns (None: leave it)."""

    name: str
    pattern: Pattern
    build: Callable[[Match], tuple[str, tuple[Arg, ...]] | None] = field(repr=False)


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
    return graph.with_changes(block=_rewrite_block(graph.block, graph.values, rules))


def _rewrite_block(block: Block, values: Mapping[str, ValueType], rules: Sequence[Rule]) -> Block:
    changed = True
    while changed:
        changed = False
        makers = {name: node for node in block.nodes for name in node.outputs if len(node.outputs) == 1}
        nodes: list[Node] = []
        for node in block.nodes:
            new = _first_rewriting(node, makers, values, rules)
            changed = changed or new is not node
            nodes.append(new)
            makers[new.id] = new
        block = without_copies(Block(block.inputs, tuple(nodes), block.outputs))
    bodies = [
        node if node.body is None else node.with_changes(body=_rewrite_block(node.body, values, rules))
        for node in block.nodes
    ]
    return Block(block.inputs, tuple(bodies), block.outputs)


def _first_rewriting(
    node: Node, makers: Mapping[str, Node], values: Mapping[str, ValueType], rules: Sequence[Rule]
) -> Node:
    for rule in rules:
        if rule.pattern.op != node.op or len(node.outputs) != 1:
            continue
        bound: dict[str, Arg] = {}
        if _match_args(rule.pattern, node.args, makers, bound):
            step = rule.build(Match(node, bound, values))
            if step is not None:
                return node.with_changes(op=step[0], args=step[1], kwargs=())
    return node


def without_copies(block: Block) -> Block:
    """The block without "same" nodes and without nodes that nothing reads."""
    stands_for: dict[str, str] = {}
    nodes: list[Node] = []
    for node in block.nodes:
        node = map_node(node, lambda a: Ref(stands_for.get(a.name, a.name)) if isinstance(a, Ref) else a)
        source = node.args[0] if node.op == "same" else None
        if isinstance(source, Ref) and node.id not in block.outputs:
            stands_for[node.id] = source.name
            continue
        nodes.append(node)
    needed, kept = set(block.outputs), []
    for node in reversed(nodes):
        if needed.intersection(node.outputs):
            kept.append(node)
            needed.update(refs(node))
    return Block(block.inputs, tuple(reversed(kept)), block.outputs)


def share_repeats(block: Block) -> Block:
    """The block with equal computations of the same module done once."""
    first: dict[object, str] = {}
    nodes: list[Node] = []
    stands_for: dict[str, str] = {}
    for node in block.nodes:
        node = map_node(node, lambda a: Ref(stands_for.get(a.name, a.name)) if isinstance(a, Ref) else a)
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
