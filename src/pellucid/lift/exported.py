"""`.pt2` files of torch.export, read so that nothing in them can be executed.

torch.export.load unpickles sample inputs, custom objects and some weights, and evaluates strings of the program. So
the archive is not given to torch: its parts are read and checked here (the checksum of each by zipfile), and a new
archive in memory, of the cleaned program (`exported_rules`) and plain tensors alone, is what torch loads.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import re
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch._export.verifier import SpecViolationError
from torch.export import ExportedProgram

from pellucid.errors import BadInput
from pellucid.lift.containers import DAMAGED, MAX_HEADER, file_size, first_line, parse_json, quote
from pellucid.lift.exported_rules import clean_payloads, clean_program
from pellucid.lift.network import Network, from_module

_ITEM_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 2, 7: 4, 8: 8, 12: 1, 13: 2}
"""torch.export's number of a dtype -> bytes of one value: integers, half, float, double, bool, bfloat16."""

_ZIP_ERRORS = (zipfile.BadZipFile, OSError, ValueError, LookupError, RuntimeError, EOFError, struct.error)
_TORCH_ERRORS = (
    *(RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError),
    *(SyntaxError, ImportError, MemoryError, SpecViolationError),
)


def load_exported(path: Path) -> Network:
    """The program of a `.pt2` file as a network; `exported` holds the program, `module` runs it.

    Raises:
        BadInput: the file is missing or damaged, of an older format, holds anything that would have to be unpickled or
            executed, was exported in training mode or for another device, or holds NaN or Inf.
    """
    size = file_size(path, "a .pt2 file")
    try:
        with zipfile.ZipFile(path) as archive:
            clean = _rebuild(archive, _members(archive, size, path), path)
    except _ZIP_ERRORS as error:
        raise BadInput(f"{path}: cannot be read as a .pt2 archive ({first_line(error)}); {DAMAGED}") from error
    with _quiet():
        try:
            exported = _deserialize(clean)
            module = exported.module(check_guards=False)
        except _TORCH_ERRORS as error:
            raise BadInput(
                f"{path}: torch {torch.__version__} cannot load this program ({first_line(error)}); "
                "export it again with this version of torch"
            ) from error
    _refuse_training(exported, path)
    return replace(from_module(module, str(path)), source=path.name, exported=exported)


def _members(archive: zipfile.ZipFile, size: int, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The members by their name below the archive's one folder; none of them compressed, all together in the file."""
    found: dict[str, zipfile.ZipInfo] = {}
    if "serialized_exported_program.json" in archive.namelist():
        raise BadInput(f"{path}: was exported by an old version of torch; export it again with torch 2.11 or newer")
    for info in archive.infolist():
        name = info.filename.partition("/")[2]
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise BadInput(f"{path}: {quote(info.filename)} is compressed, as torch never does; export it again")
        if name in found:
            raise BadInput(f"{path}: {quote(info.filename)} occurs twice; {DAMAGED}")
        found[name] = info
    if sum(info.file_size for info in found.values()) > size:
        raise BadInput(f"{path}: its members claim more bytes than the file has; {DAMAGED}")
    if "archive_format" not in found:
        raise BadInput(f"{path}: is not an archive of torch.export.save; save the model with torch.export.save")
    if "models/model.json" not in found:
        compiled = any(name.startswith("data/aotinductor/") for name in found)
        why = "holds machine code only, which is not run" if compiled else "holds no program called model"
        raise BadInput(f"{path}: {why}; save the exported program with torch.export.save")
    return found


def _rebuild(archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], path: Path) -> io.BytesIO:
    """A new archive in memory, of checked parts alone; sample inputs, guards and extra files are left out."""
    if (order := members.get("byteorder")) is not None and archive.read(order) != b"little":
        raise BadInput(f"{path}: was saved on a big-endian machine; export it again on a little-endian one")
    program = clean_program(_json(archive, members, "models/model.json", path), f"{path}: program")
    texts = {
        "archive_format": b"pt2",
        "archive_version": archive.read(_member(members, "archive_version", path)),
        ".data/version": b"6\n",
        "byteorder": b"little",
        "data/sample_inputs/model.pt": b"",
        "models/model.json": _dump(program),
    }
    tensors: dict[str, None] = {}
    for folder in ("weights", "constants"):
        if f"data/{folder}/model.pt" in members:
            raise BadInput(f"{path}: its {folder} are pickled, an old format; export it again with torch 2.11 or newer")
        name = f"data/{folder}/model_{folder}_config.json"
        payloads = clean_payloads(_json(archive, members, name, path), f"{path}: {folder}")
        for tensor, payload in payloads.items():
            record = f"data/{folder}/{payload['path_name']}"
            _check_extent(tensor, payload["tensor_meta"], _member(members, record, path).file_size, path)
            tensors[record] = None
        texts[name] = _dump({"config": payloads})
    clean = io.BytesIO()
    with zipfile.ZipFile(clean, "w", zipfile.ZIP_STORED) as target:
        for name, text in texts.items():
            target.writestr(zipfile.ZipInfo(f"model/{name}"), text)
        for record in tensors:
            target.writestr(zipfile.ZipInfo(f"model/{record}"), archive.read(members[record]))
    clean.seek(0)
    return clean


def _member(members: Mapping[str, zipfile.ZipInfo], name: str, path: Path) -> zipfile.ZipInfo:
    if name not in members:
        raise BadInput(f"{path}: lacks {name}; {DAMAGED}")
    return members[name]


def _json(archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], name: str, path: Path) -> dict[str, object]:
    info = _member(members, name, path)
    if info.file_size > MAX_HEADER:
        raise BadInput(f"{path}: {name} has {info.file_size} bytes, more than {MAX_HEADER}; is it a .pt2 file?")
    return parse_json(archive.read(info), f"{path}: {name}")


def _dump(value: object) -> bytes:
    return json.dumps(value).encode()


def _check_extent(name: str, meta: object, n_bytes: int, path: Path) -> None:
    """Refuses a tensor whose shape, strides and offset do not lie within its bytes, or name each byte several times."""
    fields = meta if isinstance(meta, Mapping) else {}
    dtype = fields.get("dtype")
    item = _ITEM_BYTES.get(dtype) if type(dtype) is int else None
    if item is None:
        raise BadInput(
            f"{path}: tensor {quote(name)} has the dtype number {quote(dtype)}, which is not supported "
            "(float8, complex or unsigned); convert it to float before exporting"
        )
    sizes, strides = _numbers(fields.get("sizes")), _numbers(fields.get("strides"))
    offset = _numbers([fields.get("storage_offset")])
    if sizes is None or strides is None or offset is None or len(sizes) != len(strides):
        raise BadInput(f"{path}: tensor {quote(name)} has no fixed shape and strides; {DAMAGED}")
    last = offset[0] + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True)) + 1
    count = math.prod(sizes)
    if (count and last * item > n_bytes) or count * item > n_bytes:
        raise BadInput(
            f"{path}: tensor {quote(name)} of shape {quote(sizes)} and strides {quote(strides)} does not fit its "
            f"{n_bytes} bytes; the file is damaged, or the tensor was expanded: call .contiguous() before exporting"
        )


def _numbers(values: object) -> list[int] | None:
    if not isinstance(values, list) or not all(isinstance(value, Mapping) for value in values):
        return None
    numbers = [value.get("as_int") for value in values]
    return numbers if all(type(number) is int and number >= 0 for number in numbers) else None


def _deserialize(archive: io.BytesIO) -> ExportedProgram:
    from torch.export.pt2_archive._package import load_pt2  # torch.export.load hides the reason of a failure

    program = load_pt2(archive).exported_programs["model"]
    if not isinstance(program, ExportedProgram):
        raise TypeError("no exported program")
    return program


def _refuse_training(exported: ExportedProgram, path: Path) -> None:
    """Refuses programs that draw random numbers because the model was exported in training mode."""
    for node in exported.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if schema is None:
            continue
        given = {argument.name: value for argument, value in zip(schema.arguments, node.args, strict=False)}
        given.update(node.kwargs)
        drops = any(given.get(name) is True for name in ("train", "training")) or bool(given.get("dropout_p"))
        if drops and re.search(r"dropout|batch_norm|attention|lstm|gru|rnn|rrelu", str(node.target)):
            raise BadInput(f"{path}: was exported in training mode ({node.name}); call model.eval() and export again")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps torch's log of failed deserialisations off the terminal: the error says it in one line."""
    loggers = [logging.getLogger(name) for name in ("torch.export", "torch._export", "torch.fx")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
