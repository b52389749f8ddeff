"""Fits that keep decisions: few pairs that are decided wrongly count for more, or directions are tuned by gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from planted_waves import Adder, pairs

from pellucid.code.periodic import fourier_draft
from pellucid.code.periodic.fourier_draft import COARSE, Draft, fitted, in_steps, settled, tuned
from pellucid.code.periodic.waves import grid_of
from pellucid.lift.trace import trace
from pellucid.modules.partition import partition
from pellucid.modules.structure import structure


@pytest.fixture(scope="module")
def grid():
    graph = trace(Adder().eval(), (pairs(),))
    return grid_of(structure(graph, partition(graph)), [[pairs()]])


def gives(grid, name, written):
    """On how many pairs the network decides differently where a part writes this."""
    return grid.wrong({name: lambda _: [torch.from_numpy(written).float()]})


def blurred(wanted, width=10, noise=0.2):
    """Features that tell what a part writes up to noise."""
    flat = wanted.reshape(-1, wanted.shape[-1])
    seen = (flat @ np.linalg.svd(flat, full_matrices=False)[2][:width].T).reshape(*wanted.shape[:2], width)
    return seen + noise * seen.std() * np.random.default_rng(0).normal(size=seen.shape)


def test_pairs_that_are_decided_wrongly_come_to_count(grid, monkeypatch):
    wanted = grid.parts["mlp_0"][1].double().numpy()
    features = blurred(wanted)
    draft = Draft.of(grid, "mlp_0")
    (directions,), rest = settled(draft, [features], wanted)
    missed = wanted - features @ directions - rest
    assert gives(grid, "mlp_0", wanted - missed) == 0
    monkeypatch.setattr(fourier_draft, "ROUNDS", 1)
    (directions,), rest = settled(draft, [features], wanted)
    plainly = wanted - features @ directions - rest
    assert 0 < gives(grid, "mlp_0", wanted - plainly) < 10
    assert (plainly**2).sum() < (missed**2).sum() < 0.2 * ((wanted - wanted.mean(axis=0)) ** 2).sum()


def test_the_round_that_keeps_most_decisions_is_taken(grid, monkeypatch):
    wanted, rounds = grid.parts["mlp_0"][1].double().numpy(), []
    features, draft = blurred(wanted, noise=0.35), Draft.of(grid, "mlp_0")

    def counted(*args):
        found = fitted(*args)
        rest = (wanted - features @ found[0][0]).mean(axis=0)
        rounds.append(gives(grid, "mlp_0", features @ found[0][0] + rest))
        return found

    monkeypatch.setattr(fourier_draft, "HOPELESS", 1.0)
    monkeypatch.setattr(fourier_draft, "fitted", counted)
    (directions,), rest = settled(draft, [features], wanted)
    assert gives(grid, "mlp_0", features @ directions + rest) == min(rounds) < rounds[-1]


def test_a_hopeless_fit_is_left_after_one_round(grid, monkeypatch):
    wanted, rounds = grid.parts["mlp_0"][1].double().numpy(), []
    monkeypatch.setattr(fourier_draft, "fitted", lambda *args: rounds.append(1) or fitted(*args))
    settled(Draft.of(grid, "mlp_0"), [blurred(wanted, noise=3.0)], wanted)
    assert len(rounds) == 1


def test_weights_count_pairs_several_times():
    rng = np.random.default_rng(0)
    features, wanted = rng.normal(size=(6, 2, 3)), rng.normal(size=(6, 2, 4))
    (found,), _ = fitted([features], wanted, np.array([3.0, 1, 1, 1, 1, 1]))
    often = [0, 0, *range(6)]
    (repeated,), _ = fitted([features[often]], wanted[often])
    assert np.allclose(found, repeated)


def test_tuning_brings_decisions_back(grid):
    wanted = grid.parts["embedding"][1].double().numpy()
    numbers = grid.tokens.numpy()[..., None] * np.array([2, 5]) * 2 * np.pi / grid.period
    waves = np.concatenate([np.cos(numbers), np.sin(numbers)], -1)
    (fits,), _ = fitted([waves], wanted)
    moved = fits + 0.5 * fits.std() * np.random.default_rng(0).normal(size=fits.shape)
    assert gives(grid, "embedding", waves @ moved + (wanted - waves @ moved).mean(axis=0)) > 0
    better, constants = tuned(grid, "embedding", "bpw,wd->bpd", waves, moved)
    assert gives(grid, "embedding", waves @ better + constants) == 0


def test_numbers_in_whole_steps():
    whole, step = in_steps(np.array([1.0, -0.5, 0.003]), COARSE)
    assert np.abs(whole).max() <= COARSE
    assert np.allclose(whole * step, [1.0, -0.5, 0.003], atol=step)
