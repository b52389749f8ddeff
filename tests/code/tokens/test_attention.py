"""Transformers with planted rules are read as programs of selections; others are not, and wrong programs rejected."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from attention_planted import Planted, previous_token, same_as_first, sequences, share_so_far
from torch import nn

from pellucid.code.propose import Part, _judged, find_code
from pellucid.code.tokens.attention import ATTENTION, propose_attention
from pellucid.code.tokens.heads import run_heads
from pellucid.emitters.python import program_source
from pellucid.ir.graph import map_node
from pellucid.ir.interpret import run_functions
from pellucid.ir.validate import validate
from pellucid.lift.trace import trace
from pellucid.modules.partition import partition
from pellucid.modules.structure import structure

torch.set_num_threads(1)

NETWORKS = {
    "previous": (previous_token, 4, 0.0),
    "previous, causal": (lambda: previous_token(causal=True), 4, 0.0),
    "share": (share_so_far, 3, 0.01),
    "first": (same_as_first, 3, 0.0),
}


def lifted(network, calls):
    graph = trace(network.eval(), (calls[-1],))
    return structure(graph, partition(graph))


def part_of(program, calls):
    outputs = tuple(run_functions(program, (call,)) for call in calls)
    return Part(program, program[program.entry], tuple((call,) for call in calls), outputs)


@pytest.fixture(scope="module")
def read():
    """Each network with the program that was found for it."""
    found = {}
    for name, (make, tokens, _) in NETWORKS.items():
        network, calls = make(), sequences(tokens, 6, 24)
        program = find_code(lifted(network, calls), [(call,) for call in calls], (ATTENTION,))
        found[name] = network, program
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_planted_rules_are_read_without_weights(read, name):
    network, program = read[name]
    reading = program[program.entry].reading("code")
    assert reading.kind == "code", [note.outcome for note in program.notes.trail]
    assert program.ledger.share("weights") == 0.0
    assert reading.bits < program.exact_bits(program.entry) / 20
    assert not validate(program)
    _, tokens, _ = NETWORKS[name]
    for call in sequences(tokens, 6, 50, seed=1):
        with torch.no_grad():
            wanted, found = network(call), program(call)
        assert found.shape == wanted.shape
        assert float((found - wanted).abs().max()) < max(reading.budget, 1e-4)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("previous", ["keys(indices) == queries(indices - 1)", "pick("]),
        ("share", ["keys(indices) <= queries(indices)", "aggregate(", "tokens == 2"]),
        ("first", ["positions(tokens) == 0", "pick(", "one_hot("]),
    ],
)
def test_programs_read_like_the_rules(read, name, words):
    text = program_source(read[name][1]).text.split("# The same parts")[0]
    for word in words:
        assert word in text, text


def test_a_program_with_one_number_changed_is_rejected(read):
    network, _ = read["previous"]
    calls = sequences(4, 6, 24)
    part = part_of(lifted(network, calls), calls)
    candidate = propose_attention(part, 30.0)
    assert not isinstance(candidate, str)
    assert _judged(part, candidate, [(call,) for call in calls], float("inf")) == ""

    def changed(node):
        return node if node.op != "sub" else map_node(node, lambda leaf: 2 if leaf == 1 else leaf)

    body = candidate.reading.body
    wrong = dataclasses.replace(body, nodes=tuple(map(changed, body.nodes)))
    assert wrong != body
    other = dataclasses.replace(candidate, reading=dataclasses.replace(candidate.reading, body=wrong))
    assert "rejected" in _judged(part, other, [(call,) for call in calls], float("inf"))


def test_random_weights_are_not_read():
    for seed in range(3):
        network, calls = previous_token(), sequences(4, 6, 24)
        generator = torch.Generator().manual_seed(seed)
        for weight in network.parameters():
            weight.data = torch.randn(weight.shape, generator=generator) / weight.shape[-1] ** 0.5
        assert isinstance(propose_attention(part_of(lifted(network, calls), calls), 10.0), str)


def test_scores_and_values_are_those_of_the_attention():
    network, calls = previous_token(causal=True), sequences(4, 6, 8)
    part = part_of(lifted(network, calls), calls)
    (head,), (output,) = run_heads(part, (calls[-1],))
    moved = head.scores.softmax(-1) @ head.values
    with torch.no_grad():
        x = network.tok[calls[-1]] + network.pos[: calls[-1].shape[1]]
        np.testing.assert_allclose((x.double() + moved) @ network.out.double(), output, atol=1e-4)
    assert bool(torch.isinf(head.scores[0].triu(1)[0, 1:]).all())


class NoAttention(nn.Module):
    """The class of each token by itself."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.eye(5))

    def forward(self, ids):
        return self.table[ids]


def test_networks_without_heads_are_left_to_others():
    calls = sequences(4, 5, 8)
    assert propose_attention(part_of(lifted(NoAttention(), calls), calls), 5.0) == ""


def test_an_output_at_the_mark_is_reproduced():
    network = previous_token()
    calls = sequences(4, 6, 24)
    program = find_code(lifted(network, calls), [(call,) for call in calls], (ATTENTION,))
    with torch.no_grad():
        assert float((program(calls[3]) - network(calls[3]))[:, 0].abs().max()) < 1e-4
    assert isinstance(network, Planted)
