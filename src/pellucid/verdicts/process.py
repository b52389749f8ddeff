"""The emitted program in a process of its own: requests go out, arrays come back, a hang or a crash becomes an error.

The process runs `worker.py` by path, isolated (`python -I`, a clean environment) and stays up for many requests.
program.py is code that runs with the rights of the user: start it only for directories that you trust.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal

import torch

from pellucid.errors import CannotRun
from pellucid.verdicts.measure import Values

WORKER = Path(__file__).with_name("worker.py")
DEATHS = 3
"""A process that has ended so often is not started again."""

START = 60.0
"""Seconds that a program may take to load, at least."""

_KEPT = ("PATH", "LD_LIBRARY_PATH", "LANG", "TMPDIR", "SYSTEMROOT")


@dataclass(frozen=True)
class _Tables:
    """What program.py offers: readings of each function, and of `run`."""

    functions: Mapping[str, tuple[str, ...]]
    runs: tuple[str | None, ...]


class Emitted:
    """A running `program.py`. Use it as a context manager; the process ends with it.

    Args:
        directory: holds program.py and weights.safetensors.
        precision: "single" as emitted, or "double" with every float32 widened.
        timeout: seconds for one request.

    Raises:
        CannotRun: the program does not load, fails, hangs, dies, or answers nonsense.
    """

    def __init__(
        self, directory: Path, precision: Literal["single", "double"] = "single", timeout: float = 300.0
    ) -> None:
        self._timeout = timeout
        self._deaths = 0
        self._command = [sys.executable, "-I", str(WORKER), str(directory.resolve()), precision]
        self._tables: _Tables | None = None
        self._start()

    @property
    def functions(self) -> Mapping[str, tuple[str, ...]]:
        """The names of the program's functions, with their readings. Waits until the program has loaded."""
        return self._loaded.functions

    @property
    def runs(self) -> tuple[str | None, ...]:
        """What `run` takes as its reading."""
        return self._loaded.runs

    @property
    def _loaded(self) -> _Tables:
        if self._tables is None:
            self._tables = self._greeted()
        return self._tables

    def _start(self) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [*self._command, str(torch.get_num_threads())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={name: os.environ[name] for name in _KEPT if name in os.environ},
            cwd=os.sep,
        )

    def _greeted(self) -> _Tables:
        try:
            hello, _ = self._exchange(None, [])
            functions = {str(name): tuple(map(str, readings)) for name, readings in hello["functions"].items()}
            return _Tables(functions, tuple(None if name is None else str(name) for name in hello["runs"]))
        except (CannotRun, KeyError, TypeError, AttributeError) as error:
            raise CannotRun(f"program.py does not load: {_reason(error)}") from error

    def __enter__(self) -> Emitted:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(BrokenPipeError):
                if stream is not None:
                    stream.close()

    def run(self, function: str, reading: str, values: Values) -> tuple[Any, ...]:
        """The outputs of one reading of one function.

        Raises:
            CannotRun: there is no such function, it fails, or the process hangs or dies.
        """
        if self._process.poll() is not None:
            self._revive()
        if reading not in self.functions.get(function, ()):
            raise CannotRun(f"program.py has no reading {reading!r} of {function!r}")
        return self._asked(function, reading, values)

    def run_whole(self, reading: str | None, values: Values) -> tuple[Any, ...]:
        """The outputs of program.py's own `run`, as a user calls it.

        Raises:
            CannotRun: it fails, or the process hangs or dies.
        """
        if self._process.poll() is not None:
            self._revive()
        return self._asked(None, reading, values)

    def _asked(self, function: str | None, reading: str | None, values: Values) -> tuple[Any, ...]:
        entries, parts = zip(*map(_encode, values), strict=True) if values else ((), ())
        reply, data = self._exchange({"function": function, "reading": reading, "values": entries}, list(parts))
        try:
            return tuple(_decode(entry, part) for entry, part in zip(reply["values"], data, strict=True))
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise CannotRun(f"{function or 'run'!r} returned what is no array: {_reason(error)}") from error

    def _revive(self) -> None:
        self._deaths += 1
        if self._deaths >= DEATHS:
            raise CannotRun(f"the process of program.py ended {self._deaths} times")
        self.close()
        self._start()
        self._tables = self._greeted()

    def _exchange(self, header: Mapping[str, Any] | None, parts: list[memoryview]) -> tuple[Any, list[bytearray]]:
        """Send a request (None: await the greeting) and read the reply; the watchdog kills a process that hangs."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        hung = threading.Event()

        def give_up() -> None:
            hung.set()
            self._process.kill()

        watchdog = threading.Timer(max(START, self._timeout) if header is None else self._timeout, give_up)
        watchdog.start()
        try:
            if header is not None:
                text = json.dumps({**header, "sizes": [part.nbytes for part in parts]}).encode()
                stdin.write(len(text).to_bytes(8, "little") + text)
                for part in parts:
                    stdin.write(part)
                stdin.flush()
            reply = json.loads(_read(stdout, int.from_bytes(_read(stdout, 8), "little")))
            data = [_read(stdout, size) for size in reply.get("sizes", [])]
        except (OSError, EOFError, ValueError, MemoryError, OverflowError) as error:
            raise CannotRun(self._death(hung.is_set())) from error
        finally:
            watchdog.cancel()
        if "error" in reply:
            raise CannotRun(str(reply["error"]))
        return reply, data

    def _death(self, hung: bool) -> str:
        self._process.kill()
        code = self._process.wait()
        if hung:
            return f"program.py gave no answer within {self._timeout:g} s"
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - 2000))
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"the process of program.py ended (exit status {code})" + (f": {said[-1][:200]}" if said else "")


def _read(stream: IO[bytes], size: int) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        count = stream.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        view = view[count:]
    return data


def _encode(value: Any) -> tuple[Mapping[str, Any], memoryview]:
    if not isinstance(value, torch.Tensor):
        return {"number": value}, memoryview(b"")
    flat = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
    return {"dtype": str(value.dtype).removeprefix("torch."), "shape": list(value.shape)}, flat.data


def _decode(entry: Mapping[str, Any], data: bytearray) -> Any:
    if "number" in entry:
        return entry["number"]
    dtype = getattr(torch, entry["dtype"])
    return (
        torch.frombuffer(data, dtype=dtype).reshape(entry["shape"])
        if data
        else torch.empty(entry["shape"], dtype=dtype)
    )


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, CannotRun) else f"{type(error).__name__} {error}"
