"""GGUF files: the planted weights come back, the second time from the cache, and a broken cache is never believed."""

from __future__ import annotations

import json
import os
import shutil
import time

import pytest
import torch
from loader_files import llama_gguf, llama_tensors

from pellucid.errors import BadInput
from pellucid.lift import gguf_cache
from pellucid.lift.load import load

pytest.importorskip("transformers")
pytest.importorskip("gguf")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PELLUCID_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "tiny.gguf"
    path.write_bytes(llama_gguf(llama_tensors()))
    return path


def the_folder(cache):
    folders = list(cache.iterdir())
    assert len(folders) == 1, folders
    return folders[0]


def test_the_planted_weights_come_back(cache, model, capfd):
    network = load(model)
    state = network.module.state_dict()
    for name, tensor in llama_tensors().items():
        assert torch.equal(state[name], tensor), name
    assert (network.source, network.vocabulary) == ("tiny.gguf", 40)
    assert network.tokenizer.encode("abc") == [38, 5]
    assert network.tokenizer.decode([38, 5]) == "abc"
    assert capfd.readouterr() == ("", "")


def test_the_second_time_comes_from_the_cache(cache, model, monkeypatch):
    first = load(model)
    assert sorted(file.name for file in the_folder(cache).iterdir() if "token" not in file.name) == [
        "config.json",
        "model.safetensors",
        "pellucid.json",
    ]
    monkeypatch.setattr(gguf_cache, "_load_fresh", None)
    second = load(model)
    assert second.fingerprint == first.fingerprint
    ids = torch.tensor([[1, 5, 38, 2]])
    assert torch.equal(second.module(ids).logits, first.module(ids).logits)
    assert second.tokenizer.encode("abcA") == first.tokenizer.encode("abcA")


def flip_weight(folder):
    file = folder / "model.safetensors"
    raw = bytearray(file.read_bytes())
    raw[-3] ^= 1
    file.write_bytes(raw)


def cut_weights(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-5])


def other_fingerprint(folder):
    (folder / "pellucid.json").write_text('{"format": 1, "fingerprint": "0"}')


def other_format(folder):
    manifest = json.loads((folder / "pellucid.json").read_text())
    (folder / "pellucid.json").write_text(json.dumps(manifest | {"format": 0}))


@pytest.mark.parametrize(
    "damage",
    [
        flip_weight,
        cut_weights,
        other_fingerprint,
        other_format,
        lambda folder: (folder / "pellucid.json").unlink(),
        lambda folder: (folder / "config.json").write_text("{"),
        lambda folder: (folder / "tokenizer.json").write_text("{"),
        lambda folder: [shutil.rmtree(folder), folder.mkdir()],
    ],
)
def test_a_broken_cache_is_made_anew(cache, model, damage):
    whole = load(model).fingerprint
    damage(the_folder(cache))
    assert gguf_cache._load_cached(the_folder(cache), "tiny") is None
    assert load(model).fingerprint == whole
    assert gguf_cache._load_cached(the_folder(cache), "tiny") is not None


def test_an_interrupted_conversion_leaves_nothing(cache, model, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(gguf_cache, "load_folder", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load(model)
    assert list(cache.iterdir()) == []


def test_what_a_killed_conversion_left_goes_after_a_day(cache, model):
    for name, age in ((".partial-old", 2 * gguf_cache.ABANDONED), (".partial-running", 0.0)):
        (cache / name).mkdir(parents=True)
        os.utime(cache / name, (time.time() - age,) * 2)
    load(model)
    assert [folder.name for folder in cache.glob(".partial-*")] == [".partial-running"]


def test_an_epsilon_is_the_decimal_that_single_precision_meant(cache, model):
    assert load(model).module.config.rms_norm_eps == 1e-06


def test_what_another_process_published_meanwhile_stays(tmp_path, monkeypatch):
    ours, place = tmp_path / "partial" / "x", tmp_path / "x"
    for folder, text in ((ours, "ours"), (place, "theirs")):
        folder.mkdir(parents=True)
        (folder / "who").write_text(text)
    with monkeypatch.context() as patch:
        looks = iter([False, True])  # nobody there at the first look, somebody after the failed rename
        patch.setattr("pathlib.Path.exists", lambda path: next(looks))
        gguf_cache._publish(ours, place)
    assert (place / "who").read_text() == "theirs"
    gguf_cache._publish(ours, place)
    assert (place / "who").read_text() == "ours"


def test_a_cache_that_cannot_be_written_is_named_with_the_remedy(tmp_path, model, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PELLUCID_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(BadInput, match=r"cache: the cache cannot be written \(.*\); set PELLUCID_CACHE to a folder"):
        load(model)


def test_a_full_disk_is_told_before_the_conversion(cache, model, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(100, 99, 1))
    with pytest.raises(BadInput, match="bytes are needed, 1 are free; set PELLUCID_CACHE to a larger place"):
        load(model)
    assert list(cache.iterdir()) == []


def test_a_disk_that_fills_up_leaves_nothing(cache, model, monkeypatch):
    def fill(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", fill)
    with pytest.raises(BadInput, match=r"the cache cannot be written .*No space left on device"):
        load(model)
    assert list(cache.iterdir()) == []


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("PELLUCID_CACHE", str(tmp_path / "own"))
    assert gguf_cache.cache_root() == tmp_path / "own"
    monkeypatch.delenv("PELLUCID_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert gguf_cache.cache_root() == tmp_path / "pellucid"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert gguf_cache.cache_root() == tmp_path / ".cache" / "pellucid"


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"general.architecture": "unheard"}, "cannot load this GGUF file of architecture unheard"),
        ({"llama.block_count": 10**9}, "metadata: llama.block_count is 1000000000, more than 1024"),
        ({"llama.block_count": 500}, "the metadata ask for 4502 tensors"),
        ({"llama.block_count": 3}, r"tensor model\.layers\.2\.input_layernorm\.weight and 8 more are missing"),
        ({"llama.embedding_length": 4 * 10**9}, "llama.embedding_length is 4000000000, more than 65536"),
        ({"llama.embedding_length": 60000}, "the metadata ask for 20 tensors of"),
        ({"llama.feed_forward_length": 32}, r"tensor \S+mlp.\S+ has shape \[.*24.*\] in the weights but \[.*32.*\]"),
        ({"llama.attention.head_count": 0}, "cannot load this GGUF file"),
        ({"tokenizer.ggml.merges": ["a ~"]}, "cannot load this GGUF file .*out of vocabulary"),
        ({"tokenizer.ggml.tokens": None}, "cannot load this GGUF file|"),
    ],
)
def test_metadata_that_do_not_fit_are_refused(cache, tmp_path, changes, match):
    path = tmp_path / "tiny.gguf"
    path.write_bytes(llama_gguf(llama_tensors(), **changes))
    with pytest.raises(BadInput, match=match) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert "tiny.gguf" in str(caught.value)
    assert list(cache.glob("*")) == []


def test_nan_is_named_with_its_tensor_and_never_cached(cache, tmp_path):
    tensors = llama_tensors()
    tensors["model.norm.weight"][7] = float("inf")
    path = tmp_path / "tiny.gguf"
    path.write_bytes(llama_gguf(tensors))
    with pytest.raises(BadInput, match=r"tiny\.gguf: tensor model\.norm\.weight holds 1 Inf among its 16 values"):
        load(path)
    assert list(cache.iterdir()) == []
