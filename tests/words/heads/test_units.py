"""Records of heads: a planted head is said to do what it does, its score and contexts are what the network computes."""

import dataclasses

import numpy as np
import pytest
from planted_language import language_program
from words.heads.planted_network import NAMES, corpus, network, real_patterns

from pellucid.data.corpus import CorpusParts
from pellucid.errors import BadInput
from pellucid.ir.units import parse_unit
from pellucid.words.described import read_units, write_units
from pellucid.words.heads.capture import capture_heads, drawn
from pellucid.words.heads.correlation import correlation
from pellucid.words.heads.fitting import Course, fit_heads
from pellucid.words.heads.rule import Heads
from pellucid.words.heads.scene import grammar_of
from pellucid.words.heads.units import BEFORE, FAINT, LONGEST, head_labels, head_units

PARTS = CorpusParts(corpus(120), corpus(2, 1), corpus(20, 2), corpus(17, 3))


@pytest.fixture(scope="module")
def heads():
    _, program = network()
    course = Course(steps=60, windows=8, rate=0.15)
    return fit_heads(capture_heads(program, PARTS.fit), grammar_of(PARTS.fit), course)


@pytest.fixture(scope="module")
def units(heads):
    return tuple(head_units(network()[1], heads.rules(), PARTS, top=5, random=2))


def pairs(one, other, queries, ids):
    """Weights of two patterns (windows, query, key) on keys that are no beginning, at some queries, side by side."""
    found = []
    for window, asked in enumerate(queries):
        for query in asked:
            keys = [key for key in range(1, query + 1) if ids[window, key] != 0]
            found += [(one[window, query, key], other[window, query, key]) for key in keys]
    return np.array(found).T


def test_the_head_that_looks_at_the_token_before(units):
    unit = units[NAMES["previous"]]
    assert parse_unit(network()[1], unit.name).index == 0
    assert unit.kind == "rule"
    assert unit.r > 0.9
    assert unit.shuffled < 0.5
    assert unit.label.startswith("looks at the token before (")
    assert unit.label.splitlines()[1].startswith("at distance 1: +")
    tops = [one for one in unit.contexts if one.how == "top"]
    assert len(tops) == 5
    for one in tops:
        assert one.query == len(one.pieces) - 1
        assert int(np.argmax(one.activations)) == int(np.argmax(one.predicted)) == one.query - 1


def test_another_head_is_not_said_to_do_so(units):
    copies = units[NAMES["copies"]]
    assert not copies.label.startswith("looks at the token before")
    assert copies.r > copies.shuffled + 0.3


def test_scores_are_correlations_over_pairs(heads):
    model, program = network()
    found = correlation(program, heads, PARTS.verify, queries=6, seed=3)
    ids, queries = PARTS.verify.ids, drawn(PARTS.verify, 6, 3)
    real = real_patterns(model, ids)
    said = [rule.pattern(ids) for rule in heads.rules()]
    for head in range(3):
        here, there = said[head], said[(head + 1) % 3]
        assert found.r[head] == pytest.approx(np.corrcoef(pairs(real[:, head], here, queries, ids))[0, 1], abs=1e-4)
        shuffled = np.corrcoef(pairs(real[:, head], there, queries, ids))[0, 1]
        assert found.shuffled[head] == pytest.approx(shuffled, abs=1e-4)
        same = [real[w, head, q].argmax() == here[w, q].argmax() for w, asked in enumerate(queries) for q in asked]
        assert found.top[head] == pytest.approx(np.mean(same))
    assert found.queries == 17 * 6


def test_a_head_alone_is_held_to_another_text(heads):
    model, program = network()
    ids, queries = PARTS.verify.ids, drawn(PARTS.verify, 64, 0)
    one = heads.some([NAMES["copies"]])
    found = correlation(program, one, PARTS.verify)
    elsewhere = one.rules()[0].pattern(np.roll(ids, 1, axis=0))
    real = real_patterns(model, ids)[:, NAMES["copies"]]
    expected = np.corrcoef(pairs(real, elsewhere, queries, ids))[0, 1]
    assert found.shuffled[0] == pytest.approx(expected, abs=1e-4)
    assert found.shuffled[0] < found.r[0]
    assert np.isnan(correlation(program, one, PARTS.verify.rows([0])).shuffled[0])


def test_a_rule_that_says_nothing_is_worth_nothing(heads):
    _, program = network()
    flat = heads.with_tables({name: table * 0 for name, table in heads.tables.items()})
    assert correlation(program, flat, PARTS.verify).r.max() < 0.5


def test_contexts_are_what_the_network_computes(units, heads):
    ids = PARTS.describe.ids
    real = real_patterns(network()[0], ids)
    silent = (ids == 0)[:, None, None] | np.zeros_like(real, dtype=bool)
    telling = np.where(silent, 0, real)
    for head, unit in enumerate(units):
        said = heads.rules()[head].pattern(ids)
        tops = [one for one in unit.contexts if one.how == "top"]
        best = np.sort(telling[:, head, 1:].max(axis=(1, 2)))[::-1][: len(tops)]
        assert [max(one.activations) for one in tops] == pytest.approx(best.tolist(), abs=1e-5)
        assert len({one.window for one in tops}) == 5
        assert len([one for one in unit.contexts if one.how == "random"]) == 2
        for one in unit.contexts:
            query, span = one.start + one.query, slice(one.start, one.start + len(one.pieces))
            assert 1 <= one.start <= max(1, query - BEFORE)
            for shown, pattern in ((one.activations, telling[:, head]), (one.predicted, said)):
                row = np.where(ids[one.window] == 0, 0, pattern[one.window, query])[span]
                np.testing.assert_allclose(shown, np.where(row < FAINT, 0, row), atol=1e-5)
        awake = telling[:, head, 1:].max(-1) > np.where(silent, real, 0)[:, head, 1:].max(-1)
        assert unit.density == pytest.approx(awake.mean())


def test_records_come_back_from_files_and_are_the_same_again(units, heads, tmp_path):
    write_units(units, tmp_path)
    assert repr(read_units(tmp_path)) == repr(units)
    again = tuple(head_units(network()[1], heads.rules(), PARTS, top=5, random=2))
    assert repr(again) == repr(units)


def test_labels_are_bounded(heads):
    strange = dataclasses.replace(PARTS.describe, pieces=tuple(f" {i}" * 400 for i in range(40)))
    assert all(len(label) <= LONGEST for label in head_labels(heads, strange))


def test_labels_do_not_favour_beginnings(heads):
    assert not any('"<s>" (' in label for label in head_labels(heads, PARTS.describe))


def test_rules_of_other_heads_are_refused(heads):
    _, program = network()
    first, second, _ = heads.rules()
    assert list(head_units(program, (), PARTS)) == []
    with pytest.raises(BadInput, match="no head 7 of"):
        list(head_units(program, [first, dataclasses.replace(second, head=7)], PARTS))
    with pytest.raises(BadInput, match="no head 1 of nowhere"):
        list(head_units(program, [dataclasses.replace(second, function="nowhere")], PARTS))
    with pytest.raises(BadInput, match="has two"):
        list(head_units(program, [first, first], PARTS))
    with pytest.raises(BadInput, match="has no attention"):
        correlation(language_program(), Heads.of([first]), PARTS.verify)
