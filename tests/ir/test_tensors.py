import contextlib
import hashlib
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from pellucid.errors import BadInput
from pellucid.ir.tensors import digest, memory_order, raw_bytes, read_header, read_tensors, write_tensors

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool, torch.complex64,
]  # fmt: skip


def _many():
    generator = torch.Generator().manual_seed(0)
    made = {f"t.{dtype}": (torch.randn(3, 5, generator=generator) * 4).to(dtype) for dtype in DTYPES}
    base = torch.randn(6, 4, generator=generator)
    made |= {"transposed": base.t(), "strided": base[::2, 1:3], "shared": base, "again": base}
    made |= {"scalar": torch.tensor(1.5), "empty": torch.zeros(0, 3), "nan": torch.tensor([float("nan"), -0.0])}
    return made


def test_every_type_and_layout_comes_back_bit_by_bit(tmp_path):
    tensors = _many()
    write_tensors(tmp_path / "w.safetensors", tensors)
    for read in (read_tensors, load_file):
        back = read(tmp_path / "w.safetensors")
        assert back.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert (back[name].dtype, back[name].shape) == (tensor.dtype, tensor.shape)
            assert torch.equal(raw_bytes(back[name]), raw_bytes(tensor)), name


def test_the_order_of_axes_in_memory_comes_back(tmp_path):
    base = torch.arange(24.0).reshape(2, 3, 4)
    tensors = {"plain": base, "turned": base.permute(2, 0, 1), "gaps": base[:, ::2], "column": base[0].t()}
    write_tensors(tmp_path / "w.safetensors", tensors)
    back = read_tensors(tmp_path / "w.safetensors")
    assert {name: memory_order(t) for name, t in back.items()} == {
        "plain": (), "turned": (1, 2, 0), "gaps": (), "column": (1, 0),
    }  # fmt: skip
    assert back["turned"].stride() == tensors["turned"].stride()
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("orders", ['{"w":[0,0]}', '{"w":[1]}', '{"v":[1,0]}', "[]", "{", '{"w":[1,-1]}'])
def test_an_impossible_order_of_axes_is_one_clear_line(tmp_path, orders):
    entry = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
    path = _file(tmp_path, {"__metadata__": {"memory_order": orders}, "w": entry}, bytes(16))
    with pytest.raises(BadInput, match="damaged safetensors file"):
        read_tensors(path)


def test_same_tensors_same_bytes_whatever_their_order(tmp_path):
    tensors = _many()
    write_tensors(tmp_path / "a", tensors)
    write_tensors(tmp_path / "b", dict(reversed(tensors.items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_sparse_tensor_is_refused_by_name(tmp_path):
    with pytest.raises(BadInput, match="'odd'"):
        write_tensors(tmp_path / "w", {"odd": torch.eye(3).to_sparse()})
    assert not (tmp_path / "w").exists()


def _file(tmp_path, header, data=b""):
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(head).to_bytes(8, "little") + head + data)
    return path


@pytest.mark.parametrize(
    "header",
    [
        b"\xff\xfe{}",
        b"[]",
        b"{",
        {"t": {"dtype": "F32", "shape": [4], "data_offsets": [0, 15]}},
        {"t": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 16]}},
        {"t": {"dtype": "F32", "shape": [-1, -4], "data_offsets": [0, 16]}},
        {"t": {"dtype": "F32", "shape": [4.0], "data_offsets": [0, 16]}},
        {"t": {"dtype": "F99", "shape": [4], "data_offsets": [0, 16]}},
        {"t": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16, 32]}},
        {"t": {"dtype": "F32", "shape": [4]}},
        {"t": 3},
        {"t": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}},
        {name: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} for name in ("one", "over it")},
        {"t": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 2**64]}},
    ],
)  # fmt: skip
def test_headers_that_do_not_fit_their_file_are_refused(tmp_path, header):
    with pytest.raises(BadInput, match=r"w\.safetensors") as caught:
        read_tensors(_file(tmp_path, header, bytes(16)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\x01", b"\xff" * 8, (2**62).to_bytes(8, "little") + b"{}"])
def test_files_shorter_than_their_header_says_are_refused(tmp_path, content):
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(BadInput, match="truncated"):
        read_header(tmp_path / "w.safetensors")


def test_missing_and_truncated_files(tmp_path):
    with pytest.raises(BadInput, match="no such file"):
        read_tensors(tmp_path / "w.safetensors")
    write_tensors(tmp_path / "w.safetensors", _many())
    whole = (tmp_path / "w.safetensors").read_bytes()
    for length in range(0, len(whole), 97):
        (tmp_path / "w.safetensors").write_bytes(whole[:length])
        with pytest.raises(BadInput, match="truncated"):
            read_tensors(tmp_path / "w.safetensors")


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_flipped_bits_are_refused_or_leave_tensors_that_fit(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("flip")
    write_tensors(folder / "w", {"a": torch.arange(6.0), "b": torch.tensor([1, 2])})
    content = bytearray((folder / "w").read_bytes())
    place = data.draw(st.integers(0, len(content) * 8 - 1))
    content[place // 8] ^= 1 << place % 8
    (folder / "w").write_bytes(bytes(content))
    with contextlib.suppress(BadInput):
        read = read_tensors(folder / "w")
        assert sum(tensor.numel() * tensor.element_size() for tensor in read.values()) == 40


def test_digest_is_of_the_elements():
    tensor = torch.arange(6).reshape(2, 3)
    assert digest(tensor) == hashlib.sha256(tensor.numpy().tobytes()).hexdigest() == digest(tensor.t().contiguous().t())
