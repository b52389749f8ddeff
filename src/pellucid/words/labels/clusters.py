"""Named clusters of tokens: by their form, and by their embedding at several sizes, if a name can be found that fits.

Clusters of the embedding are found by spherical k-means (Dhillon & Modha 2001) over the tokens of a corpus. Such a
cluster is named by its most typical members, "like girl, boy, woman", and the name is checked: from these alone, by
closeness to their mean, the other members have to be told from all other tokens (area under the ROC curve), and no
cluster of the same size may fit the name better than its own. Clusters without a fitting name are dropped, and so is
one that has the members of another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import rankdata

from pellucid.data.corpus import Corpus
from pellucid.errors import BadInput
from pellucid.words.labels.lexicon import Lexicon, bare

ROUNDS = 30
"""At most so many rounds of k-means."""


@dataclass(frozen=True)
class Naming:
    """How clusters are found and named.

    Attributes:
        sizes: into how many clusters the tokens are dealt, one dealing for each.
        smallest: a cluster has at least so many tokens.
        examples: how many members a name names.
        fits: area under the curve from which on a name fits.
        alike: share of common members (of all of both) from which on two clusters are the same.
    """

    sizes: tuple[int, ...] = (16, 64, 256, 768)
    smallest: int = 2
    examples: int = 3
    fits: float = 0.9
    alike: float = 0.9


def named_clusters(
    corpus: Corpus,
    embedding: Float[np.ndarray, "vocabulary width"],
    lexicon: Lexicon,
    naming: Naming = Naming(),
) -> dict[str, tuple[int, ...]]:
    """The clusters of the tokens that occur in a corpus, by name: ids, ascending.

    Raises:
        BadInput: the embedding is not finite or has another vocabulary.
    """
    if len(embedding) != len(lexicon.pieces) or not np.isfinite(embedding).all():
        raise BadInput(
            f"clusters: an embedding of {len(embedding)} tokens, not all finite or not those of a vocabulary of"
            f" {len(lexicon.pieces)}; give the network's own, one row a token"
        )
    counts = np.bincount(corpus.ids.ravel(), minlength=len(lexicon.pieces))
    used = np.flatnonzero(counts)
    found: dict[str, tuple[int, ...]] = {}
    for name, ids in form_clusters(used, lexicon).items():
        _keep(found, name, ids, naming)
    rows = embedding[used].astype(np.float64) - embedding[used].mean(axis=0)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    for size in naming.sizes:
        if size < len(used):
            dealt = _k_means(rows, counts[used], size)
            for name, members in _fitting(rows, counts[used], dealt, used, lexicon, naming).items():
                _keep(found, name, tuple(used[members].tolist()), naming)
    return found


def _keep(found: dict[str, tuple[int, ...]], name: str, ids: tuple[int, ...], naming: Naming) -> None:
    """Put a cluster to the others unless it is too small, or the same as one of them by members or by name."""
    members = set(ids)
    if len(ids) < naming.smallest or name in found:
        return
    if all(len(members & set(other)) < naming.alike * len(members | set(other)) for other in found.values()):
        found[name] = ids


# ---- by form

SUFFIXES = ("ing", "ed", "ly", "er", "est", "s")


def form_clusters(used: Int[np.ndarray, " tokens"], lexicon: Lexicon) -> dict[str, tuple[int, ...]]:
    """Clusters of tokens that are seen by their text alone."""

    def word(token: int) -> bool:
        return bool(lexicon.spaced[token] and lexicon.starts_in_letter[token])

    def ending(suffix: str) -> Callable[[int], bool]:
        return lambda token: word(token) and len(bare(text(token))) > len(suffix) + 2 and text(token).endswith(suffix)

    def text(token: int) -> str:
        return lexicon.pieces[token]

    forms: Mapping[str, Callable[[int], bool]] = {
        "punctuation": lambda token: bool(lexicon.punctuation[token]),
        "end of sentence": lambda token: bool(lexicon.ends_sentence[token]),
        "quotation marks": lambda token: bool(lexicon.quotes[token]),
        "line breaks": lambda token: bool(lexicon.breaks[token]),
        "digits": lambda token: any(letter.isdigit() for letter in text(token)),
        "function words": lambda token: bool(lexicon.is_function_word[token]),
        "capitalised": lambda token: bool(lexicon.capital[token]),
        "parts of words": lambda token: bool(lexicon.starts_in_letter[token]) and not lexicon.spaced[token],
        "beginnings of at most two letters": lambda token: word(token) and len(bare(text(token))) <= 2,
        **{f"words in -{suffix}": ending(suffix) for suffix in SUFFIXES},
    }
    return {name: tuple(int(token) for token in used if holds(int(token))) for name, holds in forms.items()}


# ---- by embedding


def _k_means(
    rows: Float[np.ndarray, "tokens width"], weights: Int[np.ndarray, " tokens"], size: int
) -> Int[np.ndarray, " tokens"]:
    """The cluster of each row; centres start from the most frequent rows that are far from those before."""
    centres = rows[_seeds(rows, weights, size)]
    dealt = np.zeros(len(rows), dtype=np.int64)
    for _ in range(ROUNDS):
        before, dealt = dealt, np.argmax(rows @ centres.T, axis=1)
        if (before == dealt).all():
            break
        sums = np.zeros_like(centres)
        np.add.at(sums, dealt, rows)
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(norms > 0, sums / np.maximum(norms, 1e-12), centres)
    return dealt


def _seeds(rows: Float[np.ndarray, "tokens width"], weights: Int[np.ndarray, " tokens"], size: int) -> list[int]:
    """Rows to start from, one by one: the farthest from those before, weighed by the logarithm of its frequency."""
    heavy = np.log1p(weights)
    chosen = [int(np.argmax(heavy))]
    nearest = rows @ rows[chosen[0]]
    for _ in range(size - 1):
        chosen.append(int(np.argmax((1 - nearest) * heavy)))
        nearest = np.maximum(nearest, rows @ rows[chosen[-1]])
    return chosen


def _fitting(
    rows: Float[np.ndarray, "tokens width"],
    weights: Int[np.ndarray, " tokens"],
    dealt: Int[np.ndarray, " tokens"],
    used: Int[np.ndarray, " tokens"],
    lexicon: Lexicon,
    naming: Naming,
) -> dict[str, Int[np.ndarray, " members"]]:
    """The clusters of one dealing that have a name that fits."""
    names: dict[str, Int[np.ndarray, " members"]] = {}
    twice: set[str] = set()
    for cluster in range(int(dealt.max()) + 1):
        members = np.flatnonzero(dealt == cluster)
        if len(members) < naming.smallest:
            continue
        texts = [bare(lexicon.pieces[i]) for i in used[members]]
        typical = _typical(rows, weights, members, texts, naming.examples)
        if not name_fits(rows, dealt, cluster, typical, naming):
            continue
        name = "like " + ", ".join(bare(lexicon.pieces[used[i]]) for i in typical)
        twice |= {name} & set(names)
        names[name] = members
    return {name: members for name, members in names.items() if name not in twice}


def _typical(
    rows: Float[np.ndarray, "tokens width"],
    weights: Int[np.ndarray, " tokens"],
    members: Int[np.ndarray, " members"],
    texts: Sequence[str],
    count: int,
) -> Int[np.ndarray, " typical"]:
    """The members that stand for a cluster: frequent, close to its centre, and of different texts."""
    centre = rows[members].mean(axis=0)
    order = np.argsort(-(rows[members] @ centre) * np.log1p(weights[members]), kind="stable")
    first = {texts[i].casefold(): int(i) for i in order[::-1]}
    return members[[i for i in order if first[texts[i].casefold()] == i][:count]]


def name_fits(
    rows: Float[np.ndarray, "tokens width"],
    dealt: Int[np.ndarray, " tokens"],
    cluster: int,
    typical: Int[np.ndarray, " typical"],
    naming: Naming,
) -> bool:
    """Whether closeness to the named members tells the others from all other tokens, and no cluster fits better."""
    closeness = rows @ rows[typical].mean(axis=0)
    others = np.setdiff1d(np.arange(len(rows)), typical)
    own = dealt[others] == cluster
    if own.any() and area_under_curve(closeness[others], own) < naming.fits:
        return False
    sums = np.bincount(dealt, weights=closeness)
    sizes = np.bincount(dealt)
    means = np.where(sizes > 0, sums / np.maximum(sizes, 1), -np.inf)
    return int(np.argmax(means)) == cluster


def area_under_curve(scores: Float[np.ndarray, " n"], positive: Sequence[bool] | np.ndarray) -> float:
    """The chance that a positive one scores higher than a negative one, ties counting half."""
    positive = np.asarray(positive, dtype=bool)
    count, rest = int(positive.sum()), int((~positive).sum())
    if count == 0 or rest == 0:
        return 0.5
    return float((rankdata(scores)[positive].sum() - count * (count + 1) / 2) / (count * rest))
