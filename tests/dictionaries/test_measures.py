"""Measures against values that are known: perfect and absent dictionaries, ablations by hand, tuning that helps."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from planted_dictionaries import at_random, corpus, llama, planted, program

from pellucid.dictionaries.dictionary import Dictionary, JumpReLU
from pellucid.dictionaries.measures import downstream, fidelity, interval, loss_with
from pellucid.dictionaries.pairs import Pairs, capture_pairs
from pellucid.dictionaries.running import constant, logits_with
from pellucid.dictionaries.together import Tuning, tune_together
from pellucid.dictionaries.training import Recipe, train_dictionary
from pellucid.errors import BadInput

NAMES = [f"model.layers.{i}.mlp" for i in range(2)]


def identity(width: int) -> Dictionary:
    """Writes what it reads: each value as a positive and a negative latent."""
    both = torch.cat([torch.eye(width), -torch.eye(width)])
    zeros = torch.zeros(2 * width)
    return Dictionary("autoencoder", JumpReLU(zeros), both, zeros, both, torch.zeros(width))


def test_fidelity_of_a_perfect_and_of_a_silent_dictionary():
    pairs = planted(500)
    perfect = fidelity(identity(8), pairs)
    assert perfect.unexplained < 1e-10
    assert perfect.active == pytest.approx(8, abs=0.01)
    mean = torch.from_numpy(pairs.outputs.astype(np.float32)).mean(0)
    silent = dataclasses.replace(
        identity(8), encoder_bias=torch.full((16,), -1e3), decoder_bias=mean, activation=JumpReLU(torch.zeros(16))
    )
    found = fidelity(silent, pairs, together=64)
    assert found.unexplained == pytest.approx(1.0, abs=1e-4)
    assert (found.dead, found.active, found.positions) == (1.0, 0.0, 500)


def test_the_loss_of_the_unchanged_program_is_the_networks():
    text = corpus()
    ids = torch.from_numpy(text.ids).long()
    logits = llama()(ids).logits.detach()[:, 1:-1]
    wanted = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, 2:].reshape(-1))
    found = loss_with(program(), {}, text)
    assert found.mean == pytest.approx(float(wanted), rel=1e-5)
    assert found.low < found.mean < found.high


def test_a_perfect_dictionary_costs_nothing_and_ablations_leave_the_first_position():
    text = corpus()
    pairs = capture_pairs(program(), NAMES, text)
    means = {name: torch.from_numpy(pairs[name].outputs.astype(np.float32)).mean(0) for name in NAMES}
    found = downstream(program(), {name: identity(16) for name in NAMES}, means, text)
    assert set(found.dictionary) == {*NAMES, "all"} == set(found.zero) == set(found.mean)
    for name in (*NAMES, "all"):
        assert found.dictionary[name].mean == pytest.approx(found.network.mean, rel=1e-5)
        assert found.recovered(name) == pytest.approx(1.0, abs=1e-4)
        assert abs(found.zero[name].mean - found.network.mean) > 1e-3
    ids = torch.from_numpy(text.ids[:2]).long()
    ablated = logits_with(program(), ids, {NAMES[0]: constant(torch.zeros(16))})
    whole = logits_with(program(), ids, {})
    assert torch.allclose(ablated[:, 0], whole[:, 0], atol=1e-5)
    assert not torch.allclose(ablated[:, 1], whole[:, 1], atol=1e-2)


def test_tuning_together_lowers_the_divergence_and_is_resumable(tmp_path):
    text = corpus(24)
    found = {
        name: train_dictionary(pairs, Recipe(latents=24, active=3, epochs=5, batch=50, rate=1e-2))
        for name, pairs in capture_pairs(program(), NAMES, text).items()
    }
    tuning = Tuning(epochs=8, batch=8, rate=0.02, warmup=2)
    seen = []

    def stop_at(when):
        def progress(step):
            seen.append(step.divergence)
            if step.step == when:
                raise KeyboardInterrupt

        return progress

    whole = tune_together(program(), found, text, tuning, progress=stop_at(-1))
    assert np.mean(seen[-3:]) < 0.8 * np.mean(seen[:3])
    with pytest.raises(KeyboardInterrupt):
        tune_together(program(), found, text, tuning, tmp_path / "s", stop_at(9), every=4)
    again = tune_together(program(), found, text, tuning, tmp_path / "s", every=4)
    for name in NAMES:
        assert torch.equal(again[name].encoder, whole[name].encoder)
        assert torch.equal(again[name].decoder, whole[name].decoder)
        assert torch.allclose(again[name].decoder.norm(dim=1), torch.ones(24), atol=1e-5)
    with pytest.raises(BadInput, match="another recipe"):
        tune_together(program(), whole, text, tuning, tmp_path / "s")


def test_what_does_not_fit_is_refused():
    with pytest.raises(BadInput, match="this one reads 15"):
        downstream(program(), {NAMES[0]: at_random(width=15)}, {}, corpus())
    with pytest.raises(BadInput, match="no dictionaries"):
        tune_together(program(), {}, corpus())
    with pytest.raises(BadInput, match="2 inputs and 3 outputs"):
        Pairs(np.zeros((2, 1), np.float16), np.zeros((3, 1), np.float16))


def test_intervals_hold_the_mean_and_narrow_with_windows():
    rng = np.random.default_rng(0)
    few, many = interval(rng.normal(size=10)), interval(rng.normal(size=1000))
    assert few.low < few.mean < few.high
    assert many.high - many.low < 0.3 * (few.high - few.low)
