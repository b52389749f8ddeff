"""A toy dictionary of two groups of latents: the first is active on some tokens, the second on others."""

from __future__ import annotations

import numpy as np

from pellucid.data.corpus import Corpus
from pellucid.words.labels.activations import Activations, activations_of
from pellucid.words.labels.labelset import LabelSet
from pellucid.words.labels.language import Condition, Label, Rule
from pellucid.words.labels.lexicon import Lexicon, survey

VOCABULARY, EACH = 40, 20
FIRST, SECOND = (3, 4, 5), (10, 11, 12)
"""The tokens that the two groups are active on; all others leave both silent."""

GROUPS = np.repeat([0, 1], EACH)


def text(windows: int = 40, context: int = 30, seed: int = 0) -> Corpus:
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, VOCABULARY, (windows, context)).astype(np.int32)
    ids[:, 0] = 0
    return Corpus(ids, ("<s>", *(f" w{i}" for i in range(1, VOCABULARY))), 0)


def lexicon_of(corpus: Corpus) -> Lexicon:
    return survey(corpus).with_clusters({"like w3, w4, w5": FIRST, "like w10, w11, w12": SECOND, "rest": (20, 21)})


def acts_of(corpus: Corpus, seed: int = 0) -> Activations:
    """Each latent is active on most of the tokens of its group, by an amount of its own."""
    rng = np.random.default_rng(seed)
    dense = np.zeros((corpus.tokens, 2 * EACH))
    for latent, group in enumerate(GROUPS):
        here = np.isin(corpus.ids.ravel(), (FIRST, SECOND)[group]) & (rng.random(corpus.tokens) < 0.7)
        dense[here, latent] = rng.uniform(1, 2, int(here.sum()))
    dense[:: corpus.ids.shape[1]] = 0
    return activations_of(dense)


def labels_of(corpus: Corpus, site: str = "f.dictionary:latents") -> LabelSet:
    """What each latent does: its group's tokens."""
    lexicon = lexicon_of(corpus)
    rules = [(Rule(1.0, (Condition("current", (FIRST, SECOND)[group]),)), Rule(0.0)) for group in GROUPS]
    return LabelSet(site, tuple(Label(rule, lexicon) for rule in rules), lexicon)
