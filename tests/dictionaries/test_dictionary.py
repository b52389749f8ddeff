"""Dictionaries: what they compute, files, and what they refuse."""

import dataclasses

import pytest
import torch
from planted_dictionaries import at_random
from safetensors.torch import save_file

from pellucid.dictionaries.dictionary import Dictionary, JumpReLU, TopK
from pellucid.errors import BadInput

X = torch.randn((3, 5, 16), generator=torch.Generator().manual_seed(1))


def test_topk_keeps_the_largest_above_zero():
    d = at_random("topk")
    raw = X @ d.encoder.T + d.encoder_bias
    latents = d.encode(X)
    assert ((latents > 0).sum(-1) <= 4).all()
    assert torch.allclose(latents.sort(-1).values[..., -4:], raw.sort(-1).values[..., -4:].relu(), atol=1e-5)


def test_topk_keeps_nothing_below_zero():
    d = dataclasses.replace(at_random("topk"), encoder_bias=torch.full((30,), -1e3))
    assert not d.encode(X).any()


def test_jumprelu_keeps_what_exceeds_its_threshold():
    d = at_random("jumprelu")
    raw = X @ d.encoder.T + d.encoder_bias
    assert torch.allclose(d.encode(X), torch.where(raw > d.activation.thresholds, raw, 0.0), atol=1e-5)


def test_what_is_written_is_the_latents_rows_and_the_bias():
    d = at_random()
    assert torch.allclose(d(X), d.encode(X) @ d.decoder + d.decoder_bias)


@pytest.mark.parametrize("activation", ["topk", "jumprelu"])
@pytest.mark.parametrize("kind", ["transcoder", "autoencoder"])
def test_a_file_holds_all_of_it(tmp_path, activation, kind):
    d = at_random(activation, kind)
    d.save(tmp_path / "sub" / "d.safetensors")
    again = Dictionary.load(tmp_path / "sub" / "d.safetensors")
    assert again.kind == kind
    assert torch.equal(again(X), d(X))
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["d.safetensors"]


def test_other_files_are_refused(tmp_path):
    with pytest.raises(BadInput, match="no dictionary"):
        Dictionary.load(tmp_path / "absent")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(BadInput, match="no dictionary"):
        Dictionary.load(tmp_path / "text")
    save_file({"encoder": torch.zeros(2, 2)}, tmp_path / "other")
    with pytest.raises(BadInput, match="no dictionary"):
        Dictionary.load(tmp_path / "other")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"encoder_bias": torch.zeros(29)}, "encoder_bias has shape"),
        ({"decoder": torch.zeros(31, 16)}, "decoder has shape"),
        ({"activation": TopK(0)}, "TopK of 0"),
        ({"activation": TopK(31)}, "TopK of 31"),
        ({"activation": JumpReLU(torch.zeros(3))}, "thresholds of shape"),
        ({"activation": JumpReLU(torch.full((30,), -1.0))}, "negative"),
        ({"activation": JumpReLU(torch.full((30,), float("nan")))}, "no number"),
        ({"kind": "autoencoder", "encoder": torch.zeros(30, 5)}, "autoencoder of 5"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, why):
    with pytest.raises(BadInput, match=why):
        dataclasses.replace(at_random(), **changes)
