"""The anchor: what words leave unexplained of their parts, by hand; and tuning that pays for it stays nearer."""

import dataclasses

import numpy as np
import pytest
import torch
from planted_words import described

from pellucid.ir.interpret import run_functions
from pellucid.words.reading.anchor import distance, unexplained
from pellucid.words.reading.install import choose, install_words
from pellucid.words.reading.running import Running, Seen
from pellucid.words.reading.tune import Tuning, tune

PROGRAM, WORDS, TEXT = described()


def test_what_is_unexplained_by_hand() -> None:
    real = {"a": torch.tensor([[[9.0], [1.0], [3.0]]]), "b": torch.tensor([[[0.0], [0.0], [4.0]]])}
    assert float(unexplained(real, real)) == 0
    mean = {"a": torch.tensor([[[0.0], [2.0], [2.0]]])}
    assert float(unexplained(mean, real)) == pytest.approx(1)
    both = {**mean, "b": torch.tensor([[[7.0], [1.0], [3.0]]])}
    assert float(unexplained(both, real)) == pytest.approx((1 + 1 / 4) / 2)
    assert float(unexplained({}, real)) == 0


def test_the_distance_counts_each_tensor_alike() -> None:
    start = {"one": torch.zeros(2, 3), "other": torch.zeros(1)}
    assert (
        float(distance({"one": torch.ones(2, 3), "other": torch.full((1,), 3.0), "third": torch.ones(1)}, start)) == 5
    )


def test_running_tells_what_mlps_put_out() -> None:
    installed = install_words(PROGRAM, WORDS)
    running, windows, seen = Running(installed, TEXT), np.array([3, 1]), Seen()
    running.logits(windows, {}, seen=seen)
    running.wanted(windows)
    ids = torch.from_numpy(TEXT.ids[windows]).long()
    for program, found in ((choose(installed), seen), (choose(installed, []), running.real(windows))):
        outputs: Seen = {}
        run_functions(program, [ids], None, watch=lambda name, _, made, to=outputs: to.setdefault(name, made[0]))
        assert set(found) == set(WORDS.labels)
        for name in WORDS.labels:
            torch.testing.assert_close(found[name], outputs[name], rtol=2e-3, atol=2e-3)
    only: Seen = {}
    running.logits(windows, {}, ["layers.1.mlp"], only)
    assert list(only) == ["layers.1.mlp"]


def test_faithful_tuning_explains_more_of_the_parts() -> None:
    installed = install_words(PROGRAM, WORDS)
    quick = Tuning(steps=40, every=10, rate=0.1, patience=9, more=())
    left = []
    for faithful in (0.0, 30.0):
        tuned = tune(installed, TEXT, dataclasses.replace(quick, faithful=faithful))
        running, seen = Running(tuned.program, TEXT), Seen()
        running.logits(np.arange(24), {}, seen=seen)
        running.wanted(np.arange(24))
        left.append(float(unexplained(seen, running.real(np.arange(24)))))
        assert tuned.kept > 0
        assert (tuned.looks[-1].given_up > 0) == (faithful > 0)
    assert left[1] < left[0]
