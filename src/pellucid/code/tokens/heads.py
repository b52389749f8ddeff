"""What the attention heads of a function do when it runs: scores of keys for queries, and the values that they move.

Every node `attention` of the function, and of those that it calls, is a bundle of heads. The function runs exactly;
what the node is given is kept, and scores are worked out from it as the node does.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Shaped

from pellucid.code.propose import Part
from pellucid.ir.graph import Arg, Node, Ref, Weight, calls_made
from pellucid.ir.interpret import Scope, Values, run_block

Tensor = Shaped[torch.Tensor, "..."]

_PARAMETERS = ("q", "k", "v", "mask", "causal", "scale")


@dataclass(frozen=True, eq=False)
class HeadRun:
    """One head on some inputs.

    Attributes:
        scores: before softmax, in float64; -inf where a query may not look.
        values: what each key would give.
    """

    scores: Float[torch.Tensor, "batch query key"]
    values: Float[torch.Tensor, "batch key feature"]


def run_heads(part: Part, inputs: Values) -> tuple[tuple[HeadRun, ...], tuple[Tensor, ...]]:
    """All heads in the order in which they run, and the function's outputs."""
    seen: dict[str, list[Any]] = defaultdict(list)
    bundles: list[tuple[Any, ...]] = []

    def call(name: str, values: Values) -> Values:
        block = part.program[name].reading("weights").body
        seen.update({value: [*seen[value], given] for value, given in zip(block.inputs, values, strict=True)})
        nodes = {node.id: node for node in block.nodes if node.op == "attention"}

        def watch(value: str, made: Any) -> None:
            seen[value].append(made)
            if value in nodes:
                bundles.append(_given(nodes[value], seen, part))

        return run_block(block, values, Scope(part.program.weights, call, watch))

    with torch.no_grad():
        outputs = tuple(call(part.function.name, inputs))
    return tuple(head for bundle in bundles for head in _heads(*bundle)), outputs


def count_bundles(part: Part) -> int:
    """How many nodes `attention` run in the function and in all that it calls."""

    def below(name: str) -> Iterator[Node]:
        block = part.program[name].reading("weights").body
        yield from (node for node in block.nodes if node.op == "attention")
        for callee in calls_made(block):
            yield from below(callee)

    return sum(1 for _ in below(part.function.name))


def _given(node: Node, seen: dict[str, list[Any]], part: Part) -> tuple[Any, ...]:
    """The arguments of an attention node, in the order of its parameters."""

    def resolve(arg: Arg) -> Any:
        if isinstance(arg, Ref):
            return seen[arg.name][-1]
        return part.program.weights[arg.name] if isinstance(arg, Weight) else arg

    given = {name: resolve(arg) for name, arg in zip(_PARAMETERS, node.args, strict=False)}
    given |= {name: resolve(arg) for name, arg in node.kwargs}
    defaults = {"mask": None, "causal": False, "scale": None}
    return tuple({**defaults, **given}[name] for name in _PARAMETERS)


def _heads(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float | None) -> list[HeadRun]:
    """The heads of one attention, where queries and keys are [batch, head, position, feature] and as many."""
    if q.ndim != 4 or q.shape[1] != k.shape[1]:
        return []
    factor = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = q.double() @ k.double().transpose(-1, -2) * factor
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask.double()
    if causal:
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        scores = scores.masked_fill(~allowed, -math.inf)
    return [HeadRun(scores[:, i], v[:, i].double()) for i in range(q.shape[1])]
