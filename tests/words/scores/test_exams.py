"""Exams, scores of labels that run, and labels dealt to others."""

import math

import numpy as np
import pytest

from pellucid.errors import BadInput
from pellucid.words.scores.exams import MARKED_FROM, exam_of
from pellucid.words.scores.executable import judged, simulation, threshold_of
from pellucid.words.scores.marks import Classified, classified, dealt

PIECES = tuple(f" w{i}" for i in range(50))


def planted(token=7, windows=80, context=64, seed=0):
    ids = np.random.default_rng(seed).integers(0, 50, (windows, context)).astype(np.int32)
    ids[: windows // 3][ids[: windows // 3] == token] = token + 1
    return ids, ((ids == token) * np.linspace(0.3, 1.0, windows)[:, None]).astype(np.float32)


def test_an_exam_is_half_active_half_silent_and_says_the_truth():
    ids, activations = planted()
    exam = exam_of("u", ids, PIECES, activations, each=10)
    assert sum(sample.active for sample in exam.samples) == 10 == len(exam.samples) / 2
    for sample, context in zip(exam.samples, exam.contexts, strict=True):
        here = activations[sample.window, sample.start : sample.stop]
        assert sample.active == bool((here > 0).any())
        assert sample.start >= 1
        assert context.pieces == tuple(PIECES[i] for i in ids[sample.window, sample.start : sample.stop])
        right = {sample.start + i for i in np.flatnonzero(here >= MARKED_FROM * here.max())}
        assert set(sample.marks) == right if sample.active else 1 <= len(sample.marks) <= 4
    actives = [sample.active for sample in exam.samples]
    assert actives != sorted(actives, reverse=True), "shuffled"
    assert exam == exam_of("u", ids, PIECES, activations, each=10)
    assert exam != exam_of("u", ids, PIECES, activations, each=10, seed=1)


def test_always_the_same_reply_is_worth_nothing():
    ids, activations = planted()
    for pattern in ([True, False] * 10, [True] * 3 + [False] * 17):
        scores = [
            classified(pattern, [s.active for s in exam_of(f"u{i}", ids, PIECES, activations).samples]).balanced.value
            for i in range(60)
        ]
        assert np.mean(scores) == pytest.approx(0.5, abs=0.04)


def test_an_exam_takes_from_all_quantiles():
    ids, activations = planted()
    exam = exam_of("u", ids, PIECES, activations, each=10)
    peaks = sorted(max(c.strengths) for s, c in zip(exam.samples, exam.contexts, strict=True) if s.active)
    assert peaks[0] <= 6
    assert peaks[-1] >= 9


def test_rare_dense_and_dead_units_get_what_there_is():
    ids, activations = planted()
    one = np.zeros_like(activations)
    one[3, 30] = 1.0
    exam = exam_of("u", ids, PIECES, one)
    assert sum(sample.active for sample in exam.samples) == 1
    assert all(not sample.active for sample in exam_of("u", ids, PIECES, one * 0).samples)
    assert all(sample.active for sample in exam_of("u", ids, PIECES, one + 1).samples)
    few = exam_of("u", ids[:2], PIECES, one[:2] * 0, each=4)
    assert len(few.samples) == 4
    assert len({(s.window, s.start) for s in few.samples}) == 4


@pytest.mark.parametrize(("spoil", "why"), [
    (lambda i, a: (i, a[:, :-1]), "capture them together"),
    (lambda i, a: (i[:, :20], a[:, :20]), "use shorter contexts"),
    (lambda i, a: (i, a + math.nan), "not finite"),
])  # fmt: skip
def test_bad_exams(spoil, why):
    ids, activations = spoil(*planted())
    with pytest.raises(BadInput, match=why):
        exam_of("u", ids, PIECES, activations)


@pytest.mark.parametrize("task", ["detection", "fuzzing"])
def test_a_right_label_passes_and_labels_of_others_do_not(task):
    (ids, own), (more, theirs) = planted(), planted(seed=1)
    describe, verify = exam_of("u", more, PIECES, theirs, each=20), exam_of("u", ids, PIECES, own, each=20)
    right, wrong = (lambda i: 0.7 * (i == 7.0)), (lambda i: 0.7 * (i == 9.0))
    good = judged(right(ids), verify, task, threshold_of(right(more), describe, task))
    assert good.balanced.value == 1.0
    assert good.balanced.low > 0.85
    bad = judged(wrong(ids), verify, task, threshold_of(wrong(more), describe, task))
    assert 0.3 < bad.balanced.value < 0.7
    assert bad.balanced.low < 0.5 < bad.balanced.high
    flat = judged(0.0 * ids, verify, task, threshold_of(0.0 * more, describe, task))
    assert flat.balanced.value == 0.5


def test_simulation_leaves_the_first_position_out():
    ids, activations = planted()
    spoiled = activations.copy()
    spoiled[:, 0] = 1e6 * np.arange(len(ids))
    assert simulation((ids == 7).astype(float), spoiled).r.value > 0.9
    assert abs(simulation((ids == 9).astype(float), activations).r.value) < 0.1


def test_missing_answers_are_neither_right_nor_wrong():
    found = classified([True, False, None, None, True, False], [True, True, True, False, False, False])
    assert found == Classified(hits=1, misses=1, alarms=1, rejections=1, missing=2)
    assert (found.answered, found.accuracy.value, found.balanced.value) == (4, 0.5, 0.5)
    assert math.isnan(classified([None] * 4, [True, False] * 2).balanced.value)


@pytest.mark.parametrize("count", [2, 3, 7, 60])
def test_no_label_keeps_its_unit(count):
    for seed in range(5):
        given = dealt(range(count), seed)
        assert sorted(given) == [*range(count)]
        assert all(a != b for a, b in enumerate(given))
    assert dealt(range(60), 0) != dealt(range(60), 1)
