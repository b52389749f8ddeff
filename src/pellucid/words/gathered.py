"""From labels to records of units: scores on *verify*, contexts on *describe*, links to other units from the weights.

Top contexts are the highest places of the windows in which a unit is highest, one a window; random ones are drawn from
all places. The first position of a window is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int

from pellucid.data.activations.forward import observe
from pellucid.data.corpus import Corpus, CorpusParts
from pellucid.errors import BadInput
from pellucid.ir.program import Program
from pellucid.ir.units import Site, parse_site
from pellucid.words.described import DescribedUnit, How, LabelKind, Stretch
from pellucid.words.labels.activations import Activations, activations_of_entries
from pellucid.words.labels.agreement import Agreement, agreement
from pellucid.words.labels.labelset import LabelSet
from pellucid.words.labels.slots import Given
from pellucid.words.links import Links, links_of

TOP, RANDOM = 8, 3
BEFORE, AFTER = 24, 8
"""Tokens that are shown around a place."""


def describe_units(program: Program, labels: Sequence[LabelSet], parts: CorpusParts) -> Iterator[DescribedUnit]:
    """The units of labelled sites with labels, scores, contexts and links, site by site.

    Args:
        labels: of sites of the program, `LabelSet.site` is the name of one; those that cite know their sources.
        parts: contexts are taken from *describe*, scores from *verify*.

    Raises:
        BadInput: a site is not in the program, or has another number of units than labels.
    """
    links, sites = links_of(program), {found.site: parse_site(program, found.site) for found in labels}
    held, shown = (acts_of_sites(program, [*sites.values()], part) for part in (parts.verify, parts.describe))
    for found in labels:
        site = sites[found.site]
        scores = _scores(found, parts.verify, held[site])
        yield from site_units(site, found, scores, parts.describe, shown[site], links=links.get(site))


def site_units(
    site: Site,
    labels: LabelSet,
    scores: Agreement,
    corpus: Corpus,
    acts: Activations,
    *,
    given: Given | None = None,
    links: Links | None = None,
    kind: LabelKind = "tree",
    top: int = TOP,
    random: int = RANDOM,
    seed: int = 0,
) -> tuple[DescribedUnit, ...]:
    """The records of the units of one site.

    Args:
        scores: of the labels, on other windows.
        corpus: windows to take contexts from, and `acts` what the units do on them.
        given: what labels cite that the text does not tell, see `slots.Given`.
        top: contexts in which a unit is highest; `random` such that are drawn with `seed`.

    Raises:
        BadInput: labels or scores are not one for each unit.
    """
    if not len(labels) == len(scores.own) == site.units:
        raise BadInput(
            f"units of {site}: {site.units}, but {len(labels)} labels and {len(scores.own)} scores; give one for each"
        )
    said = labels.predict(corpus.ids, given)
    generator = np.random.default_rng(seed)
    units = []
    for index, label in enumerate(labels.labels):
        strong = acts.of(index).reshape(corpus.ids.shape)
        strong[:, 0] = 0.0
        places: list[tuple[How, int, int]] = [("top", *place) for place in _top(strong, top)]
        places += [("random", *place) for place in _random(strong, random, generator)]
        contexts = tuple(_stretch(how, w, t, corpus, strong, said[index]) for how, w, t in places)
        units.append(
            DescribedUnit(
                str(site[index]), str(label), kind, float(scores.own[index]), float(scores.shuffled[index]),
                float((strong[:, 1:] != 0).mean()), contexts,
                links.incoming[index] if links else (), links.outgoing[index] if links else (),
            )
        )  # fmt: skip
    return tuple(units)


def _scores(labels: LabelSet, held: Corpus, acts: Activations) -> Agreement:
    """How labels agree with units; unknown where no unit acts or no label looks at anything."""
    if len(acts.values) == 0 or not labels.slots:
        unknown = np.full(len(labels), np.nan)
        return Agreement(unknown, unknown)
    return agreement(labels, held.ids, acts)


def acts_of(program: Program, site: Site, corpus: Corpus, together: int = 8) -> Activations:
    """What the units of a site do on a corpus, kept where it is not zero; nothing at the first place of a window.

    Raises:
        BadInput: the program does not take such ids, or the site has no value at every position.
    """
    return acts_of_sites(program, [site], corpus, together)[site]


def acts_of_sites(
    program: Program, sites: Sequence[Site], corpus: Corpus, together: int = 8
) -> dict[Site, Activations]:
    """The same for several sites in one pass over the corpus. Raises BadInput."""
    if not sites:
        return {}
    context, before = corpus.ids.shape[1], 0
    entries: dict[Site, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {site: [] for site in sites}

    def see(site: Site, seen: Float[np.ndarray, "windows context units"]) -> None:
        batch = seen.reshape(-1, site.units).copy()
        batch[::context] = 0.0
        at, unit = np.nonzero(batch)
        entries[site].append((at + before, unit, batch[at, unit]))

    for ids in corpus.batches(together):
        observe(program, ids, sites, see)
        before += ids.numel()
    found = {}
    for site, batches in entries.items():
        places, units, values = (np.concatenate(some) for some in zip(*batches, strict=True))
        found[site] = activations_of_entries(places, units, values, corpus.tokens, site.units)
    return found


def _top(strong: Float[np.ndarray, "windows context"], count: int) -> list[tuple[int, int]]:
    peaks = strong.argmax(axis=1)
    heights = strong[np.arange(len(strong)), peaks]
    order = np.argsort(-heights, kind="stable")[:count]
    return [(int(window), int(peaks[window])) for window in order if heights[window] > 0]


def _random(
    strong: Float[np.ndarray, "windows context"], count: int, generator: np.random.Generator
) -> list[tuple[int, int]]:
    windows, own = len(strong), strong.shape[1] - 1
    drawn: Int[np.ndarray, " count"] = generator.choice(windows * own, min(count, windows * own), replace=False)
    return [(int(at // own), int(at % own) + 1) for at in drawn]


def _stretch(
    how: How,
    window: int,
    token: int,
    corpus: Corpus,
    strong: Float[np.ndarray, "windows context"],
    said: Float[np.ndarray, "windows context"],
) -> Stretch:
    start, stop = max(1, token - BEFORE), min(corpus.ids.shape[1], token + AFTER + 1)
    pieces = tuple(corpus.pieces[i] for i in corpus.ids[window, start:stop].tolist())
    here = slice(start, stop)
    return Stretch(how, window, start, pieces, tuple(strong[window, here].tolist()), tuple(said[window, here].tolist()))
