"""Does the verifier reject every single fault that changes an output of the emitted program?

Faults are drawn at random in the directories of six networks: edits of program.py (an operator, a sign, a literal, a
call, an argument, a row of a table, a line …) and changed weights, saved with a digest that fits. A fault counts if it
changes any bit of what program.py gives on the verification inputs, by any of its readings, or makes it crash. Each is
then judged by `verify`. The judge's own trace of the network, which no fault can touch, is made once a network; every
tenth fault is judged once more by the public `pellucid.verify`, which traces anew. Clean directories must pass.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from jaxtyping import Shaped
from mutants import Source, changed_weight
from shared import ABSENT, DATA, Absent, Outcome, Table, data_networks, options, publish, say, timed
from torch import nn
from zoo import digits_cnn, digits_mlp, gpt2, llama

import pellucid
from pellucid.data import Batch, Domain, Inputs, gather
from pellucid.data.splits import split
from pellucid.demos.adder import adder
from pellucid.errors import PellucidError
from pellucid.ir.program import Program
from pellucid.lift.load import Network
from pellucid.verdicts import verify_directory
from pellucid.verdicts.reference import derive

FAULTS = 40
"""Faults of each network that change an output."""

SEED = 0
PUBLIC = 10
"""Every so many faults are judged by the public path, too."""

WEIGHTS = "weight"
Outputs = dict[str | None, list[Shaped[np.ndarray, "..."]]]


@dataclass(frozen=True)
class Subject:
    """A network, its clean directory, and what both are run on."""

    name: str
    network: Network
    given: object
    inputs: Inputs
    directory: Path
    scratch: Path

    def arrays(self) -> Iterator[list[Shaped[np.ndarray, "..."]]]:
        """The verification inputs as program.py takes them."""
        names = Program.load(self.directory)
        for batch in self.inputs.batches(512):
            yield [value.numpy() for value in in_order(names, batch)]


@dataclass(frozen=True)
class Fault:
    """A fault that changes an output; `size` is the largest relative change (infinite for a crash)."""

    kind: str
    what: str
    size: float
    rejected: bool
    by: Sequence[str]
    agreed: bool = True


def in_order(program: Program, batch: Batch) -> list[Shaped[torch.Tensor, "..."]]:
    """A batch as the program's entry takes it."""
    positional = iter(batch.args)
    return [batch.kwargs[n] if n in batch.kwargs else next(positional) for n in program[program.entry].inputs]


# ---- subjects


def subjects(scratch: Path) -> Iterator[Subject]:
    """The networks, decompiled; those whose data or package is absent are left out with a line."""
    for name, (build, budget) in NETWORKS.items():
        try:
            module, given = build()
        except Absent as what:
            say(f"{name}: {ABSENT} ({what})")
            continue
        directory = scratch / name.replace(" ", "-") / "clean"
        directory.parent.mkdir()
        network = pellucid.load(module)
        pellucid.decompile(network, given, output=directory, budget=budget)
        inputs = split(gather(given, vocabulary=network.vocabulary), SEED).verify
        yield Subject(name, network, given, inputs, directory, directory.parent)


def _rnn() -> tuple[nn.Module, object]:
    module, (given, _) = data_networks().load(str(DATA / "rnn_algorithmic" / "rnn_sum_last2_numerical.npz"))
    return module, torch.tensor(given[:200, :, None]).float()


def _cnn() -> tuple[nn.Module, object]:
    module, images = digits_cnn(epochs=2)
    return module, images[:150]  # type: ignore[index]


def _mlp() -> tuple[nn.Module, object]:
    module, pixels = digits_mlp()
    return module, pixels[:300]  # type: ignore[index]


NETWORKS: dict[str, tuple[Callable[[], tuple[nn.Module, object]], float]] = {
    "digits MLP": (_mlp, 0.0),
    "adder": (lambda: (adder(), Domain.sequences([0.0, 1.0], length=5, width=2)), 60.0),
    "digits CNN": (_cnn, 0.0),
    "RNN sum_last2": (_rnn, 60.0),
    "GPT-2": (lambda: gpt2(layers=1, width=16, vocabulary=29), 0.0),
    "Llama": (lambda: llama(layers=1, width=16, vocabulary=29), 0.0),
}
"""How each is made, and the seconds its search for code may take."""


# ---- faults


def outputs_of(directory: Path, runs: Sequence[Sequence[Shaped[np.ndarray, "..."]]]) -> Outputs:
    """What program.py gives by each of its readings."""
    spec = importlib.util.spec_from_file_location("faulty_program", directory / "program.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.dont_write_bytecode = True
    spec.loader.exec_module(module)
    found: Outputs = {}
    for reading in module.RUNS:
        given = [module.run(*values, reading=reading) for values in runs]
        found[reading] = [np.asarray(part) for one in given for part in (one if isinstance(one, tuple) else (one,))]
    return found


def change(clean: Outputs, directory: Path, runs: Sequence[Sequence[Shaped[np.ndarray, "..."]]]) -> float:
    """The largest relative change of any output: 0 where every bit is the same, infinite for a crash."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = outputs_of(directory, runs)
    except Exception:  # noqa: BLE001 - a faulty program may raise anything
        return math.inf
    if found.keys() != clean.keys():
        return math.inf
    pairs = [pair for reading in clean for pair in zip(found[reading], clean[reading], strict=False)]
    return max(difference(a, b) for a, b in pairs)


def difference(a: Shaped[np.ndarray, "..."], b: Shaped[np.ndarray, "..."]) -> float:
    """0 where every bit is the same, else the largest difference relative to the largest number, never 0."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return math.inf
    if a.tobytes() == b.tobytes():
        return 0.0
    with np.errstate(all="ignore"):
        away = np.abs(a.astype(np.float64) - b.astype(np.float64)).max() / max(np.abs(b).max(), 1e-30)
    return math.inf if np.isnan(away) else max(float(away), 1e-30)


def drawn(subject: Subject, rng: np.random.Generator) -> Iterator[tuple[str, str, Path]]:
    """Directories with one fault each, without end: its kind, what it is, where."""
    text = (subject.directory / "program.py").read_text(encoding="utf-8")
    source, program = Source(text), Program.load(subject.directory)
    kinds = [*sorted(source.edits), WEIGHTS, WEIGHTS]
    place = subject.scratch / "faulty"
    seen = set()
    while True:
        kind = str(rng.choice(kinds))
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(subject.directory, place)
        if kind == WEIGHTS:
            other = changed_weight(program.weights, rng)
            if other is None:
                continue
            what, weights = other
            dataclasses.replace(program, weights=weights).save(place)
        else:
            edit = source.edits[kind][int(rng.integers(len(source.edits[kind])))]
            what = source.told(edit)
            (place / "program.py").write_text(source.edited(edit), encoding="utf-8")
        if what not in seen:
            seen.add(what)
            yield kind, what, place


def judged(subject: Subject, directory: Path) -> tuple[bool, Sequence[str]]:
    """Whether `verify` rejects a directory, and by what."""
    try:
        verdicts = verify_directory(directory, subject.network, subject.inputs, seed=SEED).verdicts
    except PellucidError as error:
        return True, (f"error: {type(error).__name__}",)
    failed = [verdict for verdict in verdicts if not verdict.passed]
    return bool(failed), sorted({("the whole: " if v.part == "program" else "a part: ") + v.measure for v in failed})


def public(subject: Subject, directory: Path) -> bool:
    """Whether the public `pellucid.verify` rejects a directory."""
    try:
        return not all(v.passed for v in pellucid.verify(directory, subject.network, subject.given, seed=SEED))
    except PellucidError:
        return True


def examined(subject: Subject, rng: np.random.Generator) -> tuple[list[Fault], int]:
    """Judged faults that change an output, and how many of those drawn changed none."""
    runs = list(subject.arrays())
    clean = outputs_of(subject.directory, runs)
    reference = derive(subject.network, subject.inputs, Program.load(subject.directory).regions)
    faults: list[Fault] = []
    idle = 0
    for kind, what, place in drawn(subject, rng):
        size = change(clean, place, runs)
        if size == 0.0:
            idle += 1
            continue
        with patch("pellucid.verdicts.verify.derive", lambda *_: reference):
            rejected, by = judged(subject, place)
        agreed = len(faults) % PUBLIC != 0 or public(subject, place) == rejected
        faults.append(Fault(kind, what, size, rejected, by, agreed))
        if not rejected:
            say(f"  survived: {subject.name}, {kind}, {what}, size {size:.1e}")
        if len(faults) == FAULTS:
            return faults, idle
    raise AssertionError("drawn() has no end")


# ---- tables


def by_size(faults: Sequence[Fault]) -> Iterator[tuple[str, list[Fault]]]:
    """Faults in classes of the change that they make."""
    yield "crash, NaN or another shape", [f for f in faults if math.isinf(f.size)]
    yield "1e-2 and more", [f for f in faults if 1e-2 <= f.size < math.inf]
    yield "1e-4 to 1e-2", [f for f in faults if 1e-4 <= f.size < 1e-2]
    yield "1e-6 to 1e-4", [f for f in faults if 1e-6 <= f.size < 1e-4]
    yield "below 1e-6", [f for f in faults if f.size < 1e-6]


@dataclass(frozen=True)
class Examined:
    """One network's faults, how many were drawn that changed nothing, and what became of the clean directory."""

    name: str
    clean: str
    faults: Sequence[Fault]
    idle: int
    seconds: float


def tables(found: Sequence[Examined]) -> Iterator[Table]:
    """By network, by kind, by size, by what rejected them."""
    every = [fault for one in found for fault in one.faults]
    columns = ("network", "clean directory", "faults rejected", "drawn but without effect, left out", "seconds")
    rows = [[one.name, one.clean, _share(one.faults), one.idle, f"{one.seconds:.0f}"] for one in found]
    yield Table(f"By network; seed {SEED}.", columns, rows)
    kinds = sorted({fault.kind for fault in every})
    by_kind = [[kind, _share([fault for fault in every if fault.kind == kind])] for kind in kinds]
    yield Table("By kind of fault.", ("kind", "rejected"), by_kind)
    sizes = [[name, _share(faults)] for name, faults in by_size(every)]
    yield Table("By the largest relative change of an output.", ("change", "rejected"), sizes)
    reasons = Counter(reason for fault in every for reason in fault.by)
    text = "What rejected them (several may)."
    yield Table(text, ("verdict", "faults"), [[reason, count] for reason, count in reasons.most_common()])


def _share(faults: Sequence[Fault]) -> str:
    return f"{sum(fault.rejected for fault in faults)} of {len(faults)}"


def main() -> int:
    """Judge the clean directories, then the faults."""
    chosen, started, outcome = options(__doc__), time.monotonic(), Outcome()
    found: list[Examined] = []
    with tempfile.TemporaryDirectory(prefix="pellucid-benchmark-") as scratch:
        for number, subject in enumerate(subjects(Path(scratch))):
            alarm = public(subject, subject.directory)
            outcome.require(not alarm, f"{subject.name}: a clean directory is rejected")
            with timed() as took:
                faults, idle = examined(subject, np.random.default_rng(SEED + number))
            found.append(Examined(subject.name, "rejected" if alarm else "passes", faults, idle, took[0]))
            say(f"{subject.name}: {_share(faults)} rejected, {took[0]:.0f} s")
    outcome.tables += tables(found)
    every = [(one.name, fault) for one in found for fault in one.faults]
    survivors = [f"{n}, {f.kind}, {f.what} (changes an output by {f.size:.1e})" for n, f in every if not f.rejected]
    outcome.require(not survivors, f"{len(survivors)} of {len(every)} faults survive")
    outcome.require(len(every) >= 200 and len(found) >= 5, f"only {len(every)} faults in {len(found)} networks")
    outcome.require(all(f.agreed for _, f in every), "the public verify and the one with a kept trace disagree")
    outcome.notes += [f"survived: {text}" for text in survivors]
    outcome.notes.append("A change of 1e-30 stands for bits that differ without a difference (-0.0, NaN).")
    bar = (
        "≥ 200 random single faults over ≥ 5 networks that change an output, every one rejected; clean directories pass"
    )
    return publish("faults", "Corrupted programs", bar, outcome, started, chosen.write)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
