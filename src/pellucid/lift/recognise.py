"""Recognisers: groups of operations become the one thing a person would call them.

Norms, activations, heads split, merged and repeated, rotary embeddings, hand-written attention, dense layers applied to
flattened positions, and causal masks that were computed from positions. Every rule keeps the computed values up to
rounding; `trace` runs the result beside the network and leaves the rewriting out if they differ.
"""

from __future__ import annotations

import math

import torch

from pellucid.errors import CannotRun
from pellucid.ir.graph import Arg, Block, Graph, Node, Ref, Weight, leaves, refs
from pellucid.ir.interpret import run_graph
from pellucid.lift.patterns import Match, P, Rule, rewrite, share_repeats, without_copies

LONGEST_MASK = 8192
"""Masks are compared with the causal one up to two positions past each number they mention, and not beyond this."""


def _rms_norm(m: Match) -> tuple[str, tuple[Arg, ...]] | None:
    weight, eps = m.bound["?weight"], m.bound["?eps"]
    return ("rms_norm", (m.bound["?x"], weight, eps)) if isinstance(weight, Weight) and isinstance(eps, float) else None


def _rotary(m: Match) -> tuple[str, tuple[Arg, ...]] | None:
    axes, half = m.axes("?x"), m.bound["?half"]
    if len(axes) != 4 or not isinstance(half, int) or axes[3] != 2 * half:
        return None
    return "rotary", (m.bound["?x"], m.bound["?cos"], m.bound["?sin"])


def _split_heads(m: Match) -> tuple[str, tuple[Arg, ...]] | None:
    axes, made = m.axes("?x"), m.values[m.node.id].axes
    if len(axes) != 3 or len(made) != 4 or not isinstance(made[1], int) or not isinstance(made[3], int):
        return None
    if (made[0], made[2]) != axes[:2] or axes[2] != made[1] * made[3]:
        return None
    return "split_heads", (m.bound["?x"], made[1])


def _merge_heads(m: Match) -> tuple[str, tuple[Arg, ...]] | None:
    axes, made = m.axes("?x"), m.values[m.node.id].axes
    if len(axes) != 4 or len(made) != 3 or not isinstance(axes[1], int) or not isinstance(axes[3], int):
        return None
    return ("merge_heads", (m.bound["?x"],)) if made == (axes[0], axes[2], axes[1] * axes[3]) else None


def _repeat_heads(m: Match) -> tuple[str, tuple[Arg, ...]] | None:
    axes, made = m.axes("?x"), m.values[m.node.id].axes
    if len(axes) != 4 or len(made) != 4 or not isinstance(axes[1], int) or not isinstance(made[1], int):
        return None
    times = made[1] // axes[1]
    return ("repeat_heads", (m.bound["?x"], times)) if made == (axes[0], axes[1] * times, *axes[2:]) else None


def _grouped_attention(m: Match) -> tuple[str, tuple[Arg, ...]] | None:
    if m.bound["?n"] != m.bound["?m"]:
        return None
    return "attention", tuple(m.bound[f"?{name}"] for name in ("q", "k", "v", "mask", "causal", "scale"))


def _flat_affine(m: Match) -> tuple[str, tuple[Arg, ...]] | None:
    axes, made = m.axes("?x"), m.values[m.node.id].axes
    if made[:-1] != axes[:-1] or not isinstance(m.bound["?w"], Weight):
        return None
    return "affine", (m.bound["?x"], m.bound["?w"], m.bound["?b"])


def _table_row(m: Match) -> tuple[str, tuple[Arg, ...]] | None:
    ids = m.bound["?ids"]
    whole = isinstance(ids, Ref) and m.values[ids.name].dtype in ("int64", "int32")
    return ("embedding", (m.bound["?table"], ids)) if whole and isinstance(m.bound["?table"], Weight) else None


def _scaled_attention(divided: bool) -> object:
    def build(m: Match) -> tuple[str, tuple[Arg, ...]] | None:
        scale, rank = m.bound.get("?scale", 1.0), len(m.axes("?q"))
        last_two = {m.bound["?a"], m.bound["?b"]}
        if not isinstance(scale, float | int) or last_two not in ({-1, -2}, {rank - 1, rank - 2}):
            return None
        factor = 1.0 / float(scale) if divided else float(scale)
        if m.bound["?axis"] not in (-1, rank - 1):
            return None
        return "attention", (m.bound["?q"], m.bound["?k"], m.bound["?v"], None, False, factor)

    return build


def _same(variable: str) -> object:
    return lambda m: ("same", (m.bound[variable],)) if m.values[m.node.id] == _type(m, variable) else None


def _type(m: Match, variable: str) -> object:
    arg = m.bound[variable]
    return m.values[arg.name] if isinstance(arg, Ref) else None


_SCORES = P("matmul", "?q", P("transpose", "?k", "?a", "?b"))
_CUBE = P("add", "?x", P("mul", P("pow", "?x", 3.0), 0.044715))
_TANH = P("tanh", P("mul", _CUBE, math.sqrt(2.0 / math.pi)))
_TURNED = P(
    "concat", (P("neg", P("slice_axis", "?x", 3, "?half", None, 1)), P("slice_axis", "?x", 3, None, "?half", 1)), -1
)

RULES = (
    Rule(
        "root mean square norm",
        P("mul", "?weight", P("mul", "?x", P("rsqrt", P("add", P("mean", P("pow", "?x", 2), (-1,), True), "?eps")))),
        _rms_norm,
    ),
    Rule(
        "gelu, tanh form",
        P("mul", P("mul", "?x", 0.5), P("add", _TANH, 1.0)),
        lambda m: ("gelu", (m.bound["?x"], "tanh")),
    ),
    Rule(
        "gelu",
        P("mul", P("mul", "?x", 0.5), P("add", P("erf", P("mul", "?x", math.sqrt(0.5))), 1.0)),
        lambda m: ("gelu", (m.bound["?x"], "none")),
    ),
    Rule("silu", P("mul", "?x", P("sigmoid", "?x")), lambda m: ("silu", (m.bound["?x"],))),
    Rule(
        "rotary embedding",
        P("add", P("mul", "?x", P("unsqueeze", "?cos", 1)), P("mul", _TURNED, P("unsqueeze", "?sin", 1))),
        _rotary,
    ),
    Rule("heads split", P("transpose", P("reshape", "?x", "?shape"), 1, 2), _split_heads),
    Rule("heads merged", P("reshape", P("transpose", "?x", 1, 2), "?shape"), _merge_heads),
    Rule("heads repeated", P("reshape", P("expand", P("unsqueeze", "?x", 2), "?wide"), "?shape"), _repeat_heads),
    Rule(
        "grouped queries",
        P(
            "attention",
            "?q",
            P("repeat_heads", "?k", "?n"),
            P("repeat_heads", "?v", "?m"),
            "?mask",
            "?causal",
            "?scale",
        ),
        _grouped_attention,
    ),
    Rule(
        "dense layer over positions",
        P("reshape", P("affine", P("reshape", "?x", "?flat"), "?w", "?b"), "?shape"),
        _flat_affine,
    ),
    Rule("rows of a table", P("index", "?table", ("?ids",)), _table_row),
    Rule(
        "attention, divided scores",
        P("matmul", P("softmax", P("div", _SCORES, "?scale"), "?axis"), "?v"),
        _scaled_attention(True),  # type: ignore[arg-type]
    ),
    Rule(
        "attention, multiplied scores",
        P("matmul", P("softmax", P("mul", _SCORES, "?scale"), "?axis"), "?v"),
        _scaled_attention(False),  # type: ignore[arg-type]
    ),
    Rule("attention, plain scores", P("matmul", P("softmax", _SCORES, "?axis"), "?v"), _scaled_attention(False)),  # type: ignore[arg-type]
    Rule("and with true", P("and", P("full", "?shape", 1.0, "bool"), "?x"), _same("?x")),  # type: ignore[arg-type]
)


def recognise(graph: Graph) -> Graph:
    """The graph with everything recognised that the rules know."""
    graph = graph.with_changes(block=share_repeats(_without_empty_parts(graph)))
    graph = _causal(rewrite(graph, RULES))
    return graph.with_changes(block=without_copies(graph.block))


def _without_empty_parts(graph: Graph) -> Block:
    """Joining with an empty constant (a key-value cache at its start) changes nothing."""

    def is_empty(part: Arg) -> bool:
        return isinstance(part, Weight) and graph.weights[part.name].numel() == 0

    nodes = []
    for node in graph.block.nodes:
        parts = node.args[0] if node.op == "concat" else ()
        if isinstance(parts, tuple) and any(is_empty(part) for part in parts):
            left = tuple(part for part in parts if not is_empty(part))
            node = node.with_changes(op="same", args=left) if len(left) == 1 else node
        nodes.append(node)
    return without_copies(Block(graph.block.inputs, tuple(nodes), graph.block.outputs))


def _causal(graph: Graph) -> Graph:
    """Attention whose mask depends on positions only, and is the causal one, is called causal."""
    verdicts: dict[str, bool] = {}
    nodes = []
    for node in graph.block.nodes:
        mask = node.args[3] if node.op == "attention" else None
        if isinstance(mask, Ref):
            if mask.name not in verdicts:
                verdicts[mask.name] = _is_causal(graph, mask.name)
            if verdicts[mask.name]:
                node = node.with_changes(args=(*node.args[:3], None, True, node.args[5]))
        nodes.append(node)
    return graph.with_changes(block=Block(graph.block.inputs, tuple(nodes), graph.block.outputs))


def _is_causal(graph: Graph, mask: str) -> bool:
    cone = _cone(graph.block, mask)
    reads = {name for node in cone for name in refs(node) if name in graph.block.inputs}
    sized = {name for node in cone if node.op == "size" for name in refs(node)}
    by_value = {name for node in cone if node.op != "size" for name in refs(node) if name in graph.block.inputs}
    if by_value or not reads <= sized or any(isinstance(leaf, Weight) for node in cone for leaf in leaves(node)):
        return False
    numbers = [
        n for node in cone for n in leaves(node) if isinstance(n, int) and not isinstance(n, bool) and 8 < n < 2**40
    ]
    lengths = {2, 3, 7, 16, *(n + 2 for n in numbers)}
    return max(lengths) <= LONGEST_MASK and all(_causal_at(graph, cone, mask, length) for length in sorted(lengths))


def _cone(block: Block, name: str) -> list[Node]:
    needed, kept = {name}, []
    for node in reversed(block.nodes):
        if needed.intersection(node.outputs):
            kept.append(node)
            needed.update(refs(node))
    return kept[::-1]


def _causal_at(graph: Graph, cone: list[Node], mask: str, length: int) -> bool:
    inputs = []
    for name in graph.block.inputs:
        kind = graph.values[name]
        sizes = [length if axis == "seq" else 2 if isinstance(axis, str) else axis for axis in kind.axes]
        inputs.append(torch.zeros(sizes, dtype=getattr(torch, kind.dtype)))
    part = graph.with_changes(block=Block(graph.block.inputs, tuple(cone), (mask,)))
    try:
        (found,) = run_graph(part, inputs)
    except CannotRun:
        return False
    wanted = torch.ones(length, length, dtype=torch.bool).tril()
    if found.ndim < 2 or found.shape[-2:] != wanted.shape:
        return False
    allowed = found if found.dtype == torch.bool else found == 0
    blocked = ~found if found.dtype == torch.bool else found <= torch.finfo(found.dtype).min / 2
    return bool((allowed == wanted).all() and (blocked == ~wanted).all())
