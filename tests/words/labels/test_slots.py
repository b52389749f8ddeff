"""Slots: what stands where, on a text whose answers are plain to see."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.data.corpus import Corpus
from pellucid.errors import BadInput
from pellucid.words.labels.lexicon import Lexicon, survey
from pellucid.words.labels.slots import DISTANCES, SLOTS, read_slots

PIECES = (
    "<s>", " the", " cat", " saw", " L", "ily", ".", "\n", '"', " Then", " Tom", " ran", "The", " a", ",",
)  # fmt: skip
AT = {piece: i for i, piece in enumerate(PIECES)}
LEXICON = Lexicon(PIECES, 0, (AT[" the"], AT[" a"]))
WORDS = [
    "<s>",
    "The",
    " cat",
    " saw",
    " L",
    "ily",
    ".",
    " Then",
    " the",
    " cat",
    ",",
    '"',
    " ran",
    " a",
    " Tom",
    '"',
    "\n",
]
IDS = np.array([[AT[word] for word in WORDS]])


def shown(name):
    """What a slot shows, as texts or names of classes."""
    slot, codes = SLOTS[name], read_slots(IDS, LEXICON, [name])[name][0].tolist()
    texts = [*PIECES, None]
    if slot.kind == "class":
        return [slot.classes[code] for code in codes]
    if slot.kind == "token":
        return [texts[code] for code in codes]
    first = slot.classes or texts
    return [(first[code // (len(PIECES) + 1)], texts[code % (len(PIECES) + 1)]) for code in codes]


def test_tokens_before():
    assert shown("current") == WORDS
    assert shown("previous") == [None, *WORDS[:-1]]
    assert shown("two back") == [None, None, *WORDS[:-2]]
    assert shown("three back") == [None, None, None, *WORDS[:-3]]
    assert shown("previous+current")[:3] == [(None, "<s>"), ("<s>", "The"), ("The", " cat")]
    assert shown("two back+previous")[3] == ("The", " cat")


def test_content_words_are_words_that_are_no_function_words():
    assert shown("content")[:10] == [None, None, "The", " cat", " saw", " L", " L", " L", " Then", " Then"]
    assert shown("second content")[3:8] == ["The", " cat", " saw", " saw", " saw"]
    assert shown("third content")[5] == " cat"
    assert shown("content+current")[2] == ("The", " cat")


def test_words_may_be_of_several_tokens():
    assert shown("word")[4:8] == [" L", " L", None, " Then"]
    assert shown("word+current")[5] == (" L", "ily")
    assert shown("word before")[3:9] == [" cat", " saw", " saw", " L", " L", " Then"]


def test_sentences_begin_after_their_ends():
    assert shown("sentence start")[1:9] == ["The"] * 6 + [" Then"] * 2
    assert shown("place in sentence")[1:9] == ["0", "1", "2", "3", "4", "5", "0", "1"]


def test_names_are_capitalised_within_a_sentence():
    assert shown("name") == [None] * 5 + [" L"] * 10 + [" Tom"] * 2
    assert shown("name end")[5:] == ["ily"] * 10 + ['"'] * 2


def test_induction_shows_what_followed_last_time():
    assert shown("after last time")[9] == " saw"
    assert shown("after last time")[2] is None
    assert shown("after last time")[15] == " ran"


def test_punctuation_quotes_and_places():
    assert shown("punctuation")[1:9] == ["<s>"] * 6 + [".", "."]
    assert shown("quoted") == ["no"] * 11 + ["yes"] * 4 + ["no"] * 2
    assert shown("quoted+current")[12] == ("yes", " ran")
    assert shown("place")[:9] == ["0", "1", "2", "3", "4", "5", "6 to 7", "6 to 7", "8 to 11"]
    assert DISTANCES[-1] == "128 or more"


def test_a_beginning_within_the_window_starts_the_count_again():
    ids = np.array([[0, 1, 0, 1]])
    assert read_slots(ids, LEXICON, ["place"])["place"].tolist() == [[0, 1, 0, 1]]


def test_windows_do_not_see_each_other():
    apart = [read_slots(row[None], LEXICON) for row in (IDS[0], IDS[0, ::-1])]
    both = read_slots(np.stack([IDS[0], IDS[0, ::-1]]), LEXICON)
    for name in SLOTS:
        assert (both[name] == np.concatenate([one[name] for one in apart])).all(), name


def test_no_slot_looks_ahead():
    rng = np.random.default_rng(0)
    ids = rng.integers(0, len(PIECES), (5, 30))
    other = ids.copy()
    other[:, 20:] = rng.integers(0, len(PIECES), (5, 10))
    for name, codes in read_slots(ids, LEXICON).items():
        assert (codes[:, :20] == read_slots(other, LEXICON, [name])[name][:, :20]).all(), name


def test_heads_show_the_token_they_look_at():
    looks = {"head 0.3": np.minimum(np.arange(17)[None], 2)}
    assert read_slots(IDS, LEXICON, ["head 0.3"], looks)["head 0.3"][0].tolist() == [0, AT["The"], *[AT[" cat"]] * 15]
    assert "head 0.3" in read_slots(IDS, LEXICON, given=looks)


@pytest.mark.parametrize("ids", [np.array([[99]]), np.array([[-1]]), np.zeros((0, 4), int)])
def test_ids_of_another_vocabulary_are_refused(ids):
    with pytest.raises(BadInput, match="tokenizer"):
        read_slots(ids, LEXICON)


def test_function_words_stand_in_most_windows():
    ids = np.array([[AT[" the"], AT[" cat"]], [AT[" the"], AT[" ran"]], [AT["."], AT[" ran"]]])
    lexicon = survey(Corpus(ids.astype(np.int32), PIECES, 0))
    assert lexicon.function_words == (AT[" the"], AT[" ran"])


def test_a_lexicon_of_another_vocabulary_is_refused():
    with pytest.raises(BadInput, match="another tokenizer"):
        Lexicon(PIECES, 0, (99,))
    with pytest.raises(BadInput, match="do not ascend"):
        LEXICON.with_clusters({"odd": (3, 2)})
