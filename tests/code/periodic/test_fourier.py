"""Planted pizza and clock: their frequencies and forms are found, and nothing is found where there are no waves."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from network_planted import has_code, read
from planted_waves import KEYS, PERIOD, Adder, pairs

import pellucid
from pellucid.code.periodic.fourier import WAVES, propose_waves
from pellucid.code.periodic.fourier_draft import Draft, running
from pellucid.code.periodic.fourier_heads import attended
from pellucid.code.periodic.waves import grid_of
from pellucid.code.together import find_together
from pellucid.data import Domain
from pellucid.ir.interpret import run_functions
from pellucid.lift.trace import trace
from pellucid.modules.partition import partition
from pellucid.modules.structure import structure


def exact(network):
    """The exact program of a network on pairs."""
    graph = trace(network.eval(), (pairs(),))
    return structure(graph, partition(graph))


def found(network):
    """The readings of its parts."""
    return propose_waves(exact(network), [[pairs()]], 60.0)


def named(summary):
    """The numbers behind "k =" or "waves"."""
    words = summary.replace("waves", "k =").partition("k = ")[2].partition(", strengths")[0]
    return {int(word.strip(",;")) for word in words.split() if word.strip(",;").isdigit()}


@pytest.mark.parametrize(("power", "form"), [(1, "keeping its length"), (2, "squaring their lengths")])
def test_planted_adder_is_read_part_by_part(power, form):
    readings = found(Adder(power))
    assert len(readings) == 4
    embedding, attention, mlp, readout = (candidate.reading for candidate in readings.values())
    assert named(embedding.summary) == named(readout.summary) == named(attention.summary) == set(KEYS)
    assert form in mlp.summary
    assert "adds up" in attention.summary
    for reading in (embedding, attention, mlp, readout):
        assert (reading.measure, reading.budget) == ("decision", 0.0)


def test_each_reading_keeps_every_decision_and_another_frequency_does_not():
    network = Adder()
    grid = grid_of(exact(network), [[pairs()]])
    readings = found(network)
    for name, candidate in readings.items():
        assert grid.wrong({name: running(candidate.reading.body, dict(candidate.weights))}) == 0
    name, embedding = next(iter(readings.items()))
    nodes = tuple(
        node.with_changes(args=((1, *node.args[0][1:]), *node.args[1:])) if node.op == "lookup" else node
        for node in embedding.reading.body.nodes
    )
    changed = dataclasses.replace(embedding.reading.body, nodes=nodes)
    assert grid.wrong({name: running(changed, dict(embedding.weights))}) > PERIOD


def test_program_runs_by_its_parts_beside_the_reading_of_the_whole():
    network = Adder()
    program = find_together(read(network, pairs()), [[pairs()]], (WAVES,))
    entry = program[program.entry]
    assert entry.chosen == "weights"
    assert f"% {PERIOD}" in entry.reading("code").summary
    assert any(f"% {PERIOD}" in remark for remark in program.notes.remarks)
    (by_parts,) = run_functions(program, [pairs()])
    assert torch.equal(by_parts.argmax(-1), pairs().sum(1) % PERIOD)
    (exactly,) = run_functions(program, [pairs()], "weights")
    assert not torch.allclose(by_parts, exactly, rtol=1e-5)


def test_judge_proves_every_part_and_both_readings_of_the_whole(tmp_path):
    program = pellucid.decompile(Adder(), Domain.of(pairs()), output=tmp_path / "program")
    coded = [verdict for verdict in program.notes.verdicts if verdict.reading == "code"]
    assert sorted(verdict.part for verdict in coded) == sorted(["program", *(has_code(program)[1:]), "program"])
    assert len(has_code(program)) == 5
    assert all(v.passed and v.kind == "proved" and v.value == 1.0 and v.inputs == PERIOD**2 for v in coded)
    assert all(verdict.control < 0.5 for verdict in coded)


def test_tokens_in_another_order_are_no_waves():
    said = found(Adder(relabel=True))
    assert isinstance(said, str)
    assert "variation" in said


def test_random_weights_are_no_waves():
    network = Adder()
    generator = torch.Generator().manual_seed(0)
    for weight in network.parameters():
        weight.data = torch.randn(weight.shape, generator=generator) * weight.data.std()
    assert isinstance(found(network), str)


def test_heads_choose_by_a_score_that_is_linear_in_waves():
    network = Adder(sharp=1.0)
    program = exact(network)
    grid = grid_of(program, [[pairs()]])
    name = next(name for name in grid.parts if "attention" in name)
    draft = Draft.of(grid, name)
    turns = 2 * np.pi * np.arange(PERIOD) / PERIOD
    basis = (
        np.linalg.pinv(np.stack([np.cos(KEYS[0] * turns), np.sin(KEYS[0] * turns)], 1)) @ network.embed.detach().numpy()
    )
    reads, _ = draft.directions("reads", np.linalg.pinv(basis))
    weights, deciding = attended(draft, draft.writer.node("matmul", draft.given, reads))
    (values,) = draft.values(weights)
    scores = 0.1 * 1.0 * 8 * np.cos(KEYS[0] * turns[pairs().numpy()])
    wanted = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    assert np.abs(values[..., 0].numpy() - wanted).max() < 0.02
    assert np.ptp(wanted) > 0.3
    assert deciding == [0]
