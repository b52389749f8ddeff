"""Where things stand in windows of token ids: words, content words, sentences, names, earlier occurrences."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int

from pellucid.words.labels.lexicon import Lexicon
from pellucid.words.labels.native import native

Ids = Int[np.ndarray, "windows context"]
Codes = Int[np.ndarray, "windows context"]
Places = Int[np.ndarray, "windows context"]
"""For each position another one of its window; -1 where there is none."""

Mask = Bool[np.ndarray, "windows context"]


class Text:
    """Windows of ids with what the readers of slots share, each computed once."""

    def __init__(self, ids: Ids, lexicon: Lexicon) -> None:
        self.ids = ids
        self.lexicon = lexicon

    def back(self, steps: int) -> Codes:
        """The token so many steps before; nothing before the window."""
        shown = np.full_like(self.ids, self.lexicon.nothing)
        shown[:, steps:] = self.ids[:, : max(self.ids.shape[1] - steps, 0)]
        return shown

    def at(self, places: Places) -> Codes:
        """The tokens at places; nothing where there is none."""
        tokens = np.take_along_axis(self.ids, np.maximum(places, 0), axis=1)
        return np.where(places < 0, self.lexicon.nothing, tokens)

    def pair(self, first: Codes, second: Codes) -> Codes:
        """Two tokens as one code."""
        code: Codes = first * (self.lexicon.nothing + 1) + second
        return code

    def since(self, mask: Mask) -> Int[np.ndarray, "windows context"]:
        """How many positions ago the mask last held, or the window began."""
        steps: Codes = np.arange(self.ids.shape[1]) - np.maximum(last(mask, strictly=False), 0)
        return steps

    @cached_property
    def begins_word(self) -> Mask:
        """Whether a word begins here: a letter after a space or after what is no letter."""
        before = self.lexicon.ends_in_letter[self.ids[:, :-1]]
        before = np.concatenate([np.zeros((len(self.ids), 1), bool), before], axis=1)
        found: Mask = self.lexicon.starts_in_letter[self.ids] & (self.lexicon.spaced[self.ids] | ~before)
        return found

    @cached_property
    def word_start(self) -> Places:
        """Where the word began that a token is part of; none for punctuation."""
        return np.where(self.lexicon.punctuation[self.ids], -1, last(self.begins_word, strictly=False))

    @cached_property
    def content(self) -> Mask:
        """Whether a word begins here that is no function word."""
        found: Mask = self.begins_word & ~self.lexicon.is_function_word[self.ids]
        return found

    @cached_property
    def begins_sentence(self) -> Mask:
        """Whether this is the first token of a sentence that is no punctuation."""
        inside = ~self.lexicon.punctuation[self.ids]
        end = last(self.lexicon.ends_sentence[self.ids], strictly=True)
        found: Mask = inside & (last(inside, strictly=True) <= end)
        return found

    @cached_property
    def capitalised(self) -> Mask:
        """Whether a capitalised word begins here in the middle of a sentence: mostly names."""
        found: Mask = self.begins_word & self.lexicon.capital[self.ids] & ~self.begins_sentence
        return found

    @cached_property
    def earlier(self) -> Places:
        """Where the token stood last before in the window."""
        return _earlier(self.ids, self.lexicon.nothing)

    @cached_property
    def quoted(self) -> Codes:
        """1 where an odd number of quotation marks has stood in the line, the token's own included, else 0."""
        marks = np.cumsum(self.lexicon.quotes[self.ids], axis=1)
        line = last(self.lexicon.breaks[self.ids], strictly=False)
        before = np.where(line < 0, 0, np.take_along_axis(marks, np.maximum(line, 0), axis=1))
        odd: Codes = (marks - before) % 2
        return odd


def last(mask: Mask, strictly: bool) -> Places:
    """The last place at or (strictly) before each position where the mask holds."""
    places = np.where(mask, np.arange(mask.shape[1]), -1)
    found = np.maximum.accumulate(places, axis=1)
    return np.concatenate([np.full((len(mask), 1), -1), found[:, :-1]], axis=1) if strictly else found


def one_before(mask: Mask, places: Places) -> Places:
    """The last place strictly before each of `places` where the mask holds."""
    found = np.take_along_axis(last(mask, strictly=True), np.maximum(places, 0), axis=1)
    return np.where(places < 0, -1, found)


@native
def _earlier(ids: Ids, vocabulary: int) -> Places:
    """Where each token stood last before in its window."""
    found = np.full(ids.shape, -1, np.int64)
    seen = np.full(vocabulary, -1, np.int64)
    for window in range(ids.shape[0]):
        for place in range(ids.shape[1]):
            found[window, place] = seen[ids[window, place]]
            seen[ids[window, place]] = place
        for place in range(ids.shape[1]):
            seen[ids[window, place]] = -1
    return found
