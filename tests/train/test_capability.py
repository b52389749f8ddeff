"""Capabilities of language models whose preferences are planted: a table of bigrams over letters."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from pellucid.data.corpus import Corpus
from pellucid.errors import BadInput
from pellucid.train.capability import (
    Schema,
    held_out_loss,
    minimal_pairs,
    pronouns,
    read_pairs,
    read_schemas,
)

LETTERS = "^ .abcdefghijklmnopqrstuvwxyzATB"


class Letters:
    """One id a letter; every text begins with ^."""

    def encode(self, text):
        return [0, *(LETTERS.index(letter) for letter in text)]

    def decode(self, ids):
        return "".join(LETTERS[i] for i in ids)


class Bigrams(nn.Module):
    """Logits of the next letter from the last one alone."""

    def __init__(self, likes=(), strength=5.0):
        super().__init__()
        table = torch.zeros(len(LETTERS), len(LETTERS))
        for first, second in likes:
            table[LETTERS.index(first), LETTERS.index(second)] = strength
        self.table = nn.Parameter(table)

    def forward(self, ids):
        return self.table[ids]


def test_the_loss_of_a_uniform_model_is_the_log_of_its_vocabulary():
    corpus = Corpus(np.arange(20).reshape(2, 10), tuple(LETTERS))
    assert held_out_loss(Bigrams(), corpus) == pytest.approx(math.log(len(LETTERS)))


def test_the_loss_counts_every_token_but_the_first_of_a_window():
    corpus = Corpus(np.array([[3, 4, 5], [4, 5, 6], [3, 4, 9]]), tuple(LETTERS))
    model = Bigrams([("a", "b")])
    chances = model(torch.from_numpy(corpus.ids.astype(np.int64))).log_softmax(-1).detach()
    expected = -np.mean([float(chances[w, i - 1, corpus.ids[w, i]]) for w in range(3) for i in (1, 2)])
    assert held_out_loss(model, corpus, windows=2) == pytest.approx(expected, abs=1e-6)


def test_pairs_are_won_by_the_more_probable_sentence():
    model = Bigrams([("a", "b")])
    share = minimal_pairs(model, Letters(), [("ab", "ba"), ("cab", "cba"), ("ba", "ab"), ("xabx", "xxxx")])
    assert (share.right, share.of) == (3, 4)
    assert share.margin == pytest.approx(1.96 * math.sqrt(0.75 * 0.25 / 4))


def test_a_tie_is_not_a_win():
    assert minimal_pairs(Bigrams(), Letters(), [("ab", "ba")]).right == 0


def test_pronouns_are_scored_by_what_follows_them_alone():
    schema = Schema("a saw b. ", " ran", ("tom", "ann"), 0)
    likes_its_end = Bigrams([("m", " ")])
    assert pronouns(likes_its_end, Letters(), [schema]).right == 1
    likes_the_other_name_itself = Bigrams([("a", "n")])
    assert pronouns(likes_the_other_name_itself, Letters(), [replace(schema, answer=1)]).right == 0
    assert pronouns(Bigrams([("n", " ")]), Letters(), [schema]).right == 0


def test_where_nothing_follows_whole_sentences_are_compared():
    schema = Schema("it was ", "", ("tom", "ann"), 1)
    assert pronouns(Bigrams([("n", "n")]), Letters(), [schema]).right == 1


def test_training_mode_is_put_back():
    model = Bigrams().train()
    minimal_pairs(model, Letters(), [("ab", "ba")])
    assert model.training


def test_schemas_are_read_from_blocks(tmp_path):
    file = tmp_path / "wsc.txt"
    file.write_text(
        "A cup fell because  [MASK]  was wet. \n[MASK]\n the cup , A hand\nA hand \n\n[MASK] ran.\n[MASK]\na,b\na\n"
    )
    first, second = read_schemas(file)
    assert first == Schema("A cup fell because ", " was wet.", ("the cup", "A hand"), 1)
    assert second == Schema("", " ran.", ("a", "b"), 0)


@pytest.mark.parametrize(
    "block", ["no mask\n[MASK]\na,b\na", "[MASK] x\n[MASK]\na,b\nc", "[MASK]\n[MASK]\na", "[MASK] x\n[M]\na\na"]
)
def test_what_is_no_schema_is_refused_with_its_place(tmp_path, block):
    file = tmp_path / "wsc.txt"
    file.write_text(f"[MASK] x\n[MASK]\na,b\na\n\n{block}\n")
    with pytest.raises(BadInput, match="block 2"):
        read_schemas(file)


def test_pairs_are_read_from_all_files(tmp_path):
    for name in ("b", "a"):
        (tmp_path / f"{name}.jsonl").write_text(
            json.dumps({"sentence_good": name, "sentence_bad": "x", "more": 1}) + "\n"
        )
    assert read_pairs(tmp_path) == [("a", "x"), ("b", "x")]


@pytest.mark.parametrize("line", ["{", "[1]", '{"sentence_good": "a"}', '{"sentence_good": 1, "sentence_bad": "a"}'])
def test_lines_that_are_no_pairs_are_refused(tmp_path, line):
    (tmp_path / "a.jsonl").write_text(line)
    with pytest.raises(BadInput, match="line 1"):
        read_pairs(tmp_path)


def test_nothing_to_score_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"no \.jsonl"):
        read_pairs(tmp_path)
    with pytest.raises(BadInput, match="none were given"):
        minimal_pairs(Bigrams(), Letters(), [])
    with pytest.raises(BadInput, match="none were given"):
        pronouns(Bigrams(), Letters(), [])
