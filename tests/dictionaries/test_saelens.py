"""SAELens directories: what is read computes what SAELens would, what is written is read back."""

import json

import pytest
import torch
from planted_dictionaries import at_random
from safetensors.torch import load_file, save_file

from pellucid.dictionaries.dictionary import Dictionary, JumpReLU, TopK
from pellucid.dictionaries.install import check_fits
from pellucid.dictionaries.saelens import read_saelens, write_saelens
from pellucid.errors import BadInput

X = torch.randn((40, 6), generator=torch.Generator().manual_seed(0))
GENERATOR = torch.Generator().manual_seed(1)
TENSORS = {
    "W_enc": torch.randn((6, 20), generator=GENERATOR),
    "b_enc": torch.randn(20, generator=GENERATOR),
    "W_dec": torch.randn((20, 6), generator=GENERATOR),
    "b_dec": torch.randn(6, generator=GENERATOR),
}
THRESHOLD = torch.rand(20, generator=GENERATOR)


def placed(place, config, tensors):
    """A directory as SAELens writes it, by hand."""
    place.mkdir(exist_ok=True)
    given = {"d_in": 6, "d_sae": 20, "dtype": "float32", "device": "cpu", "normalize_activations": "none"}
    (place / "cfg.json").write_text(json.dumps({**given, "reshape_activations": "none", **config}))
    save_file(tensors, place / "sae_weights.safetensors")
    return place


def largest(raw, k):
    values, ids = raw.topk(k, dim=-1)
    return torch.zeros_like(raw).scatter(-1, ids, values.relu())


def test_standard_takes_the_bias_from_the_input(tmp_path):
    d = read_saelens(placed(tmp_path / "s", {"architecture": "standard", "apply_b_dec_to_input": True}, TENSORS))
    wanted = ((X - TENSORS["b_dec"]) @ TENSORS["W_enc"] + TENSORS["b_enc"]).relu()
    assert d.kind == "autoencoder"
    assert torch.allclose(d.encode(X), wanted, atol=1e-5)
    assert torch.allclose(d(X), wanted @ TENSORS["W_dec"] + TENSORS["b_dec"], atol=1e-4)


@pytest.mark.parametrize("rescaled", [False, True])
def test_topk_with_and_without_decoder_norms(tmp_path, rescaled):
    config = {"architecture": "topk", "k": 3, "apply_b_dec_to_input": False, "rescale_acts_by_decoder_norm": rescaled}
    d = read_saelens(placed(tmp_path / "s", config, TENSORS))
    norms = TENSORS["W_dec"].norm(dim=-1) if rescaled else torch.ones(20)
    wanted = largest((X @ TENSORS["W_enc"] + TENSORS["b_enc"]) * norms, 3)
    assert torch.allclose(d.encode(X), wanted, atol=1e-4)
    assert torch.allclose(d(X), wanted / norms @ TENSORS["W_dec"] + TENSORS["b_dec"], atol=1e-4)


def test_jumprelu_and_the_old_name_of_its_thresholds(tmp_path):
    config = {"architecture": "jumprelu", "apply_b_dec_to_input": False}
    new = read_saelens(placed(tmp_path / "new", config, {**TENSORS, "threshold": THRESHOLD}))
    old = read_saelens(placed(tmp_path / "old", config, {**TENSORS, "log_threshold": THRESHOLD.log()}))
    raw = X @ TENSORS["W_enc"] + TENSORS["b_enc"]
    assert torch.allclose(new.encode(X), raw.relu() * (raw > THRESHOLD), atol=1e-5)
    assert torch.allclose(old.encode(X), new.encode(X), atol=1e-5)


@pytest.mark.parametrize("architecture", ["transcoder", "jumprelu_transcoder"])
def test_transcoders_write_another_width(tmp_path, architecture):
    tensors = {**TENSORS, "W_dec": torch.randn((20, 9), generator=GENERATOR), "b_dec": torch.zeros(9)}
    thresholds = THRESHOLD if architecture[0] == "j" else torch.zeros(20)
    tensors |= {"threshold": THRESHOLD} if architecture[0] == "j" else {}
    config = {"architecture": architecture, "d_out": 9, "apply_b_dec_to_input": False}
    d = read_saelens(placed(tmp_path / "s", config, tensors))
    raw = X @ TENSORS["W_enc"] + TENSORS["b_enc"]
    assert (d.kind, d.reads, d.writes) == ("transcoder", 6, 9)
    assert torch.allclose(d(X), (raw.relu() * (raw > thresholds)) @ tensors["W_dec"], atol=1e-4)


def test_the_flat_format_before_version_6(tmp_path):
    config = {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 2}, "hook_name": "blocks.0.hook_mlp_out"}
    d = read_saelens(placed(tmp_path / "s", {**config, "apply_b_dec_to_input": True}, TENSORS))
    assert d.activation == TopK(2)
    assert torch.allclose(
        d.encode(X), largest((X - TENSORS["b_dec"]) @ TENSORS["W_enc"] + TENSORS["b_enc"], 2), atol=1e-5
    )


@pytest.mark.parametrize("activation", ["topk", "jumprelu"])
@pytest.mark.parametrize("kind", ["transcoder", "autoencoder"])
def test_what_is_written_is_read_back_and_has_the_names_of_saelens(tmp_path, activation, kind):
    d = at_random(activation, kind)
    write_saelens(d, tmp_path / "s", {"hook_name": "blocks.0.hook_mlp_out"})
    again = read_saelens(tmp_path / "s")
    x = torch.randn((9, 16), generator=torch.Generator().manual_seed(4))
    assert (again.kind, type(again.activation)) == (kind, type(d.activation))
    assert torch.equal(again(x), d(x))
    config = json.loads((tmp_path / "s" / "cfg.json").read_text())
    names = {("topk", "transcoder"): "topk", ("topk", "autoencoder"): "topk", ("jumprelu", "autoencoder"): "jumprelu"}
    assert config["architecture"] == names.get((activation, kind), "jumprelu_transcoder")
    assert config["metadata"]["hook_name"] == "blocks.0.hook_mlp_out"
    assert {"W_enc", "b_enc", "W_dec", "b_dec"} <= set(load_file(tmp_path / "s" / "sae_weights.safetensors"))


def test_a_topk_transcoder_of_unlike_sides_cannot_be_written(tmp_path):
    d = Dictionary("transcoder", TopK(1), torch.ones(4, 3), torch.zeros(4), torch.ones(4, 5), torch.zeros(5))
    with pytest.raises(BadInput, match="no TopK transcoder"):
        write_saelens(d, tmp_path / "s")
    write_saelens(
        Dictionary("transcoder", JumpReLU(torch.zeros(4)), *(d.encoder, d.encoder_bias, d.decoder, d.decoder_bias)),
        tmp_path / "s",
    )
    assert read_saelens(tmp_path / "s").writes == 5


@pytest.mark.parametrize(
    ("config", "tensors", "why"),
    [
        ({"architecture": "gated"}, TENSORS, "architecture 'gated'"),
        ({"architecture": "topk"}, TENSORS, "k is None"),
        ({"architecture": "topk", "k": 99}, TENSORS, "TopK of 99"),
        ({"architecture": "jumprelu"}, TENSORS, "no tensor 'threshold'"),
        ({"d_in": 7}, TENSORS, "W_enc has shape"),
        ({"d_sae": None}, TENSORS, "W_enc has shape"),
        ({"normalize_activations": "layer_norm"}, TENSORS, "normalize_activations"),
        ({"reshape_activations": "hook_z"}, TENSORS, "hook_z"),
        ({"activation_fn": "tanh-relu"}, TENSORS, "activation 'tanh-relu'"),
        ({}, {"W_enc": TENSORS["W_enc"]}, "no tensor 'W_dec'"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(tmp_path, config, tensors, why):
    with pytest.raises(BadInput, match=why) as caught:
        read_saelens(placed(tmp_path / "s", config, tensors))
    assert "\n" not in str(caught.value)


def test_missing_and_damaged_files(tmp_path):
    with pytest.raises(BadInput, match="no configuration"):
        read_saelens(tmp_path)
    place = placed(tmp_path / "s", {}, TENSORS)
    (place / "sae_weights.safetensors").write_bytes(b"cut")
    with pytest.raises(BadInput, match="no weights"):
        read_saelens(place)
    (place / "cfg.json").write_text("[1]")
    with pytest.raises(BadInput, match="no configuration"):
        read_saelens(place)


def test_another_dimension_than_the_functions_is_one_clear_error(tmp_path):
    from planted_dictionaries import program

    with pytest.raises(BadInput, match="would read 16 values and write 16, this one reads 6 and writes 6") as caught:
        check_fits(program(), "model.layers.0.mlp", read_saelens(placed(tmp_path / "s", {}, TENSORS)))
    assert "\n" not in str(caught.value)
