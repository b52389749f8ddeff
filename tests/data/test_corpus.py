"""Corpora: windows of one length, split without overlap."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.data.corpus import Corpus, split_corpus, windows_of
from pellucid.errors import BadInput

PIECES = tuple("abcdefghij")


def test_windows_are_cut_end_to_end_and_the_rest_is_dropped():
    corpus = windows_of([[0, 1, 2, 3], [4, 5, 6]], PIECES, 3)
    assert corpus.ids.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert corpus.tokens == 6


def test_each_window_begins_with_the_beginning():
    corpus = windows_of([[1, 2, 3, 4]], PIECES, 3, beginning=9)
    assert corpus.ids.tolist() == [[9, 1, 2], [9, 3, 4]]


def test_the_parts_share_no_window_and_lose_none():
    corpus = Corpus(np.arange(200).reshape(100, 2) % 10, PIECES)
    tagged = Corpus(np.arange(200).reshape(100, 2), tuple(map(str, range(200))))
    parts = split_corpus(tagged, seed=3)
    seen = np.concatenate([part.ids[:, 0] for part in (parts.fit, parts.tune, parts.describe, parts.verify)])
    assert sorted(seen.tolist()) == tagged.ids[:, 0].tolist()
    assert len(parts.fit) == 50
    assert len(parts.verify) == 10
    assert len(split_corpus(corpus).tune) == 30


def test_the_split_depends_on_the_seed_alone():
    corpus = Corpus(np.arange(200).reshape(100, 2), tuple(map(str, range(200))))
    assert (split_corpus(corpus, 1).fit.ids == split_corpus(corpus, 1).fit.ids).all()
    assert (split_corpus(corpus, 1).fit.ids != split_corpus(corpus, 2).fit.ids).any()


def test_the_fingerprint_tells_ids_shape_and_vocabulary_apart():
    one = Corpus(np.array([[0, 1], [2, 3]]), PIECES)
    others = [
        Corpus(np.array([[0, 1, 2, 3]]), PIECES),
        Corpus(np.array([[0, 1], [2, 4]]), PIECES),
        Corpus(np.array([[0, 1], [2, 3]]), (*PIECES, "k")),
    ]
    assert one.fingerprint == Corpus(np.array([[0, 1], [2, 3]], np.int32), PIECES).fingerprint
    assert len({one.fingerprint, *(other.fingerprint for other in others)}) == 4


def test_batches_hold_all_windows_in_order():
    corpus = Corpus(np.arange(20).reshape(10, 2) % 10, PIECES)
    assert [len(batch) for batch in corpus.batches(4)] == [4, 4, 2]


@pytest.mark.parametrize(
    ("ids", "cause"),
    [
        (np.array([[0, 10]]), "outside the vocabulary"),
        (np.array([[-1, 0]]), "outside"),
        (np.zeros((0, 2), int), "shape"),
    ],
)
def test_ids_that_are_none_are_refused(ids, cause):
    with pytest.raises(BadInput, match=cause):
        Corpus(ids, PIECES)


def test_too_little_text_is_refused():
    with pytest.raises(BadInput, match="do not fill"):
        windows_of([[1, 2]], PIECES, 3)
    with pytest.raises(BadInput, match="too short"):
        windows_of([[1, 2]], PIECES, 2, beginning=0)
    with pytest.raises(BadInput, match="cannot be split"):
        split_corpus(Corpus(np.zeros((3, 4), int), PIECES))
