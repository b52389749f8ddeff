"""Evidence: what a description is made from, as plain data.

For a unit: contexts of the *describe* split in quantiles of activation, with activations as whole numbers from 0 to 10
(Bills et al. 2023; quantiles as in delphi), silent contexts, the strongest units that feed it, the tokens that it makes
more and less likely, and the rule of an attention head. For a module: its members with their descriptions, code and
interfaces. For an interface: who writes it, who reads it, and the contexts of its units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from pellucid.errors import BadInput

BANDS = ("strongest", "middle", "weak")
BEFORE, AFTER = 11, 4
"""Tokens shown before and after the one that a context is about."""


@dataclass(frozen=True)
class Context:
    """A stretch of text: its tokens, and the unit's strength on each, 0 to 10."""

    pieces: tuple[str, ...]
    strengths: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.pieces) != len(self.strengths):
            raise BadInput(
                f"context: {len(self.pieces)} tokens with {len(self.strengths)} strengths; give one for each token"
            )


@dataclass(frozen=True)
class UnitEvidence:
    """What is known of a unit.

    Attributes:
        name: of the unit.
        bands: names of quantiles, strongest first, with contexts in which the unit is active.
        silent: contexts in which it is not.
        share: of tokens on which it is active.
        incoming: names (or descriptions) of the units that feed it most, with their weights.
        promotes: tokens that it makes more likely.
        suppresses: tokens that it makes less likely.
        rule: of an attention head, one sentence.
    """

    name: str
    bands: tuple[tuple[str, tuple[Context, ...]], ...]
    silent: tuple[Context, ...] = ()
    share: float = math.nan
    incoming: tuple[tuple[str, float], ...] = ()
    promotes: tuple[str, ...] = ()
    suppresses: tuple[str, ...] = ()
    rule: str | None = None


@dataclass(frozen=True)
class InterfaceEvidence:
    """What is known of an interface: the values that one part hands to others.

    Attributes:
        name: of the interface.
        writers: names of the parts that write it, with descriptions.
        readers: names of the parts that read it, with descriptions.
        width: how many values it has for each token.
        contexts: contexts in which it is used most.
    """

    name: str
    writers: tuple[tuple[str, str], ...]
    readers: tuple[tuple[str, str], ...]
    width: int
    contexts: tuple[Context, ...] = ()


@dataclass(frozen=True)
class ModuleEvidence:
    """What is known of a module.

    Attributes:
        name: of the module.
        members: names of its parts with their descriptions, the most important first.
        code: its code, where it has a reading as code.
        reads: the interfaces that it reads, name and description.
        writes: the interfaces that it writes, name and description.
    """

    name: str
    members: tuple[tuple[str, str], ...]
    code: str | None = None
    reads: tuple[tuple[str, str], ...] = ()
    writes: tuple[tuple[str, str], ...] = ()


Evidence = UnitEvidence | ModuleEvidence | InterfaceEvidence


def fired(
    activations: Float[np.ndarray, "windows context"], share: float = 0.05
) -> Float[np.ndarray, "windows context"]:
    """How far a unit is above its resting level: what it is, where it is never negative and mostly zero.

    Any other unit (a raw neuron, with both signs) counts as active on the `share` of tokens at the longer of its two
    ends, by what it is beyond that quantile.
    """
    if activations.min() >= 0 and (activations == 0).mean() >= 0.5:
        return activations
    centred = activations - activations.mean()
    turned = centred if (centred**3).sum() >= 0 else -centred
    above: Float[np.ndarray, "windows context"] = np.maximum(turned - np.quantile(turned, 1 - share), 0.0)
    return above.astype(np.float32)


def unit_evidence(
    name: str,
    ids: Int[np.ndarray, "windows context"],
    pieces: Sequence[str],
    activations: Float[np.ndarray, "rows tokens"],
    *,
    each: int = 3,
    silent: int = 2,
    seed: int = 0,
) -> UnitEvidence:
    """The contexts of a unit, from its activations on the *describe* split; position 0 is left out.

    Raises:
        BadInput: ids and activations have different shapes, an activation is not finite, or the unit is never active.
    """
    if ids.shape != activations.shape:
        raise BadInput(
            f"{name}: activations {list(activations.shape)} for ids {list(ids.shape)}; capture them together"
        )
    if not np.isfinite(activations).all():
        raise BadInput(f"{name}: activations that are not finite; look at the network for overflow")
    strong = np.array(activations, dtype=np.float64)
    strong[:, 0] = 0.0
    top = strong.max()
    if top <= 0:
        raise BadInput(f"{name}: never active on this text; give more text, or leave the unit out")
    random = np.random.default_rng(seed)
    tenths = np.ceil(np.clip(strong, 0.0, None) * (10 / top)).astype(int)
    bands = tuple(
        (band, tuple(context_at(ids, pieces, tenths, *place) for place in chosen))
        for band, chosen in zip(BANDS, _banded(strong, len(BANDS), each, random), strict=True)
        if chosen
    )
    quiet = np.flatnonzero(strong.max(axis=1) <= 0)
    if len(quiet) == 0:
        places = [(int(w), int(t)) for w, t in zip(*np.nonzero(_calm(strong)), strict=True)]
    else:
        places = [(int(w), int(t)) for w in quiet for t in range(BEFORE + 1, max(BEFORE + 2, ids.shape[1] - AFTER), 16)]
    picked = [places[i] for i in sorted(random.permutation(len(places))[:silent])]
    shown = tuple(context_at(ids, pieces, tenths, *place) for place in picked)
    return UnitEvidence(name, bands, shown, float((strong[:, 1:] > 0).mean()))


def context_at(
    ids: Int[np.ndarray, "windows context"],
    pieces: Sequence[str],
    tenths: Int[np.ndarray, "windows context"],
    window: int,
    position: int,
) -> Context:
    """The stretch of a window around a position, without position 0."""
    start, stop = max(1, position - BEFORE), min(ids.shape[1], position + AFTER + 1)
    return Context(
        tuple(pieces[i] for i in ids[window, start:stop].tolist()), tuple(tenths[window, start:stop].tolist())
    )


def _calm(strong: Float[np.ndarray, "windows context"]) -> np.ndarray:
    """Where a context lies in which nothing is active."""
    active = np.cumsum(strong > 0, axis=1)
    calm = np.zeros(strong.shape, dtype=bool)
    for position in range(BEFORE + 1, strong.shape[1] - AFTER, 8):
        calm[:, position] = active[:, position + AFTER] == active[:, position - BEFORE - 1]
    return calm


def _banded(
    strong: Float[np.ndarray, "windows context"], bands: int, each: int, random: np.random.Generator
) -> list[list[tuple[int, int]]]:
    """Places of activity for each band of quantiles, strongest first: the peak of each window, each window once."""
    peaks = strong.argmax(axis=1)
    heights = strong[np.arange(len(strong)), peaks]
    order = np.argsort(-heights, kind="stable")
    order = order[heights[order] > 0]
    chosen: list[list[tuple[int, int]]] = []
    for band in np.array_split(order, bands):
        some = band[:each] if not chosen else band[np.sort(random.permutation(len(band))[:each])]
        chosen.append([(int(w), int(peaks[w])) for w in some])
    return chosen
