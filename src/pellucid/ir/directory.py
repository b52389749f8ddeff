"""Output directories: filled beside their place and swapped in, so that a run leaves the whole result or none.

A directory is ours when its `program.json` names our format. Only files that pellucid writes are ever replaced;
anything else that a user put there is carried over.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import socket
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

from pellucid.errors import BadInput

FORMAT = "pellucid program"
PROGRAM, WEIGHTS, CODE, MAP, VERDICTS, REPORT = (
    "program.json",
    "weights.safetensors",
    "program.py",
    "program.map.json",
    "verdicts.json",
    "report.html",
)
OURS = frozenset({PROGRAM, WEIGHTS, CODE, MAP, VERDICTS, REPORT, "__pycache__"})

_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file is too large",
}
_CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS}


def is_ours(directory: Path) -> bool:
    """Whether a directory holds a program that pellucid wrote."""
    try:
        with (directory / PROGRAM).open("rb") as file:
            head = file.read(200)
    except OSError:
        return False
    return re.match(rb'\s*\{\s*"format"\s*:\s*"' + FORMAT.encode() + b'"', head) is not None


@contextlib.contextmanager
def staged(directory: str | PathLike[str]) -> Iterator[Path]:
    """A temporary sibling of `directory` to fill; it takes its place when the block ends well, and vanishes otherwise.

    Raises:
        BadInput: `directory` is a file or holds what is not ours, or the disk is full or closed to us.
    """
    target = Path(directory).resolve()
    with _explained(target):
        _refuse_foreign(target)
        with _made(target.parent):
            _clean_up(target)
            place = _sibling(target, "new")
            place.mkdir()
            try:
                yield place
                _swap(place, target)
            except BaseException:
                shutil.rmtree(place, ignore_errors=True)
                raise


@contextlib.contextmanager
def writing(directory: str | PathLike[str]) -> Iterator[Path]:
    """A directory that is ours or empty, made where there is none; to write single files into with `replaced`.

    Raises:
        BadInput: see `staged`.
    """
    target = Path(directory).resolve()
    with _explained(target):
        _refuse_foreign(target)
        with _made(target):
            yield target


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A temporary name to write a file under; it takes the place of `path` when the block ends well."""
    _clean_up(path)
    temporary = _sibling(path, "new")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _refuse_foreign(target: Path) -> None:
    if target.exists() and not target.is_dir():
        raise BadInput(f"{target}: a file of this name exists; choose another output directory")
    if target.is_dir() and not is_ours(target) and any(_visible(entry) for entry in target.iterdir()):
        raise BadInput(
            f"{target}: the directory exists and pellucid did not write it; choose another, or delete it yourself"
        )


def _visible(entry: Path) -> bool:
    return _TEMPORARY.fullmatch(entry.name) is None


@contextlib.contextmanager
def _made(folder: Path) -> Iterator[None]:
    """The folder and its parents exist; those that were made here are removed again when the block fails."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            for path in missing:
                path.rmdir()
        raise


# ---- temporaries carry the host and process that made them, so that those of killed runs can be told

_TEMPORARY = re.compile(r"\.(?P<name>.+)\.pellucid-(?P<role>new|old)-(?P<host>[A-Za-z0-9_-]+)-(?P<pid>\d+)")
_HOST = re.sub(r"[^A-Za-z0-9_-]", "_", socket.gethostname()) or "host"


def _sibling(target: Path, role: str) -> Path:
    return target.parent / f".{target.name}.pellucid-{role}-{_HOST}-{os.getpid()}"


def _clean_up(target: Path) -> None:
    """Put back an old result that a killed run had moved away, and remove what such runs left."""
    for entry in sorted(target.parent.iterdir()):
        match = _TEMPORARY.fullmatch(entry.name)
        if match is None or match["name"] != target.name or match["host"] != _HOST or _alive(int(match["pid"])):
            continue
        if match["role"] == "old" and not target.exists():
            os.rename(entry, target)
        elif entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _alive(pid: int) -> bool:
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _swap(place: Path, target: Path) -> None:
    if not target.exists():
        os.rename(place, target)
        return
    old = _sibling(target, "old")
    os.rename(target, old)
    try:
        _carry_over(old, place)
        os.rename(place, target)
    except BaseException:
        os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _carry_over(old: Path, place: Path) -> None:
    """What the user put into the old directory is copied into the new one, so that the old one stays whole."""
    for entry in old.iterdir():
        if entry.name in OURS or (place / entry.name).exists():
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(entry, place / entry.name, symlinks=True)
        else:
            shutil.copy2(entry, place / entry.name, follow_symlinks=False)


@contextlib.contextmanager
def _explained(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            cause = f"{_FULL[error.errno]}; free some space or choose another output directory"
        elif error.errno in _CLOSED:
            cause = "no permission to write there; choose another output directory"
        elif isinstance(error, NotADirectoryError | FileExistsError):
            cause = "part of this path is a file; choose another output directory"
        elif error.errno in (errno.EBUSY, errno.EXDEV, errno.ENAMETOOLONG):
            cause = f"cannot be replaced as a whole ({error.strerror}); choose another output directory"
        else:
            raise
        raise BadInput(f"{target}: {cause}") from error
