"""Dealing the tokens into clusters for one head, by what they mean to it.

Two query tokens are alike when they score keys alike: the distance of their mean queries is taken in the metric of the
spread of keys, and the other way round. Clusters come from k-means weighted by how often tokens occur (k-means++
seeding, then Lloyd), so that a frequent token gets a cluster of its own. Tokens that do not occur go where tokens that
occur once lie on average (what is rare stands for what is unseen, as in Good and Turing's estimate).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, UInt8

from pellucid.words.heads.capture import TokenMeans

ROUNDS = 25
"""Rounds of Lloyd's iteration at most."""

DOUBT = 4.0
"""A mean of so many occurrences is half believed: it is drawn to the mean of all tokens."""


def deal_tokens(
    seen: TokenMeans, head: int, clusters: int, vocabulary: int, seed: int = 0
) -> UInt8[np.ndarray, " vocabulary"]:
    """The cluster of every token of the vocabulary, for one head; at most 256 clusters."""
    values, vectors = np.linalg.eigh(seen.spread[head].astype(np.float64))
    points = seen.means[head].astype(np.float64) @ (vectors * np.sqrt(np.maximum(values, 0)))
    occurs = seen.counts > 0
    points, counts, tokens = points[occurs], seen.counts[occurs].astype(np.float64), seen.tokens[occurs]
    centre = np.average(points, axis=0, weights=counts)
    points = centre + (points - centre) * (counts / (counts + DOUBT))[:, None]
    labels, centres = k_means(points, counts, clusters, seed)
    rare = points[counts <= counts.min()].mean(0)
    dealt = np.full(vocabulary, int(((centres - rare) ** 2).sum(1).argmin()), dtype=np.uint8)
    dealt[tokens] = labels
    return dealt


def k_means(
    points: Float[np.ndarray, "points feature"], weights: Float[np.ndarray, " points"], clusters: int, seed: int
) -> tuple[Int[np.ndarray, " points"], Float[np.ndarray, "clusters feature"]]:
    """Labels and centres of weighted k-means; fewer clusters where there are fewer points."""
    rng = np.random.default_rng(seed)
    centres = _seeds(points, weights, min(clusters, len(points)), rng)
    labels = np.full(len(points), -1)
    for _ in range(ROUNDS):
        away = (centres**2).sum(1) - 2 * points @ centres.T
        found = away.argmin(1)
        if (found == labels).all():
            break
        labels = found
        for i in range(len(centres)):
            own = labels == i
            if own.any():
                centres[i] = np.average(points[own], axis=0, weights=weights[own])
    return labels, centres


def _seeds(
    points: Float[np.ndarray, "points feature"],
    weights: Float[np.ndarray, " points"],
    count: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "clusters feature"]:
    """Points drawn one after another in proportion to weight times squared distance from those drawn."""
    chosen = [int(weights.argmax())]
    nearest = ((points - points[chosen[0]]) ** 2).sum(1)
    while len(chosen) < count:
        chances = weights * nearest
        total = chances.sum()
        drawn = int(rng.choice(len(points), p=chances / total)) if total > 0 else int(rng.integers(len(points)))
        chosen.append(drawn)
        nearest = np.minimum(nearest, ((points - points[drawn]) ** 2).sum(1))
    return points[chosen].copy()
