"""Names of modules: one to three words that pick out the places where this module is active, and no other.

A name is a claim that can be run: that a slot shows one of some tokens ("little, small, tiny": the token is of that
cluster; "previous: said, asked": the token before is). Candidates come from the rules of a module's description. The
balanced accuracy of a candidate at telling the module's active positions from others, each active one by how much the
module writes there, is taken for every module of the same level; one that fits another nearly as well is taken back,
and the next best is tried. No two modules of a function get the same name; one with no candidate left stays unnamed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pellucid.words.hierarchy.composed import plain
from pellucid.words.labels.labelset import LabelSet
from pellucid.words.labels.language import Condition, Label
from pellucid.words.labels.lexicon import Lexicon
from pellucid.words.labels.places import Ids
from pellucid.words.labels.slots import SLOTS, read_slots

FITS = 0.6
"""Balanced accuracy from which on a name fits."""

EQUALLY = 0.8
"""A name is taken back when another module has this much of what it has above chance."""

OWN_SLOTS = ("current", "word")
"""Slots whose words are said without the name of the slot."""

EXAMPLES = "like "
"""What the names of clusters of the embedding begin with."""

WORDS = 3


@dataclass(frozen=True)
class Candidate:
    """A name and what it claims: that a slot shows one of `codes`."""

    text: str
    slot: str
    codes: tuple[int, ...]


@dataclass(frozen=True)
class Named:
    """The name of a module.

    Attributes:
        candidate: the name; None when none fits this module alone.
        taken_back: names that fit it, and others as well.
    """

    candidate: Candidate | None
    taken_back: tuple[str, ...]


def candidates(label: Label) -> tuple[Candidate, ...]:
    """What a module may be called, from the conditions of the rules of its description under which it writes more."""
    resting, found = label.rules[-1].value, dict[Candidate, None]()
    for rule in sorted(label.rules[:-1], key=lambda rule: -rule.value):
        for condition in rule.conditions if rule.value > resting else ():
            if condition.within and condition.slot in SLOTS and SLOTS[condition.slot].kind == "token":
                found |= dict.fromkeys(_of_condition(condition, label.lexicon))
    return tuple(found)


def _of_condition(condition: Condition, lexicon: Lexicon) -> list[Candidate]:
    made = []
    every = tuple(condition.members(lexicon).tolist())
    if len(condition.clusters) > 1:
        firsts = [_words(name)[0] for name in condition.clusters]
        made.append(Candidate(_said(condition.slot, firsts), condition.slot, every))
    for name in condition.clusters:
        made.append(Candidate(_said(condition.slot, _words(name)), condition.slot, lexicon.clusters[name]))
    if condition.codes:
        tokens = [plain(lexicon.pieces[code]) for code in condition.codes if code != lexicon.nothing]
        made.append(Candidate(_said(condition.slot, tokens), condition.slot, every))
    return [one for one in made if one.text]


def _words(cluster: str) -> list[str]:
    """The words that a cluster is named by; the name of one that is told by its form is one word."""
    if cluster.startswith(EXAMPLES):
        return [plain(word) for word in cluster.removeprefix(EXAMPLES).split(", ") if plain(word)] or [cluster]
    return [cluster]


def _said(slot: str, words: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(word for word in words if word))[:WORDS]
    if not distinct:
        return ""
    return ", ".join(distinct) if slot in OWN_SLOTS else f"{slot}: {', '.join(distinct)}"


def named_modules(
    labels: LabelSet, ids: Ids, active: Float[np.ndarray, "modules positions"], used: Collection[str] = ()
) -> tuple[Named, ...]:
    """A name for each module of a level, or none; one that fits better is given first.

    Args:
        labels: the descriptions of the modules.
        ids: windows of token ids; positions are the windows laid end to end.
        active: how much each module is above its resting level (`detection.strong`).
        used: names that are not to be given.
    """
    own = [candidates(label) for label in labels.labels]
    every = list(dict.fromkeys(one for some in own for one in some))
    place = {one: i for i, one in enumerate(every)}
    fit = fits(every, labels.lexicon, ids, active)
    tried = sorted(
        ((module, one) for module, some in enumerate(own) for one in some),
        key=lambda pair: (-round(float(fit[place[pair[1]], pair[0]]), 9), pair[0], place[pair[1]]),
    )
    given: dict[int, Candidate] = {}
    taken, back = set(used), dict[int, list[str]]()
    for module, one in tried:
        if module in given or fit[place[one], module] < FITS:
            continue
        if one.text in taken or not alone(fit[place[one]], module):
            back.setdefault(module, []).append(one.text)
            continue
        given[module] = one
        taken.add(one.text)
    return tuple(Named(given.get(module), tuple(dict.fromkeys(back.get(module, [])))) for module in range(len(labels)))


def alone(fit: Float[np.ndarray, " modules"], module: int) -> bool:
    """Whether a name fits no other module nearly as well; unknown fits (NaN) do not count."""
    others = np.delete(fit, module) - 0.5
    others = others[np.isfinite(others)]
    return not len(others) or bool(others.max() < EQUALLY * (fit[module] - 0.5))


def fits(
    every: Sequence[Candidate], lexicon: Lexicon, ids: Ids, active: Float[np.ndarray, "modules positions"]
) -> Float[np.ndarray, "candidates modules"]:
    """Balanced accuracy of each name at telling where each module is active; NaN for one that always or never is.

    Of active positions the share is by activity, of others by number. The first position of a window is left out.
    """
    if not every:
        return np.zeros((0, len(active)))
    shown = read_slots(ids, lexicon, sorted({one.slot for one in every}))
    kept = np.broadcast_to(np.arange(ids.shape[1]) > 0, ids.shape).ravel()
    claims = np.array([np.isin(shown[one.slot].ravel()[kept], one.codes) for one in every], dtype=np.float32)
    real = np.asarray(active[:, kept], dtype=np.float32)
    here = (real > 0).astype(np.float32)
    caught: Float[np.ndarray, "candidates modules"] = (claims @ real.T).astype(np.float64)
    both: Float[np.ndarray, "candidates modules"] = (claims @ here.T).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        hits = caught / real.sum(1, dtype=np.float64)
        alarms = (claims.sum(1)[:, None] - both) / (int(kept.sum()) - here.sum(1))
        return np.asarray((hits + 1 - alarms) / 2)
