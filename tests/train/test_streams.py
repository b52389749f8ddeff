"""Units that meet in a residual stream: the term's gradient, and a small Llama that comes apart under it."""

import numpy as np
import pytest
import torch

from pellucid.train import Modularity, Plan, Task, train
from pellucid.train.division import live_units
from pellucid.train.streams import edges, live_plan

transformers = pytest.importorskip("transformers")

ALL = 19
"""Pairs: two layers of patterns, heads and neurons, and the output, each with all that was written before it."""


@pytest.fixture
def llama():
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=20, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


def modularity_of(model, **options):
    return Modularity(model, (torch.arange(16).reshape(2, 8),), **options)


def test_edges_are_those_of_the_unit_graph(llama):
    modularity = modularity_of(llama)
    assert not modularity.layers
    units = live_units(modularity.graph, llama)
    plan = live_plan(modularity.graph, llama)
    assert len(modularity.passages) == ALL
    for passage in modularity.passages:
        wanted = torch.from_numpy(units.adjacency[passage.rows][:, passage.columns].toarray())
        if units.blocks[passage.reader].kind != "head" or units.blocks[passage.writer].kind != "pattern":
            torch.testing.assert_close(edges(plan, passage).detach().double(), wanted, atol=2e-6, rtol=1e-4)


def test_the_gradient_lowers_the_interface(llama):
    modularity = modularity_of(llama, strength=1.0, every=1000, pairs=ALL)
    size = sum(block.size for block in modularity.blocks)
    modularity.adopt(np.arange(size) % 2)
    before = modularity.interface
    assert 0.4 < before < 0.6
    optimiser = torch.optim.SGD(llama.parameters(), 0.05)
    for _ in range(20):
        for weight in llama.parameters():
            weight.grad = torch.zeros_like(weight)
        modularity.add()
        optimiser.step()
    assert modularity.interface < before - 0.02


def test_pairs_in_turn_add_up_to_all(llama):
    slopes = []
    for pairs, calls in ((ALL, 1), (1, ALL)):
        modularity = modularity_of(llama, strength=1.0, every=1000, pairs=pairs)
        modularity.adopt(np.arange(sum(block.size for block in modularity.blocks)) % 2)
        modularity.steps = 1
        for weight in llama.parameters():
            weight.grad = torch.zeros_like(weight)
        for _ in range(calls):
            modularity.add()
        slopes.append([weight.grad / calls for weight in llama.parameters()])
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(one, other, atol=1e-7, rtol=1e-4)


def test_a_language_model_goes_through_the_schedule(llama):
    def batch(generator, samples):
        first = torch.randint(20, (samples, 1), generator=generator)
        ids = (first + torch.arange(9) * 3) % 20
        return (ids[:, :8],), ids[:, 1:]

    def loss(outputs, targets):
        return torch.nn.functional.cross_entropy(outputs.logits.transpose(1, 2), targets)

    def accuracy(model):
        (ids,), targets = batch(torch.Generator().manual_seed(3), 64)
        return float((model(ids).logits.argmax(-1) == targets).float().mean())

    plan = Plan(
        steps=60, batch=16, rate=2e-2, sparsity=0.02, kept=0.0, severed=1.0, strength=3.0, decay=0.0, restarts=1
    )
    task = Task("counting", lambda: type(llama)(llama.config), batch, loss, accuracy)
    found, plain = train(task, plan=plan), train(task, "none", plan=plan)
    assert found.figures.accuracy > 0.9
    assert found.figures.interface < 0.7 * plain.figures.interface
    assert np.isnan(found.figures.accuracy_cut)
