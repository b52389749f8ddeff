"""Hugging Face folders: the planted weights come back, and every way to be wrong is one line that names the culprit."""

from __future__ import annotations

import json
import logging

import pytest
import torch
from loader_files import LLAMA, llama_tensors, safetensors_bytes, write_folder
from torch import nn

from pellucid.errors import BadInput
from pellucid.lift import huggingface
from pellucid.lift.load import load

transformers = pytest.importorskip("transformers")

TOKENIZER = {
    "version": "1.0",
    "added_tokens": [],
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]},
}


def refuse(folder, match):
    with pytest.raises(BadInput, match=match) as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_the_planted_weights_come_back_in_eval_mode(tmp_path):
    network = load(write_folder(tmp_path / "tiny"))
    state = network.module.state_dict()
    planted = llama_tensors()
    for name, tensor in planted.items():
        assert torch.equal(state[name], tensor), name
    assert torch.equal(state["lm_head.weight"], planted["model.embed_tokens.weight"])
    assert not network.module.training
    assert (network.source, network.vocabulary, network.tokenizer) == ("tiny", 40, None)
    assert network.module.config._attn_implementation == "sdpa"
    assert network.fingerprint == load(tmp_path / "tiny").fingerprint


def test_shards_are_the_same_as_one_file(tmp_path):
    whole = load(write_folder(tmp_path / "whole"))
    folder = write_shards(tmp_path / "parts")
    assert load(folder).fingerprint == whole.fingerprint


def write_shards(folder):
    write_folder(folder)
    (folder / "model.safetensors").unlink()
    tensors = list(llama_tensors().items())
    weight_map = {}
    for name, part in {"one.safetensors": tensors[:7], "two.safetensors": tensors[7:]}.items():
        (folder / name).write_bytes(safetensors_bytes(dict(part)))
        weight_map |= {tensor: name for tensor, _ in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def test_weights_may_have_another_name_if_they_are_alone(tmp_path):
    folder = write_folder(tmp_path / "tiny")
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    load(folder)
    (folder / "more.safetensors").write_bytes((folder / "other.safetensors").read_bytes())
    refuse(folder, "holds 2 safetensors files but no model.safetensors.index.json")


def test_other_architectures_are_loaded_by_their_class(tmp_path):
    config = transformers.BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    config.vocab_size, config.max_position_embeddings = 20, 16
    model = transformers.BertForMaskedLM(config).eval()
    with huggingface.quiet():
        model.save_pretrained(tmp_path)
    network = load(tmp_path)
    assert type(network.module) is transformers.BertForMaskedLM
    ids = torch.tensor([[1, 5, 7]])
    assert torch.equal(network.module(ids).logits, model(ids).logits)
    assert network.vocabulary == 20


def test_half_precision_becomes_float32(tmp_path):
    raw = torch.zeros(16, dtype=torch.bfloat16)
    tensors = {name: tensor for name, tensor in llama_tensors().items() if name != "model.norm.weight"}
    whole = safetensors_bytes(tensors)
    length = int.from_bytes(whole[:8], "little")
    header, data = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    header["model.norm.weight"] = {"dtype": "BF16", "shape": [16], "data_offsets": [len(data), len(data) + 32]}
    text = json.dumps(header).encode()
    content = len(text).to_bytes(8, "little") + text + data + raw.view(torch.uint8).numpy().tobytes()
    network = load(write_folder(tmp_path / "tiny", tensors=content))
    assert {parameter.dtype for parameter in network.module.parameters()} == {torch.float32}


def test_the_tokenizer_comes_along(tmp_path):
    folder = write_folder(tmp_path / "tiny")
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    tokenizer = load(folder).tokenizer
    assert tokenizer is not None
    assert tokenizer.encode("abba") == [2, 1, 0]
    assert tokenizer.decode([2, 1, 0]) == "abba"
    assert tokenizer.vocabulary == 3


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b'{"model": {}}',
        json.dumps(TOKENIZER).replace('"ab": 2', '"ab": -1').encode(),
        json.dumps(TOKENIZER).replace('["a", "b"]', '["a", "x"]').encode(),
        json.dumps(TOKENIZER).replace('"merges"', '"continuing_subword_prefix": "xxx", "merges"').encode(),
    ],
)
def test_a_damaged_tokenizer_is_refused(tmp_path, content, capfd):
    folder = write_folder(tmp_path / "tiny")
    (folder / "tokenizer.json").write_bytes(content)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    refuse(folder, "the tokenizer cannot be loaded")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"hidden_size": 32}, r"tensor \S+ has shape \[.*\] in the weights but \[.*32.*\] by the config"),
        ({"vocab_size": 41}, r"tensor model.embed_tokens.weight has shape \[40, 16\] in the weights but \[41, 16\]"),
        ({"num_hidden_layers": 3}, r"tensor model.layers.2.input_layernorm.weight and 8 more are missing"),
        ({"num_hidden_layers": 1}, r"tensor model.layers.1.input_layernorm.weight and 8 more are unknown to the model"),
        ({"hidden_size": 10**9}, "config.json: hidden_size is 1000000000, more than 65536"),
        ({"num_hidden_layers": 10**9}, "config.json: num_hidden_layers is 1000000000, more than 1024"),
        ({"max_position_embeddings": 10**12}, "max_position_embeddings is 1000000000000"),
        ({"rope_scaling": {"inner": [10**30]}}, "inner is 1000000000000000000000000000000"),
        ({"model_type": None}, "lacks model_type"),
        ({"model_type": "unheard"}, "config.json is not accepted by transformers"),
        ({"architectures": ["os"]}, "names the architecture os, no model class"),
        ({"architectures": ["LlamaTokenizer"]}, "names the architecture LlamaTokenizer, no model class"),
        ({"architectures": ["BertModel"]}, "names BertModel but its model_type is llama"),
        ({"architectures": "x"}, "config.json"),
        ({"hidden_act": "unheard"}, "transformers cannot build LlamaForCausalLM from config.json"),
        ({"num_attention_heads": 0}, "config.json"),
        ({"hidden_size": "16"}, "config.json"),
        ({"auto_map": {"AutoModel": "code.Model"}}, "has auto_map: it asks for code"),
        ({"quantization_config": {"quant_method": "gptq"}}, "has quantization_config: its weights are quantized"),
        ({"fusion_config": {"x": True}}, "has fusion_config"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(tmp_path, changes, match):
    config = {key: value for key, value in (LLAMA | changes).items() if value is not None}
    refuse(write_folder(tmp_path / "tiny", config), match)


def test_a_config_without_architectures_is_taken_as_a_language_model(tmp_path):
    config = {key: value for key, value in LLAMA.items() if key != "architectures"}
    assert type(load(write_folder(tmp_path / "tiny", config)).module).__name__ == "LlamaForCausalLM"


def test_code_in_the_folder_is_not_run(tmp_path):
    marker = tmp_path / "marker"
    folder = write_folder(tmp_path / "tiny", LLAMA | {"auto_map": {"AutoModelForCausalLM": "modeling.Model"}})
    (folder / "modeling.py").write_text(f"open({str(marker)!r}, 'w')\nclass Model: pass\n")
    refuse(folder, "auto_map")
    write_folder(folder)
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    settings = {"auto_map": {"AutoTokenizer": ["modeling.Model", None]}, "tokenizer_class": "Model"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(BadInput, match="the tokenizer cannot be loaded"):
        load(folder)
    assert not marker.exists()


def test_a_buffer_far_larger_than_the_weights_is_refused():
    module = nn.Module()
    module.register_buffer("mask", torch.empty(2**16, 2**16, device="meta"))
    with pytest.raises(BadInput, match=r"tiny: config\.json asks for a buffer mask of 17179869184 bytes"):
        huggingface._check_buffers(module, [], "tiny")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"model_type": 3}', b"\xff\xfe{}", b"[" * 10**5])
def test_a_config_that_is_no_config_is_refused(tmp_path, content):
    refuse(write_folder(tmp_path / "tiny", content), "config.json")


def test_missing_parts_are_named(tmp_path):
    refuse(tmp_path, "has no config.json, it is empty")
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    refuse(tmp_path, "has no config.json, it holds pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    refuse(tmp_path, r"holds no \*\.safetensors; save the model with save_pretrained")
    (tmp_path / "adapter_config.json").write_text("{}")
    refuse(tmp_path, "holds an adapter")


def test_nan_is_named_with_its_tensor(tmp_path):
    tensors = llama_tensors()
    tensors["model.layers.1.mlp.up_proj.weight"][3, :2] = float("nan")
    refuse(
        write_folder(tmp_path / "tiny", tensors=tensors), r"tensor model\.layers\.1\.mlp\.up_proj\.weight holds 2 NaN"
    )


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda m: m.update({"model.norm.weight": "../tiny/one.safetensors"}), "no safetensors file of this folder"),
        (lambda m: m.update({"model.norm.weight": "absent.safetensors"}), "absent.safetensors: no such file"),
        (lambda m: m.update({"ghost": "one.safetensors"}), "tensor ghost is not in one.safetensors"),
        (lambda m: m.update({"model.norm.weight": 3}), "names the shard 3"),
        (lambda m: m.clear(), "lacks weight_map"),
    ],
)
def test_a_damaged_index_is_refused(tmp_path, change, match):
    folder = write_shards(tmp_path / "parts")
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    change(content["weight_map"])
    index.write_text(json.dumps(content))
    refuse(folder, match)


def test_a_tensor_in_two_shards_is_refused(tmp_path):
    folder = write_shards(tmp_path / "parts")
    (folder / "two.safetensors").write_bytes(safetensors_bytes(llama_tensors()))
    refuse(folder, "is in two shards")


def test_the_terminal_stays_clean_and_settings_are_restored(tmp_path, capfd, caplog):
    from transformers.utils import logging as settings

    settings.set_verbosity_info()
    settings.enable_progress_bar()
    config = LLAMA | {"eos_token_id": 50256}  # transformers warns about ids outside the vocabulary
    with caplog.at_level(logging.WARNING):
        load(write_folder(tmp_path / "tiny", config))
    out, err = capfd.readouterr()
    assert (out, err, caplog.records) == ("", "", [])
    assert settings.get_verbosity() == settings.INFO
    assert settings.is_progress_bar_enabled()
    settings.set_verbosity_warning()


def test_the_network_is_not_asked(monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import OfflineModeIsEnabled

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with huggingface.quiet(), pytest.raises(OfflineModeIsEnabled):
        huggingface_hub.get_session().get("https://huggingface.co/x")
    assert huggingface_hub.constants.HF_HUB_OFFLINE is False


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"transformers is needed .* pip install 'pellucid\[hf\]'"):
        load(write_folder(tmp_path / "tiny"))


def test_foreign_errors_become_one_line_and_others_pass():
    with pytest.raises(BadInput, match=r"^it broke: first$"), huggingface.translated(lambda why: f"it broke: {why}"):
        raise ValueError("first\nsecond")
    with pytest.raises(BadInput, match=r"^it broke: bare$"), huggingface.translated(lambda why: f"it broke: {why}"):
        raise Exception("bare")
    with pytest.raises(KeyboardInterrupt), huggingface.translated(str):
        raise KeyboardInterrupt
    with pytest.raises(StopIteration), huggingface.translated(str):
        raise StopIteration
