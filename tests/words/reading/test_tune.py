"""Tuning: gradients reach every constant, a planted shift is undone, an interrupted run ends the same."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from planted_words import described, text

from pellucid.errors import BadInput
from pellucid.ir.program import Program
from pellucid.words.reading.install import choose, install_words, with_missed
from pellucid.words.reading.running import Running, described_weights
from pellucid.words.reading.tune import STATE, Tuning, tune, tuned_weights

PROGRAM, WORDS, TEXT = described()
QUICK = Tuning(steps=12, windows=4, every=4, rate=0.2, patience=9, faithful=0.0, more=())


@pytest.fixture(scope="module")
def installed() -> Program:
    return install_words(PROGRAM, WORDS)


def test_running_is_the_program_run(installed: Program) -> None:
    running = Running(installed, TEXT)
    chosen, ids = np.array([3, 1]), torch.from_numpy(TEXT.ids[[3, 1]]).long()
    for _ in range(2):
        found = running.logits(chosen, {})
        torch.testing.assert_close(
            found, installed.run(ids, reading="words")[..., running.tokens], rtol=1e-5, atol=1e-5
        )
    real = installed.run(ids)[..., running.tokens].log_softmax(-1)
    torch.testing.assert_close(running.wanted(chosen), real, rtol=1e-5, atol=1e-5)
    one = running.logits(chosen, {}, ["layers.1.mlp"])
    wanted = choose(installed, running.parts["layers.1.mlp"])(ids)[..., running.tokens]
    torch.testing.assert_close(one, wanted, rtol=1e-5, atol=1e-5)


def test_gradients_of_all_constants_are_right(installed: Program) -> None:
    running, chosen = Running(installed, TEXT), np.array([0, 2])
    names = [name for own in described_weights(installed).values() for name in own]
    values = {name: installed.weights[name].clone().requires_grad_() for name in names}
    running.logits(chosen, values).square().mean().backward()
    generator = torch.Generator().manual_seed(0)
    for name in names:
        grad = values[name].grad
        assert grad is not None
        assert grad.abs().max() > 0, name
        way = torch.randn(grad.shape, generator=generator)
        with torch.no_grad():
            ends = [
                float(running.logits(chosen, {name: values[name] + step * way}).double().square().mean())
                for step in (1e-2, -1e-2)
            ]
        assert (ends[0] - ends[1]) / 2e-2 == pytest.approx(float((grad * way).sum()), rel=0.03, abs=2e-4), name


def test_tuning_undoes_a_shift_of_what_is_missed(installed: Program) -> None:
    shifted = with_missed(installed, {n: (torch.full((8,), 1.5), torch.zeros(8)) for n in WORDS.labels})
    tuned = tune(shifted, TEXT, QUICK)
    assert tuned.looks[0].held - min(look.held for look in tuned.looks) > 0.1
    assert tuned.kept > 0
    for name in WORDS.labels:
        assert not torch.equal(
            tuned.program.weights[f"{name}.missed.constant"], shifted.weights[f"{name}.missed.constant"]
        )
        assert torch.equal(tuned.program.weights[f"{name}.missed.first"], shifted.weights[f"{name}.missed.first"])
    ids = torch.from_numpy(TEXT.ids[:2]).long()
    assert torch.equal(tuned.program.run(ids), installed.run(ids)), "the exact reading was touched"


def test_an_interrupted_run_ends_the_same(installed: Program, tmp_path: Path) -> None:
    whole = tune(installed, TEXT, QUICK)

    class Stop(Exception):
        pass

    looks = []

    def stop(look: object) -> None:
        looks.append(look)
        if len(looks) == 3:
            raise Stop

    with pytest.raises(Stop):
        tune(installed, TEXT, QUICK, tmp_path, stop)
    again = tune(installed, TEXT, QUICK, tmp_path)
    assert [look.held for look in again.looks] == [look.held for look in whole.looks]
    for name in tuned_weights(installed, QUICK):
        assert torch.equal(again.program.weights[name], whole.program.weights[name])


def test_it_stops_when_held_back_windows_no_longer_improve(installed: Program) -> None:
    tuned = tune(installed, TEXT, Tuning(steps=400, rate=30.0, every=2, patience=2))
    assert tuned.looks[-1].step < 400
    best = min(tuned.looks, key=lambda look: look.held)
    assert best.step == tuned.kept


def test_other_numbers_are_tuned_only_when_asked_for(installed: Program) -> None:
    few = tuned_weights(installed, Tuning(more=()))
    more = tuned_weights(installed, Tuning(more=("decoders",)))
    assert set(more) - set(few) == {"layers.0.mlp.decoder", "layers.1.mlp.decoder"}


def test_bad_input_is_refused(installed: Program, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no words"):
        tune(PROGRAM, TEXT)
    with pytest.raises(BadInput, match="too few"):
        tune(installed, TEXT.rows(slice(0, 3)))
    quick = dataclasses.replace(QUICK, steps=2, every=1)
    tune(installed, TEXT, quick, tmp_path)
    with pytest.raises(BadInput, match="another"):
        tune(installed, text(seed=9), quick, tmp_path)
    (tmp_path / STATE).write_text("{}")
    with pytest.raises(BadInput, match="damaged"):
        tune(installed, TEXT, quick, tmp_path)
