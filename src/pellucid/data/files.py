"""Inputs from files: `.npz`, `.npy`, `.parquet`, `.txt`.

Nothing is unpickled. A header is believed only after it agrees with the size of the file, so that a small broken file
cannot make the process allocate much. Errors name the file, and in it the array or column.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from pellucid.data.arrays import one_line
from pellucid.data.bounds import Found, Terms, drawn, first
from pellucid.data.npy import read_header
from pellucid.data.tables import read_parquet
from pellucid.data.texts import SHORTEST, paragraphs, sequences
from pellucid.errors import BadInput

LARGEST_ARCHIVE = 4 * 2**30
DEFLATE_RATIO = 1040
"""Deflate expands at most 1032 times; a zip entry that claims more is broken or hostile."""


def read_file(path: Path, terms: Terms) -> Found:
    """Read the samples of a file, by its ending. Raises BadInput if it is missing, broken, empty or of another kind."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise BadInput(f"{path.name}: not a kind of input file: give one of {', '.join(sorted(READERS))}")
    if not path.is_file():
        raise BadInput(f"{path}: {'a folder' if path.is_dir() else 'no such file'}: give the path of an input file")
    if path.stat().st_size == 0:
        raise BadInput(f"{path.name}: empty file: write at least one sample to it")
    try:
        return reader(path, terms)
    except OSError as error:
        raise BadInput(
            f"{path.name}: cannot be read ({one_line(error)}): check the file and its permissions"
        ) from error


def _read_npy(path: Path, terms: Terms) -> Found:
    with path.open("rb") as stream:
        header = read_header(stream, path.stat().st_size, path.name)
    if header.nbytes == 0 or not header.shape:
        return drawn([np.zeros(header.shape, header.dtype)], path.name, terms)
    return drawn(np.memmap(path, header.dtype, "r", header.start, header.shape, header.order), path.name, terms)


def _read_npz(path: Path, terms: Terms) -> Found:
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = {info.filename: _member(archive, info, path) for info in _members(archive, path)}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise BadInput(f"{path.name}: not a whole .npz file ({one_line(error)}): write it with numpy.savez") from error
    return drawn(_by_argument(arrays), path.name, terms)


def _members(archive: zipfile.ZipFile, path: Path) -> list[zipfile.ZipInfo]:
    """Return the entries of an archive after checking that they are distinct arrays and no larger than they can be."""
    infos = archive.infolist()
    names = [info.filename for info in infos]
    if not infos or len(set(names)) < len(names) or not all(name.endswith(".npy") for name in names):
        raise BadInput(f"{path.name}: entries {names[:5]} are not distinct .npy arrays: write it with numpy.savez")
    packed = path.stat().st_size
    for info in infos:
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise BadInput(f"{path.name}: {info.filename!r} is compressed in an unknown way: write it with numpy.savez")
        if info.file_size > DEFLATE_RATIO * min(packed, info.compress_size) + 1024:
            raise BadInput(f"{path.name}: {info.filename!r} claims more bytes than the file can hold: it is broken")
    if sum(info.file_size for info in infos) > LARGEST_ARCHIVE:
        raise BadInput(
            f"{path.name}: unpacks to more than {LARGEST_ARCHIVE // 2**30} GiB: give a .npy, or fewer samples"
        )
    return infos


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> Shaped[np.ndarray, "..."]:
    """Return one array. `zipfile` compares its checksum as the last byte is read."""
    where = f"{path.name}, array {info.filename.removesuffix('.npy')!r}"
    with archive.open(info) as stream:
        header = read_header(stream, info.file_size, where)
        values = stream.read(header.nbytes)
    if len(values) != header.nbytes:
        raise BadInput(f"{where}: not a whole array ({len(values):,} bytes of {header.nbytes:,}): write the file again")
    return np.frombuffer(values, header.dtype).reshape(header.shape, order=header.order)


def _by_argument(
    arrays: dict[str, Shaped[np.ndarray, "..."]],
) -> dict[str, Shaped[np.ndarray, "..."]] | list[Shaped[np.ndarray, "..."]]:
    """Name arrays by argument: one array alone is the first argument, and `arr_0`, `arr_1` … are positions."""
    names = {name.removesuffix(".npy"): array for name, array in arrays.items()}
    if len(names) == 1 or set(names) == {f"arr_{i}" for i in range(len(names))}:
        return [names[name] for name in sorted(names, key=lambda name: (len(name), name))]
    return names


def _read_text(path: Path, terms: Terms) -> Found:
    texts = paragraphs(path)
    found = first(chain.from_iterable(sequences(t, terms.tokenizer, terms.context, path.name) for t in texts), terms)
    if not found.batches:
        raise BadInput(f"{path.name}: no paragraph has {SHORTEST} tokens or more: give a longer text")
    return found


READERS: dict[str, Callable[[Path, Terms], Found]] = {
    ".npz": _read_npz,
    ".npy": _read_npy,
    ".parquet": read_parquet,
    ".txt": _read_text,
}
