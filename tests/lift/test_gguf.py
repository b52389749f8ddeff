"""Headers of GGUF files: what is whole is read, whatever lies about counts and sizes is refused."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
import torch
from loader_files import gguf_bytes, gguf_string, llama_gguf, llama_tensors, pad

from pellucid.errors import BadInput
from pellucid.lift.gguf import BLOCKS, ArrayLength, read_gguf_header

META = {"general.architecture": "llama", "llama.block_count": 2}
TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(5)}


def refuse(tmp_path, content, match):
    path = tmp_path / "a.gguf"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(BadInput, match=match) as caught:
            read_gguf_header(path)
        assert tracemalloc.get_traced_memory()[1] < 40 * len(content) + 200_000
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert "a.gguf" in str(caught.value)


def test_metadata_and_tensors_are_read(tmp_path):
    path = tmp_path / "a.gguf"
    values = META | {"x.flag": True, "x.float": 0.5, "x.words": ["a", "bc"], "x.numbers": [1, -2, 3]}
    path.write_bytes(gguf_bytes(values, TENSORS))
    header = read_gguf_header(path)
    assert header.metadata == values | {"x.words": ArrayLength(2), "x.numbers": ArrayLength(3)}
    assert [(entry.name, entry.dtype, entry.shape) for entry in header.tensors] == [
        ("a", "F32", (2, 3)),
        ("b", "F32", (5,)),
    ]
    raw = path.read_bytes()[header.tensors[0].start : header.tensors[0].stop]
    assert torch.equal(torch.frombuffer(bytearray(raw), dtype=torch.float32).reshape(2, 3), TENSORS["a"])


def test_files_of_the_library_are_read(tmp_path):
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    writer.add_block_count(3)
    quantized = gguf.quants.quantize(torch.randn(4, 64).numpy(), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("q", quantized, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = read_gguf_header(tmp_path / "a.gguf")
    assert header.metadata["llama.block_count"] == 3
    assert [(entry.dtype, entry.shape, entry.stop - entry.start) for entry in header.tensors] == [
        ("Q8_0", (4, 64), 4 * 2 * 34)
    ]


def test_block_sizes_are_those_of_the_library():
    gguf = pytest.importorskip("gguf")
    for number, (name, per_block, width) in BLOCKS.items():
        kind = gguf.GGMLQuantizationType(number)
        assert (kind.name, gguf.GGML_QUANT_SIZES[kind]) == (name, (per_block, width))


@pytest.mark.parametrize("share", [0.02, 0.2, 0.4, 0.6, 0.8, 0.999])
def test_a_file_cut_anywhere_is_refused(tmp_path, share):
    whole = llama_gguf(llama_tensors())
    refuse(tmp_path, whole[: int(len(whole) * share)], "needs|lies at|begin")


def array_of(kind: int, length: int) -> bytes:
    """A file whose second metadata entry is an array that claims `length` items."""
    entries = gguf_string("general.architecture") + struct.pack("<I", 8) + gguf_string("llama")
    entries += gguf_string("x") + struct.pack("<IIQ", 9, kind, length)
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + entries + b"\0" * 64


def tensor_of(name: bytes, n_dims: int, dims: tuple[int, ...], kind: int, offset: int) -> bytes:
    """A file with one tensor info as given."""
    entry = gguf_string("general.architecture") + struct.pack("<I", 8) + gguf_string("llama")
    info = struct.pack("<Q", len(name)) + name + struct.pack(f"<I{len(dims)}QIQ", n_dims, *dims, kind, offset)
    return pad(b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + entry + info) + b"\0" * 128


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "is empty"),
        (b"GG", "the GGUF header needs 24 bytes"),
        (b"XGUF" + b"\0" * 40, "does not begin with GGUF"),
        (gguf_bytes(META, TENSORS, version=1), "version 1 is not supported"),
        (gguf_bytes(META, TENSORS, version=0x03000000), "version 50331648 is not supported"),
        (gguf_bytes(META, TENSORS, counts=(2**60, 2)), "1152921504606846976 tensors, 2 entries needs"),
        (gguf_bytes(META, TENSORS, counts=(2, 2**63)), "entries needs"),
        (gguf_bytes({"a": 1}, TENSORS), "metadata general.architecture is missing"),
        (gguf_bytes({"general.architecture": 3}, TENSORS), "metadata general.architecture is missing"),
        (gguf_bytes(META | {"general.alignment": 3}, TENSORS), "general.alignment is 3, not a power of two"),
        (gguf_bytes(META | {"general.alignment": 0}, TENSORS), "general.alignment is 0"),
        (gguf_bytes(META | {"split.count": 3}, TENSORS), "is one of 3 parts; join them"),
        (gguf_bytes(META, TENSORS, edit_offset=lambda at: at + 2**40), "tensor a lies at bytes"),
        (gguf_bytes(META, TENSORS, edit_offset=lambda at: 0), "tensor b lies at bytes"),
        (gguf_bytes(META, TENSORS, edit_offset=lambda at: at + 4), "tensor a lies at bytes"),
        (gguf_bytes(META, TENSORS, kind=4), "ggml type 4, which is not supported"),
        (gguf_bytes(META, TENSORS, kind=2), r"tensor a of type Q4_0 has the shape \[3, 2\], no whole blocks"),
        (array_of(8, 2**61), "metadata x needs"),
        (array_of(12, 2**60), "metadata x needs"),
        (array_of(9, 1), "is an array of type 9"),
        (array_of(77, 1), "is an array of type 77"),
        (tensor_of(b"t", 2, (2**33, 2**33), 0, 0), "tensor t lies at bytes"),
        (tensor_of(b"t", 4, (2**63,) * 4, 0, 0), "tensor t lies at bytes"),
        (tensor_of(b"t", 2, (4, 0), 0, 0), "no whole blocks"),
        (tensor_of(b"t", 0, (), 0, 0), "has 0 dimensions"),
        (tensor_of(b"t", 2**31, (4,), 0, 0), "has 2147483648 dimensions"),
        (tensor_of(b"\xff", 1, (4,), 0, 0), "a tensor name is not valid UTF-8"),
    ],
)
def test_damaged_headers_are_refused_in_one_line(tmp_path, content, match):
    refuse(tmp_path, content, match)


def test_a_boolean_has_two_values(tmp_path):
    content = gguf_bytes(META | {"x": True}, TENSORS)
    at = content.index(gguf_string("x")) + 9
    refuse(tmp_path, content[: at + 4] + b"\7" + content[at + 5 :], "metadata x is a boolean of value 7")


def test_keys_and_names_occur_once(tmp_path):
    content = gguf_bytes(META | {"llama.block_coun2": 2}, TENSORS)
    refuse(tmp_path, content.replace(b"coun2", b"count"), "metadata key llama.block_count occurs twice")
    refuse(tmp_path, gguf_bytes(META, TENSORS).replace(gguf_string("b"), gguf_string("a")), "tensor name occurs twice")
