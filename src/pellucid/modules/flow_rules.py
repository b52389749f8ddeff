"""How each operation carries the flow of units: tables from operations to rules.

A rule takes the survey and a node and returns the flow of the node's first value, or None where no unit can be
followed through it. An operation without a rule whose result has the features of its input bends them: new units.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch

from pellucid.ir.graph import Arg, Node, Ref, Weight, leaves
from pellucid.modules.flow_shapes import (
    inserted,
    joined,
    merge_heads,
    permuted,
    reduced,
    repeat_heads,
    reshaped,
    selected,
    split_heads,
)
from pellucid.modules.linear_maps import Centre, Dense, Scale
from pellucid.modules.unit_flows import Flow, Survey, is_real, new_units, sizes_at

Rule = Callable[[Survey, Node], Flow | None]


def carried(survey: Survey, node: Node) -> Flow | None:
    """The flow of the only value of a node."""
    rule = RULES.get(node.op, _bent)
    return rule(survey, node) if is_real(survey.kind_of(node.id)) else None


# ---- entry by entry


def _aligned(survey: Survey, node: Node) -> list[tuple[Arg, Flow]]:
    """The operands that have a flow, with the flow on the result's axes; those repeated along them fall out."""
    kind, found = survey.kind_of(node.id), list[tuple[Arg, Flow]]()
    for arg in leaves(node):
        flow = survey.flow(arg)
        if flow is None or not isinstance(arg, Ref):
            continue
        moved = len(kind.axes) - len(survey.kind_of(arg.name).axes)
        axes = tuple(axis + moved for axis in flow.axes)
        if sizes_at(kind, axes) == flow.sizes:
            found.append((arg, flow if not moved else flow.along(axes)))
    return found


def _bent(survey: Survey, node: Node) -> Flow | None:
    """New units that read every operand."""
    flows = [flow for _, flow in _aligned(survey, node)]
    flows = [flow for flow in flows if flow.axes == flows[0].axes]
    if not flows or len(node.outputs) != 1:
        return None
    rank = len(survey.kind_of(node.id).axes)
    return new_units(survey, node.id, flows, "channel" if flows[0].axes == (1,) and rank > 2 else "neuron")


def _sum(survey: Survey, node: Node) -> Flow | None:
    """a + b, a - b, where(…, a, b): all that flows into either."""
    found = _aligned(survey, node)
    if not found:
        return None
    signed = [
        flow.then(Scale(-1.0)) if node.op == "sub" and arg is node.args[1] else flow
        for arg, flow in found
        if flow.axes == found[0][1].axes
    ]
    terms = tuple(term for flow in signed for term in flow.terms)
    return Flow(signed[0].axes, signed[0].sizes, terms) if len(signed) > 1 else signed[0]


def _product(survey: Survey, node: Node) -> Flow | None:
    """a * b, a / b: scaled by a weight or a number, bent where both factors flow."""
    found = _aligned(survey, node)
    if len(found) != 1:
        return _bent(survey, node)
    arg, flow = found[0]
    if node.op == "div" and arg is not node.args[0]:
        return _bent(survey, node)
    other = node.args[1] if arg is node.args[0] else node.args[0]
    gain = _gain(survey, node, flow, other)
    if gain is None:
        return flow
    return flow.then(Scale(1 / gain if node.op == "div" else gain))


def _gain(survey: Survey, node: Node, flow: Flow, other: Arg) -> torch.Tensor | float | None:
    """The factor of each entry, where a number or a weight along the features tells it."""
    if isinstance(other, int | float):
        return float(other)
    weight = survey.weight(other)
    if weight is None:
        return None
    if weight.numel() == 1:
        return float(weight)
    axes = tuple(axis - len(survey.kind_of(node.id).axes) + weight.ndim for axis in flow.axes)
    fits = min(axes) >= 0 and tuple(weight.shape[axis] for axis in axes) == flow.sizes
    return weight.float().reshape(-1) if fits and weight.numel() == flow.entries else None


def _first(survey: Survey, node: Node) -> Flow | None:
    """What comes in goes on."""
    flow = survey.flow(node.args[0])
    return flow if flow is not None and sizes_at(survey.kind_of(node.id), flow.axes) == flow.sizes else None


def _negative(survey: Survey, node: Node) -> Flow | None:
    flow = _first(survey, node)
    return None if flow is None else flow.then(Scale(-1.0))


# ---- layers


def _over(survey: Survey, node: Node, weight: torch.Tensor | None, turned: bool) -> Flow | None:
    """A matrix applied to the last axis; where the features lie on other axes it only mixes positions."""
    source = node.args[0]
    flow = survey.flow(source)
    if flow is None or weight is None or weight.ndim != 2 or not isinstance(source, Ref):
        return None
    rank = len(survey.kind_of(source.name).axes)
    if flow.axes == (rank - 1,):
        return flow.then(Dense(weight, turned)).along(flow.axes, (weight.shape[1 if turned else 0],))
    return flow if rank - 1 not in flow.axes else None


def _linear(survey: Survey, node: Node) -> Flow | None:
    return _over(survey, node, survey.weight(node.args[1]), turned=False)


def _affine(survey: Survey, node: Node) -> Flow | None:
    return _over(survey, node, survey.weight(node.args[1]), turned=True)


def _matmul(survey: Survey, node: Node) -> Flow | None:
    if survey.weight(node.args[1]) is not None:
        return _affine(survey, node)
    values = survey.flow(node.args[1])
    rank = len(survey.kind_of(node.id).axes)
    kept = values is not None and rank - 2 not in values.axes and sizes_at(survey.kind_of(node.id), values.axes)
    return values if values is not None and kept == values.sizes else None


def _convolution(survey: Survey, node: Node) -> Flow | None:
    """A kernel counts as its norm over the positions it covers."""
    flow, weight = survey.flow(node.args[0]), survey.weight(node.args[1])
    if flow is None or weight is None or flow.axes != (1,):
        return None
    groups_at = node.args[6] if len(node.args) > 6 else 1
    count = groups_at if isinstance(groups_at, int) else 1
    kernel = weight.float().flatten(2)
    norm = kernel[..., 0] if kernel.shape[2] == 1 else kernel.norm(dim=2)
    matrix = norm if count == 1 else _block_diagonal(norm, count)
    return flow.then(Dense(matrix)).along((1,), (matrix.shape[0],))


def _block_diagonal(matrix: torch.Tensor, count: int) -> torch.Tensor:
    rows, columns = matrix.shape
    made = torch.zeros(rows, columns * count)
    for k, part in enumerate(matrix.chunk(count)):
        made[k * len(part) : (k + 1) * len(part), k * columns : (k + 1) * columns] = part
    return made


def _einsum(survey: Survey, node: Node) -> Flow | None:
    """A weight contracted with all the features of a value; else values whose features all stay."""
    formula, parts = node.args[0], node.args[1]
    if not isinstance(formula, str) or not isinstance(parts, tuple) or "->" not in formula or "." in formula:
        return None
    inputs, made = formula.replace(" ", "").split("->")
    letters = dict(zip(parts, inputs.split(","), strict=True))
    flowing = [part for part in parts if survey.flow(part) is not None]
    weights = [part for part in parts if isinstance(part, Weight)]
    if not flowing or len(parts) != 2:
        return None
    flow = survey.flow(flowing[-1])
    assert flow is not None
    own = "".join(letters[flowing[-1]][axis] for axis in flow.axes)
    if all(letter in made for letter in own):
        return flow.along([made.index(letter) for letter in own])
    new = "".join(letter for letter in made if weights and letter in letters[weights[0]])
    if len(weights) != 1 or set(own) & set(made) or sorted(own + new) != sorted(letters[weights[0]]):
        return None
    weight = survey.graph.weights[weights[0].name]
    turned = weight.permute([letters[weights[0]].index(letter) for letter in new + own])
    sizes = tuple(turned.shape[: len(new)])
    return flow.then(Dense(turned.reshape(math.prod(sizes), -1))).along([made.index(letter) for letter in new], sizes)


# ---- norms


def _layer_norm(survey: Survey, node: Node) -> Flow | None:
    flow = survey.flow(node.args[0])
    if flow is None or flow.axes != (len(survey.kind_of(node.id).axes) - 1,):
        return _bent(survey, node)
    return _scaled(flow.then(Centre()), survey.weight(node.args[2]))


def _rms_norm(survey: Survey, node: Node) -> Flow | None:
    flow = survey.flow(node.args[0])
    return None if flow is None else _scaled(flow, survey.weight(node.args[1]))


def _batch_norm(survey: Survey, node: Node) -> Flow | None:
    flow, variance, eps = survey.flow(node.args[0]), survey.weight(node.args[4]), node.args[5]
    if flow is None or variance is None or not isinstance(eps, float):
        return flow
    spread = (variance.float() + eps).rsqrt()
    weight = survey.weight(node.args[1])
    return _scaled(flow, spread if weight is None else spread * weight.float())


def _group_norm(survey: Survey, node: Node) -> Flow | None:
    flow = survey.flow(node.args[0])
    return None if flow is None else _scaled(flow, survey.weight(node.args[2]))


def _scaled(flow: Flow, gain: torch.Tensor | None) -> Flow:
    fits = gain is not None and gain.numel() == flow.entries
    return flow.then(Scale(gain.float().reshape(-1))) if gain is not None and fits else flow


def _nothing(survey: Survey, node: Node) -> Flow | None:
    return None


def _for(rule: Rule, ops: Sequence[str]) -> dict[str, Rule]:
    return dict.fromkeys(ops, rule)


RULES: Mapping[str, Rule] = {
    **_for(_sum, ("add", "sub", "where")),
    **_for(_product, ("mul", "div")),
    **_for(_first, (
        "cast", "masked_fill", "rotary", "expand", "flip", "pad", "tril", "triu", "max_pool2d", "avg_pool2d",
        "adaptive_avg_pool2d", "aten.max_pool1d.default", "aten.avg_pool1d.default",
        "aten.adaptive_avg_pool1d.default",
    )),
    **_for(reduced, ("mean", "total", "largest", "smallest")),
    **_for(selected, ("select", "slice_axis", "take")),
    **_for(inserted, ("unsqueeze", "squeeze")),
    **_for(permuted, ("transpose", "permute")),
    **_for(reshaped, ("reshape", "flatten", "unflatten")),
    **_for(_convolution, ("conv1d", "conv2d")),
    **_for(_nothing, ("gather", "index", "cumsum", "diff", "argmax", "variance", "repeat", "stack", "full")),
    "neg": _negative,
    "linear": _linear,
    "affine": _affine,
    "matmul": _matmul,
    "einsum": _einsum,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "batch_norm": _batch_norm,
    "group_norm": _group_norm,
    "split_heads": split_heads,
    "merge_heads": merge_heads,
    "repeat_heads": repeat_heads,
    "concat": joined,
}  # fmt: skip
"""Rules by operation; `survey.py` has those for what makes several values, attention, tables and loops."""
