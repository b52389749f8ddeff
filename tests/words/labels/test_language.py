"""The label language: text and values, back and forth, with tokens that try to break out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.errors import BadInput
from pellucid.words.labels.language import Condition, Label, Rule
from pellucid.words.labels.lexicon import Lexicon
from pellucid.words.labels.parser import parse_label
from pellucid.words.labels.slots import SLOTS, find_slot

PIECES = (
    "<s>", " the", " a", " cat", " ran", ".", "\n", '"', "\\", "{", "}", "<", ">", "(", ")", ",", ";", " and ",
    " where ",
    "�", "�", "", "", "�", "#3", '"#3', "nothing", "\\u{41}", "\\n",
    " otherwise",
    "\ud800", "\x00", "😀", "e\u0301",
    "\u202e", "'", "in {", "\u2028", " walked", " talked",
)  # fmt: skip
LEXICON = Lexicon(PIECES, 0, (1, 2), {"verbs -ed": (4, 38, 39), 'odd "<>}, \\ \n': (7, 8, 9), "1": (1,)})
NOTHING = len(PIECES)
CAT = PIECES.index(" cat")


def ascending(codes):
    return st.sets(st.integers(0, codes - 1), min_size=1, max_size=6).map(lambda found: tuple(sorted(found)))


def conditions_of(name):
    """The arguments of conditions on a slot: plain values, since checked types must not be made while drawing."""
    slot = find_slot(name)
    if slot.kind != "token":
        codes = ascending(len(slot.classes) if slot.kind == "class" else 2 * (NOTHING + 1))
        return st.tuples(st.just(name), codes, st.just(()), st.booleans())
    names = st.permutations(list(LEXICON.clusters)).map(lambda found: tuple(found[:2]))
    return st.one_of(
        st.tuples(st.just(name), ascending(NOTHING + 1), st.just(()), st.booleans()),
        st.tuples(st.just(name), ascending(NOTHING + 1) | st.just(()), names, st.booleans()),
    )


conditions = st.one_of([conditions_of(name) for name in [*SLOTS, "head 3.1", "head x"]])
values = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def labels(draw):
    """Values and paths of rules that often share conditions with the rule before, as grown labels do."""
    rules, before = [], ()
    for _ in range(draw(st.integers(0, 5))):
        path = (*before[: draw(st.integers(0, len(before)))], *draw(st.lists(conditions, max_size=2)))
        if path:
            rules.append((draw(values), path))
            before = path
    return [*rules, (draw(values), ())]


def built(rules):
    return Label(tuple(Rule(value, tuple(Condition(*c) for c in path)) for value, path in rules), LEXICON)


@given(labels())
@settings(max_examples=60, deadline=None)
def test_a_label_survives_being_printed_and_read(rules):
    label = built(rules)
    assert parse_label(str(label), LEXICON) == label


def complaint(text):
    """What is wrong with a text, or nothing."""
    try:
        parse_label(text, LEXICON)
    except BadInput as error:
        return str(error)
    return ""


@given(st.text())
@settings(max_examples=40, deadline=None)
def test_any_text_is_a_label_or_a_one_line_error(text):
    assert "\n" not in complaint(text)


@given(labels(), st.integers(0, 10**6), st.sampled_from('"#{}<>();,\\ \n0aE'))
@settings(max_examples=40, deadline=None)
def test_a_broken_label_is_a_label_or_a_one_line_error(rules, place, letter):
    text = str(built(rules))
    place %= len(text)
    assert "\n" not in complaint(text[:place] + letter + text[place + 1 :])


@given(st.lists(st.text(max_size=4), min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_the_ids_of_any_vocabulary_survive(pieces):
    lexicon = Lexicon(tuple(pieces))
    label = Label((Rule(1.0, (Condition("current", tuple(range(len(pieces) + 1))),)), Rule(0.0)), lexicon)
    assert parse_label(str(label), lexicon) == label


def test_a_label_reads_as_a_person_would_write_it():
    text = (
        '2.1 where current in {" the", " a"} and previous in <verbs -ed>; 0.4 where word not in {nothing}; 0 otherwise'
    )
    label = parse_label(text, LEXICON)
    assert str(label) == text
    assert [rule.value for rule in label.rules] == [pytest.approx(2.1), pytest.approx(0.4), 0]
    assert label.rules[0].conditions == (Condition("current", (1, 2)), Condition("previous", (), ("verbs -ed",)))
    assert label.sets == (2, 1, 1)


def test_brackets_are_short_for_shared_conditions():
    short = 'where current in {" the"} (2 where previous in <1>; 1 otherwise); 0 otherwise'
    long = '2 where current in {" the"} and previous in <1>; 1 where current in {" the"}; 0 otherwise'
    assert parse_label(short, LEXICON) == parse_label(long, LEXICON)
    assert str(parse_label(long, LEXICON)) == short


def test_tokens_of_the_same_text_are_told_apart_by_id():
    """The text alone is the last of them."""
    label = parse_label('1 where current in {"�", "�"#20}; 0 otherwise', LEXICON)
    assert label.rules[0].conditions[0].codes == (20, 23)
    assert '"�"#20, "�"}' in str(label)


def test_a_pair_and_nothing():
    label = parse_label('1 where previous+current in {nothing " the", " a" " cat"}; 0 otherwise', LEXICON)
    assert label.rules[0].conditions[0].codes == (2 * (NOTHING + 1) + 3, NOTHING * (NOTHING + 1) + 1)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "character 1"),
        ("1", "'where' or 'otherwise'"),
        ("nan otherwise", "not a number"),
        ("1e99 otherwise", "not finite"),
        ("1 otherwise; 2 otherwise", "last rule"),
        ('1 where current in {" the"}', "last rule"),
        ("1 where current in {}; 0 otherwise", "a token in quotes"),
        ('1 where current in {" dog"}; 0 otherwise', "no token of the vocabulary"),
        ('1 where current in {" the"#2}; 0 otherwise', "no token of the vocabulary"),
        ("1 where current in <dogs>; 0 otherwise", "no cluster"),
        ('1 where colour in {" the"}; 0 otherwise', "no slot"),
        ('1 where current in {" the", " the"}; 0 otherwise', "repeats itself"),
        ('1 where previous+current in {" the"}; 0 otherwise', "a token in quotes"),
        ("1 where previous+current in {<1>}; 0 otherwise", "shows no single tokens"),
        ("1 where place in {soon}; 0 otherwise", "one of the classes"),
        ('where current in {" the"} (1 where previous in <1>); 0 otherwise', "in brackets"),
        ('where current in {" the"} (1 otherwise; 0 otherwise', "in brackets"),
        ('1 where current in {"\\u{110000}"}; 0 otherwise', "is no character"),
        ('__import__("os") otherwise', "not a number"),
        ("where current in <1> (" * 200, "deep"),
        ("1 otherwise and more", "';' or the end"),
    ],
)
def test_what_is_no_label_is_refused_with_its_cause(text, cause):
    with pytest.raises(BadInput, match=cause.replace("(", r"\(").replace(")", r"\)")) as error:
        parse_label(text, LEXICON)
    assert "\n" not in str(error.value)


def test_a_label_of_other_codes_cannot_be_made():
    for slot, codes, clusters in [
        ("current", (), ()), ("current", (NOTHING + 1,), ()), ("current", (2, 1), ()), ("place", (99,), ()),
        ("place", (), ("1",)), ("current", (), ("x",)),
    ]:  # fmt: skip
        with pytest.raises(BadInput):
            Label((Rule(1.0, (Condition(slot, codes, clusters),)), Rule(0.0)), LEXICON)
    with pytest.raises(BadInput):
        Label((Rule(math.inf),), LEXICON)
    with pytest.raises(BadInput):
        Label((), LEXICON)


def test_bits_grow_with_what_has_to_be_said():
    def bits(text: str) -> float:
        return parse_label(text, LEXICON).bits

    assert bits("0 otherwise") < 20
    one = bits('1 where current in {" the"}; 0 otherwise')
    assert one < bits('1 where current in {" the", " a"}; 0 otherwise')
    assert one < bits('1 where current in {" the"} and previous in {" a"}; 0 otherwise')
    shared = bits('where current in {" the"} (2 where previous in {" a"}; 1 otherwise); 0 otherwise')
    apart = bits('2 where current in {" the"} and previous in {" a"}; 1 where current in {" a"}; 0 otherwise')
    assert shared < apart


def test_bits_count_a_subset_as_one_of_all_of_its_size():
    label = parse_label('1 where current in {" the", " a"}; 0 otherwise', LEXICON)
    tokens = NOTHING + 1
    rule = 16 + 1 + 3 + math.log2(len(SLOTS) + 1) + 1 + 1 + 3 + math.log2(tokens * (tokens - 1) / 2)
    assert label.bits == pytest.approx(3 + rule + 16 + 1 + 1)


def test_a_label_predicts_from_ids_alone():
    label = parse_label('where current in {" cat"} (2 where previous in {" the"}; 1 otherwise); 0.5 otherwise', LEXICON)
    ids = np.array([[0, 1, CAT, 2, CAT], [CAT, CAT, 1, 1, CAT]])
    assert label.predict(ids).tolist() == [[0.5, 0.5, 2, 0.5, 1], [1, 1, 0.5, 0.5, 2]]
    assert label.predict(ids).dtype == np.float32


def test_a_label_may_cite_where_a_head_looks():
    label = parse_label('1 where head 3.1 in {" cat"}; 0 otherwise', LEXICON)
    ids = np.array([[0, CAT, 1, 2]])
    assert label.predict(ids, {"head 3.1": np.array([[0, 0, 1, 1]])}).tolist() == [[0, 0, 1, 1]]
    with pytest.raises(BadInput, match="nobody says where it looks"):
        label.predict(ids)
    with pytest.raises(BadInput, match="outside 0 … 3"):
        label.predict(ids, {"head 3.1": np.array([[0, 0, 1, 4]])})
