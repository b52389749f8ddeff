"""Modules named by an endpoint: names are kept, those that fit several are taken back, nothing is asked twice."""

from __future__ import annotations

import json
import re

import pytest
from endpoints import asked_in, key_in, replying, serving
from planted_latents import LATENTS, latent_program, random_corpus

from pellucid.emitters.files import emit
from pellucid.errors import BadInput
from pellucid.ir.units import sites
from pellucid.labelling import explain_modules, incomplete, labeller_at
from pellucid.reports.module_terminal import module_text
from pellucid.words.described import PLACE, DescribedUnit, write_units
from pellucid.words.hierarchy.explained import PLACE as EXPLAINED_PLACE
from pellucid.words.hierarchy.explained import read_explained
from pellucid.words.hierarchy.modules import PLACE as MODULES_PLACE
from pellucid.words.hierarchy.modules import DescribedModule, write_modules


@pytest.fixture
def program():
    return latent_program()


@pytest.fixture
def corpus():
    return random_corpus()


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
    assert repr(read_explained(output / EXPLAINED_PLACE)) == repr(first)
    assert "what bees is" in (output / "modules" / "index.html").read_text()
    assert "its name fits several and was taken back: bees" in module_text(output, first[1].part).plain


def test_replies_of_another_form_are_missing(program, corpus, tmp_path):
    output = tmp_path / "out"
    described(program, output)
    with serving(replying("I am a module.")) as (address, _):
        found = explain_modules(program, corpus, output, labeller_at(address, "m", output))
    assert all(one.name is None and one.label is None and one.missing for one in found)
    assert incomplete(found) == len(found) == 2
    assert "missing: " in (output / "modules" / "index.html").read_text()


def test_without_modules_nothing_is_asked(program, corpus, tmp_path):
    output = tmp_path / "out"
    emit(program, output)
    with serving(replying("no")) as (address, server), pytest.raises(BadInput, match="modules"):
        explain_modules(program, corpus, output, labeller_at(address, "m", output))
    assert len(server.requests) == 1
