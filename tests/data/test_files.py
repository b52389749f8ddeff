"""Files: what is read from them, and that broken or hostile ones end in one clear line."""

import io
import pickle
import struct
import warnings
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.data import bounds, files
from pellucid.data.inputs import gather
from pellucid.errors import BadInput

X = np.arange(12, dtype=np.float64).reshape(4, 3)


class Explosive:
    """Unpickling this fails the test run."""

    def __reduce__(self):
        return (pytest.fail, ("a file was unpickled",))


def npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def npy_bytes(shape, dtype="<f4", data=b""):
    header = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def archive(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def refusal(path, **options):
    with pytest.raises(BadInput) as caught:
        gather(path, **options)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    assert ": " in message
    return message


def test_a_single_array_is_the_first_argument_whatever_its_name(tmp_path):
    inputs = gather(npz(tmp_path / "i.npz", test_x=X))
    assert inputs.arguments == (0,)
    assert next(inputs.batches()).args[0].tolist() == X.tolist()


def test_unnamed_arrays_are_positions_in_order(tmp_path):
    path = tmp_path / "i.npz"
    np.savez_compressed(path, *(np.full(2, i) for i in range(11)))
    assert [int(array[0]) for array in next(gather(path).batches()).args] == list(range(11))


def test_named_arrays_are_arguments_by_name(tmp_path):
    inputs = gather(npz(tmp_path / "i.npz", ids=np.array([[1, 2]]), mask=np.array([[True, False]])))
    assert next(inputs.batches()).kwargs["mask"].tolist() == [[True, False]]


def test_npy(tmp_path):
    np.save(tmp_path / "i.npy", np.asfortranarray(X))
    assert next(gather(str(tmp_path / "i.npy")).batches()).args[0].tolist() == X.tolist()


def test_a_large_npy_is_not_read_as_a_whole(tmp_path, monkeypatch):
    np.save(tmp_path / "i.npy", X)
    monkeypatch.setattr(bounds, "MEMORY", 2 * X[0].nbytes)
    inputs = gather(tmp_path / "i.npy")
    assert len(inputs) == 2
    assert "2 of 4 drawn with seed 0" in inputs.description
    assert all(row.tolist() in X.tolist() for row in next(inputs.batches()).args[0])


def test_rows_beyond_the_limit_are_drawn_with_the_seed(tmp_path):
    path = npz(tmp_path / "i.npz", x=np.arange(100))
    first, again, other = (gather(path, limit=10, seed=seed) for seed in (1, 1, 2))
    assert len(first) == 10
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_missing_empty_unknown_and_folder(tmp_path):
    assert "no such file" in refusal(tmp_path / "none.npz")
    (tmp_path / "folder.npz").mkdir()
    assert "a folder" in refusal(tmp_path / "folder.npz")
    (tmp_path / "empty.npy").touch()
    assert "empty file" in refusal(tmp_path / "empty.npy")
    (tmp_path / "i.pkl").write_bytes(pickle.dumps(Explosive()))
    assert "give one of .npy, .npz, .parquet, .txt" in refusal(tmp_path / "i.pkl")


def test_pickles_under_other_names_are_not_loaded(tmp_path):
    hostile = pickle.dumps(Explosive())
    for name in ("i.npz", "i.npy", "i.parquet"):
        (tmp_path / name).write_bytes(hostile)
        refusal(tmp_path / name)
    archive(tmp_path / "inner.npz", {"x.npy": hostile})
    assert "array 'x': not an array" in refusal(tmp_path / "inner.npz")


def test_object_arrays_are_not_loaded(tmp_path):
    objects = np.array([Explosive()], dtype=object)
    assert "'x': holds objects" in refusal(npz(tmp_path / "i.npz", x=objects))
    np.save(tmp_path / "i.npy", objects)
    assert "objects" in refusal(tmp_path / "i.npy")


def test_a_text_array_in_an_npz_is_named(tmp_path):
    assert "array 'meta': type '<U2' holds no real numbers" in refusal(
        npz(tmp_path / "i.npz", x=X, meta=np.array(["{}"] * 4))
    )


def test_arrays_of_unequal_length_are_named(tmp_path):
    assert "argument 'a': 4, argument 'b': 3" in refusal(npz(tmp_path / "i.npz", a=X, b=X[:3]))


@pytest.mark.parametrize("array", [np.zeros(2, dtype=[("a", "f4")]), np.array([1j]), np.array(["2020"], dtype="M8[D]")])
def test_arrays_of_no_plain_numbers(tmp_path, array):
    np.save(tmp_path / "i.npy", array)
    refusal(tmp_path / "i.npy")
    refusal(npz(tmp_path / "i.npz", x=array))


def test_byte_orders_and_axis_orders_survive(tmp_path):
    given = np.asfortranarray(X).astype(">f8")
    np.save(tmp_path / "i.npy", given)
    for path in (tmp_path / "i.npy", npz(tmp_path / "i.npz", x=given)):
        assert next(gather(path).batches()).args[0].tolist() == X.tolist()


def test_nan_and_empty_arrays(tmp_path):
    assert "NaN or Inf in 1 samples, first in row 0" in refusal(npz(tmp_path / "i.npz", x=np.array([np.nan, 1])))
    np.save(tmp_path / "i.npy", X[:0])
    assert "empty (shape [0, 3])" in refusal(tmp_path / "i.npy")
    np.save(tmp_path / "j.npy", np.float32(1))
    assert "single number" in refusal(tmp_path / "j.npy")


@pytest.mark.parametrize("kept", [1, 9, 60, 150, -1])
def test_truncated_files(tmp_path, kept):
    np.save(tmp_path / "i.npy", X)
    npz(tmp_path / "i.npz", x=X)
    for path in (tmp_path / "i.npy", tmp_path / "i.npz"):
        path.write_bytes(path.read_bytes()[:kept])
        assert "not a" in refusal(path)


def test_bytes_too_many_and_vast_headers(tmp_path):
    (tmp_path / "i.npy").write_bytes(npy_bytes((1,), data=bytes(5)))
    assert "needs 4 bytes, there are 5" in refusal(tmp_path / "i.npy")
    (tmp_path / "i.npy").write_bytes(b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + bytes(99))
    assert "a header of 2,147,483,648 bytes" in refusal(tmp_path / "i.npy")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_flipped_bit_among_the_values_of_an_npz_is_found(tmp_path, save):
    save(tmp_path / "i.npz", x=np.random.default_rng(0).integers(0, 9, 1000))
    content = bytearray((tmp_path / "i.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "i.npz").write_bytes(content)
    assert "not a" in refusal(tmp_path / "i.npz")


def test_headers_cannot_make_the_process_allocate(tmp_path):
    vast = npy_bytes((2**40,))
    (tmp_path / "i.npy").write_bytes(vast)
    refusal(tmp_path / "i.npy")
    assert "bytes, there are 0" in refusal(archive(tmp_path / "i.npz", {"x.npy": vast}))
    lying = archive(tmp_path / "j.npz", {"x.npy": vast})
    content = bytearray(lying.read_bytes())
    central = content.index(b"PK\x01\x02")
    content[central + 24 : central + 28] = struct.pack("<I", 2**31)
    lying.write_bytes(content)
    assert "claims more bytes than the file can hold" in refusal(lying)


def test_zip_bombs_are_refused_before_they_unpack(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LARGEST_ARCHIVE", 10**6)
    bomb = npy_bytes((10**6,), "|u1", bytes(10**6))
    options = {"compression": zipfile.ZIP_DEFLATED}
    assert "unpacks to more than" in refusal(archive(tmp_path / "i.npz", {"x.npy": bomb}, **options))


def test_archives_that_are_not_npz(tmp_path):
    content = npy_bytes((1,), data=bytes(4))
    assert "not distinct .npy arrays" in refusal(archive(tmp_path / "i.npz", {"readme.md": b"hello"}))
    assert "not distinct .npy arrays" in refusal(archive(tmp_path / "k.npz", {}))
    assert "unknown way" in refusal(archive(tmp_path / "j.npz", {"x.npy": content}, compression=zipfile.ZIP_LZMA))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(tmp_path / "l.npz", "w") as file:
            file.writestr("x.npy", content)
            file.writestr("x.npy", content)
    assert "not distinct" in refusal(tmp_path / "l.npz")


SAVED = {}
for _name, _save in {"i.npy": np.save, "i.npz": np.savez, "j.npz": np.savez_compressed}.items():
    _stream = io.BytesIO()
    _save(_stream, X)
    SAVED[_name] = _stream.getvalue()


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(sorted(SAVED)), changes=st.dictionaries(st.integers(0, 2000), st.integers(0, 255), max_size=4)
)
def test_flipped_bytes_end_in_numbers_or_in_one_clear_line(name, changes, tmp_path_factory):
    content = bytearray(SAVED[name])
    for place, value in changes.items():
        content[place % len(content)] = value
    path = tmp_path_factory.mktemp("fuzz") / name
    path.write_bytes(content)
    try:
        numbers = torch.cat([array.flatten() for batch in gather(path) for array in batch.args])
    except BadInput as error:
        message = str(error)
    else:
        message = name
        assert bool(torch.isfinite(numbers).all())
    assert message.startswith(name)
    assert "\n" not in message
