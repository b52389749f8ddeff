"""What the latents of a dictionary do over a corpus, as labels are grown on it: sparse, windows laid end to end."""

from __future__ import annotations

import numpy as np
import torch

from pellucid.data.corpus import Corpus
from pellucid.dictionaries.dictionary import Dictionary
from pellucid.dictionaries.pairs import Pairs
from pellucid.errors import BadInput
from pellucid.words.labels.activations import Activations, activations_of_entries

TOGETHER = 4096
"""Positions that are encoded at a time."""


def latents_of(dictionary: Dictionary, pairs: Pairs, corpus: Corpus) -> Activations:
    """The latents at every position of a corpus, zero at the first of each window.

    Args:
        dictionary: of the function that the pairs are of.
        pairs: what the function took and gave on the corpus, see `capture_pairs`.
        corpus: the same windows.

    Raises:
        BadInput: the pairs are of another corpus.
    """
    context = corpus.ids.shape[1]
    if len(pairs) != len(corpus) * (context - 1):
        raise BadInput(
            f"latents: {len(pairs)} pairs of {len(corpus)} windows of {context}; capture them on this corpus"
        )
    side = 1 if dictionary.kind == "autoencoder" else 0
    places, units, values = [], [], []
    for start in range(0, len(pairs), TOGETHER):
        read = pairs.rows(slice(start, start + TOGETHER))[side]
        with torch.no_grad():
            found = dictionary.encode(read).numpy()
        at, unit = np.nonzero(found)
        window, place = np.divmod(at + start, context - 1)
        places.append(window * context + place + 1)
        units.append(unit)
        values.append(found[at, unit])
    return activations_of_entries(
        np.concatenate(places), np.concatenate(units), np.concatenate(values), corpus.tokens, dictionary.latents
    )
