"""Coordinates of a residual stream for each region: planted GPTs whose regions no longer hear each other."""

import numpy as np
import pytest
import torch

from pellucid import BadInput
from pellucid.modules.severing import run
from pellucid.train import Modularity
from pellucid.train.allotment import allotted, sides_of
from pellucid.train.division import live_units
from pellucid.train.streams import shares

transformers = pytest.importorskip("transformers")

WIDTH = 24


def gpt2():
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=20, n_positions=8, n_embd=WIDTH, n_layer=2, n_head=4, n_inner=32, tie_word_embeddings=False,
        use_cache=False,
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config).eval()
    for name, weight in model.named_parameters():
        if "ln" in name:
            weight.data += torch.rand_like(weight)
    return model


def llama():
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=20, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


def adopted(model):
    """A modularity with every second head, neuron and output in region 1; tokens likewise."""
    modularity = Modularity(model, (torch.arange(16).reshape(2, 8) % 20,), strength=1.0)
    modularity.adopt(np.concatenate([np.arange(block.size) % 2 for block in modularity.blocks]))
    return modularity


@pytest.mark.parametrize("build", [gpt2, llama])
def test_nothing_but_tokens_crosses_a_severed_stream(build):
    model = build()
    modularity = adopted(model)
    labels, units = modularity.division.tensor(), live_units(modularity.graph, model)
    before = shares(units, modularity.passages, labels)
    modularity.sever()
    units = live_units(modularity.graph, model)
    after = shares(units, modularity.passages, labels)
    assert min(before) > 0.4
    for passage, share in zip(modularity.passages, after, strict=True):
        if units.blocks[passage.writer].kind == "token":
            assert share > 0.3
        else:
            assert share < 1e-5


def test_a_region_hears_nothing_of_the_other():
    model = gpt2()
    for name, part in model.named_modules():
        if name.rsplit(".", 1)[-1].startswith("ln"):
            part.eps = 1e6  # the scale of the norms, which stays in common, becomes a constant
    modularity = adopted(model)
    graph = modularity.graph
    modularity.sever()
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    graph = graph.with_changes(weights={name: tensors.get(name, w).detach() for name, w in graph.weights.items()})
    neurons = next(block for block in modularity.blocks if block.kind == "neuron")
    odd = torch.arange(neurons.size) % 2 == 1

    def change(name, value):
        return value + odd * 1e3 if name == neurons.value else value

    ids = torch.randint(20, (3, 8), generator=torch.Generator().manual_seed(1))
    (before,), (after,) = ([run(graph, [ids], with_)[name] for name in graph.block.outputs] for with_ in (None, change))
    moved = (after - before).abs().amax((0, 1))
    assert moved[1::2].min() > 1e-7
    assert moved[0::2].max() < 1e-3 * moved[1::2].max()


def test_what_was_cut_stays_cut_under_an_optimiser_and_the_weak_loss_goes_on():
    model = gpt2()
    modularity = adopted(model)
    modularity.sever()
    ids = torch.randint(20, (16, 8), generator=torch.Generator().manual_seed(1))
    optimiser = torch.optim.AdamW(model.parameters(), 1e-2)
    first = modularity.interface
    for _ in range(8):
        loss = torch.nn.functional.cross_entropy(model(ids).logits.transpose(1, 2), ids)
        optimiser.zero_grad()
        loss.backward()
        modularity.add()
        optimiser.step()
        modularity.shrink(1e-2)
    units = live_units(modularity.graph, model)
    found = shares(units, modularity.passages, modularity.division.tensor())
    tokens = [units.blocks[passage.writer].kind == "token" for passage in modularity.passages]
    assert max(share for share, token in zip(found, tokens, strict=True) if not token) < 1e-5
    assert modularity.interface < 0.98 * first


def test_a_resumed_run_keeps_its_coordinates():
    model = gpt2()
    modularity = adopted(model)
    modularity.sever()
    other = Modularity(model, (torch.arange(16).reshape(2, 8) % 20,))
    other.load_state_dict(modularity.state_dict())
    before = [weight.clone() for weight in model.parameters()]
    other.shrink(1e-2)
    for weight, kept in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(weight.detach(), kept.detach(), atol=1e-7, rtol=0)


def test_coordinates_go_where_they_are_at_home():
    model = gpt2()
    modularity = adopted(model)
    labels = modularity.division.tensor()
    sides = sides_of(modularity.graph, model)
    home = torch.arange(WIDTH) % 3 % 2
    for side in sides:
        own = labels[side.units][:, None] == home[None, :]
        side.by_unit().masked_fill_(~own, 0.0)
    assert {side.name.split(".")[-2] for side in sides} == {"c_attn", "c_proj", "c_fc", "lm_head"}
    owners = allotted(sides, labels, 2)
    assert (owners == 1).sum() == WIDTH // 2
    assert (owners[home == 1] == 1).all()


def test_a_stream_too_thin_for_its_regions_is_refused():
    model = gpt2()
    modularity = Modularity(model, (torch.arange(16).reshape(2, 8) % 20,))
    labels = np.zeros(sum(block.size for block in modularity.blocks), dtype=np.int64)
    labels[0] = 1
    modularity.adopt(labels)
    with pytest.raises(BadInput, match="fewer than two"):
        modularity.sever()
