"""Labels judged beside shuffled ones: by a server that knows what they mean, and by running them."""

import math

import numpy as np
import pytest
import torch
from endpoints import replying, sent, serving
from planted_exams import asker, exams, knowing
from planted_language import HIDDEN, VOCABULARY, language_program

from pellucid.data.corpus import Corpus
from pellucid.ir.interpret import run_functions
from pellucid.ir.units import Site, sites
from pellucid.words.scores.judging import asked_scores, doings, exams_of, judging_questions, run_scores

SITE = Site("f", "y", units=10)
HOW = ("detection", "fuzzing", "simulation")


def test_a_model_is_asked_for_own_and_shuffled_labels(tmp_path):
    with serving(replying(knowing), trials=0) as (address, server):
        found = asked_scores(asker(address, tmp_path), ["w0", None, "w2"], exams(), HOW)
        sent_calls = len(server.requests)
    assert found[1] == ()
    for scores in (found[0], found[2]):
        assert [score.how for score in scores] == list(HOW)
        assert all(score.value > 0.99 and score.missing == 0 for score in scores)
        assert all(score.shuffled < 0.75 for score in scores)
    assert sent_calls == 2 * len(judging_questions(exams()[:1], HOW))


def test_one_label_has_no_control_and_no_reply_no_score(tmp_path):
    with serving(lambda handler, _: sent(handler, b"", 400), trials=0) as (address, _):
        ((score,),) = asked_scores(asker(address, tmp_path), ["w0"], exams()[:1], ["detection"])
    assert (score.contexts, score.missing) == (0, 20)
    assert math.isnan(score.value)
    assert math.isnan(score.shuffled)


def test_labels_that_run_are_judged_by_running_them():
    ids = np.random.default_rng(0).integers(0, 30, (80, 30))
    corpus = Corpus(ids, tuple(f" w{i}" for i in range(30)))
    doing = {SITE[unit]: (ids == unit).astype(np.float32) for unit in range(3)}
    made = exams_of(corpus, doing, each=8)
    found = run_scores(list(doing.values()), list(doing.values()), made, made)
    assert all([score.value for score in scores] == [1.0, 1.0] for scores in found)
    assert all(score.shuffled < 0.8 for scores in found for score in scores)


def test_doings_are_what_the_program_computes():
    program = language_program()
    ids = np.random.default_rng(1).integers(0, VOCABULARY, (11, 9))
    corpus = Corpus(ids, tuple(f" w{i}" for i in range(VOCABULARY)))
    first, second = sites(program, "mlp")
    found = doings(program, corpus, [second[3], first[0], second[HIDDEN - 1]])
    seen = {}

    def watch(value, tensor):
        seen[value] = tensor.detach().numpy()

    run_functions(
        program, [torch.from_numpy(ids)], "weights", watch_values={s.function: watch for s in (first, second)}
    )
    for unit, values in found.items():
        assert np.allclose(values, seen[unit.site.value][..., unit.index], atol=1e-6)
    assert list(found) == [second[3], first[0], second[HIDDEN - 1]]


@pytest.mark.parametrize("context", [10, 30])
def test_exams_fit_into_short_windows(context):
    corpus = Corpus(np.random.default_rng(0).integers(0, 30, (40, context)), tuple(f" w{i}" for i in range(30)))
    (exam,) = exams_of(corpus, {SITE[0]: (corpus.ids == 3).astype(np.float32)}, each=4)
    assert {len(one.pieces) for one in exam.contexts} == {min(20, context - 1)}
