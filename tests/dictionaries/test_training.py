"""Training: planted latents are found, from the seed alone, through interruptions; what diverges stops."""

import dataclasses

import numpy as np
import pytest
import torch
from planted_dictionaries import corpus, planted, program

from pellucid.dictionaries.pairs import Pairs, capture_pairs, signature
from pellucid.dictionaries.training import Diverged, Recipe, Step, geometric_median, train_dictionary
from pellucid.errors import BadInput
from pellucid.ir.interpret import run_functions

SMALL = Recipe(latents=24, active=4, epochs=12, batch=100, rate=1e-2, silent_after=1000)


def unexplained(dictionary, pairs):
    x, y = pairs.rows(slice(None))
    return float((y - dictionary(x)).square().sum() / (y - y.mean(0)).square().sum())


@pytest.mark.parametrize(("activation", "bar"), [("topk", 0.1), ("jumprelu", 0.15)])
def test_planted_latents_are_found(activation, bar):
    recipe = dataclasses.replace(SMALL, activation=activation, epochs=20)
    dictionary = train_dictionary(planted(), recipe)
    assert unexplained(dictionary, planted(500, seed=0)) < bar
    assert torch.allclose(dictionary.decoder.norm(dim=1), torch.ones(24), atol=1e-5)
    active = (dictionary.encode(planted().rows(slice(None))[0]) > 0).sum(1).float().mean()
    assert active < 6


def test_an_autoencoder_reads_the_outputs():
    dictionary = train_dictionary(planted(), dataclasses.replace(SMALL, kind="autoencoder"))
    assert (dictionary.kind, dictionary.reads, dictionary.writes) == ("autoencoder", 8, 8)
    assert unexplained(dictionary, planted().autoencoded()) < 0.1


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_dictionary():
    short = dataclasses.replace(SMALL, epochs=2)
    one, two = train_dictionary(planted(), short), train_dictionary(planted(), short)
    assert torch.equal(one.encoder, two.encoder)
    assert torch.equal(one.decoder_bias, two.decoder_bias)
    assert not torch.equal(one.encoder, train_dictionary(planted(), dataclasses.replace(short, seed=1)).encoder)


class Killed(Exception):
    pass


@pytest.mark.parametrize("activation", ["topk", "jumprelu"])
def test_a_killed_run_ends_with_the_same_dictionary(tmp_path, activation):
    recipe = dataclasses.replace(SMALL, epochs=3, activation=activation)
    steps = []

    def kill_at(when):
        def progress(step: Step):
            steps.append(step.step)
            if step.step == when:
                raise Killed

        return progress

    file = tmp_path / "state"
    for when in (33, 62):
        with pytest.raises(Killed):
            train_dictionary(planted(), recipe, file, kill_at(when), every=25)
    found = train_dictionary(planted(), recipe, file, kill_at(-1), every=25)
    whole = train_dictionary(planted(), recipe)
    assert steps == [*range(1, 34), *range(26, 63), *range(51, 91)]
    for name in ("encoder", "encoder_bias", "decoder", "decoder_bias"):
        assert torch.equal(getattr(found, name), getattr(whole, name))


def test_a_state_of_something_else_is_refused(tmp_path):
    file = tmp_path / "state"
    train_dictionary(planted(), dataclasses.replace(SMALL, epochs=1), file)
    with pytest.raises(BadInput, match="another recipe"):
        train_dictionary(planted(), dataclasses.replace(SMALL, epochs=1, seed=4), file)
    with pytest.raises(BadInput, match="another recipe"):
        train_dictionary(planted(seed=2), dataclasses.replace(SMALL, epochs=1), file)
    file.write_bytes(b"damaged")
    with pytest.raises(BadInput, match="cannot be read"):
        train_dictionary(planted(), SMALL, file)


def test_divergence_stops_and_keeps_the_last_good_state(tmp_path):
    broken = planted()
    broken.outputs[2900:] = np.nan
    file = tmp_path / "state"
    recipe = dataclasses.replace(SMALL, batch=10, epochs=1, seed=6)
    clean = np.flatnonzero(np.random.default_rng((6, 0)).permutation(3000) >= 2900)[0] // 10
    with pytest.raises(Diverged, match="diverged at step"):
        train_dictionary(_Patched(broken.inputs, broken.outputs), recipe, file, every=1)
    assert file.is_file() == (clean > 0)


class _Patched(Pairs):
    """Pairs whose broken rows the samples for centre and beginning do not see."""

    def rows(self, chosen):
        x, y = super().rows(chosen)
        return (x, y.nan_to_num(0.0)) if len(x) != 10 else (x, y)


def test_the_geometric_median_stays_with_the_many():
    points = torch.cat([torch.randn((99, 3), generator=torch.Generator().manual_seed(0)), torch.full((1, 3), 1e4)])
    assert float(geometric_median(points).norm()) < 0.5 < float(points.mean(0).norm())


def test_pairs_are_what_the_function_takes_and_gives_at_every_position_but_the_first(tmp_path):
    name, text = "model.layers.1.mlp", corpus(5)
    seen = {}
    ids = torch.from_numpy(text.ids).long()
    run_functions(program(), [ids], watch=lambda who, given, made: seen.__setitem__(who, (given[0], made[0])))
    x, y = (side[:, 1:].reshape(-1, 16) for side in seen[name])
    for directory in (None, tmp_path):
        pairs = capture_pairs(program(), [name, "model.layers.0.mlp"], text, directory, windows=2)[name]
        assert len(pairs) == 45
        for found, wanted in zip(pairs.rows(slice(None)), (x, y), strict=True):
            assert torch.allclose(found, wanted, rtol=2e-3, atol=1e-4)


def test_functions_of_another_signature_are_refused():
    assert signature(program(), "model.layers.0.mlp") == (16, 16)
    with pytest.raises(BadInput, match="does not map one"):
        signature(program(), "model.layers.0")
    with pytest.raises(BadInput, match="does not map one"):
        capture_pairs(program(), ["network"], corpus())
