"""Links of heads are lengths of products of the real matrices."""

import dataclasses

import numpy as np
import pytest
import torch
from planted_language import HEADS, WIDTH, language_program

import pellucid
from pellucid.dictionaries.dictionary import Dictionary, TopK
from pellucid.dictionaries.install import install
from pellucid.ir.graph import Ref
from pellucid.ir.units import sites
from pellucid.words.heads.circuits import circuit_of, head_links

LATENTS, SIZE = 10, WIDTH // HEADS


def dictionary(seed):
    make = torch.Generator().manual_seed(seed)
    return Dictionary(
        "transcoder", TopK(3), torch.randn(LATENTS, WIDTH, generator=make), torch.zeros(LATENTS),
        torch.randn(LATENTS, WIDTH, generator=make), torch.zeros(WIDTH),
    )  # fmt: skip


@pytest.fixture(scope="module")
def program():
    made = language_program(layers=2)
    for layer in range(2):
        made = install(made, f"layers.{layer}.mlp", dictionary(layer))
    return made


def expected(program, layer, head):
    """What a head moves: here values are cut from the stream itself."""
    span = slice(head * SIZE, (head + 1) * SIZE)
    return program.weights[f"o.{layer}"][:, span] @ torch.eye(WIDTH)[span]


def test_links_are_the_longest_products(program):
    links = head_links(program)
    first, second = links
    for head in range(HEADS):
        moved = expected(program, 1, head)
        lengths = (program.weights["layers.0.mlp.written.decoder"] @ moved.T).norm(dim=1).numpy()
        best = np.argsort(-lengths)[:5]
        incoming = links[second].incoming[head]
        assert [link.name for link in incoming] == [f"layers.0.mlp.dictionary:latents[{i}]" for i in best]
        assert [link.strength for link in incoming] == pytest.approx(lengths[best], rel=1e-4)
        read = torch.cat([program.weights[f"layers.{layer}.mlp.dictionary.encoder"] for layer in range(2)])
        lengths = (read @ expected(program, 0, head)).norm(dim=1).numpy()
        names = [f"layers.{i // LATENTS}.mlp.dictionary:latents[{i % LATENTS}]" for i in np.argsort(-lengths)[:5]]
        assert [link.name for link in links[first].outgoing[head]] == names
    assert not any(links[first].incoming)
    assert {name.name.partition(":")[0] for out in links[second].outgoing for name in out} == {
        "layers.1.mlp.dictionary"
    }


def test_an_mlp_beside_an_attention_does_not_read_it(program):
    entry = program["network"].readings[0]
    beside = {"layers.0.mlp": "x", "layers.1.mlp": "y0"}
    nodes = tuple(
        node.with_changes(args=(Ref(beside[node.function]),)) if node.function in beside else node
        for node in entry.body.nodes
    )
    reading = dataclasses.replace(entry, body=dataclasses.replace(entry.body, nodes=nodes))
    network = dataclasses.replace(program["network"], readings=(reading,))
    changed = dataclasses.replace(program, functions={**program.functions, "network": network})
    first, second = head_links(changed).values()
    assert {link.name.partition(":")[0] for out in first.outgoing for link in out} == {"layers.1.mlp.dictionary"}
    assert not any(second.outgoing)
    assert all(second.incoming)


def test_shared_values_and_gains_of_a_real_layer():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=40, hidden_size=24, intermediate_size=32, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, initializer_range=0.3,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    layer = model.model.layers[0]
    with torch.no_grad():
        layer.input_layernorm.weight.copy_(torch.linspace(0.2, 2, 24))
    graph = pellucid.trace(model, (), {"input_ids": torch.arange(12).reshape(2, 6)})
    program = pellucid.structure(graph, pellucid.partition(graph))
    (site,) = sites(program, "heads")
    circuit = circuit_of(program, site)
    value, output = layer.self_attn.v_proj.weight, layer.self_attn.o_proj.weight
    for head in range(4):
        rows, columns = slice(6 * (head // 2), 6 * (head // 2) + 6), slice(6 * head, 6 * head + 6)
        wanted = output[:, columns] @ (value[rows] * layer.input_layernorm.weight)
        torch.testing.assert_close(circuit.output[head] @ circuit.value[head], wanted.detach())


def test_no_links_without_dictionaries():
    (links,) = head_links(language_program(layers=1)).values()
    assert not any(links.incoming)
    assert not any(links.outgoing)
