"""How well rules say where heads look, and what must do worse.

Divergence and agreement of patterns per head; cross-entropy of the whole network is in `ruled`. Controls: the rules of
a layer dealt to its other heads, every key alike, and rules that lack a term.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from pellucid.errors import BadInput
from pellucid.words.heads.capture import Captured
from pellucid.words.heads.fitting import divergence
from pellucid.words.heads.rule import TERMS, Heads, table_shapes, term_masks

WINDOWS = 8


@dataclass(frozen=True, eq=False)
class Agreement:
    """Of each head, over the queries that were captured.

    Attributes:
        divergence: mean KL(real ‖ rule) in nats.
        top: share of queries whose key with most weight is the same.
        queries: how many.
    """

    divergence: Float[np.ndarray, " heads"]
    top: Float[np.ndarray, " heads"]
    queries: int


def agreement(heads: Heads, captured: Captured) -> Agreement:
    """Rules beside real patterns. Raises BadInput where they are not of the same heads in the same order."""
    if heads.names != captured.names:
        raise BadInput("rules of heads: they are of other heads than the patterns; capture the network they belong to")
    ids, queries = torch.from_numpy(captured.ids.astype(np.int64)), torch.from_numpy(captured.queries)
    away, same = torch.zeros(len(heads.names), dtype=torch.float64), torch.zeros(len(heads.names), dtype=torch.float64)
    for start in range(0, len(ids), WINDOWS):
        chosen = np.arange(start, min(start + WINDOWS, len(ids)))
        real = captured.pattern(chosen)
        with torch.no_grad():
            found = heads.pattern(ids[chosen], None, queries[chosen])
        away += divergence(real, found).double().sum((0, 2))
        same += (real.argmax(-1) == found.argmax(-1)).double().sum((0, 2))
    count = queries.numel()
    return Agreement(away.numpy() / count, same.numpy() / count, count)


def dealt_elsewhere(heads: Heads) -> Heads:
    """The control: in every function each head gets the rule of the next one, the last that of the first."""
    source = np.arange(len(heads.names))
    for index in heads.by_function.values():
        source[list(index)] = np.roll(index, -1)
    moved = heads.some(source.tolist())
    return Heads(heads.names, heads.grammar, moved.clusters, moved.tables, heads.rests)


def uniform(heads: Heads) -> Heads:
    """The control that looks at every key alike."""
    shapes = table_shapes(heads.grammar).items()
    return heads.with_tables({name: torch.zeros(len(heads.names), *shape) for name, shape in shapes})


def without(heads: Heads, terms: Sequence[str]) -> Heads:
    """The same rules with some terms at 0.

    Raises:
        BadInput: there is no such term.
    """
    if unknown := [term for term in terms if term not in TERMS]:
        raise BadInput(f"rules of heads have no term {unknown[0]!r}; there are {', '.join(TERMS)}")
    masks = term_masks(heads.grammar, [term for term in TERMS if term not in terms])
    return heads.with_tables({name: table * masks[name] for name, table in heads.tables.items()})
