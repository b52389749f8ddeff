"""stories15M in modules: groups of latents at two levels, MLPs, attention, layers; named, described, tested.

Everything is made by `words.hierarchy`; every figure is from *verify*. `--description FOLDER` takes what `describe`
wrote for stories15M on `stories.corpus(1536, 0)` (else it is made afresh, without tuning); `--modules FILE` keeps the
records and reads them when they are there; `--windows N` takes so many windows of *describe* and *verify* at most;
`--largest N` and `--scored N` say how many modules of each MLP are substituted, and on how many windows.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from shared import Absent, Outcome, Table, options, publish, say
from stories import corpus, network

from pellucid.data.corpus import CorpusParts, split_corpus
from pellucid.describing import FOLDER, describe, effort_of
from pellucid.ir.program import Program
from pellucid.ir.units import parse_site
from pellucid.words.gathered import acts_of_sites
from pellucid.words.hierarchy.found import describe_modules
from pellucid.words.hierarchy.groups import held_quality
from pellucid.words.hierarchy.level import Trial
from pellucid.words.hierarchy.modules import (
    MODULE,
    SUBMODULE,
    DescribedModule,
    Tested,
    read_modules,
    write_modules,
)
from pellucid.words.labels.labelset import load_labels

WINDOWS, SEED, SCORED, LARGEST = 1536, 0, 8, 16
BAR = "none yet: figures beside their controls"


def main() -> int:
    given = options(
        __doc__, ("--description", "folder that describe wrote"), ("--modules", "file that keeps the records"),
        ("--windows", "of describe and verify at most"), ("--largest", "modules of each MLP that are substituted"),
        ("--scored", "windows that they are substituted on"),
    )  # fmt: skip
    started, outcome = time.monotonic(), Outcome()
    try:
        texts = corpus(WINDOWS, SEED)
        with tempfile.TemporaryDirectory() as scratch:
            output = Path(given.description or f"{scratch}/described")
            if not given.description:
                describe(network(), texts, output=output, effort=effort_of(tuned=False, seed=SEED), progress=say)
            program, parts = Program.load(output), few(split_corpus(texts, SEED), given.windows)
            kept = Path(given.modules or f"{scratch}/modules.jsonl")
            trial = Trial(windows=int(given.scored or SCORED), largest=int(given.largest or LARGEST))
            modules = found(program, parts, output, kept, trial, outcome)
    except Absent as absent:
        say(f"skipped: {absent}")
        return 0
    outcome.tables += [levels(modules), partitions(program, parts, modules), examples(modules)]
    outcome.notes.append(
        f"found and described on {len(parts.describe)} windows, tested on {len(parts.verify)}; substitution on the"
        f" first {trial.windows} of these, of the {trial.largest} largest modules of each MLP; seed {SEED}"
    )
    return publish("words/hierarchy", "stories15M in modules", BAR, outcome, started, given.write)


def few(parts: CorpusParts, windows: str | None) -> CorpusParts:
    """The parts with so many windows to describe and to verify, or all of them."""
    some = slice(0, int(windows) if windows else None)
    return replace(parts, describe=parts.describe.rows(some), verify=parts.verify.rows(some))


def found(
    program: Program, parts: CorpusParts, output: Path, kept: Path, trial: Trial, outcome: Outcome
) -> tuple[DescribedModule, ...]:
    """The modules, kept in a file."""
    if not kept.is_file():
        started, names = time.process_time(), [n for n, f in program.functions.items() if f.kind == "mlp"]
        labels = [load_labels(output / FOLDER / "labels" / f"{name}.json") for name in names]
        write_modules(describe_modules(program, labels, parts, trial=trial, seed=SEED, report=say), kept)
        outcome.notes.append(f"{time.process_time() - started:.0f} s of processor time to find, name and test them")
    return read_modules(kept)


# ---- tables


def levels(modules: Sequence[DescribedModule]) -> Table:
    """The figures of each level."""
    rows = [row(level, [m for m in modules if m.level == level]) for level in dict.fromkeys(m.level for m in modules)]
    text = (
        "Medians over the modules of a level. Detection: balanced accuracy of the description, control a sibling's."
        " Recovered: by the labels of the children, against mean ablation; control labels dealt to other latents. Name"
        " holds: named modules whose name fits them better than any other module of the level on *verify*."
    )
    columns = (
        "level", "modules", "latents", "named", "names taken back", "name holds", "detection", "control", "recovered",
        "control", "substituted", "nats",
    )  # fmt: skip
    return Table(text, columns, rows)


def row(level: str, own: Sequence[DescribedModule]) -> list[object]:
    named = [module for module in own if module.title is not None]
    holds = [module.holds for module in named if module.holds is not None]
    kept = sum(not value <= other for value, other in holds)
    recovered = [module.recovered for module in own if module.recovered is not None]
    return [
        level, len(own), f"{np.median([module.latents for module in own]):.0f}", f"{len(named)} of {len(own)}",
        sum(len(module.taken_back) for module in own), f"{kept} of {len(holds)}" if holds else "",
        *both([module.detection for module in own if module.detection is not None]), *both(recovered), len(recovered),
        f"{np.nanmedian([module.cost for module in own]):.3f}" if recovered else "",
    ]  # fmt: skip


def both(some: Sequence[Tested]) -> list[str]:
    if not some:
        return ["", ""]
    values, controls = (np.array([getattr(one, name) for one in some]) for name in ("value", "control"))
    low, high = np.quantile(values, [0.25, 0.75])
    control = "" if np.isnan(controls).all() else f"{np.nanmedian(controls):.2f}"
    return [f"{np.median(values):.2f} (quartiles {low:.2f}, {high:.2f})", control]


def partitions(program: Program, parts: CorpusParts, modules: Sequence[DescribedModule]) -> Table:
    """How good the partitions are on text that they were not made from."""
    names = list(dict.fromkeys(module.site for module in modules if module.site))
    sites = [parse_site(program, name) for name in names]
    acts, rows = acts_of_sites(program, sites, parts.verify), list[list[object]]()
    for site in sites:
        for level in (MODULE, SUBMODULE):
            own = [module for module in modules if module.site == str(site) and module.level == level]
            labels = np.full(site.units, -1)
            for number, module in enumerate(own):
                labels[list(module.units)] = number
            quality, random = held_quality(labels, acts[site], seed=SEED)
            rows.append([str(site), level, len(own), f"{quality:.2f}", f"{random:.2f}"])
    text = "Modularity of the partition on the links of *verify*, beside a random partition of the same sizes."
    return Table(text, ("latents of", "level", "groups", "modularity", "random"), rows)


def examples(modules: Sequence[DescribedModule], count: int = 12) -> Table:
    """Some modules, drawn among all below MLPs."""
    own = [module for module in modules if module.site]
    drawn = np.sort(np.random.default_rng(SEED).choice(len(own), min(count, len(own)), replace=False))
    rows = []
    for module in (own[place] for place in drawn):
        test = "" if module.detection is None else f"{module.detection.value:.2f} ({module.detection.control:.2f})"
        rows.append([module.name, module.latents, module.title or "unnamed", module.sentence[:160], test])
    return Table("Drawn at random.", ("module", "latents", "name", "description", "detection (control)"), rows)


if __name__ == "__main__":
    sys.exit(main())
