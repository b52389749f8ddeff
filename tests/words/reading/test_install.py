"""The words reading in the program: it says what labels and rules say, and leaves the exact reading as it is."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from planted_words import LATENTS, described, labels_for

from pellucid.emitters.files import emit
from pellucid.errors import BadInput
from pellucid.ir.interpret import run_functions
from pellucid.ir.program import Program
from pellucid.ir.validate import validate
from pellucid.words.heads.rule import Heads
from pellucid.words.labels.citing import citations
from pellucid.words.reading.install import Words, choose, install_words, parts_of, with_missed, words_of

PROGRAM, WORDS, TEXT = described()
IDS = torch.from_numpy(TEXT.ids[:4]).long()


@pytest.fixture(scope="module")
def installed() -> Program:
    program = install_words(PROGRAM, WORDS)
    validate(program)
    return program


def seen(program: Program, reading: str) -> dict[str, list[torch.Tensor]]:
    found: dict[str, list[torch.Tensor]] = {}
    run_functions(
        program, [IDS], reading, watch=lambda name, inputs, outputs: found.__setitem__(name, [*inputs, *outputs])
    )
    return found


def test_the_exact_reading_stays_the_same_to_the_bit(installed: Program) -> None:
    assert torch.equal(installed.run(IDS), PROGRAM.run(IDS))
    assert torch.equal(installed.run(IDS, reading="weights"), PROGRAM.run(IDS))


def test_latents_are_what_their_labels_say_even_where_they_cite_a_head(installed: Program) -> None:
    found = seen(installed, "words")
    looks = {"head 0.0": WORDS.rules[0].looks_at(TEXT.ids[:4])}
    for name, labels in WORDS.labels.items():
        wanted = np.moveaxis(labels.predict(TEXT.ids[:4], looks), 0, -1)
        np.testing.assert_allclose(found[f"{name}.dictionary"][-1].numpy(), wanted, rtol=1e-6)


def test_latents_are_what_their_labels_say_where_they_cite_units_that_cite_units(tmp_path: Path) -> None:
    program, words, text = described(3, citing=True)
    installed = install_words(program, words)
    validate(installed)
    looks = {"head 0.0": words.rules[0].looks_at(text.ids[:4])}
    given = citations(dict(enumerate(words.labels.values())), text.ids[:4], looks)
    found = seen(installed, "words")
    assert {"unit 0.0", "unit 1.0"} <= {*given}
    for name, labels in words.labels.items():
        wanted = np.moveaxis(labels.predict(text.ids[:4], given), 0, -1)
        assert np.ptp(wanted[..., 0]) > 0
        np.testing.assert_allclose(found[f"{name}.dictionary"][-1].numpy(), wanted, rtol=1e-6)
    emit(choose(installed), tmp_path)
    assert torch.equal(Program.load(tmp_path).run(IDS, reading="words"), installed.run(IDS, reading="words"))


def test_levels_that_are_cited_stay_where_values_are_tuned() -> None:
    program, words, _ = described(citing=True)
    installed = install_words(program, words)
    values = "layers.0.mlp.dictionary.labels.values"
    tuned = dataclasses.replace(installed, weights={**installed.weights, values: installed.weights[values].flip(1)})
    citing = "layers.1.mlp.dictionary"
    assert torch.equal(seen(tuned, "words")[citing][-1], seen(installed, "words")[citing][-1])
    assert not torch.equal(tuned.run(IDS, reading="words"), installed.run(IDS, reading="words"))


def test_heads_look_where_their_rules_say_and_move_real_values(installed: Program) -> None:
    found = seen(installed, "words")
    name = "layers.1.attn"
    x = found[name][0]
    values = x.reshape(4, -1, 2, 4).transpose(1, 2)
    mixed = Heads.of(WORDS.attentions[name]).pattern(IDS) @ values
    wanted = mixed.transpose(1, 2).reshape(x.shape) @ installed.weights["o.1"].T
    torch.testing.assert_close(found[name][-1], wanted, rtol=1e-5, atol=1e-5)


def test_what_is_missed_is_a_constant_and_another_at_the_first_position(installed: Program) -> None:
    name = "layers.0.mlp"
    program = with_missed(installed, {name: (torch.full((8,), 2.0), torch.full((8,), -1.0))})
    missed = seen(program, "words")[f"{name}.missed"][-1]
    assert missed[:, 0].eq(-1).all()
    assert missed[:, 1:].eq(2).all()


def test_chosen_words_run_where_they_are_chosen(installed: Program) -> None:
    everywhere = installed.run(IDS, reading="words")
    assert torch.equal(choose(installed)(IDS), everywhere)
    assert torch.equal(choose(installed, [])(IDS), PROGRAM.run(IDS))
    parts = parts_of(installed)
    assert list(parts) == ["layers.0.attn", "layers.0.mlp", "layers.1.attn", "layers.1.mlp"]
    assert parts["layers.1.mlp"] == ("layers.1.mlp.dictionary", "layers.1.mlp.missed")
    one = choose(installed, parts["layers.1.mlp"])(IDS)
    assert not torch.equal(one, everywhere)
    assert not torch.equal(one, PROGRAM.run(IDS))


def test_words_are_printed_saved_loaded_and_emitted(installed: Program, tmp_path: Path) -> None:
    program = choose(installed)
    shown = program.text(None)
    assert "slot_codes(ids, " in shown
    assert "rule(ids) @ split_heads(x, 2)" in shown
    assert "rule_pattern(" in shown
    assert '"previous"' in shown
    emit(program, tmp_path)
    again = Program.load(tmp_path)
    assert torch.equal(again.run(IDS, reading="words"), installed.run(IDS, reading="words"))


@pytest.mark.parametrize("dialect", ["numpy", "torch"])
def test_the_emitted_file_runs_alone(tmp_path: Path, dialect: str) -> None:
    installed = install_words(*described(citing=True)[:2])
    emit(choose(installed), tmp_path, dialect)
    module = "numpy" if dialect == "numpy" else "torch"
    code = (
        f"import {module} as m, numpy, program;"
        f"ids = numpy.load('ids.npy'); x = ids if '{dialect}' == 'numpy' else m.from_numpy(ids);"
        "numpy.save('out.npy', numpy.asarray(program.run(x, reading='words')))"
    )
    np.save(tmp_path / "ids.npy", IDS.numpy())
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    wanted = installed.run(IDS, reading="words")
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), wanted.numpy(), rtol=2e-4, atol=2e-4)


def test_bits_of_words_are_those_of_labels_and_rules(installed: Program) -> None:
    reading = installed["layers.0.mlp.dictionary"].reading("words")
    labels = sum(label.bits for label in WORDS.labels["layers.0.mlp"].labels)
    assert labels < reading.bits < labels + 500
    assert installed["layers.0.attn.rule"].reading().bits == sum(rule.bits for rule in WORDS.rules[:2])


def test_words_with_the_numbers_of_a_program_give_that_program_again(installed: Program) -> None:
    generator = torch.Generator().manual_seed(0)
    moved = {
        name: tensor + torch.rand(tensor.shape, generator=generator)
        for name, tensor in installed.weights.items()
        if name.endswith((".labels.values", ".rule.pairs", ".rule.relations"))
    }
    tuned = dataclasses.replace(installed, weights={**installed.weights, **moved})
    again = install_words(PROGRAM, words_of(tuned, WORDS))
    torch.testing.assert_close(again.run(IDS, reading="words"), tuned.run(IDS, reading="words"))
    assert not torch.equal(tuned.run(IDS, reading="words"), installed.run(IDS, reading="words"))


def test_words_that_do_not_fit_are_refused() -> None:
    name = "layers.0.mlp"
    labels = WORDS.labels[name]
    few = dataclasses.replace(labels, labels=labels.labels[:3])
    with pytest.raises(BadInput, match=f"finds {LATENTS} latents and has 3 labels"):
        install_words(PROGRAM, Words({name: few}))
    with pytest.raises(BadInput, match=r"head 0\.0 looks, but that head has no rule"):
        install_words(PROGRAM, Words({name: labels_for("s", labels.lexicon, head="0.0")}))
    with pytest.raises(BadInput, match=r"cite unit 0\.1, which is no labelled unit of an earlier MLP"):
        install_words(PROGRAM, Words({name: labels_for("s", labels.lexicon, unit="0.1")}))
    with pytest.raises(BadInput, match=r"cite unit 0\.2, which is no labelled unit"):
        install_words(PROGRAM, Words({"layers.1.mlp": labels_for("s", labels.lexicon, unit="0.2")}))
    with pytest.raises(BadInput, match="give one for each"):
        install_words(PROGRAM, Words({}, WORDS.rules[1:2]))
    with pytest.raises(BadInput, match="no function"):
        install_words(PROGRAM, Words({"layers.7.mlp": labels}))


def test_the_ledger_counts_what_words_save_and_not_the_words_themselves(installed: Program) -> None:
    """Encoders (2 x 40) and MLPs (2 x 192) are no longer read; table, outputs of heads and decoders are."""
    ledger = choose(installed).ledger
    assert ledger.parameter_count == 912
    assert ledger.share("words") == pytest.approx(464 / 912)
    assert ledger.share("weights") == pytest.approx(448 / 912)
    assert ledger.share("words", by="units") == pytest.approx(50 / 120)
    assert ledger.share("code") == 0.0
    exact = installed.ledger
    assert (exact.share("weights"), exact.share("words", by="units")) == (1.0, 0.0)
    assert "49.1% still weights, 0.0% code, 50.9% words" in choose(installed).text(0)
