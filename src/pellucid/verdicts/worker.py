"""The process that runs an emitted program: run by path, in isolation, importing nothing of pellucid.

It loads `program.py` of the directory it is told, answers requests on its standard input, and knows nothing of what is
compared. A message is a header (JSON, with its length in 8 bytes before it) and the raw bytes of the arrays it lists.
In double precision every "float32" of the source reads "float64", and the weights are widened as they are loaded.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
import sys
import traceback
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, BinaryIO


class _Source(importlib.machinery.SourceFileLoader):
    """The source as it stands: cached bytecode beside it is never used."""

    double = False

    def get_code(self, fullname: str) -> CodeType:
        """The compiled source."""
        source = self.get_data(self.path)
        if self.double:
            source = source.replace(b"float32", b"float64")
        return self.source_to_code(source, self.path)


def _load(directory: Path, double: bool) -> ModuleType:
    sys.dont_write_bytecode = True
    sys.modules["pellucid"] = None  # type: ignore[assignment]
    path = directory / "program.py"
    if double:
        _widen_arrays()
    source = path.read_bytes()
    if double and (b"import torch" in source or b"safetensors.torch" in source):
        _widen_tensors()
    loader = _Source("program", str(path))
    loader.double = double
    spec = importlib.util.spec_from_file_location("program", path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["program"] = module
    loader.exec_module(module)
    return module


def _widen_arrays() -> None:
    """Who loads weights through safetensors.numpy gets those of float32 as float64."""
    import safetensors.numpy

    narrow = safetensors.numpy.load_file

    def load_arrays(*args: Any, **kwargs: Any) -> dict[str, Any]:
        return {n: a.astype("float64") if a.dtype == "float32" else a for n, a in narrow(*args, **kwargs).items()}

    safetensors.numpy.load_file = load_arrays


def _widen_tensors() -> None:
    """Who loads them through safetensors.torch does, too; literals become float64 tensors."""
    import safetensors.torch
    import torch

    narrow = safetensors.torch.load_file

    def load_tensors(*args: Any, **kwargs: Any) -> dict[str, Any]:
        return {n: t.double() if t.dtype == torch.float32 else t for n, t in narrow(*args, **kwargs).items()}

    safetensors.torch.load_file = load_tensors
    torch.set_default_dtype(torch.float64)


class _Arrays:
    """How raw bytes become the arrays of a dialect, and back."""

    def __init__(self, dialect: str, threads: int) -> None:
        self.torch = dialect == "torch"
        if self.torch:
            import torch

            torch.set_grad_enabled(False)
            torch.set_num_threads(threads)

    def decode(self, entry: dict[str, Any], data: bytearray) -> Any:
        if "number" in entry:
            return entry["number"]
        if self.torch:
            import torch

            flat = torch.frombuffer(data, dtype=getattr(torch, entry["dtype"])) if data else None
            empty = torch.empty(entry["shape"], dtype=getattr(torch, entry["dtype"]))
            return empty if flat is None else flat.reshape(entry["shape"])
        import numpy as np

        return np.frombuffer(data, dtype=entry["dtype"]).reshape(entry["shape"])

    def encode(self, value: Any) -> tuple[dict[str, Any], Any]:
        if isinstance(value, bool | int | float):
            return {"number": value}, b""
        if self.torch:
            import torch

            flat = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
            return {"dtype": str(value.dtype)[6:], "shape": list(value.shape)}, flat.data
        import numpy as np

        array = np.asarray(value)
        shape = list(array.shape)
        return {"dtype": str(array.dtype), "shape": shape}, np.ascontiguousarray(array).reshape(-1).view("u1").data


def _receive(channel: BinaryIO) -> tuple[dict[str, Any], list[bytearray]] | None:
    length = channel.read(8)
    if len(length) < 8:
        return None
    header = json.loads(channel.read(int.from_bytes(length, "little")))
    parts = []
    for size in header.get("sizes", []):
        part = bytearray(size)
        view = memoryview(part)
        while view:
            count = channel.readinto(view)  # type: ignore[attr-defined]
            if not count:
                return None
            view = view[count:]
        parts.append(part)
    return header, parts


def _send(channel: BinaryIO, header: dict[str, Any], parts: list[Any]) -> None:
    text = json.dumps({**header, "sizes": [len(part) for part in parts]}).encode()
    channel.write(len(text).to_bytes(8, "little") + text)
    for part in parts:
        channel.write(part)
    channel.flush()


def _describe(module: ModuleType) -> dict[str, Any]:
    functions = {name: list(readings) for name, readings in module.FUNCTIONS.items()}
    return {"functions": functions, "runs": list(module.RUNS)}


def _answer(module: ModuleType, arrays: _Arrays, header: dict[str, Any], data: list[bytearray]) -> tuple[Any, Any]:
    values = [arrays.decode(entry, part) for entry, part in zip(header["values"], data, strict=True)]
    if header["function"] is None:
        results = module.run(*values, reading=header["reading"])
        results = (results,) if hasattr(results, "shape") else results
    else:
        results = module.FUNCTIONS[header["function"]][header["reading"]](*values)
    if not isinstance(results, tuple | list):
        raise TypeError(f"returned a {type(results).__name__}, not a tuple")
    pairs = [arrays.encode(value) for value in results]
    return {"values": [entry for entry, _ in pairs]}, [part for _, part in pairs]


def _error(error: BaseException) -> dict[str, str]:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.endswith("program.py")]
    place = f" (program.py, line {frames[-1].lineno}, in {frames[-1].name})" if frames else ""
    return {"error": " ".join(f"{type(error).__name__}: {error}{place}".split())[:400]}


def main() -> None:
    """Serve requests until the other side hangs up."""
    directory, precision, threads = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the program prints must not mix with the replies
    requests = sys.stdin.buffer
    try:
        module = _load(directory, precision == "double")
        arrays = _Arrays(module.DIALECT, threads)
        _send(replies, _describe(module), [])
    except Exception as error:  # noqa: BLE001 - the program may raise anything; the judge is told
        _send(replies, _error(error), [])
        return
    while (request := _receive(requests)) is not None:
        try:
            header, parts = _answer(module, arrays, *request)
        except Exception as error:  # noqa: BLE001
            header, parts = _error(error), []
        _send(replies, header, parts)


if __name__ == "__main__":
    main()
