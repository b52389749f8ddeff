"""Names: they say what picks the module out, and one that fits several is taken back."""

import dataclasses

import numpy as np
import planted_hierarchy as planted
import pytest

from pellucid.words.hierarchy.composed import described, said_together, sentence, sentences
from pellucid.words.hierarchy.names import FITS, alone, candidates, fits, named_modules
from pellucid.words.labels.labelset import LabelSet
from pellucid.words.labels.parser import parse_label

TEXT = planted.text()
LEXICON = planted.lexicon_of(TEXT)


def where(tokens):
    return np.isin(TEXT.ids.ravel(), tokens).astype(np.float32)


def set_of(*texts):
    return LabelSet("f:latents", tuple(parse_label(text, LEXICON) for text in texts), LEXICON)


def test_a_description_is_composed_from_labels_of_children():
    members = np.array([planted.GROUPS == 0, planted.GROUPS == 1])
    said = said_together(planted.labels_of(TEXT), TEXT.ids, members, np.full(2 * planted.EACH, 0.5))
    np.testing.assert_allclose(said[1], 0.5 * planted.EACH * where(planted.SECOND))
    found = described(TEXT.ids, said, LEXICON, "f:latents")
    assert str(found.labels[0]) == "10 where current in <like w3, w4, w5>; 0 otherwise"
    assert sentences(found, TEXT.ids)[0] == "writes most where the token itself is one like w3, w4, w5"


def test_modules_get_the_names_that_pick_them_out():
    labels = set_of(
        "5 where current in <like w3, w4, w5>; 0 otherwise", "3 where current in <like w10, w11, w12>; 0 otherwise"
    )
    names = named_modules(labels, TEXT.ids, np.array([where(planted.FIRST), where(planted.SECOND)]))
    assert [name.candidate.text for name in names] == ["w3, w4, w5", "w10, w11, w12"]
    assert all(name.taken_back == () for name in names)


def test_a_name_that_fits_several_is_taken_back_and_the_next_is_tried():
    same = "5 where current in <like w3, w4, w5>; 2 where current in <rest>; 0 otherwise"
    both = np.array([where((*planted.FIRST, 20, 21)), where((*planted.FIRST, 30, 31))])
    names = named_modules(set_of(same, same), TEXT.ids, both)
    assert "w3, w4, w5" in names[0].taken_back
    assert "w3, w4, w5" in names[1].taken_back
    assert names[0].candidate.text == "rest"
    assert names[1].candidate is None


def test_two_modules_alike_stay_unnamed():
    same = "5 where current in <like w3, w4, w5>; 0 otherwise"
    names = named_modules(set_of(same, same), TEXT.ids, np.array([where(planted.FIRST)] * 2))
    assert [name.candidate for name in names] == [None, None]
    assert all(name.taken_back == ("w3, w4, w5",) for name in names)


def test_a_name_is_given_once():
    labels = set_of("5 where current in <like w3, w4, w5>; 0 otherwise")
    (name,) = named_modules(labels, TEXT.ids, where(planted.FIRST)[None], used=["w3, w4, w5"])
    assert name.candidate is None


def test_a_name_that_fits_nobody_is_not_given():
    labels = set_of("5 where current in <rest>; 0 otherwise")
    (name,) = named_modules(labels, TEXT.ids, where(planted.FIRST)[None])
    assert name.candidate is None
    assert fits(candidates(labels.labels[0]), LEXICON, TEXT.ids, where(planted.FIRST)[None])[0, 0] < FITS


def test_names_say_their_slot_unless_it_is_the_token():
    label = parse_label('3 where previous in {" w3", " w7"}; 1 where current in {" w9"}; 0 otherwise', LEXICON)
    assert [one.text for one in candidates(label)] == ["previous: w3, w7", "w9"]


def test_what_lowers_is_no_name():
    label = parse_label('-3 where current in {" w3"}; 1 where current not in {" w9"}; 0 otherwise', LEXICON)
    assert candidates(label) == ()
    assert "current" not in sentence(parse_label('-3 where current in {" w3"}; 0 otherwise', LEXICON), (5, 5))


def test_fits_is_balanced_accuracy():
    (one,) = candidates(parse_label('1 where current in {" w3"}; 0 otherwise', LEXICON))
    inner = TEXT.ids[:, 1:]
    wanted = ((inner == 3).sum() / np.isin(inner, planted.FIRST).sum() + 1) / 2
    assert fits([one], LEXICON, TEXT.ids, where(planted.FIRST)[None])[0, 0] == pytest.approx(wanted)


def test_unseen_characters_do_not_get_into_names():
    pieces = (*LEXICON.pieces[:3], " \u202eevil\n", *LEXICON.pieces[4:])
    lexicon = dataclasses.replace(LEXICON, pieces=pieces, clusters={"like \u202eevil": (3, 4)})
    label = parse_label("1 where current in <like \\u{202E}evil>; 0 otherwise", lexicon)
    assert [one.text for one in candidates(label)] == ["u{202E}evil"]


def test_alone():
    assert alone(np.array([0.9, 0.6, np.nan]), 0)
    assert not alone(np.array([0.9, 0.85]), 0)
    assert alone(np.array([0.7]), 0)
