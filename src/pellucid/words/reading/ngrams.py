"""N-gram models of the text that labels were grown on: what words have to beat.

Interpolated modified Kneser-Ney (Chen and Goodman 1999): of every count a discount is taken, one each for counts of
1, 2 and more at every order, and what is taken is given to the next lower order, whose counts are numbers of distinct
tokens before; below the unigrams all tokens are equal. The discounts start at the closed form and are then fitted to
the *tune* part, so that the baseline has the same two parts of the text as the words reading.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize

from pellucid.data.corpus import Corpus
from pellucid.errors import BadInput

FIRST_SCORED = 2
"""The first place of a window whose token is predicted for a score: what follows the first token is left out."""

NAMES = {1: "unigram", 2: "bigram", 3: "trigram"}


@dataclass(frozen=True, eq=False)
class Level:
    """What one order knows.

    Attributes:
        keys: the n-grams that occur, as numbers to the base of the vocabulary, rising.
        counts: of each: how often (highest order), or after how many distinct tokens.
        contexts: the n-grams' contexts (all but the last token), rising.
        totals: sum of counts after each context.
        kinds: how many n-grams after each context have a count of 1, of 2, of more.
    """

    keys: Int[np.ndarray, " grams"]
    counts: Int[np.ndarray, " grams"]
    contexts: Int[np.ndarray, " contexts"]
    totals: Int[np.ndarray, " contexts"]
    kinds: Int[np.ndarray, "contexts 3"]


@dataclass(frozen=True, eq=False)
class NGrams:
    """An n-gram model.

    Attributes:
        vocabulary: how many tokens there are.
        levels: of orders 1, 2, ….
        discounts: taken from counts of 1, 2 and more, at each order.
    """

    vocabulary: int
    levels: tuple[Level, ...]
    discounts: Float[np.ndarray, "orders 3"]

    @property
    def order(self) -> int:
        """How many tokens an n-gram has."""
        return len(self.levels)

    @property
    def name(self) -> str:
        """For example "trigram"."""
        return NAMES.get(self.order, f"{self.order}-gram")

    def losses(self, corpus: Corpus) -> Float[np.ndarray, " windows"]:
        """Mean cross-entropy of each window in nats a token, over the tokens from place `FIRST_SCORED` on.

        Raises:
            BadInput: the corpus has another vocabulary, or windows shorter than the order.
        """
        if len(corpus.pieces) != self.vocabulary:
            raise BadInput(
                f"corpus: a vocabulary of {len(corpus.pieces)}, the {self.name} model knows {self.vocabulary}; count"
                " n-grams on the same tokenizer"
            )
        seen = _look_up(self.levels, corpus.ids, self.vocabulary)
        chances = _chances(seen, self.discounts, self.vocabulary)
        per_window: Float[np.ndarray, " windows"] = -np.log(chances).reshape(len(corpus), -1).mean(1)
        return per_window


def fit_ngrams(fit: Corpus, tune: Corpus, order: int) -> NGrams:
    """The n-gram model of a text, its discounts fitted to another part.

    Raises:
        BadInput: the order is not 1 to 3, the windows are shorter than it, or the vocabulary too large for it.
    """
    vocabulary = len(fit.pieces)
    if not 1 <= order <= len(NAMES):
        raise BadInput(f"order {order}: n-gram models have 1 to {len(NAMES)} tokens")
    if vocabulary**order >= 2**63:
        raise BadInput(f"corpus: a vocabulary of {vocabulary} is too large for {NAMES[order]}s; use a lower order")
    levels = count_levels(fit.ids, vocabulary, order)
    start = np.stack([_closed_form(level.counts) for level in levels])
    model = NGrams(vocabulary, levels, start)
    return dataclasses.replace(model, discounts=_fitted(model, tune))


def count_levels(ids: Int[np.ndarray, "windows context"], vocabulary: int, order: int) -> tuple[Level, ...]:
    """What each order of a model knows of windows; the first token of a window is only ever a context."""
    keys, counts = np.unique(_keys(ids, vocabulary, order, first=max(1, order - 1)), return_counts=True)
    levels = [_level(keys, counts, vocabulary)]
    for shorter in range(order - 1, 0, -1):
        keys, counts = np.unique(keys % vocabulary**shorter, return_counts=True)
        levels.append(_level(keys, counts, vocabulary))
    return tuple(reversed(levels))


def _level(keys: Int[np.ndarray, " grams"], counts: Int[np.ndarray, " grams"], vocabulary: int) -> Level:
    contexts, place = np.unique(keys // vocabulary, return_inverse=True)
    totals = np.zeros(len(contexts), np.int64)
    np.add.at(totals, place, counts)
    kinds = np.zeros((len(contexts), 3), np.int64)
    np.add.at(kinds, (place, np.minimum(counts, 3) - 1), 1)
    return Level(keys, counts, contexts, totals, kinds)


def _keys(
    ids: Int[np.ndarray, "windows context"], vocabulary: int, order: int, first: int
) -> Int[np.ndarray, " grams"]:
    """The n-grams that end at place `first` and later, window after window, as numbers to the base `vocabulary`."""
    width = ids.shape[1]
    if width <= first or first < order - 1:
        raise BadInput(f"corpus: windows of {width} tokens are too short for n-grams of {order}; use longer ones")
    wide = ids.astype(np.int64)
    keys = np.zeros((len(ids), width - first), np.int64)
    for back in range(order - 1, -1, -1):
        keys = keys * vocabulary + wide[:, first - back : width - back]
    return keys.ravel()


@dataclass(frozen=True, eq=False)
class _Seen:
    """What a level says about the tokens of a text: of each its count, and what is known of its context."""

    counts: Int[np.ndarray, " places"]
    totals: Int[np.ndarray, " places"]
    kinds: Int[np.ndarray, "places 3"]


def _look_up(levels: Sequence[Level], ids: Int[np.ndarray, "windows context"], vocabulary: int) -> list[_Seen]:
    found = []
    for order, level in enumerate(levels, start=1):
        keys = _keys(ids, vocabulary, order, FIRST_SCORED)
        gram, known = _places(level.keys, keys)
        context, followed = _places(level.contexts, keys // vocabulary)
        found.append(
            _Seen(
                np.where(known, level.counts[gram], 0),
                np.where(followed, level.totals[context], 0),
                np.where(followed[:, None], level.kinds[context], 0),
            )
        )
    return found


def _places(
    known: Int[np.ndarray, " known"], asked: Int[np.ndarray, " asked"]
) -> tuple[Int[np.ndarray, " asked"], np.ndarray]:
    """Where each number stands among rising ones, and whether it does."""
    place = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    return place, known[place] == asked


def _chances(
    seen: Sequence[_Seen], discounts: Float[np.ndarray, "orders 3"], vocabulary: int
) -> Float[np.ndarray, " places"]:
    chances = np.full(len(seen[0].counts), 1.0 / vocabulary)
    for level, taken in zip(seen, discounts, strict=True):
        own = np.concatenate([[0.0], taken])[np.minimum(level.counts, 3)]
        total = np.maximum(level.totals, 1)
        left = np.where(level.totals > 0, (level.kinds @ taken) / total, 1.0)
        chances = np.maximum(level.counts - own, 0) / total + left * chances
    return chances


def _closed_form(counts: Int[np.ndarray, " grams"]) -> Float[np.ndarray, " 3"]:
    """The discounts of Chen and Goodman from how many n-grams have counts of 1 to 4."""
    n = np.maximum(np.bincount(np.minimum(counts, 5), minlength=5)[1:5], 1).astype(np.float64)
    share = n[0] / (n[0] + 2 * n[1])
    found = np.array([i - (i + 1) * share * n[i] / n[i - 1] for i in (1, 2, 3)])
    inside: Float[np.ndarray, " 3"] = np.clip(found, 0.05, np.array([1.0, 2.0, 3.0]) - 0.05)
    return inside


def _fitted(model: NGrams, tune: Corpus) -> Float[np.ndarray, "orders 3"]:
    """The discounts under which the tune part is most likely."""
    seen = _look_up(model.levels, tune.ids, model.vocabulary)

    def loss(flat: Float[np.ndarray, " n"]) -> float:
        return float(-np.log(_chances(seen, flat.reshape(-1, 3), model.vocabulary)).mean())

    bounds = [(0.01, most - 0.01) for _ in model.levels for most in (1.0, 2.0, 3.0)]
    found = minimize(loss, model.discounts.ravel(), method="L-BFGS-B", bounds=bounds, options={"maxiter": 50})
    fitted: Float[np.ndarray, "orders 3"] = np.asarray(found.x).reshape(-1, 3)
    return fitted
