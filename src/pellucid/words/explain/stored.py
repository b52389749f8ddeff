"""Evidence of units from a store of activations (`pellucid.data.activations`), captured on the *describe* split.

The bands are a unit's highest contexts, and the upper and the lower half of its strata; silent contexts are random ones
without any activation. What stands around them is run once more (`excerpts`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pellucid.data.activations.excerpts import Excerpt, excerpts
from pellucid.data.activations.store import Store
from pellucid.data.corpus import Corpus
from pellucid.errors import BadInput
from pellucid.ir.program import Program
from pellucid.ir.units import Unit
from pellucid.words.explain.evidence import AFTER, BANDS, BEFORE, Context, UnitEvidence


def stored_evidence(
    program: Program, corpus: Corpus, store: Store, units: Sequence[Unit], *, each: int = 3, silent: int = 2
) -> Iterator[UnitEvidence]:
    """What a store knows of units, site by site; program and corpus are those that it was captured from.

    Raises:
        BadInput: the store is of another program or corpus, a unit was not captured, or it is never active.
    """
    for unit, found in excerpts(program, corpus, store, units, before=BEFORE, after=AFTER):
        share = float(store.moments(unit.site).active[unit.index])
        yield _evidence(str(unit), corpus, found, share, each, silent)


def _evidence(
    name: str, corpus: Corpus, found: Sequence[Excerpt], share: float, each: int, silent: int
) -> UnitEvidence:
    kinds = {how: [one for one in found if one.context.how == how] for how in ("top", "quantile", "random")}
    top = kinds["top"][:each]
    highest = top[0].context.activation if top else 0.0
    if highest <= 0:
        raise BadInput(f"{name}: never active on this text; give more text, or leave the unit out")
    shown = {(one.context.window, one.context.token) for one in top}
    others = [one for one in reversed(kinds["quantile"]) if (one.context.window, one.context.token) not in shown]
    half = max((one.context.stratum for one in others), default=0) / 2
    chosen = (
        top,
        _spread([one for one in others if one.context.stratum > half], each),
        _spread([one for one in others if one.context.stratum <= half], each),
    )
    quiet = [one for one in kinds["random"] if one.activations.max() <= 0][:silent]
    return UnitEvidence(
        name,
        tuple(
            (band, tuple(_context(corpus, one, highest) for one in some))
            for band, some in zip(BANDS, chosen, strict=True)
            if some
        ),
        tuple(_context(corpus, one, highest) for one in quiet),
        share,
    )


def _spread(found: Sequence[Excerpt], count: int) -> list[Excerpt]:
    """Some of them, evenly from first to last."""
    if len(found) <= count:
        return list(found)
    return [found[i] for i in np.linspace(0, len(found) - 1, count).round().astype(int)]


def _context(corpus: Corpus, excerpt: Excerpt, highest: float) -> Context:
    """The excerpt without position 0, strengths in tenths of the unit's highest activation."""
    first = 1 if excerpt.start == 0 else 0
    tenths = np.ceil(np.clip(excerpt.activations[first:], 0.0, None) * (10 / highest)).astype(int)
    pieces = tuple(corpus.pieces[i] for i in excerpt.ids[first:].tolist())
    return Context(pieces, tuple(np.minimum(tenths, 10).tolist()))
