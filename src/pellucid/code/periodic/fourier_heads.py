"""Heads that choose by waves: which positions a head takes, as a score that is linear in the waves of each."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float, Shaped

from pellucid.code.periodic.fourier_draft import Draft, closed_scope, fitted
from pellucid.ir.graph import Node, Ref
from pellucid.ir.interpret import Scope, run_block, run_node

Tensor = Shaped[torch.Tensor, "..."]

SMALLEST = 1e-6
"""Attention below this counts as this."""


def attended(draft: Draft, waves: Ref) -> tuple[Ref, list[int]] | None:
    """How much each head takes of each position: softmax over positions of a score that is linear in its waves; and
    for each head the wave that decides most.

    The scores are fitted to the logarithms of how the exact part spreads its attention at the last position.
    """
    pattern = _pattern(draft)
    if pattern is None:
        return None
    logs = np.log(np.maximum(pattern, SMALLEST))
    logs = logs - logs.mean(axis=1, keepdims=True)
    known = draft.values(waves)[0].double().numpy()
    moved = known - known.mean(axis=1, keepdims=True)
    (scores,), _ = fitted([moved], logs)
    scoring, rounded = draft.directions("scores", scores)
    bias = (logs - known @ rounded).mean(axis=0)
    write = draft.writer.node
    score = write("add", write("matmul", waves, scoring), draft.weight("bias", bias), name="score")
    weights = write("softmax", score, 1, name="weights")
    parts = (moved.std(axis=(0, 1))[:, None] * rounded).reshape(2, -1, rounded.shape[1])
    return weights, [int(place) for place in (parts**2).sum(axis=0).argmax(axis=0)]


def _pattern(draft: Draft) -> Float[np.ndarray, "pairs positions heads"] | None:
    """How the only attention of the exact part is spread at the last position."""
    body = draft.function.reading("weights").body
    choosing = [node for node in body.nodes if node.op in ("softmax", "attention")]
    if len(choosing) != 1:
        return None
    kept: dict[str, Tensor] = {}
    weights = draft.grid.program.weights
    scope = Scope(weights, closed_scope({}).call, lambda name, value: kept.update({name: value}))
    given = draft.grid.parts[draft.function.name][0]
    run_block(body, [given], scope)
    pattern = kept[choosing[0].id] if choosing[0].op == "softmax" else _spread(choosing[0], kept, scope)
    pattern = pattern.unsqueeze(1) if pattern.ndim == 3 else pattern
    if pattern.ndim != 4 or pattern.shape[-1] != given.shape[1]:
        return None
    return np.asarray(pattern[:, :, -1].double().numpy().transpose(0, 2, 1))


def _spread(node: Node, kept: Mapping[str, Tensor], scope: Scope) -> Tensor:
    """What an attention gives when it moves the positions themselves."""
    keys = node.args[1]
    assert isinstance(keys, Ref)
    length = kept[keys.name].shape[-2]
    places = torch.eye(length).expand(*kept[keys.name].shape[:-2], length, length)
    moved = node.with_changes(args=(*node.args[:2], Ref("places"), *node.args[3:]))
    (pattern,) = run_node(moved, {**kept, "places": places}, scope)
    return torch.as_tensor(pattern)
