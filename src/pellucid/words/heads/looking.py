"""Where heads really look and where their rules say they do, a few windows at a time, so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int

from pellucid.data.corpus import Corpus
from pellucid.errors import BadInput
from pellucid.ir.program import Program
from pellucid.words.heads.capture import Captured, drawn
from pellucid.words.heads.opened import Attended, Pattern, from_queries, open_program
from pellucid.words.heads.rule import Heads

WINDOWS = 4
"""Windows that run at the same time."""


@dataclass(frozen=True, eq=False)
class Looks:
    """Where heads look on some windows.

    Attributes:
        start: the number of the first window.
        ids: the windows.
        queries: positions that look.
        real: how much of its weight each head puts on each key from there.
    """

    start: int
    ids: Int[torch.Tensor, "windows context"]
    queries: Int[torch.Tensor, "windows query"]
    real: Pattern


def looks_of(
    program: Program,
    names: Sequence[tuple[str, int]],
    corpus: Corpus,
    queries: Int[np.ndarray, "windows query"],
    together: int = WINDOWS,
) -> Iterator[Looks]:
    """Run a program over a corpus and see where some of its heads look.

    Args:
        names: function and number of each head.
        queries: of each window, the positions that are asked.

    Raises:
        BadInput: the program takes more than ids, or has no such head.
    """
    opened = open_program(program, readout=(0,))
    if unknown := [function for function, _ in names if function not in opened.functions]:
        raise BadInput(f"rules of heads: {unknown[0]} has no attention; use the rules of this program")
    start = 0
    for ids in corpus.batches(together):
        rows = torch.from_numpy(queries[start : start + len(ids)])
        found: dict[str, Pattern] = {}

        def hook(
            function: str, given: Attended, rows: torch.Tensor = rows, found: dict[str, Pattern] = found
        ) -> torch.Tensor:
            pattern = given.pattern()
            found[function] = from_queries(pattern, rows)
            return given.mixed(pattern)

        with torch.no_grad():
            opened.run(ids, hook)
        if lacking := [(name, head) for name, head in names if head >= found[name].shape[1]]:
            raise BadInput(f"rules of heads: {lacking[0][0]} has no head {lacking[0][1]}; use this program's rules")
        real = torch.stack([found[function][:, head] for function, head in names], dim=1)
        yield Looks(start, ids, rows, real)
        start += len(ids)


def telling(looks: Looks, beginning: int | None) -> Bool[torch.Tensor, "windows query key"]:
    """Keys that say something: not later than the query, not the first position, no beginning token.

    Weight on those says that there is nothing to look at; a rule gets them right without knowing where a head looks.
    """
    at = torch.arange(looks.ids.shape[1])
    holds = (at > 0) & (looks.ids != (-1 if beginning is None else beginning))
    return holds[:, None] & (at <= looks.queries[..., None])


def ruled_looks(heads: Heads, corpus: Corpus, queries: int, seed: int) -> Captured:
    """What capturing heads would give that look where rules say; without means of tokens."""
    rows = drawn(corpus, queries, seed)
    parts = []
    with torch.no_grad():
        for start in range(0, len(corpus), WINDOWS):
            span = slice(start, start + WINDOWS)
            ids = torch.from_numpy(corpus.ids[span].astype(np.int64))
            parts.append(heads.pattern(ids, None, torch.from_numpy(rows[span])).half().numpy())
    pattern = np.concatenate(parts)
    patterns = {name: pattern[:, list(index)] for name, index in heads.by_function.items()}
    return Captured(corpus.ids, rows, patterns, {})
