"""Modules named by an endpoint: names are kept, those that fit several are taken back, nothing is asked twice."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from endpoints import asked_in, key_in, replying, serving
from planted_language import VOCABULARY, WIDTH, language_program

from pellucid.data.corpus import Corpus
from pellucid.dictionaries.dictionary import Dictionary, TopK
from pellucid.dictionaries.install import install
from pellucid.emitters.files import emit
from pellucid.errors import BadInput
from pellucid.ir.units import sites
from pellucid.labelling import MODULES, explain_modules, labeller_at
from pellucid.words.described import PLACE, DescribedUnit, write_units
from pellucid.words.hierarchy.modules import PLACE as MODULES_PLACE
from pellucid.words.hierarchy.modules import DescribedModule, write_modules

LATENTS = 20


@pytest.fixture
def program():
    generator = torch.Generator().manual_seed(0)
    encoder, decoder = (torch.randn(LATENTS, WIDTH, generator=generator) for _ in range(2))
    dictionary = Dictionary("transcoder", TopK(1), encoder, torch.zeros(LATENTS), decoder, torch.zeros(WIDTH))
    return install(language_program(), "layers.1.mlp", dictionary)


@pytest.fixture
def corpus():
    pieces = tuple(f" w{i}" for i in range(VOCABULARY))
    return Corpus(np.random.default_rng(0).integers(0, VOCABULARY, (200, 24)), pieces)


def described(program, output):
    emit(program, output)
    site = sites(program, "latents")[0]
    halves = (tuple(range(LATENTS // 2)), tuple(range(LATENTS // 2, LATENTS)))
    modules = [
        DescribedModule(f"{site}/{i}", "module", "layers.1.mlp", 10, share=0.5, site=str(site), units=units)
        for i, units in enumerate(halves)
    ]
    write_modules([DescribedModule("layers.1.mlp", "mlp", "", LATENTS), *modules], output / MODULES_PLACE)
    write_units(
        [DescribedUnit(str(site[i]), f"of w{i}", "tree", 0.5, 0.0, 0.1) for i in range(LATENTS)], output / PLACE
    )


def answered(names):
    """Names in turn for questions about modules; a judge that says yes to everything."""

    def answer(body):
        numbers = re.search(r"answers\": \[(\d+) numbers", asked_in(body))
        if numbers is not None:
            return json.dumps({"key": key_in(body), "answers": [1] * int(numbers[1])})
        name = names[0] if ": of w0" in asked_in(body) else names[1]
        return json.dumps({"key": key_in(body), "name": name, "label": f"what {name} is"})

    return answer


def test_names_that_tell_nothing_apart_are_taken_back_and_nothing_is_asked_twice(program, corpus, tmp_path):
    output = tmp_path / "out"
    described(program, output)
    with serving(replying(answered(("ants", "bees")))) as (address, server):
        first = explain_modules(program, corpus, output, labeller_at(address, "m", output))
        calls = len(server.requests)
        again = explain_modules(program, corpus, output, labeller_at(address, "m", output))
        assert len(server.requests) == calls + 1
    assert [(one.name, one.taken_back, one.label) for one in first] == [
        (None, "ants", "what ants is"), (None, "bees", "what bees is"),
    ]  # fmt: skip
    assert all(one.told_apart.value == 0.5 for one in first)
    assert repr(first) == repr(again)
    rows = [json.loads(line) for line in (output / "words" / MODULES).read_text().splitlines()]
    assert [row["taken_back"] for row in rows] == ["ants", "bees"]


def test_replies_of_another_form_are_missing(program, corpus, tmp_path):
    output = tmp_path / "out"
    described(program, output)
    with serving(replying("I am a module.")) as (address, _):
        found = explain_modules(program, corpus, output, labeller_at(address, "m", output))
    assert all(one.name is None and one.label is None and one.missing for one in found)


def test_without_modules_nothing_is_asked(program, corpus, tmp_path):
    output = tmp_path / "out"
    emit(program, output)
    with serving(replying("no")) as (address, server), pytest.raises(BadInput, match="modules"):
        explain_modules(program, corpus, output, labeller_at(address, "m", output))
    assert len(server.requests) == 1
