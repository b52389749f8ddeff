"""Recognisers: groups of operations become the one thing a person would call them.

Norms, activations, heads split, merged and repeated, rotary embeddings, hand-written attention, dense layers applied to
flattened positions, and causal masks that were computed from positions. Every rule keeps the computed values up to
rounding; `trace` runs the result beside the network and leaves the rewriting out if they differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from pellucid.errors import CannotRun
from pellucid.ir.graph import Arg, Block, Graph, Node, Ref, ValueType, Weight, leaves, refs
from pellucid.ir.interpret import run_graph
from pellucid.lift.patterns import Build, Match, New, P, Pattern, Rule, Step, rewrite, share_repeats, without_copies

LOW = -1e4
"""Scores at or below this vanish under softmax, so that adding it blocks as well as replacing by it."""

LONGEST_MASK = 8192
"""Masks are compared with the causal one up to two positions past each number they mention, and not beyond this."""


def _rms_norm(m: Match) -> Step | None:
    fits = m.is_weight("?weight", 1) and isinstance(m.bound["?eps"], float) and m.axes("?weight") == m.axes("?x")[-1:]
    return ("rms_norm", (m.bound["?x"], m.bound["?weight"], m.bound["?eps"])) if fits else None


def _rotary(m: Match) -> Step | None:
    axes, half = m.axes("?x"), m.bound["?half"]
    if len(axes) != 4 or not isinstance(half, int) or axes[3] != 2 * half:
        return None
    return "rotary", (m.bound["?x"], m.bound["?cos"], m.bound["?sin"])


def _split_heads(m: Match) -> Step | None:
    axes, made = m.axes("?x"), m.made()
    if len(axes) != 3 or len(made) != 4 or not isinstance(made[1], int) or not isinstance(made[3], int):
        return None
    if (made[0], made[2]) != axes[:2] or axes[2] != made[1] * made[3]:
        return None
    return "split_heads", (m.bound["?x"], made[1])


def _merge_heads(m: Match) -> Step | None:
    axes, made = m.axes("?x"), m.made()
    if len(axes) != 4 or len(made) != 3 or not isinstance(axes[1], int) or not isinstance(axes[3], int):
        return None
    return ("merge_heads", (m.bound["?x"],)) if made == (axes[0], axes[2], axes[1] * axes[3]) else None


def _repeat_heads(m: Match) -> Step | None:
    axes, made = m.axes("?x"), m.made()
    if len(axes) != 4 or len(made) != 4 or not isinstance(axes[1], int) or not isinstance(made[1], int):
        return None
    times = made[1] // axes[1]
    return ("repeat_heads", (m.bound["?x"], times)) if made == (axes[0], axes[1] * times, *axes[2:]) else None


def _grouped_attention(m: Match) -> Step | None:
    if m.bound["?n"] != m.bound["?m"]:
        return None
    return "attention", tuple(m.bound[f"?{name}"] for name in ("q", "k", "v", "mask", "causal", "scale"))


def _flat_affine(m: Match) -> Step | None:
    axes, flat = m.axes("?x"), m.bound["?flat"]
    whole = isinstance(flat, tuple) and len(flat) == 2 and flat[1] == axes[-1]
    if not whole or m.made()[:-1] != axes[:-1] or not m.is_weight("?w", 2):
        return None
    return "affine", (m.bound["?x"], m.bound["?w"], m.bound["?b"])


def _dense(bias: bool) -> Build:
    """x times a matrix, or times a matrix turned over, with a bias or without."""

    def build(m: Match) -> Step | None:
        turned = "?turn" in m.bound or "?a" in m.bound
        ends = {m.bound.get("?a"), m.bound.get("?b")}
        if turned and m.bound.get("?turn") not in (None, (1, 0)):
            return None
        if "?a" in m.bound and ends not in ({0, 1}, {-1, -2}):
            return None
        if not m.is_weight("?w", 2) or not m.axes("?x") or (bias and not m.is_weight("?bias", 1)):
            return None
        given = m.bound.get("?bias")
        if turned:
            return "linear", (m.bound["?x"], m.bound["?w"], given)
        return ("affine", (m.bound["?x"], m.bound["?w"], given)) if bias else None

    return build


def _with_bias(m: Match) -> Step | None:
    product = next(m.makers[arg.name] for arg in m.node.args if isinstance(arg, Ref) and arg != m.bound["?bias"])
    fits = m.is_weight("?bias", 1) and m.axes("?bias") == m.axes("?w")[:1] and product.scope == m.node.scope
    return ("linear", (m.bound["?x"], m.bound["?w"], m.bound["?bias"])) if fits else None


def _layer_norm(m: Match) -> Step | None:
    x, eps = m.axes("?x"), m.bound["?eps"]
    scaled = m.is_weight("?weight", 1) and m.is_weight("?bias", 1)
    if not scaled or m.axes("?weight") != x[-1:] or m.axes("?bias") != x[-1:] or not isinstance(eps, float):
        return None
    return "layer_norm", (m.bound["?x"], x[-1:], m.bound["?weight"], m.bound["?bias"], eps)


def _table_row(m: Match) -> Step | None:
    """Rows of a matrix; positions that may count from the end stay an index."""
    ids = m.bound["?ids"]
    if not isinstance(ids, Ref) or m.graph.values[ids.name].dtype not in ("int64", "int32"):
        return None
    return ("embedding", (m.bound["?table"], ids)) if m.is_weight("?table", 2) and _from_front(ids, m) else None


def _from_front(ids: Arg, m: Match) -> bool:
    """Whether whole numbers are inputs of the network or positions, moved about or added up, so never negative."""
    node = m.makers.get(ids.name) if isinstance(ids, Ref) else None
    if node is None:
        return isinstance(ids, Ref) or (isinstance(ids, int) and ids >= 0)
    if node.op in ("add", "mul"):
        return all(_from_front(arg, m) for arg in node.args)
    if node.op == "arange":
        return isinstance(node.args[0], int) and node.args[0] >= 0
    return node.op in ("argmax", "size") or (node.op in _MOVING and _from_front(node.args[0], m))


def _scaled_attention(divided: bool) -> Build:
    def build(m: Match) -> Step | None:
        scale, rank = m.bound.get("?scale", 1.0), len(m.axes("?q"))
        last_two = {m.bound["?a"], m.bound["?b"]}
        if not isinstance(scale, float | int) or last_two not in ({-1, -2}, {rank - 1, rank - 2}):
            return None
        mask = m.bound.get("?mask")
        if mask is not None and not (2 <= len(m.axes("?mask")) <= rank and m.dtype("?mask") == m.dtype("?q")):
            return None
        factor = 1.0 / float(scale) if divided else float(scale)
        if m.bound["?axis"] not in (-1, rank - 1) or len(m.axes("?v")) != rank:
            return None
        return "attention", (m.bound["?q"], m.bound["?k"], m.bound["?v"], mask, False, factor)

    return build


def _blocked_attention(divided: bool) -> Build:
    """Scores replaced by a very low value where blocked: the same as this value added to them."""
    scaled = _scaled_attention(divided)

    def build(m: Match) -> Step | None:
        value, step = m.bound["?low"], scaled(m)
        low = isinstance(value, float | int) and value <= LOW
        if step is None or not low or m.dtype("?q") != "float32" or m.dtype("?blocked") != "bool":
            return None
        if not 2 <= len(m.axes("?blocked")) <= len(m.axes("?q")):
            return None
        mask = New("where", (m.bound["?blocked"], value, 0.0), ValueType("float32", m.axes("?blocked")))
        return step[0], (*step[1][:3], mask, *step[1][4:])

    return build


def _same(variable: str) -> Build:
    def build(m: Match) -> Step | None:
        arg = m.bound[variable]
        kept = isinstance(arg, Ref) and m.graph.values[m.node.id] == m.graph.values[arg.name]
        return ("same", (arg,)) if kept else None

    return build


def _times(op: str) -> Pattern:
    return P(op, _SCORES, "?scale") if op else _SCORES


def _plain(op: str) -> Pattern:
    return P("matmul", P("softmax", _times(op), "?axis"), "?v")


def _masked(op: str) -> Pattern:
    return P("matmul", P("softmax", P("add", _times(op), "?mask"), "?axis"), "?v")


def _blocked(op: str) -> Pattern:
    return P("matmul", P("softmax", P("masked_fill", _times(op), "?blocked", "?low"), "?axis"), "?v")


_SCALINGS = ("div", "mul", "")
_MOVING = (
    "unsqueeze",
    "squeeze",
    "reshape",
    "expand",
    "slice_axis",
    "select",
    "transpose",
    "permute",
    "flatten",
    "cast",
)
_SCORES = P("matmul", "?q", P("transpose", "?k", "?a", "?b"))
_CUBE = P("add", "?x", P("mul", P("pow", "?x", 3.0), 0.044715))
_TANH = P("tanh", P("mul", _CUBE, math.sqrt(2.0 / math.pi)))
_NORMAL = (P("erf", P("mul", "?x", math.sqrt(0.5))), P("erf", P("div", "?x", math.sqrt(2.0))))
_TURNED = P(
    "concat", (P("neg", P("slice_axis", "?x", 3, "?half", None, 1)), P("slice_axis", "?x", 3, None, "?half", 1)), -1
)
_SQUARES = P("add", P("mean", P("pow", "?x", 2), (-1,), True), "?eps")
_CENTRED = P("sub", "?x", P("mean", "?x", (-1,), True))
_VARIANCES = (P("variance", "?x", (-1,), 0, True), P("mean", P("pow", _CENTRED, 2), (-1,), True))


def _halves(bell: Pattern) -> tuple[Pattern, Pattern]:
    """x / 2 times 1 + bell, and x times what is left of it."""
    rest = P("add", bell, 1.0)
    return P("mul", P("mul", "?x", 0.5), rest), P("mul", "?x", P("mul", rest, 0.5))


def _normed(var: Pattern) -> tuple[Pattern, Pattern]:
    spread = P("add", var, "?eps")
    return P("div", _CENTRED, P("sqrt", spread)), P("mul", _CENTRED, P("rsqrt", spread))


RULES = (
    Rule("root mean square norm", P("mul", "?weight", P("mul", "?x", P("rsqrt", _SQUARES))), _rms_norm),
    Rule("root mean square norm", P("mul", "?weight", P("div", "?x", P("sqrt", _SQUARES))), _rms_norm),
    Rule("layer norm written out", P("add", P("rms_norm", _CENTRED, "?weight", "?eps"), "?bias"), _layer_norm),
    *(Rule("gelu, tanh form", form, lambda m: ("gelu", (m.bound["?x"], "tanh"))) for form in _halves(_TANH)),
    *(Rule("gelu", form, lambda m: ("gelu", (m.bound["?x"], "none"))) for bell in _NORMAL for form in _halves(bell)),
    *(
        Rule("layer norm written out", P("add", P("mul", normed, "?weight"), "?bias"), _layer_norm)
        for var in _VARIANCES
        for normed in _normed(var)
    ),
    Rule(
        "dense layer written out", P("add", P("matmul", "?x", P("transpose", "?w", "?a", "?b")), "?bias"), _dense(True)
    ),
    Rule("dense layer written out", P("add", P("matmul", "?x", P("permute", "?w", "?turn")), "?bias"), _dense(True)),
    Rule("dense layer written out", P("add", P("matmul", "?x", "?w"), "?bias"), _dense(True)),
    Rule("dense layer without bias", P("matmul", "?x", P("transpose", "?w", "?a", "?b")), _dense(False)),
    Rule("dense layer without bias", P("matmul", "?x", P("permute", "?w", "?turn")), _dense(False)),
    Rule("bias of a dense layer", P("add", P("linear", "?x", "?w", None), "?bias"), _with_bias),
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
    *(Rule("attention", _plain(op), _scaled_attention(op == "div")) for op in _SCALINGS),
    *(Rule("attention, mask added", _masked(op), _scaled_attention(op == "div")) for op in _SCALINGS),
    *(Rule("attention, scores blocked", _blocked(op), _blocked_attention(op == "div")) for op in _SCALINGS),
    Rule("and with true", P("and", P("full", "?shape", 1.0, "bool"), "?x"), _same("?x")),
)


def recognise(graph: Graph, rules: Sequence[Rule] = RULES) -> Graph:
    """The graph with everything recognised that the rules know."""
    graph = graph.with_changes(block=share_repeats(_without_empty_parts(graph)))
    graph = _causal(rewrite(graph, rules))
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
    """Whether a mask that depends on positions and stored tensors alone is causal at every length that may differ.

    Past the largest number that the mask mentions, and within the smallest stored tensor, nothing new can happen.
    """
    cone = _cone(graph.block, mask)
    sized = {name for node in cone if node.op == "size" for name in refs(node)}
    by_value = {name for node in cone if node.op != "size" for name in refs(node) if name in graph.block.inputs}
    if by_value or not {name for node in cone for name in refs(node) if name in graph.block.inputs} <= sized:
        return False
    given = [leaf for node in cone for leaf in leaves(node)]
    numbers = [abs(n) for n in given if isinstance(n, int | float) and not isinstance(n, bool)]
    stored = [max(graph.weights[leaf.name].shape, default=1) for leaf in given if isinstance(leaf, Weight)]
    stored = [size for size in stored if size > 1]
    lengths = {2, 3, 7, 16, *(int(n) + 2 for n in numbers if 8 < n < 2**40), *stored}
    lengths = {length for length in lengths if length <= min(stored, default=LONGEST_MASK + 1)}
    return max(lengths, default=LONGEST_MASK + 1) <= LONGEST_MASK and all(
        _causal_at(graph, cone, mask, length) for length in sorted(lengths)
    )


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
