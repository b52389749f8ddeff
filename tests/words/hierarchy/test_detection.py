"""Detection: a description that says where its module is active is right, a sibling's is at chance."""

import numpy as np
import planted_hierarchy as planted
import pytest

from pellucid.words.hierarchy.detection import dealt_siblings, detection, strong

CORPORA = (planted.text(120, seed=0), planted.text(120, seed=1))
SETS = (planted.FIRST[:1], planted.SECOND[:1])


def shown(corpus):
    return np.array([np.isin(corpus.ids, tokens).astype(float) for tokens in SETS])


def test_own_descriptions_detect_and_siblings_do_not():
    real = tuple(np.array([strong(one) for one in shown(corpus)]) for corpus in CORPORA)
    found = detection(["a", "b"], CORPORA, real, tuple(map(shown, CORPORA)), (1, 0))
    for one in found:
        assert one.value == 1
        assert one.low > 0.9
        assert one.control == pytest.approx(0.5, abs=0.12)
        assert one.count > 60


def test_noise_detects_nothing():
    real = tuple(np.array([strong(one) for one in shown(corpus)]) for corpus in CORPORA)
    rng = np.random.default_rng(0)
    noise = tuple(rng.random((2, *corpus.ids.shape)) for corpus in CORPORA)
    for one in detection(["a", "b"], CORPORA, real, noise, (1, 0)):
        assert one.value == pytest.approx(0.5, abs=0.12)


def test_a_module_that_is_never_active_has_no_score():
    nothing = tuple(np.zeros((1, *corpus.ids.shape)) for corpus in CORPORA)
    said = tuple(shown(corpus)[:1] for corpus in CORPORA)
    assert detection(["a"], CORPORA, nothing, said, (0,)) == (None,)


def test_alone_there_is_no_control():
    real = tuple(np.array([strong(one) for one in shown(corpus)[:1]]) for corpus in CORPORA)
    (one,) = detection(["a"], CORPORA, real, tuple(shown(corpus)[:1] for corpus in CORPORA), (0,))
    assert np.isnan(one.control)


def test_strong_is_what_lies_above_most_of_the_text():
    written = np.arange(200.0).reshape(10, 20)
    above = strong(written, share=0.05)
    assert (above > 0).sum() == pytest.approx(10, abs=1)
    assert (above[:, 0] == 0).all()
    rare = np.zeros((10, 20))
    rare[3, 4] = 2
    assert strong(rare)[3, 4] == 2
    assert (strong(rare) > 0).sum() == 1


def test_siblings_are_of_the_same_parent_where_there_are_some():
    parents = ["p", "q", "p", "p", "q", "r"]
    given = dealt_siblings(parents)
    assert all(parents[other] == parents[one] for one, other in enumerate(given[:5]))
    assert all(other != one for one, other in enumerate(given))
    assert dealt_siblings(["p"]) == (0,)
