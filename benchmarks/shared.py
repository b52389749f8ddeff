"""What the benchmarks share: where the data is, how programs are run and compared, how tables are printed and kept.

Each benchmark is one command, `python benchmarks/NAME.py [--write]`. It prints tables in Markdown, writes them into its
section of docs/results.md when told to, and ends with exit code 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from jaxtyping import Shaped
from rich.console import Console

from pellucid.data import Batch
from pellucid.ir.program import Program

ROOT = Path(__file__).resolve().parents[1]
DATA = (ROOT / "../shared/data").resolve()
RESULTS = ROOT / "docs" / "results.md"
BAR = 1e-4
"""Largest relative difference that an exact reading may have from its network in single precision."""

ABSENT = "skipped: data absent"

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

Tensor = Shaped[torch.Tensor, "..."]

console = Console(highlight=False, soft_wrap=True)


class Absent(Exception):
    """Data or a package that a benchmark needs is not on this machine; the message names it."""


@dataclass(frozen=True)
class Table:
    """Rows under headings, with a line of text before them."""

    text: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]

    def markdown(self) -> str:
        """The table as Markdown."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
        return f"{self.text}\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in cells)


@dataclass
class Outcome:
    """What a benchmark found: tables, notes below them, and the bars that it missed."""

    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def require(self, met: bool, bar: str) -> str:
        """Note a bar as missed unless it is met; "yes" or "NO" for the table."""
        if not met:
            self.missed.append(bar)
        return "yes" if met else "**NO**"


# ---- the command


def options(text: str | None, *more: tuple[str, str]) -> argparse.Namespace:
    """The command line of a benchmark; `more` are further options with a value, and their help."""
    parser = argparse.ArgumentParser(description=(text or "").strip().splitlines()[0])
    parser.add_argument("--write", action="store_true", help="keep the tables in docs/results.md")
    for name, told in more:
        parser.add_argument(name, help=told)
    return parser.parse_args()


def say(text: str) -> None:
    """A line of progress."""
    console.print(text, markup=False, style="dim")


def cache_folder() -> Path:
    """Where the benchmarks keep what they fetch and make."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pellucid" / "benchmarks"


def publish(
    name: str, title: str, bar: str, outcome: Outcome, started: float, write: bool, command: str | None = None
) -> int:
    """Print what was found, keep it in docs/results.md if told to; returns the exit code.

    Args:
        name: of the section, by which it is found again.
        command: that runs it, where that is not NAME.py.
    """
    verdict = f"**missed**: {'; '.join(outcome.missed)}" if outcome.missed else "met"
    seconds = f"{time.monotonic() - started:.0f} s in all"
    parts = [
        f"## {title}",
        f"Bar: {bar}. Result: {verdict}.",
        f"`python benchmarks/{command or f'{name}.py'}` ({seconds}; {machine()})",
        *(table.markdown() for table in outcome.tables),
        *(["\n".join(f"- {note}" for note in outcome.notes)] if outcome.notes else []),
    ]
    section = "\n\n".join(parts)
    console.print(section, markup=False)
    if write:
        old = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else ""
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(with_section(old, name, section), encoding="utf-8")
    return 1 if outcome.missed else 0


def with_section(text: str, name: str, section: str) -> str:
    """`text` with what stands between the markers of `name` replaced, or appended where there are none."""
    first, last = f"<!-- benchmark: {name} -->", f"<!-- end: {name} -->"
    block = f"{first}\n{section}\n{last}"
    if first in text and last in text:
        before, _, rest = text.partition(first)
        return before + block + rest.partition(last)[2]
    return f"{text.rstrip()}\n\n{block}\n".lstrip()


def machine() -> str:
    """What the numbers were measured on."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else math.nan
    return (
        f"{os.cpu_count()} cores, load {load:.1f}, {platform.system()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}, numpy {np.__version__}"
    )


# ---- data


def data_networks() -> ModuleType:
    """The loaders of ../shared/data. Raises Absent."""
    path = DATA / "networks.py"
    if not path.is_file():
        raise Absent("the folder ../shared/data")
    spec = importlib.util.spec_from_file_location("shared_data_networks", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---- running and comparing


def leaves(value: object) -> list[Tensor]:
    """The tensors that a network returned, without a key-value cache."""
    if hasattr(value, "logits"):
        return [value.logits]
    return [leaf for leaf in torch.utils._pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def call(module: torch.nn.Module, batch: Batch) -> list[Tensor]:
    """What the live network returns."""
    with torch.no_grad():
        return leaves(module(*batch.args, **batch.kwargs))


def arguments(program: Program, batch: Batch) -> dict[str, Tensor]:
    """A batch by the names of the program's inputs."""
    positional = iter(batch.args)
    return {n: batch.kwargs[n] if n in batch.kwargs else next(positional) for n in program[program.entry].inputs}


@dataclass
class Worst:
    """The largest difference seen of each output, and its largest magnitude."""

    difference: list[float] = field(default_factory=list)
    scale: list[float] = field(default_factory=list)

    def see(self, found: Sequence[Tensor], wanted: Sequence[Tensor]) -> None:
        """Take in another batch."""
        self.difference = self.difference or [0.0] * len(wanted)
        self.scale = self.scale or [0.0] * len(wanted)
        for i, (a, b) in enumerate(zip(found, wanted, strict=True)):
            away = float((a.double() - b.double()).abs().max()) if a.shape == b.shape else math.inf
            self.difference[i] = max(self.difference[i], math.inf if math.isnan(away) else away)
            self.scale[i] = max(self.scale[i], float(b.abs().max()))

    @property
    def relative(self) -> float:
        """The largest difference of any output, relative to its largest magnitude."""
        pairs = zip(self.difference, self.scale, strict=True)
        return max((0.0 if d == 0.0 else d / s if s else math.inf for d, s in pairs), default=math.inf)


def run_file(directory: Path, arrays: dict[str, Tensor], reading: str | None, scratch: Path) -> list[Tensor]:
    """Run `python program.py inputs.npz outputs.npz` in a fresh process, as a user would.

    Raises:
        RuntimeError: it fails; the message is the last line that it wrote.
    """
    given, made = scratch / "inputs.npz", scratch / "outputs.npz"
    np.savez(given, **{name: array.numpy() for name, array in arrays.items()})  # type: ignore[arg-type]
    command = [sys.executable, "-I", str(directory / "program.py"), str(given), str(made)]
    done = subprocess.run(
        [*command, *(["--reading", reading] if reading else [])], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["it failed"])[-1])
    with np.load(made) as outputs:
        return [torch.from_numpy(outputs[name]) for name in outputs]


@contextmanager
def timed() -> Iterator[list[float]]:
    """A list that holds the seconds once the block has ended."""
    seconds: list[float] = []
    started = time.monotonic()
    yield seconds
    seconds.append(time.monotonic() - started)
