"""All values of sites, in passes that fit into memory; and what a forward may be asked to show."""

import dataclasses

import numpy as np
import pytest
import torch
from planted_language import HIDDEN, VOCABULARY, language_program

from pellucid.data.activations import dense as module
from pellucid.data.activations.dense import dense
from pellucid.data.activations.forward import observe
from pellucid.data.corpus import Corpus
from pellucid.errors import BadInput, CannotRun
from pellucid.ir.graph import Node, Ref
from pellucid.ir.units import Site, parse_site, sites

PIECES = tuple(map(str, range(VOCABULARY)))


@pytest.fixture(scope="module")
def program():
    return language_program()


@pytest.fixture(scope="module")
def corpus():
    return Corpus(np.random.default_rng(1).integers(0, VOCABULARY, (5, 7)).astype(np.int32), PIECES)


def _entry_with(program, *nodes):
    entry = program["network"]
    body = dataclasses.replace(entry.readings[0].body, nodes=nodes)
    return program.with_function(
        dataclasses.replace(entry, readings=(dataclasses.replace(entry.readings[0], body=body),))
    )


def test_little_memory_means_more_passes_and_the_same_values(program, corpus, monkeypatch):
    passes, one_pass = [], module._one_pass
    monkeypatch.setattr(module, "_one_pass", lambda *given: passes.append(len(given[2])) or one_pass(*given))
    chosen = sites(program, "outputs", "layers.*")
    at_once = dict(dense(program, corpus, chosen))
    in_parts = dict(dense(program, corpus, chosen, memory=2 * 8 * 35 * 4, together=2))
    assert passes == [4, 2, 2]
    assert [*at_once] == [*in_parts] == [*chosen]
    for site in chosen:
        np.testing.assert_allclose(at_once[site], in_parts[site], rtol=1e-5, atol=1e-6)


def test_half_precision_does_not_overflow(program, corpus):
    large = dataclasses.replace(program, weights={**program.weights, "up.1": program.weights["up.1"] * 1e6})
    ((_, found),) = dense(large, corpus, sites(program, "mlp", "layers.1*"), np.float16)
    assert found.dtype == np.float16
    assert found.max() == np.finfo(np.float16).max
    with pytest.raises(BadInput, match="float64 are not offered"):
        list(dense(program, corpus, sites(program, "mlp"), np.float64))


def test_a_forward_ends_at_the_last_site(program, corpus):
    nodes = program["network"].readings[0].body.nodes
    broken = _entry_with(program, *nodes[:-1], dataclasses.replace(nodes[-1], args=(Ref("ids"), *nodes[-1].args[1:])))
    ids = next(corpus.batches())
    seen = []
    observe(broken, ids, sites(program, "mlp"), lambda site, batch: seen.append(str(site)))
    assert seen == ["layers.0.mlp:hidden", "layers.1.mlp:hidden"]
    with pytest.raises(CannotRun):
        observe(broken, ids, sites(program, "outputs", "network"), lambda site, batch: None)


def test_a_function_that_runs_twice_has_no_single_place(program, corpus):
    nodes = program["network"].readings[0].body.nodes
    again = Node(("again",), "call", (Ref("t0"),), function="layers.0.mlp")
    twice = _entry_with(program, *nodes[:4], again, *nodes[4:])
    with pytest.raises(BadInput, match="runs more than once"):
        observe(twice, next(corpus.batches()), sites(program, "mlp"), lambda site, batch: None)


def test_what_is_no_site_is_refused(program, corpus):
    ids = next(corpus.batches())
    with pytest.raises(BadInput, match="units at every position of a text"):
        observe(program, ids, [parse_site(program, "layers.0.attn:q0")], lambda site, batch: None)
    with pytest.raises(CannotRun, match=r"never computes layers\.0\.mlp:nothing"):
        observe(program, ids, [Site("layers.0.mlp", "nothing", 1, HIDDEN)], lambda site, batch: None)


def test_half_precision_networks_give_single_precision(program, corpus):
    half = dataclasses.replace(program, weights={name: w.to(torch.bfloat16) for name, w in program.weights.items()})
    ((_, found),) = dense(half, corpus, sites(program, "mlp", "layers.0*"))
    assert found.dtype == np.float32
