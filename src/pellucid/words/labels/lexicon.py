"""What labels know of a vocabulary: the text of its tokens, which are function words, which clusters have names.

Whether a token begins a word, is a word at all or ends a sentence follows from its text. Which words are function
words is decided by a corpus: a word-beginning token that stands in at least half of its windows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int

from pellucid.data.corpus import Corpus
from pellucid.errors import BadInput

SPREAD = 0.5
"""In what share of the windows a token stands that counts as a function word."""

SPACES = " ▁Ġ"
"""What a token begins with, in one tokenizer or another, when a space precedes it."""

BREAKS = "\nĊ"
ENDS = ".!?"


@dataclass(frozen=True)
class Lexicon:
    """A vocabulary as labels see it.

    Attributes:
        pieces: the text of each token; texts may repeat.
        beginning: the token that begins every window, where there is one.
        function_words: ids of the function words, ascending.
        clusters: the ids, ascending, of each named cluster.
    """

    pieces: tuple[str, ...] = field(repr=False)
    beginning: int | None = None
    function_words: tuple[int, ...] = field(default=(), repr=False)
    clusters: Mapping[str, tuple[int, ...]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for name, ids in [("function words", self.function_words), *self.clusters.items()]:
            if any(not 0 <= i < len(self.pieces) for i in ids):
                raise BadInput(
                    f"lexicon: {name!r} has an id outside the vocabulary of {len(self.pieces)}; it was made for another"
                    " tokenizer"
                )
            if list(ids) != sorted(set(ids)):
                raise BadInput(f"lexicon: the ids of {name!r} do not ascend; sort them and name each once")

    @property
    def nothing(self) -> int:
        """The code of a token that is not there; and so the number of tokens."""
        return len(self.pieces)

    @cached_property
    def ids_of(self) -> dict[str, list[int]]:
        """The ids of each text."""
        found: dict[str, list[int]] = {}
        for i, piece in enumerate(self.pieces):
            found.setdefault(piece, []).append(i)
        return found

    @cached_property
    def spaced(self) -> Bool[np.ndarray, " vocabulary"]:
        """Whether a token is text after a space."""
        return self._mask(lambda piece: len(piece) > 1 and piece[0] in SPACES, beginning=False)

    @cached_property
    def starts_in_letter(self) -> Bool[np.ndarray, " vocabulary"]:
        """Whether the text, less a space before it, begins with a letter."""
        return self._mask(lambda piece: bare(piece)[:1].isalpha(), beginning=False)

    @cached_property
    def ends_in_letter(self) -> Bool[np.ndarray, " vocabulary"]:
        """Whether the text ends in a letter."""
        return self._mask(lambda piece: bare(piece)[-1:].isalpha(), beginning=False)

    @cached_property
    def ends_sentence(self) -> Bool[np.ndarray, " vocabulary"]:
        """Whether a sentence is over after the token: it has an end mark or a break and no letter or digit."""
        return self._mask(lambda piece: not _wordy(piece) and any(c in piece for c in ENDS + BREAKS), beginning=True)

    @cached_property
    def punctuation(self) -> Bool[np.ndarray, " vocabulary"]:
        """Whether a token has no letter and no digit; the beginning is one."""
        return self._mask(lambda piece: not _wordy(piece), beginning=True)

    @cached_property
    def capital(self) -> Bool[np.ndarray, " vocabulary"]:
        """Whether the text, less a space before it, begins with a capital letter."""
        return self._mask(lambda piece: bare(piece)[:1].isupper(), beginning=False)

    @cached_property
    def breaks(self) -> Bool[np.ndarray, " vocabulary"]:
        """Whether a line ends in the token."""
        return self._mask(lambda piece: any(c in piece for c in BREAKS), beginning=True)

    @cached_property
    def quotes(self) -> Int[np.ndarray, " vocabulary"]:
        """How many double quotation marks a token holds."""
        return np.array([piece.count('"') + piece.count("“") + piece.count("”") for piece in self.pieces])

    @cached_property
    def is_function_word(self) -> Bool[np.ndarray, " vocabulary"]:
        """The function words as a mask."""
        found = np.zeros(len(self.pieces), dtype=bool)
        found[list(self.function_words)] = True
        return found

    def _mask(self, holds: Callable[[str], bool], beginning: bool) -> Bool[np.ndarray, " vocabulary"]:
        """For which texts something holds, and whether it does for the beginning."""
        found = np.array([holds(piece) for piece in self.pieces], dtype=bool)
        if self.beginning is not None:
            found[self.beginning] = beginning
        return found

    def with_clusters(self, clusters: Mapping[str, Sequence[int]]) -> Lexicon:
        """The lexicon with other named clusters. Raises BadInput."""
        return dataclasses.replace(self, clusters={name: tuple(map(int, ids)) for name, ids in clusters.items()})


def survey(corpus: Corpus, spread: float = SPREAD) -> Lexicon:
    """The lexicon of a corpus, without clusters: its function words stand in a share `spread` of the windows."""
    lexicon = Lexicon(corpus.pieces, corpus.beginning)
    windows = np.zeros(len(corpus.pieces), dtype=np.int64)
    for row in corpus.ids:
        windows[np.unique(row)] += 1
    common = (windows >= spread * len(corpus)) & lexicon.spaced & lexicon.starts_in_letter
    return dataclasses.replace(lexicon, function_words=tuple(np.flatnonzero(common).tolist()))


def bare(piece: str) -> str:
    """A text less the space it begins with."""
    return piece[1:] if piece[:1] and piece[0] in SPACES else piece


def _wordy(piece: str) -> bool:
    return any(c.isalnum() and c not in "ĠĊ" for c in piece)
