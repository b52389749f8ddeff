"""What a text says about places and pairs, on texts short enough to read."""

import numpy as np
import pytest
import torch
from words.heads.planted_heads import GRAMMAR, PIECES

from pellucid.data.corpus import Corpus
from pellucid.errors import BadInput
from pellucid.words.heads.scene import RELATIONS, Grammar, distances, ends_sentence, grammar_of, scene_of

TEXT = torch.tensor([[0, 2, 4, 3, 1, 2, 4, 7, 0, 3]])
"""<s> Tim saw Ann . Tim saw dog <s> Ann"""


def relation(name: str) -> list[tuple[int, int]]:
    found = scene_of(GRAMMAR, TEXT).relations[0, :, RELATIONS.index(name)]
    return [(int(i), int(j)) for i, j in found.nonzero()]


def test_places_are_counted_within_sentences_and_texts():
    scene = scene_of(GRAMMAR, TEXT)
    assert scene.before[0].tolist() == [-1, 0, 2, 4, 3, 1, 2, 4, 7, 0]
    assert scene.place[0].tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
    assert scene.nth[0].tolist() == [0, 1, 2, 3, 4, 4, 4, 4, 0, 1]
    assert scene.again[0].tolist() == [-1, -1, -1, -1, -1, 0, 0, -1, 0, 0]
    assert scene.listed[0].tolist() == [-1, -1, -1, -1, 0, -1, -1, -1, -1, -1]


def test_relations_hold_where_they_should():
    assert relation("same token") == [(5, 1), (6, 2), (8, 0), (9, 3)]
    assert relation("after the same token") == [(5, 2), (6, 3), (8, 1), (9, 4)]
    assert relation("both after the same token") == [(6, 2), (7, 3), (9, 1)]
    assert (6, 1) in relation("the token before the query")
    assert relation("one sentence back") == [(i, j) for i in range(5, 10) for j in range(5)]
    assert relation("same sentence") == [(i, j) for i in range(10) for j in range(10) if (i > 4) == (j > 4)]
    assert relation("two sentences back") == []
    assert relation("another text") == [(i, j) for i in (8, 9) for j in range(8)]


def test_some_queries_are_rows_of_all():
    chosen = torch.tensor([[2, 7]])
    some, every = scene_of(GRAMMAR, TEXT, chosen), scene_of(GRAMMAR, TEXT)
    assert torch.equal(some.relations, every.relations[:, [2, 7]])
    assert torch.equal(some.bucket, every.bucket[:, [2, 7]])


def test_distances_widen_and_the_last_is_open():
    assert distances(12)[:9] == tuple(range(9))
    assert distances(300)[-1] < 300
    assert scene_of(GRAMMAR, TEXT).bucket[0, 9].tolist() == [4, 4, 4, 4, 3, 3, 3, 2, 1, 0]


@pytest.mark.parametrize("piece", [".", '!"', "?”", "\n", "<0x0A>", "▁..."])
def test_ends_of_sentences(piece):
    assert ends_sentence(piece)
    assert not ends_sentence(piece + "a")


def test_the_most_frequent_tokens_are_listed():
    ids = np.array([[0, 4, 4, 4, 7, 7, 5]], dtype=np.int32)
    grammar = grammar_of(Corpus(ids, PIECES, 0), listed=2)
    assert grammar.listed == (4, 7)
    assert grammar.ends == (1, 9)
    assert grammar.beginning == 0


@pytest.mark.parametrize(
    "change",
    [{"clusters": 0}, {"offsets": (1, 2)}, {"offsets": (0, 2, 2)}, {"ends": (99,)}, {"beginning": 99}],
)
def test_grammars_that_do_not_hold_together(change):
    given = {name: getattr(GRAMMAR, name) for name in GRAMMAR.__dataclass_fields__}
    with pytest.raises(BadInput, match="grammar"):
        Grammar(**{**given, **change})


@pytest.mark.parametrize("ids", [torch.tensor([[0, 99]]), torch.tensor([[0, -1]]), torch.zeros(0, 4)])
def test_ids_that_are_no_windows_of_this_vocabulary(ids):
    with pytest.raises(BadInput, match="rules of heads"):
        scene_of(GRAMMAR, ids.long())
