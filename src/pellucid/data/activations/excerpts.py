"""Contexts with what stands around them: tokens, and the unit's activation at each, computed again where needed.

A store keeps the position and activation of a context only. The windows that hold contexts are run once more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int

from pellucid.data.activations.dense import MEMORY, grouped
from pellucid.data.activations.forward import observe
from pellucid.data.activations.store import Context, How, Store
from pellucid.data.corpus import Corpus
from pellucid.ir.program import Program
from pellucid.ir.units import Site, Unit


@dataclass(frozen=True)
class Excerpt:
    """A piece of a window around a context.

    Attributes:
        start: its first token in the window.
        ids: its tokens, and `activations` of the unit at each.
    """

    context: Context
    start: int
    ids: Int[np.ndarray, " length"]
    activations: Float32[np.ndarray, " length"]


def excerpts(
    program: Program,
    corpus: Corpus,
    store: Store,
    units: Sequence[Unit],
    how: How | None = None,
    before: int = 24,
    after: int = 8,
) -> Iterator[tuple[Unit, tuple[Excerpt, ...]]]:
    """The contexts of units with up to so many tokens before and after, site by site.

    Raises:
        BadInput: the store is of another program or corpus, or a unit was not captured.
    """
    store.check(program, corpus)
    chosen: dict[Site, list[int]] = {}
    for unit in units:
        chosen.setdefault(unit.site, []).append(unit.index)
    for group in grouped({site: 4 * len(chosen[site]) * corpus.tokens for site in chosen}, MEMORY):
        contexts = {site: store.all_contexts(site, how) for site in group}
        found = _activations(program, corpus, {site: chosen[site] for site in group}, contexts)
        for site in group:
            for place, index in enumerate(chosen[site]):
                row = {window: values[:, place] for window, values in found[site].items()}
                here = contexts[site].get(index, ())
                yield site[index], tuple(_cut(corpus, c, row[c.window], before, after) for c in here)


def _activations(
    program: Program,
    corpus: Corpus,
    chosen: Mapping[Site, list[int]],
    contexts: Mapping[Site, Mapping[int, tuple[Context, ...]]],
) -> dict[Site, dict[int, Float32[np.ndarray, "context chosen"]]]:
    """The activations of the chosen units of each site in all windows that hold contexts of any of them."""
    windows = np.array(
        sorted({c.window for site, few in chosen.items() for index in few for c in contexts[site].get(index, ())}), int
    )
    found: dict[Site, dict[int, Float32[np.ndarray, "context chosen"]]] = {site: {} for site in chosen}
    if len(windows) == 0:
        return found
    waiting = iter(windows.tolist())
    for ids in corpus.rows(windows).batches(8):
        here = [next(waiting) for _ in range(len(ids))]

        def see(site: Site, batch: Float32[np.ndarray, "windows context units"], here: list[int] = here) -> None:
            found[site].update(zip(here, batch[:, :, chosen[site]], strict=True))

        observe(program, ids, list(chosen), see)
    return found


def _cut(
    corpus: Corpus, context: Context, activations: Float32[np.ndarray, " context"], before: int, after: int
) -> Excerpt:
    start, end = max(0, context.token - before), context.token + after + 1
    return Excerpt(context, start, corpus.ids[context.window, start:end], activations[start:end])
