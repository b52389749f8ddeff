"""Labels of latents from an endpoint: what is kept, what is missing, what is refused before anything is begun."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from endpoints import closed_port, labelled, replying, serving
from planted_language import VOCABULARY, WIDTH, language_program

from pellucid.data.corpus import Corpus
from pellucid.dictionaries.dictionary import Dictionary, TopK
from pellucid.dictionaries.install import install
from pellucid.emitters.files import emit
from pellucid.errors import BadInput
from pellucid.labelling import EXPLANATIONS, explain_latents, labeller_at

LATENTS = 10


@pytest.fixture
def program():
    generator = torch.Generator().manual_seed(0)
    encoder, decoder = (torch.randn(LATENTS, WIDTH, generator=generator) for _ in range(2))
    dictionary = Dictionary("transcoder", TopK(3), encoder, torch.zeros(LATENTS), decoder, torch.zeros(WIDTH))
    return install(language_program(), "layers.1.mlp", dictionary)


@pytest.fixture
def corpus():
    pieces = tuple(f" w{i}" for i in range(VOCABULARY))
    return Corpus(np.random.default_rng(0).integers(0, VOCABULARY, (60, 24)), pieces)


def test_labels_are_kept_and_nothing_is_asked_twice(program, corpus, tmp_path):
    output = tmp_path / "out"
    emit(program, output)
    with serving(replying(labelled)) as (address, server):
        first = explain_latents(program, corpus, output, labeller_at(address, "m", output), count=4)
        calls = len(server.requests)
        again = explain_latents(program, corpus, output, labeller_at(address, "m", output), count=4)
        assert calls == 1 + 4
        assert len(server.requests) == calls + 1
    rows = [json.loads(line) for line in (output / "words" / EXPLANATIONS).read_text().splitlines()]
    assert [row["label"] for row in rows] == ["a planted label"] * 4
    assert len({row["part"] for row in rows}) == 4
    assert [one.label for one in first] == [one.label for one in again]


def test_an_endpoint_that_is_down_is_told_before_anything_is_begun(tmp_path):
    with pytest.raises(BadInput, match="start it"):
        labeller_at(f"http://127.0.0.1:{closed_port()}/v1", "m", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_more_latents_than_are_active_are_refused(program, corpus, tmp_path):
    output = tmp_path / "out"
    emit(program, output)
    with serving(replying(labelled)) as (address, _), pytest.raises(BadInput, match="are active"):
        explain_latents(program, corpus, output, labeller_at(address, "m", output), count=LATENTS + 1)
