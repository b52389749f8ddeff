"""Named clusters: planted ones are found and named, names that fit several or nobody are not."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.data.corpus import Corpus
from pellucid.errors import BadInput
from pellucid.words.labels.clusters import Naming, area_under_curve, name_fits, named_clusters
from pellucid.words.labels.lexicon import Lexicon

ANIMALS = (" cat", " dog", " cow", " pig", " hen", " fox")
COLOURS = (" red", " blue", " pink", " grey", " tan", " gold")
FORMS = (".", "!", "7", "10", " walking", " talking", "ing", "s", " Tom", " Sue", "\n", '"')
PIECES = ("<s>", *ANIMALS, *COLOURS, *FORMS, " unused")
LEXICON = Lexicon(PIECES, 0)
TWO = Naming(sizes=(3,), smallest=2)


def corpus():
    ids = np.random.default_rng(0).integers(0, len(PIECES) - 1, (20, 30))
    return Corpus(ids.astype(np.int32), PIECES, 0)


def embedding(noise=0.1):
    rows = np.random.default_rng(1).normal(size=(len(PIECES), 16)) * noise
    rows[1:7, 0] += 3
    rows[7:13, 1] += 3
    rows[[0, *range(13, len(PIECES))], 2] += 3
    return rows


def test_planted_clusters_are_found_and_named_by_members():
    found = named_clusters(corpus(), embedding(), LEXICON, TWO)
    named = {ids: name for name, ids in found.items() if name.startswith("like")}
    for members, texts in ((range(1, 7), ANIMALS), (range(7, 13), COLOURS)):
        name = named[tuple(members)]
        words = name.removeprefix("like ").split(", ")
        assert len(words) == 3
        assert {f" {word}" for word in words} <= set(texts)


def test_forms_are_clusters_too():
    found = named_clusters(corpus(), embedding(), LEXICON, TWO)
    texts = {name: {PIECES[i] for i in ids} for name, ids in found.items()}
    assert texts["digits"] == {"7", "10"}
    assert texts["words in -ing"] == {" walking", " talking"}
    assert texts["capitalised"] == {" Tom", " Sue"}
    assert texts["parts of words"] == {"ing", "s"}
    assert texts["punctuation"] == {"<s>", ".", "!", "\n", '"'}
    assert "quotation marks" not in texts


def test_tokens_that_do_not_occur_are_in_no_cluster():
    found = named_clusters(corpus(), embedding(), LEXICON, TWO)
    assert all(PIECES.index(" unused") not in ids for ids in found.values())


def test_a_name_fits_when_it_tells_the_members_and_no_other_cluster_is_closer():
    rows = np.concatenate([np.tile(row, (4, 1)) for row in ([1, 0, 0], [0, 1, 0], [0.8, 0, 0.6])])
    three, two = np.repeat([0, 1, 2], 4), np.repeat([0, 0, 1], 4)
    first = np.arange(2)
    assert name_fits(rows, three, 0, first, Naming())
    assert not name_fits(rows, two, 0, first, Naming())
    assert not name_fits(rows, three, 2, first, Naming(fits=0))
    assert name_fits(rows, three, 0, first, Naming(fits=0))


def test_no_two_clusters_have_the_same_members():
    found = named_clusters(corpus(), embedding(), LEXICON, Naming(sizes=(3, 3, 4, 6)))
    assert len(set(found.values())) == len(found)


def test_the_same_clusters_each_time():
    assert named_clusters(corpus(), embedding(), LEXICON) == named_clusters(corpus(), embedding(), LEXICON)


def test_an_embedding_of_another_vocabulary_is_refused():
    with pytest.raises(BadInput, match="one row a token"):
        named_clusters(corpus(), embedding()[:-1], LEXICON)
    with pytest.raises(BadInput, match="finite"):
        named_clusters(corpus(), embedding() * np.nan, LEXICON)


def test_area_under_curve_is_the_chance_to_be_told_apart():
    scores = np.array([1.0, 2, 2, 3])
    positive = np.array([False, False, True, True])
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[positive] for b in scores[~positive]]
    assert area_under_curve(scores, positive) == pytest.approx(np.mean(pairs))
    assert area_under_curve(scores, np.zeros(4, bool)) == 0.5
