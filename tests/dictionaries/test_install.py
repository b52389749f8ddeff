"""Dictionaries in the program: exact, emitted, replaceable; other dimensions are refused."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from planted_dictionaries import VOCABULARY, at_random, llama, program

from pellucid.data import gather
from pellucid.dictionaries.install import install
from pellucid.emitters.files import emit
from pellucid.errors import BadInput
from pellucid.ir.interpret import run_functions
from pellucid.ir.program import Program
from pellucid.ir.units import sites
from pellucid.ir.validate import validate
from pellucid.lift.load import load
from pellucid.verdicts import Effort, verify_directory

MLP = "model.layers.0.mlp"
IDS = torch.randint(0, VOCABULARY, (3, 9), generator=torch.Generator().manual_seed(1))
VARIANTS = [("topk", "transcoder"), ("jumprelu", "transcoder"), ("topk", "autoencoder"), ("jumprelu", "autoencoder")]


@pytest.mark.parametrize(("activation", "kind"), VARIANTS)
def test_the_program_stays_exact_and_runs_the_dictionary_without_what_it_misses(activation, kind):
    d = at_random(activation, kind)
    changed = install(program(), MLP, d)
    validate(changed)
    wanted = llama()(IDS).logits.detach()
    assert float((changed.run(IDS) - wanted).abs().max() / wanted.abs().max()) < 1e-5

    seen = {}
    run_functions(
        changed,
        [IDS],
        replace={f"{MLP}.missed": lambda given: (torch.zeros_like(given[1]),)},
        watch=lambda name, given, made: seen.__setitem__(name, (given, made)),
    )
    x, y = seen[MLP][0][0], seen[MLP][1][0]
    read = seen[f"{MLP}.original"][1][0] if kind == "autoencoder" else x
    assert torch.allclose(y, d(read), atol=1e-4)
    assert torch.equal(seen[f"{MLP}.dictionary"][1][0], d.encode(read))


def test_its_latents_are_units():
    (site,) = sites(install(program(), MLP, at_random()), "latents")
    assert (site.function, site.units) == (f"{MLP}.dictionary", 30)


def both() -> Program:
    return install(install(program(), MLP, at_random("jumprelu")), "model.layers.1.mlp", at_random())


def test_it_is_saved_and_loaded(tmp_path):
    both().save(tmp_path / "p")
    assert torch.equal(Program.load(tmp_path / "p").run(IDS), both().run(IDS))


@pytest.mark.parametrize("dialect", ["numpy", "torch"])
def test_it_is_emitted(tmp_path, dialect):
    emit(both(), tmp_path / "out", dialect)
    np.savez(tmp_path / "in.npz", input_ids=IDS.numpy())
    command = [sys.executable, "program.py", str(tmp_path / "in.npz"), str(tmp_path / "out.npz")]
    subprocess.run(command, cwd=tmp_path / "out", check=True, capture_output=True)
    (found,) = np.load(tmp_path / "out.npz").values()
    wanted = llama()(IDS).logits.detach().numpy()
    assert np.abs(found - wanted).max() / np.abs(wanted).max() < 1e-5


def test_the_judge_lets_it_pass(tmp_path):
    emit(install(program(), MLP, at_random()), tmp_path / "out")
    judgement = verify_directory(tmp_path / "out", load(llama()), gather(IDS), effort=Effort(timeout=60))
    whole = [verdict for verdict in judgement.verdicts if verdict.part == "program"]
    assert whole
    assert all(verdict.passed for verdict in whole)


@pytest.mark.parametrize(
    ("name", "dictionary", "why"),
    [
        (MLP, at_random(width=15), "reads 15 and writes 15"),
        ("model.layers.0", at_random(), "does not map one"),
        ("model.layers.9.mlp", at_random(), "no function"),
    ],
)
def test_what_does_not_fit_is_refused(name, dictionary, why):
    with pytest.raises(BadInput, match=why):
        install(program(), name, dictionary)


def test_a_second_dictionary_is_refused():
    with pytest.raises(BadInput, match="has a dictionary already"):
        install(both(), MLP, at_random())
