"""From a network to its graph, as a whole: general, exact, repeatable, and clear about what it cannot do."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from lifted import Net, gap, lifted, network_outputs, ops, run
from torch import nn
from torch.nn import functional as F

from pellucid.errors import BadInput, CannotTrace
from pellucid.ir.graph import Ref
from pellucid.ir.interpret import run_graph
from pellucid.lift.load import load
from pellucid.lift.trace import call_network, trace


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.two(F.gelu(self.one(x)))


class Branch(nn.Module):
    def forward(self, x):
        y = x + 1
        if y.sum() > 0:
            return y
        return x


X = torch.randn(4, 5, 8)


# ---- what goes in


def test_a_module_at_any_batch_and_length():
    graph = lifted(Mlp(), (X,), (torch.randn(1, 1, 8),), (torch.randn(7, 2, 8),))
    assert graph.values["x"].axes == ("batch", "seq", 8)
    assert graph.remarks == ()
    x = torch.randn(2, 9, 8)
    assert gap(run_graph(graph, [x]), network_outputs(same(graph), (x,), {})) < 1e-6


def same(graph) -> nn.Module:
    """The module whose weights a graph of `Mlp` shares."""
    module = Mlp()
    module.load_state_dict(dict(graph.weights))
    return module


def test_a_loaded_network_and_a_module_give_the_same():
    module = Mlp()
    assert trace(load(module), (X,)).block == trace(module, (X,)).block


def test_named_inputs():
    class Shifted(nn.Module):
        def forward(self, x, scale=None, shift=None, flag=True):
            return x * scale + shift if flag else x

    calls = [{"shift": torch.randn(8), "x": torch.randn(n, 8), "scale": torch.randn(n, 8)} for n in (3, 5)]
    graph = lifted(Shifted(), *calls)
    assert graph.block.inputs == ("x", "scale", "shift")


def test_positional_and_named_inputs_together():
    net = Net(lambda net, x: x)
    net.forward = lambda x, y=None: x + 2 * y  # type: ignore[method-assign]
    graph = trace(net, (X,), {"y": X * 2})
    assert gap(run(graph, [X, X * 2]), [X * 5]) < 1e-6


def test_nested_inputs():
    net = Net(lambda net, x, state: net.cell(x, state)[0], cell=nn.LSTM(8, 6, batch_first=True))
    calls = [(torch.randn(b, n, 8), (torch.randn(1, b, 6), torch.randn(1, b, 6))) for b, n in ((4, 5), (2, 3))]
    graph = lifted(net, *calls)
    assert len(graph.block.inputs) == 3


def test_whole_numbers_and_truth_values_as_inputs():
    net = Net(lambda net, i, keep: net.table(i) * keep[..., None], table=nn.Embedding(9, 4))
    calls = [(torch.randint(0, 9, shape), torch.rand(shape) > 0.5) for shape in ((3, 4), (2, 6))]
    graph = lifted(net, *calls)
    assert [graph.values[name].dtype for name in graph.block.inputs] == ["int64", "bool"]


def test_plain_values_beside_tensors():
    net = Net(lambda net, x, flag: x * 2 if flag else x)
    assert gap(run(trace(net, (X, True)), [X]), [X * 2]) == 0.0


# ---- what comes out


def test_several_outputs_in_order():
    def compute(net, x):
        return {"last": x[:, -1], "pair": (x * 2, [x + 1])}

    graph = lifted(Net(compute), (X,), (torch.randn(2, 3, 8),))
    assert len(graph.block.outputs) == 3


def test_dropout_is_off_whatever_the_mode():
    module = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.9)).train()
    graph = lifted(module, (X,))
    assert [node.op for node in graph.block.nodes] == ["linear"]


def test_a_module_called_twice_shares_its_weights():
    graph = lifted(Net(lambda net, x: net.part(torch.relu(net.part(x))), part=nn.Linear(8, 8)), (X,), (X[:2],))
    assert [node.args[1].name for node in graph.block.nodes if node.op == "linear"] == ["part.weight"] * 2
    assert len(graph.weights) == 2


def test_weights_are_shared_with_the_module_not_copied():
    module = Mlp()
    graph = trace(module, (X,))
    assert graph.weights["one.weight"].data_ptr() == module.one.weight.data_ptr()
    assert not graph.weights["one.weight"].requires_grad


def test_the_same_input_gives_the_same_graph():
    torch.manual_seed(0)
    module = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    one, other = trace(module, (X,)), trace(module, (X,))
    assert (one.block, dict(one.values), one.modules, one.remarks) == (
        other.block, dict(other.values), other.modules, other.remarks,
    )  # fmt: skip


def test_one_sample_is_remarked_on():
    graph = trace(Mlp(), (torch.randn(1, 5, 8),))
    assert graph.remarks == ("the network takes only this number of samples at once: x float32[1, seq, 8]",)


def test_the_module_is_left_as_it_was():
    module = Mlp()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    trace(module, (X,))
    assert "forward" not in vars(module)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_no_warnings_and_nothing_on_the_terminal(capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trace(Mlp(), (X,))
        with pytest.raises(CannotTrace):
            trace(Branch(), (X,))
    assert capfd.readouterr() == ("", "")


# ---- rewritings that would change the network are left out


def test_a_rewriting_that_changes_the_output_is_left_out(monkeypatch):
    def wrong(graph, rules=()):
        nodes = tuple(node.with_changes(op="relu") if node.op == "tanh" else node for node in graph.block.nodes)
        return graph.with_changes(block=graph.block.__class__(graph.block.inputs, nodes, graph.block.outputs))

    for name in ("reroll", "recognise"):
        monkeypatch.setattr(f"pellucid.lift.trace.{name}", wrong)
    assert [node.op for node in lifted(Net(lambda net, x: torch.tanh(x)), (X,)).block.nodes] == ["tanh"]


def test_one_wrong_rule_does_not_cost_the_others(monkeypatch):
    from pellucid.lift import recognise
    from pellucid.lift.patterns import P, Rule

    wrong = Rule("wrong", P("tanh", "?x"), lambda m: ("relu", (m.bound["?x"],)))
    monkeypatch.setattr("pellucid.lift.trace.RULES", (wrong, *recognise.RULES))
    monkeypatch.setattr(recognise.recognise, "__defaults__", ((wrong, *recognise.RULES),))
    graph = lifted(Net(lambda net, x: torch.tanh(x * torch.sigmoid(x))), (X,))
    assert [node.op for node in graph.block.nodes] == ["silu", "tanh"]


# ---- what cannot be traced


def one_line(raised: pytest.ExceptionInfo) -> str:
    text = str(raised.value)
    assert "\n" not in text
    assert text
    return text


def test_a_branch_on_values_names_module_and_line():
    with pytest.raises(CannotTrace) as raised:
        trace(nn.Sequential(nn.Linear(8, 8), Branch()), (X,))
    text = Path(__file__).read_text(encoding="utf-8").splitlines()
    line = next(i for i, written in enumerate(text, 1) if "if y.sum() > 0" in written)
    assert f"in Branch.forward (test_trace.py:{line})" in one_line(raised)
    assert "torch.where" in str(raised.value)


def test_a_failure_inside_torch_names_the_line_that_called_it():
    def compute(net, x):
        return torch.from_numpy(x.numpy() * 2)

    with pytest.raises(CannotTrace, match=r"Net in Net\.forward \(lifted\.py:\d+\)") as raised:
        trace(Net(compute), (X,))
    one_line(raised)


RANDOM = {
    "rand": lambda net, x: x + torch.rand(x.shape),
    "randn_like": lambda net, x: x + torch.randn_like(x),
    "dropout left on": lambda net, x: F.dropout(x, 0.5),
    "bernoulli": lambda net, x: x * torch.bernoulli(torch.full_like(x, 0.5)),
}


@pytest.mark.parametrize("name", RANDOM)
def test_random_networks(name):
    with pytest.raises(CannotTrace, match="random or stateful") as raised:
        trace(Net(RANDOM[name]), (X,))
    one_line(raised)


def test_a_network_with_a_counter():
    def compute(net, x):
        net.seen += 1
        return x * net.seen

    with pytest.raises(CannotTrace, match="the network changes 'seen' while it runs") as raised:
        trace(Net(compute, seen=torch.zeros(())), (X,))
    one_line(raised)


def test_a_network_that_counts_in_python():
    def compute(net, x):
        net.calls = getattr(net, "calls", 0) + 1
        return x * net.calls

    with pytest.raises(CannotTrace, match="random or stateful"):
        trace(Net(compute), (X,))


def test_inputs_the_network_does_not_take():
    for args in ((torch.randn(3, 7),), (), (X, X)):
        with pytest.raises(BadInput, match="does not run on the given inputs") as raised:
            trace(Mlp(), args)
        one_line(raised)


def test_unknown_names_of_inputs():
    with pytest.raises(BadInput, match="unexpected keyword"):
        trace(Mlp(), (), {"nothing": X})


def test_the_largest_entry_of_a_vector():
    lifted(Net(lambda net, x: x.max(0).values * x), (torch.randn(5),), (torch.randn(3),))


def test_operations_from_elsewhere():
    @torch.library.custom_op("pellucid_test::twice", mutates_args=())
    def twice(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    twice.register_fake(torch.empty_like)
    with pytest.raises(CannotTrace, match=r"'pellucid_test::twice' is no part of torch itself"):
        trace(Net(lambda net, x: torch.ops.pellucid_test.twice(x)), (X,))


# ---- calling networks


def test_call_network_flattens_and_protects_its_inputs():
    x = torch.randn(2, 8)
    before = x.clone()
    outputs = call_network(load(Net(lambda net, x: {"a": x.mul_(2), "n": 3, "b": [x + 1]})), (x,), {})
    assert torch.equal(x, before)
    assert gap(outputs, [before * 2, before * 2 + 1]) == 0.0


def test_call_network_needs_inputs_that_fit():
    with pytest.raises(BadInput, match="check them"):
        call_network(load(Mlp()), (torch.randn(2, 7),), {})


# ---- real architectures, with random weights


def ids(*shape: int) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.randint(0, 99, shape, generator=torch.Generator().manual_seed(shape[1]))}


def model(name: str):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 4}
    grouped = small | {"num_key_value_heads": 2, "vocab_size": 99}
    special = {"bos_token_id": None, "eos_token_id": None}
    made = {
        "gpt2": ("GPT2LMHeadModel", "GPT2Config", {"n_embd": 16, "n_layer": 1, "n_head": 4, "n_positions": 64}),
        "llama": ("LlamaForCausalLM", "LlamaConfig", grouped),
        "llama written out": ("LlamaForCausalLM", "LlamaConfig", grouped | {"attn_implementation": "eager"}),
        "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", grouped),
        "mistral": ("MistralForCausalLM", "MistralConfig", grouped | {"sliding_window": 12}),
        "neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", small),
        "bert": ("BertModel", "BertConfig", small),
        "vit": ("ViTModel", "ViTConfig", small | {"image_size": 8, "patch_size": 4}),
    }[name]
    vocabulary = {} if name == "vit" else {"vocab_size": 99, **special}
    config = getattr(transformers, made[1])(**(vocabulary | made[2]))
    implementation = made[2].get("attn_implementation")
    if implementation:
        config._attn_implementation = implementation
    return getattr(transformers, made[0])(config)


@pytest.mark.parametrize("name", ["gpt2", "llama", "llama written out", "qwen2", "neox"])
def test_causal_language_models(name):
    graph = lifted(model(name), ids(2, 7), ids(3, 5), ids(1, 30))
    (attention,) = (node for node in graph.block.nodes if node.op == "attention")
    assert attention.args[3:5] == (None, True)
    assert ops(graph)["rotary"] == (0 if name == "gpt2" else 2)
    assert ops(graph)["rms_norm"] == (0 if name in ("gpt2", "neox") else 3)
    assert not any(op.startswith("aten.") for op in ops(graph))
    groups = [graph.values[arg.name].axes[1] for arg in attention.args[:3]]
    assert groups == ([4, 4, 4] if name in ("gpt2", "neox") else [4, 2, 2])


def test_a_sliding_window_is_not_causal():
    """The window is longer than the traced sequence, so that there the mask looks causal."""
    graph = lifted(model("mistral"), ids(2, 7), ids(3, 5), ids(1, 40))
    (attention,) = (node for node in graph.block.nodes if node.op == "attention")
    assert isinstance(attention.args[3], Ref)
    assert attention.args[4] is False


def test_an_encoder_with_padding():
    def call(batch: int, length: int) -> dict[str, torch.Tensor]:
        keep = torch.ones(batch, length, dtype=torch.int64)
        keep[0, length // 2 + 1 :] = 0
        return ids(batch, length) | {"attention_mask": keep}

    graph = lifted(model("bert"), call(2, 7), call(3, 5))
    assert set(graph.block.inputs) == {"input_ids", "attention_mask"}
    assert ops(graph)["attention"] == 1


def test_a_vision_transformer():
    calls = [{"pixel_values": torch.randn(batch, 3, 8, 8)} for batch in (2, 5)]
    assert ops(lifted(model("vit"), *calls))["attention"] == 1


@pytest.mark.parametrize("flatten", [nn.Flatten(), nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Flatten())])
def test_a_dense_layer_fixes_the_picture_that_is_flattened_for_it(flatten):
    width = 64 if isinstance(flatten, nn.Flatten) else 256
    graph = trace(nn.Sequential(flatten, nn.Linear(width, 5)).eval(), (torch.randn(3, 1, 8, 8),))
    assert graph.values[graph.block.inputs[0]].axes == ("batch", 1, 8, 8)
    assert all(isinstance(axis, int) for kind in graph.values.values() for axis in kind.axes[1:])
