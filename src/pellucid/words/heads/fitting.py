"""Fitting rules to what heads really do: all heads of a function at once.

The tables start at 0 and follow the gradient of the divergence KL(real ‖ rule) on queries of the *fit* part, by Adam
with a rate that falls to 0 along a cosine; a small pull to 0 keeps entries that nothing speaks for at 0. The order of
windows is seeded, so that the same corpus gives the same rules.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int

from pellucid.fanout import HERE, Fan
from pellucid.words.heads.capture import Captured
from pellucid.words.heads.clusters import deal_tokens
from pellucid.words.heads.rule import TERMS, Heads, Tables, table_shapes, term_masks
from pellucid.words.heads.scene import Grammar

RESTING = 0.05
"""A head rests at beginnings when so much of its weight lies there, twice what would if it looked at all keys alike."""


@dataclass(frozen=True)
class Course:
    """How tables follow a gradient.

    Attributes:
        steps: how many.
        windows: in each step.
        rate: of Adam, at the start.
        pull: to 0, per unit of squared size of an entry.
        seed: of the order of windows.
    """

    steps: int = 300
    windows: int = 6
    rate: float = 0.1
    pull: float = 1e-5
    seed: int = 0

    def batches(self, count: int) -> Iterator[Int[np.ndarray, " windows"]]:
        """The windows of each step: all once, in a new order each time round."""
        rng = np.random.default_rng(self.seed)
        waiting = np.zeros(0, dtype=np.int64)
        for _ in range(self.steps):
            while len(waiting) < self.windows:
                waiting = np.concatenate([waiting, rng.permutation(count)])
            yield np.sort(waiting[: self.windows])
            waiting = waiting[self.windows :]

    def rate_at(self, step: int) -> float:
        """The rate of a step: up over the first twentieth, then down along a cosine."""
        warm = min(1.0, (step + 1) / max(1, self.steps // 20))
        return self.rate * warm * 0.5 * (1 + math.cos(math.pi * step / self.steps))


FITTING = Course()


def fit_heads(
    captured: Captured,
    grammar: Grammar,
    course: Course = FITTING,
    terms: Sequence[str] = tuple(TERMS),
    fan: Fan = HERE,
) -> Heads:
    """Rules for all heads that were captured, made of the given terms; the heads of a function are fitted together.

    Args:
        fan: what functions are fitted on.
    """
    parts = fan(_fitted, (grammar, course, tuple(terms)), (captured.of(function) for function in captured.patterns))
    return Heads.of([rule for part in parts for rule in part.rules()])


def _fitted(shared: tuple[Grammar, Course, tuple[str, ...]], captured: Captured) -> Heads:
    grammar, course, terms = shared
    return continue_fit(blank_heads(captured, grammar), captured, course, terms)


def continue_fit(heads: Heads, captured: Captured, course: Course, terms: Sequence[str] = tuple(TERMS)) -> Heads:
    """Rules fitted on from where they stand; entries outside the terms become 0."""
    ids, queries = torch.from_numpy(captured.ids.astype(np.int64)), torch.from_numpy(captured.queries)

    def loss(tables: Tables, chosen: np.ndarray) -> Float[torch.Tensor, ""]:
        found = heads.pattern(ids[chosen], tables, queries[chosen])
        return divergence(captured.pattern(chosen), found).mean((0, 2)).sum()

    return descend(heads, loss, len(ids), course, terms)


Loss: TypeAlias = Callable[[Tables, Int[np.ndarray, " windows"]], Float[torch.Tensor, ""]]
"""From tables and the windows of a step to what is to become less."""


def descend(heads: Heads, loss: Loss, windows: int, course: Course, terms: Sequence[str]) -> Heads:
    """The same heads with tables at the end of a course down a loss; entries outside the terms stay 0."""
    masks = term_masks(heads.grammar, terms)
    tables = {name: table.clone().requires_grad_() for name, table in heads.tables.items()}
    optimizer = torch.optim.Adam(tables.values(), lr=course.rate, betas=(0.9, 0.99))
    for step, chosen in enumerate(course.batches(windows)):
        for group in optimizer.param_groups:
            group["lr"] = course.rate_at(step)
        masked = {name: table * masks[name] for name, table in tables.items()}
        size = torch.stack([table.pow(2).sum() for table in masked.values()]).sum()
        optimizer.zero_grad()
        torch.autograd.backward(loss(masked, chosen) + course.pull * size)
        optimizer.step()
    return heads.with_tables({name: (table * masks[name]).detach() for name, table in tables.items()})


def blank_heads(captured: Captured, grammar: Grammar) -> Heads:
    """Heads with their clusters dealt and all tables 0."""
    names = captured.names
    clusters = np.stack(
        [
            np.stack(
                [deal_tokens(seen, head, grammar.clusters, grammar.vocabulary) for seen in captured.dealt[function]]
            )
            for function, head in names
        ]
    )
    tables: Tables = {name: torch.zeros(len(names), *shape) for name, shape in table_shapes(grammar).items()}
    return Heads(names, grammar, torch.from_numpy(clusters), tables, _resting(captured, grammar))


def _resting(captured: Captured, grammar: Grammar) -> tuple[bool, ...]:
    """Whether each head rests at beginning tokens."""
    begins = (captured.ids == (-1 if grammar.beginning is None else grammar.beginning)).astype(np.float32)
    alike = np.take_along_axis(begins.cumsum(1), captured.queries, 1) / (captured.queries + 1)
    least = max(RESTING, 2 * float(alike.mean()))
    return tuple(
        bool(share >= least)
        for seen in captured.patterns.values()
        for share in np.einsum("whqk,wk->h", seen.astype(np.float32), begins) / captured.queries.size
    )


def divergence(
    real: Float[torch.Tensor, "windows heads query key"], found: Float[torch.Tensor, "windows heads query key"]
) -> Float[torch.Tensor, "windows heads query"]:
    """KL(real ‖ found) of each row in nats."""
    return (torch.xlogy(real, real) - real * found.clamp(min=1e-20).log()).sum(-1)
