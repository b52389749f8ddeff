"""Descriptions of modules, composed from those of their children, without any language model.

What a module's children are said to write at each position of a text (what their labels say, times how much each of
them writes) is summed, and the sum is said again in a few rules: a label of at most four, over named clusters where the
lexicon has some. So a description is made of descriptions only; what the module really does is left for the test.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Float32

from pellucid.words.labels.activations import activations_of
from pellucid.words.labels.grow import Growth, grow
from pellucid.words.labels.labelset import LabelSet
from pellucid.words.labels.language import Condition, Label, token_text
from pellucid.words.labels.lexicon import Lexicon, bare
from pellucid.words.labels.places import Ids
from pellucid.words.labels.slots import find_slot

RULES, LISTED = 4, 12
"""Rules of a description, and codes of a set where there are no clusters."""

TOLD, ITEMS = 2, 4
"""Rules that a sentence tells, and items of each set in it."""


def said_together(
    labels: LabelSet, ids: Ids, members: Bool[np.ndarray, "groups latents"], weights: Float[np.ndarray, " latents"]
) -> Float32[np.ndarray, "groups positions"]:
    """What the labels of the members of each group say at every position, times their weights, summed.

    Args:
        ids: windows of token ids; positions are the windows laid end to end.
        weights: how much a latent writes for each unit of activation.
    """
    total = np.zeros((len(members), ids.size), dtype=np.float32)
    if not labels.slots:
        constant = members @ (weights * labels.values[:, 0])
        return np.asarray(total + constant[:, None], dtype=np.float32)
    leaves = labels.leaf_of(labels.read(ids))
    for latent, table in enumerate(labels.values):
        groups = np.flatnonzero(members[:, latent])
        if len(groups):
            total[groups] += (table * np.float32(weights[latent]))[leaves[latent]]
    return total


def described(ids: Ids, said: Float[np.ndarray, "modules positions"], lexicon: Lexicon, site: str) -> LabelSet:
    """A short label for what the children of each module are said to write together."""
    named = bool(lexicon.clusters)
    growth = Growth(leaves=RULES, sets="named") if named else Growth(leaves=RULES, cap=LISTED)
    return grow(ids, activations_of(np.asarray(said.T, dtype=np.float64)), lexicon, growth, site=site)


# ---- sentences


def sentences(labels: LabelSet, ids: Ids) -> tuple[str, ...]:
    """Each label as a sentence: the rules that account for most of what is written on some windows."""
    if not labels.slots:
        return tuple(sentence(label, (1,) * len(label.rules)) for label in labels.labels)
    leaves = labels.leaf_of(labels.read(ids))
    return tuple(
        sentence(label, np.bincount(row, minlength=len(label.rules)).tolist())
        for label, row in zip(labels.labels, leaves, strict=True)
    )


def sentence(label: Label, times: Sequence[int]) -> str:
    """A label as a sentence; `times` says how often each of its rules holds."""
    resting = label.rules[-1].value
    weighed = ((rule, (rule.value - resting) * count) for rule, count in zip(label.rules, times, strict=True))
    ordered = sorted((pair for pair in weighed if pair[1] > 0), key=lambda pair: -pair[1])
    rules = [rule for rule, _ in ordered]
    if not rules:
        return "writes alike everywhere, as far as its parts are described"
    told = [" and ".join(clause(c, label.lexicon) for c in rule.conditions) for rule in rules[:TOLD]]
    return "writes most where " + "; then where ".join(told)


def clause(condition: Condition, lexicon: Lexicon) -> str:
    """A condition in words."""
    shown = [*map(seen, condition.clusters), *(_item(condition.slot, code, lexicon) for code in condition.codes)]
    more = f" and {len(shown) - ITEMS} more" if len(shown) > ITEMS else ""
    verb = "is" if condition.within else "is not"
    told = find_slot(condition.slot).told
    return f"{told} {verb} {'one ' if condition.clusters else ''}{' or '.join(shown[:ITEMS])}{more}"


def _item(slot_name: str, code: int, lexicon: Lexicon) -> str:
    slot = find_slot(slot_name)
    if slot.kind == "class":
        return slot.classes[code]
    if slot.kind == "token":
        return token_text(code, lexicon)
    first, second = divmod(code, lexicon.nothing + 1)
    before = slot.classes[first] if slot.classes else token_text(first, lexicon)
    return f"{before} {token_text(second, lexicon)}"


def listing(shown: Sequence[str], most: int = 6) -> str:
    """A sentence that lists children by name."""
    distinct = list(dict.fromkeys(shown))
    more = f" and {len(distinct) - most} more" if len(distinct) > most else ""
    return "; ".join(distinct[:most]) + more


def plain(piece: str) -> str:
    """The text of a token as a word of a name: without the space before it, nothing that is not seen."""
    return seen(bare(piece)).strip()


def seen(text: str) -> str:
    """The text with line ends as arrows, and what else is not seen written as escapes."""
    return "".join(_letter(letter) for letter in text)


def _letter(letter: str) -> str:
    if letter == "\n":
        return "↵"
    return letter if letter.isprintable() else f"u{{{ord(letter):X}}}"
