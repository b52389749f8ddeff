"""Rules fitted to heads that follow known rules; measures and controls of what was fitted."""

import dataclasses

import numpy as np
import pytest
from words.heads.planted_heads import GRAMMAR, at_distance, captured, related, rule, windows

from pellucid.errors import BadInput
from pellucid.words.heads.capture import TokenMeans
from pellucid.words.heads.clusters import deal_tokens
from pellucid.words.heads.fitting import Course, fit_heads
from pellucid.words.heads.measures import agreement, dealt_elsewhere, uniform, without

COURSE = Course(steps=70, windows=8, rate=0.15)


@pytest.fixture(scope="module")
def truth():
    before, induction = rule(0, **at_distance(1, 4.0)), rule(1, **related("after the same token", 4.0))
    noisy = rule(2, seed=5)
    return [before, induction, noisy]


@pytest.fixture(scope="module")
def fitted(truth):
    return fit_heads(captured(truth, windows(64)), GRAMMAR, COURSE)


def test_fitted_rules_hold_on_texts_they_have_not_seen(truth, fitted):
    unseen = captured(truth, windows(24, seed=1))
    found = agreement(fitted, unseen)
    assert found.divergence[:2].max() < 0.02
    assert found.divergence[2] < 0.35 * agreement(uniform(fitted), unseen).divergence[2]
    assert found.top[[0, 2]].min() > 0.6
    assert found.queries == 24 * 8


def test_controls_fail(truth, fitted):
    unseen = captured(truth, windows(24, seed=1))
    here, elsewhere = agreement(fitted, unseen), agreement(dealt_elsewhere(fitted), unseen)
    assert (elsewhere.divergence > 5 * here.divergence).all()
    assert agreement(uniform(fitted), unseen).divergence.min() > 0.2


def test_a_term_that_a_head_needs_is_missed_by_that_head(truth, fitted):
    unseen = captured(truth, windows(24, seed=1))
    lost = agreement(without(fitted, ["relations"]), unseen).divergence - agreement(fitted, unseen).divergence
    assert lost[1] > 0.2
    assert abs(lost[0]) < 0.05
    with pytest.raises(BadInput, match="no term 'colour'"):
        without(fitted, ["colour"])


def test_terms_left_out_stay_zero(truth):
    heads = fit_heads(captured(truth, windows(16)), GRAMMAR, Course(steps=5, windows=4), ("distance",))
    assert heads.tables["query_offsets"].any()
    assert not heads.tables["pairs"].any()
    assert not heads.tables["query_offsets"][:, 1:].any()


def test_the_same_texts_give_the_same_rules(truth):
    course = Course(steps=5, windows=4)
    first, second = (fit_heads(captured(truth, windows(16)), GRAMMAR, course) for _ in range(2))
    assert all(bool((first.tables[name] == second.tables[name]).all()) for name in first.tables)
    assert bool((first.clusters == second.clusters).all())


def test_a_course_shows_every_window_before_any_again():
    course = Course(steps=5, windows=3)
    shown = np.concatenate([*course.batches(15)])
    assert sorted(shown) == [*range(15)]
    assert course.rate_at(4) < course.rate_at(1)


def test_heads_rest_where_beginnings_take_their_weight(truth):
    to_first = rule(3, pairs={(0, GRAMMAR.key_slots["nth"].start): 4.0})
    heads = fit_heads(captured([*truth[:2], to_first], windows(16)), GRAMMAR, Course(steps=1, windows=4))
    assert heads.rests == (False, False, True)


def test_rules_of_other_heads_are_refused(truth, fitted):
    with pytest.raises(BadInput, match="other heads"):
        agreement(fitted.some([0]), captured(truth, windows(4)))


def test_tokens_are_dealt_by_what_they_mean():
    """Three groups of tokens far apart, in a space where one direction does not matter; one token never occurs."""
    rng = np.random.default_rng(0)
    group = rng.integers(0, 3, 60)
    points = np.eye(4)[group] * 5 + rng.normal(size=(60, 4)) * [0.1, 0.1, 0.1, 50]
    counts = rng.integers(20, 90, 60)
    counts[7], counts[8] = 0, 1
    seen = TokenMeans(np.arange(2, 62), counts, points[None], np.diag([1, 1, 1, 0.0])[None])
    dealt = deal_tokens(seen, 0, 3, 70)
    kept = np.flatnonzero(counts > 1)
    assert len(np.unique(dealt[2 + kept])) == 3
    for one in range(3):
        assert len(np.unique(dealt[2 + kept[group[kept] == one]])) == 1
    assert len(np.unique(dealt[[0, 1, 9, 63, 69]])) == 1
    assert np.array_equal(dealt, deal_tokens(dataclasses.replace(seen), 0, 3, 70))


def test_fewer_tokens_than_clusters():
    seen = TokenMeans(np.array([0, 3]), np.array([5, 5]), np.eye(2)[None], np.eye(2)[None])
    assert set(deal_tokens(seen, 0, 32, 6)) <= {0, 1}
