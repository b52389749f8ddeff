"""Headers of safetensors files: what is whole is read, whatever lies about sizes is refused before it costs memory."""

from __future__ import annotations

import tracemalloc

import pytest
import torch
from loader_files import safetensors_bytes, with_header

from pellucid.errors import BadInput
from pellucid.lift.containers import MAX_HEADER, first_line, parse_json, quote, read_bytes, read_safetensors_header


def entry(shape=(2, 3), offsets=(0, 24), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def refuse(tmp_path, content, match):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(BadInput, match=match) as caught:
            read_safetensors_header(path)
        assert tracemalloc.get_traced_memory()[1] < 40 * len(content) + 200_000
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert "a.safetensors" in str(caught.value)


def test_tensors_lie_where_the_header_says(tmp_path):
    tensors = {"w": torch.arange(6.0).reshape(2, 3), "empty": torch.zeros(0, 4), "b": torch.tensor(7.0)}
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors_bytes(tensors))
    header = read_safetensors_header(path)
    assert [(name, found.shape) for name, found in header.items()] == [("w", (2, 3)), ("empty", (0, 4)), ("b", ())]
    raw = path.read_bytes()[header["w"].start : header["w"].stop]
    assert torch.equal(torch.frombuffer(bytearray(raw), dtype=torch.float32).reshape(2, 3), tensors["w"])


def test_files_of_the_library_are_read(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    types = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
    types += [torch.float16, torch.bfloat16, torch.float32, torch.float64]
    safetensors.save_file({str(kind): torch.ones(3, 2).to(kind) for kind in types}, tmp_path / "a.safetensors")
    assert len(read_safetensors_header(tmp_path / "a.safetensors")) == len(types)


@pytest.mark.parametrize("length", range(0, 90, 7))
def test_a_file_cut_anywhere_is_refused(tmp_path, length):
    refuse(tmp_path, safetensors_bytes({"w": torch.ones(2, 3)})[: 8 + length], "claims|bytes|JSON")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "is empty"),
        (b"\1\2\3", "the header claims"),
        ((2**63).to_bytes(8, "little") + b"{}", "the header claims 9223372036854775808 bytes but the file has 10"),
        (with_header(b"[1]"), "holds a JSON list, not an object"),
        (with_header(b'{"a"'), "not valid JSON"),
        (with_header(b'{"a":1,"a":2}'), "the name a occurs twice"),
        (with_header(b"[" * 100_000), "not valid JSON"),
        (with_header("{}".encode("utf-16")), "not valid JSON"),
        (with_header({"w": 3}), "tensor w lacks one of dtype"),
        (with_header({"w": entry() | {"x": 1}}, b"\0" * 24), "tensor w lacks one of dtype"),
        (with_header({"w": entry(dtype=["F32"])}, b"\0" * 24), "tensor w has dtype"),
        (with_header({"w": entry(dtype="F8_E4M3")}, b"\0" * 24), "dtype F8_E4M3, which is not supported; convert it"),
        (with_header({"w": entry(shape=(2, 2))}, b"\0" * 24), r"tensor w of shape \[2, 2\] needs 16 bytes but has 24"),
        (with_header({"w": entry(shape=(-2, -3))}, b"\0" * 24), "tensor w has a shape or offsets that are no counts"),
        (with_header({"w": entry(shape=(True, 6))}, b"\0" * 24), "no counts"),
        (with_header({"w": entry(shape=(2.0, 3))}, b"\0" * 24), "no counts"),
        (with_header({"w": entry(shape=(2**62, 2**62, 0))}, b""), "needs 0 bytes but has 24"),
        (with_header({"w": entry(shape=(2**40, 2**40))}, b"\0" * 24), "needs 4835703278458516698824704 bytes"),
        (with_header({"w": entry(shape=(10**30,))}, b"\0" * 24), "no counts"),
        (with_header({"w": entry((6,), (24, 0))}, b"\0" * 24), "has -24"),
        (with_header({"w": entry()}, b"\0" * 23), "tensor w lies at bytes .* where byte .* is due"),
        (with_header({"w": entry()}, b"\0" * 25), "the tensors end at byte"),
        (with_header({"w": entry(), "v": entry()}, b"\0" * 48), "tensor . lies at bytes"),
        (with_header({"w": entry(offsets=(4, 28))}, b"\0" * 28), "tensor w lies at bytes"),
        (with_header({"w": entry(), "v": entry(offsets=(20, 44))}, b"\0" * 44), "tensor v lies at bytes"),
        (with_header({"a\n\x1b[31m" + "x" * 200: 3}), r"tensor a\\n\\x1b\[31mx+\.\.\. lacks"),
        (with_header(b'{"w":' + b"9" * 5000 + b"}"), "not valid JSON"),
    ],
)
def test_damaged_headers_are_refused_in_one_line(tmp_path, content, match):
    refuse(tmp_path, content, match)


def test_a_header_longer_than_any_real_one_is_refused_unread(tmp_path):
    path = tmp_path / "a.safetensors"
    with path.open("wb") as file:
        file.write((MAX_HEADER + 1).to_bytes(8, "little"))
        file.truncate(MAX_HEADER + 100)
    with pytest.raises(BadInput, match="is too long"):
        read_safetensors_header(path)


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no such file"):
        read_safetensors_header(tmp_path / "absent")
    with pytest.raises(BadInput, match="not a regular file"):
        read_safetensors_header(tmp_path)


def test_long_texts_are_not_read(tmp_path):
    (tmp_path / "long").write_bytes(b" " * 11)
    with pytest.raises(BadInput, match="11 bytes are too many for a manifest"):
        read_bytes(tmp_path / "long", "a manifest", limit=10)


def test_json_has_to_be_an_object():
    assert parse_json(b'{"a": [1, {"b": null}]}', "here") == {"a": [1, {"b": None}]}
    with pytest.raises(BadInput, match="here: holds a JSON str"):
        parse_json(b'"a"', "here")


def test_messages_stay_one_short_line():
    assert quote("a\nb\x1b") == r"a\nb\x1b"
    assert len(quote("x" * 1000)) == 80
    assert first_line(ValueError("\n  first \nsecond")) == "first"
    assert first_line(KeyError()) == "KeyError"
    assert len(first_line(ValueError("x" * 1000))) == 200
