"""Losses beside ablations: words that say nothing recover nothing, and figures are those worked out by hand."""

import dataclasses

import numpy as np
import pytest
import torch
from planted_words import described

from pellucid.ir.interpret import run_functions
from pellucid.ir.program import Program
from pellucid.words.labels.labelset import LabelSet
from pellucid.words.labels.parser import parse_label
from pellucid.words.reading.install import Words, install_words
from pellucid.words.reading.measure import (
    dealt_to_others,
    groups,
    measure,
    of_another_text,
    recovered,
    window_losses,
)
from pellucid.words.reading.settle import label_correlations, means, settle

PROGRAM, WORDS, TEXT = described()
IDS = torch.from_numpy(TEXT.ids).long()
MLPS = ["layers.0.mlp", "layers.1.mlp"]


@pytest.fixture(scope="module")
def settled() -> Program:
    return settle(install_words(PROGRAM, WORDS), TEXT)


def outputs(program: Program, reading: str) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    run_functions(program, [IDS], reading, watch=lambda name, inputs, out: found.__setitem__(name, out[0]))
    return found


def test_losses_are_cross_entropies_of_scored_tokens(settled: Program) -> None:
    logits = settled.run(IDS).log_softmax(-1)
    wanted = -logits[:, 1:-1].gather(-1, IDS[:, 2:, None])[..., 0].mean(1)
    np.testing.assert_allclose(window_losses(settled, TEXT), wanted.numpy(), rtol=1e-5)
    logits = settled.run(IDS, reading="words").log_softmax(-1)
    wanted = -logits[:, 1:-1].gather(-1, IDS[:, 2:, None])[..., 0].mean(1)
    found = window_losses(settled, TEXT, groups(settled)["whole network"])
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-5)


def test_what_is_missed_is_the_mean_of_what_labels_miss(settled: Program) -> None:
    exact = outputs(settled, "weights")
    for name, labels in WORDS.labels.items():
        looks = {"head 0.0": WORDS.rules[0].looks_at(TEXT.ids)}
        latents = torch.from_numpy(np.moveaxis(labels.predict(TEXT.ids, looks), 0, -1))
        missed = exact[name] - latents @ PROGRAM.weights[f"{name}.decoder"].T
        constant, first = (settled.weights[f"{name}.missed.{key}"] for key in ("constant", "first"))
        torch.testing.assert_close(constant, missed[:, 1:].mean((0, 1)), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(first, missed[0, 0], rtol=1e-4, atol=1e-4)


def test_the_first_position_of_the_first_mlp_is_as_it_was(settled: Program) -> None:
    program = install_words(PROGRAM, Words({MLPS[0]: WORDS.labels[MLPS[0]]}))
    program = settle(program, TEXT)
    torch.testing.assert_close(
        outputs(program, "words")[MLPS[0]][:, 0], outputs(program, "weights")[MLPS[0]][:, 0], rtol=1e-4, atol=1e-4
    )


def test_words_that_say_nothing_recover_nothing() -> None:
    lexicon = WORDS.labels[MLPS[0]].lexicon
    silent = {
        name: LabelSet(name, tuple(parse_label("0 otherwise", lexicon) for _ in labels.labels), lexicon)
        for name, labels in WORDS.labels.items()
    }
    program = settle(install_words(PROGRAM, Words(silent)), TEXT)
    found = {row.name: row for row in measure(program, TEXT, means(program, TEXT))}
    assert set(found) == {*MLPS, "all MLPs"}
    assert found[MLPS[1]].recovered("mean").value == pytest.approx(0, abs=1e-4)
    assert not np.allclose(found[MLPS[1]].zero, found[MLPS[1]].mean)


def test_recovered_by_hand() -> None:
    rng = np.random.default_rng(0)
    real, ablated = rng.random(50), 3 + rng.random(50)
    assert recovered(real, real, ablated).value == 1
    assert recovered(real, ablated, ablated).value == 0
    half = recovered(real, (real + ablated) / 2 + 0.1 * rng.standard_normal(50), ablated)
    assert half.low < 0.5 < half.high
    assert 0.01 < half.high - half.low < 0.1
    assert half.count == 50


def test_correlations_are_pearsons(settled: Program) -> None:
    exact, said = outputs(settled, "weights"), outputs(settled, "words")
    found = label_correlations(settled, TEXT)
    for name in MLPS:
        real, words = (kind[f"{name}.dictionary"][:, 1:].reshape(-1, 5).numpy() for kind in (exact, said))
        wanted = [np.corrcoef(a, b)[0, 1] if a.std() > 0 else np.nan for a, b in zip(real.T, words.T, strict=True)]
        np.testing.assert_allclose(found[name], wanted, atol=1e-4)


def test_controls_shuffle_labels_and_nothing_else(settled: Program) -> None:
    ids = IDS[:4]
    given = [torch.zeros(4, 20, 8), ids]
    name = f"{MLPS[0]}.dictionary"
    (said,) = run_functions(settled, given, "words", start=name)
    (dealt,) = dealt_to_others(settled, MLPS, seed=2)[name](given)
    assert not torch.equal(dealt, said)
    assert torch.equal(dealt.sort(-1).values, said.sort(-1).values)
    (other,) = of_another_text(settled, MLPS)[name](given)
    assert torch.equal(other, said.roll(1, 0))


def test_a_program_without_rules_has_no_whole() -> None:
    program = install_words(PROGRAM, dataclasses.replace(WORDS, labels={}))
    assert list(groups(program)) == ["layers.0.attn", "layers.1.attn", "all attention"]
