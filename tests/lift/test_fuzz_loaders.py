"""Loaders on files that are broken at random: a `BadInput` in one line or a network, within bounds on memory.

What longer runs found (some 100,000 files) stands as explicit examples here and as cases in the tests of each loader.
"""

from __future__ import annotations

import copy
import json
import resource
import tracemalloc
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from loader_files import LLAMA, llama_gguf, llama_tensors, safetensors_bytes, write_folder
from torch import nn

from pellucid.errors import BadInput
from pellucid.lift.containers import read_safetensors_header
from pellucid.lift.gguf import read_gguf_header
from pellucid.lift.load import load

SAFETENSORS = safetensors_bytes(llama_tensors())
SAFETENSORS_HEADER = 8 + int.from_bytes(SAFETENSORS[:8], "little")
GGUF = llama_gguf(llama_tensors())
GGUF_HEADER = 2600
SPARE = 2 * 2**30

quick = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(autouse=True)
def bounded_memory():
    """No test here may map two more gigabytes: an allocation that a header asked for would fail and be told."""
    status = Path("/proc/self/statm")
    if not status.exists():  # only Linux counts address space this way
        yield
        return
    in_use = int(status.read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (in_use + SPARE, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@st.composite
def broken(draw, whole: bytes, header: int) -> bytes:
    """A file cut, with bits flipped or bytes replaced in its header, or with something behind."""
    kind = draw(st.sampled_from(["cut", "flip", "flip", "splice", "splice", "behind"]))
    if kind == "cut":
        return whole[: draw(st.integers(0, len(whole) - 1))]
    if kind == "behind":
        return whole + draw(st.binary(min_size=1, max_size=40))
    if kind == "splice":
        at, gone = draw(st.integers(0, header - 1)), draw(st.integers(0, 12))
        token = st.sampled_from([b"", b"\xff" * 8, b"9999999999999999999", b"\0" * 8, b"[[[[", b"1e999", b"-1", b'"'])
        return whole[:at] + draw(token | st.binary(max_size=9)) + whole[at + gone :]
    raw = bytearray(whole)
    for _ in range(draw(st.integers(1, 6))):
        raw[draw(st.integers(0, header - 1))] ^= 1 << draw(st.integers(0, 7))
    return bytes(raw)


def check(read, path):
    """Reads a file that may be broken; anything but a network or one line about this file is an error."""
    try:
        read(path)
    except BadInput as error:
        text = str(error)
        assert "\n" not in text
        assert len(text) < 900
        assert path.name in text
        assert "memory" not in text
        assert "allocat" not in text


def check_header(read, path, content):
    """As `check`, and memory stays in proportion to the file."""
    path.write_bytes(content)
    tracemalloc.start()
    try:
        check(read, path)
        assert tracemalloc.get_traced_memory()[1] < 60 * len(content) + 300_000
    finally:
        tracemalloc.stop()


@settings(quick, max_examples=150)
@given(broken(SAFETENSORS, SAFETENSORS_HEADER) | st.binary(max_size=200))
def test_safetensors_headers(tmp_path, content):
    check_header(read_safetensors_header, tmp_path / "a.safetensors", content)


@settings(quick, max_examples=150)
@given(broken(GGUF, GGUF_HEADER) | st.binary(max_size=200).map(lambda tail: b"GGUF\3\0\0\0" + tail))
def test_gguf_headers(tmp_path, content):
    check_header(read_gguf_header, tmp_path / "a.gguf", content)


@quick
@given(broken(SAFETENSORS, SAFETENSORS_HEADER))
def test_folders_with_broken_weights(tmp_path, content):
    pytest.importorskip("transformers")
    check(load, write_folder(tmp_path / "tiny", tensors=content))


@quick
@given(broken(json.dumps(LLAMA).encode(), len(json.dumps(LLAMA))))
def test_folders_with_broken_config(tmp_path, content):
    pytest.importorskip("transformers")
    check(load, write_folder(tmp_path / "tiny", content))


ODD = [0, 1, -1, 3, 10**6, 2**31, 2**63 - 1, 10**30, 0.5, float("nan"), "", "x", None, True, [], {}, [[]], "torch.load"]


@st.composite
def changed(draw, whole: object) -> object:
    """A JSON value with one entry, anywhere, removed or replaced by something odd."""
    value = copy.deepcopy(whole)
    at = value
    while True:
        key = draw(st.sampled_from(list(at) if isinstance(at, dict) else range(len(at))))
        if isinstance(at[key], dict | list) and at[key] and draw(st.integers(0, 9)):
            at = at[key]
            continue
        if draw(st.integers(0, 4)) == 0:
            del at[key]
        elif isinstance(at[key], int) and draw(st.booleans()):
            at[key] = draw(st.integers(-5, 2**70))
        else:
            at[key] = copy.deepcopy(draw(st.sampled_from(ODD)))
        return value


@quick
@given(changed(LLAMA))
@example(LLAMA | {"num_attention_heads": -1})
@example(LLAMA | {"hidden_size": 2**63 - 1})
@example(LLAMA | {"architectures": [None]})
@example(LLAMA | {"architectures": {}})
@example(LLAMA | {"rope_parameters": {"rope_type": "x", "rope_theta": float("nan")}})
def test_folders_with_odd_config(tmp_path, config):
    pytest.importorskip("transformers")
    check(load, write_folder(tmp_path / "tiny", config))


@quick
@given(broken(GGUF, GGUF_HEADER))
@example(llama_gguf(llama_tensors(), **{"llama.block_count": None}))
@example(llama_gguf(llama_tensors(), **{"llama.embedding_length": None}))
@example(llama_gguf(llama_tensors(), **{"tokenizer.ggml.merges": ["a `"]}))
@example(llama_gguf(llama_tensors(), **{"tokenizer.ggml.merges": ["ab"]}))
@example(llama_gguf(llama_tensors(), **{"tokenizer.ggml.tokens": ["a"]}))
@example(llama_gguf(llama_tensors(), **{"tokenizer.ggml.bos_token_id": 2**31}))
@example(llama_gguf(llama_tensors(), **{"llama.rope.freq_base": float("nan")}))
def test_gguf_files(tmp_path, monkeypatch, content):
    pytest.importorskip("transformers")
    monkeypatch.setenv("PELLUCID_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "a.gguf"
    path.write_bytes(content)
    check(load, path)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.register_buffer("scale", torch.arange(4.0))
        self.shift = torch.ones(4)

    def forward(self, x, *, flag=True):
        return (self.linear(x) * self.scale + self.shift).reshape(x.shape[0] * 4), {"total": x.sum(-1)}


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "model.pt2"
    shapes = {"x": {0: torch.export.Dim.AUTO}, "flag": None}
    exported = torch.export.export(Model().eval(), (torch.ones(2, 3),), {"flag": True}, dynamic_shapes=shapes)
    torch.export.save(exported, path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()} | {"": path.read_bytes()}


def write_archive(path, members, changes):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            if name:
                archive.writestr(name, changes.get(name, content))
    return path


@quick
@given(st.data())
def test_exported_archives(tmp_path, members, data):
    path = tmp_path / "a.pt2"
    path.write_bytes(data.draw(broken(members[""], len(members[""]))))
    check(load, path)


@settings(quick, max_examples=80)
@given(st.data())
def test_exported_programs(tmp_path, members, data):
    name = data.draw(st.sampled_from([name for name in members if name.endswith(".json")]))
    content = json.dumps(data.draw(changed(json.loads(members[name])))).encode()
    check(load, write_archive(tmp_path / "a.pt2", members, {name: content}))


def test_found_a_weight_that_the_program_has_and_the_archive_lacks(tmp_path, members):
    name = "model/data/weights/model_weights_config.json"
    config = json.loads(members[name])
    del config["config"]["linear.weight"]
    path = write_archive(tmp_path / "a.pt2", members, {name: json.dumps(config).encode()})
    with pytest.raises(BadInput, match=r"cannot load this program .*Parameter linear\.weight is not in the state dict"):
        load(path)


def test_found_a_stride_far_beyond_an_axis_of_length_one(tmp_path, members):
    name = "model/data/weights/model_weights_config.json"
    config = json.loads(members[name])
    meta = config["config"]["scale"]["tensor_meta"]
    meta["sizes"], meta["strides"] = [{"as_int": 1}], [{"as_int": 10**6}]
    check(load, write_archive(tmp_path / "a.pt2", members, {name: json.dumps(config).encode()}))
