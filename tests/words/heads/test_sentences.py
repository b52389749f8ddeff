"""What is said of heads that are known."""

import numpy as np
import pytest
from words.heads.planted_heads import GRAMMAR, PIECES, at_distance, captured, related, rule, windows

from pellucid.errors import BadInput
from pellucid.words.heads.aspects import ASPECTS, shares_of
from pellucid.words.heads.sentences import FAMILIES, describe_heads, rule_lines

TO_FIRST = {"pairs": {(0, GRAMMAR.key_slots["nth"].start): 20.0}}
TO_DOGS = {"pairs": {(0, GRAMMAR.key_slots["token"].start + 3): 3.0}}
"""Cluster 3: " Ann", " dog", " a"."""


def texts(rules):
    chosen, shown = (shares_of(captured(rules, windows(40, seed=s)), GRAMMAR, PIECES) for s in (0, 1))
    names = [(one.function, one.head) for one in rules]
    return describe_heads(names, PIECES, chosen, shown)


def test_each_head_is_said_and_named_by_what_it_does():
    before, induction, first, words = texts(
        [rule(0, **at_distance(1)), rule(1, **related("after the same token")), rule(2, **TO_FIRST), rule(3, **TO_DOGS)]
    )
    assert before.sentence.startswith("looks at the token before (1.00 of its weight)")
    assert before.name == "token before"
    assert induction.name == "what followed earlier copies of its token"
    assert (first.name, first.aspects[0][1]) == ("beginning", pytest.approx(1, abs=1e-3))
    assert {word for word, _ in words.words} == {" Ann", " dog", " a"}


def test_a_name_that_fits_two_heads_is_taken_back():
    one, other, third = texts([rule(0, **at_distance(1)), rule(1, **at_distance(1, 10.0)), rule(2, **TO_FIRST)])
    assert one.name == other.name == ""
    assert one.sentence.startswith("looks at the token before")
    assert third.name == "beginning"


def test_a_head_that_looks_at_all_alike_is_said_to_look_at_nothing():
    (text,) = texts([rule()])
    assert (text.sentence, text.name) == ("looks at nothing in particular", "")


def test_shares_of_a_uniform_look_are_counted_right():
    shares = shares_of(captured([rule()], windows(30)), GRAMMAR, PIECES)
    np.testing.assert_allclose(shares.real[0], shares.uniform, atol=2e-3)
    np.testing.assert_allclose(shares.tokens[0], shares.uniform_tokens, atol=2e-3)
    assert shares.queries == 240


def test_every_aspect_has_one_family():
    flat = [aspect for family in FAMILIES for aspect in family]
    assert sorted(flat) == sorted(ASPECTS)


def test_the_strongest_number_is_the_first_line():
    lines = rule_lines(rule(**at_distance(1)), PIECES, windows(4))
    assert lines[0].startswith("at distance 1: +")
    assert rule_lines(rule(), PIECES, windows(4)) == ()
    dogs = rule_lines(rule(**TO_DOGS), PIECES, windows(4))
    assert dogs[0].startswith("looks at {")
    assert '" dog"' in dogs[0]


def test_shares_of_other_heads_are_refused():
    shares = shares_of(captured([rule()], windows(4)), GRAMMAR, PIECES)
    with pytest.raises(BadInput, match="2 heads"):
        describe_heads([("f", 0), ("f", 1)], PIECES, shares, shares)
