"""The text of each id, for tokenizers that mark spaces in different ways."""

from __future__ import annotations

import pytest

from pellucid.errors import BadInput
from pellucid.lift.vocabulary import beginning_of, encode_bare, pieces_of


class Marked:
    """Like SentencePiece: a piece may begin with a space, which is dropped at the start of a text."""

    pieces = ("<s>", "a", "7", " a", " dog", "s")
    vocabulary = len(pieces)

    def encode(self, text):
        return [0, *(self.pieces.index(word) for word in text.split("|"))]

    def decode(self, ids):
        text = "".join(self.pieces[i] for i in ids)
        return text.removeprefix(" ")


class Plain(Marked):
    """Nothing is put before a text."""

    def encode(self, text):
        return super().encode(text)[1:]


class Mute(Marked):
    def encode(self, text):
        return []


def test_pieces_keep_the_space_they_begin_with():
    assert pieces_of(Marked(), 6) == Marked.pieces
    assert pieces_of(Plain(), 6) == Marked.pieces


def test_ids_beyond_the_tokenizer_have_a_name_and_there_are_no_more_than_asked_for():
    assert pieces_of(Marked(), 8)[6:] == ("<unused 6>", "<unused 7>")
    assert pieces_of(Marked(), 4) == Marked.pieces[:4]


def test_the_beginning_is_what_stands_before_every_text():
    assert beginning_of(Marked()) == 0
    assert beginning_of(Plain()) is None
    assert encode_bare(Marked(), "a|s") == encode_bare(Plain(), "a|s") == [1, 5]


def test_a_tokenizer_without_ids_is_refused():
    with pytest.raises(BadInput, match="no ids"):
        beginning_of(Mute())
