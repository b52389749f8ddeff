"""Convolutions hidden in dense matrices: is the kernel recovered, bit by bit?

A kernel of random numbers is written out as a dense matrix, stride and padding included. It is looked for directly
(`find_convolution`, budget 0), and by the public path: the matrix is the weight of an `nn.Linear` in a network that is
decompiled, and the kernel is read from the directory that was written. Controls: a random matrix of the same shape, and
the same matrix with one entry changed.
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from shared import Outcome, Table, options, publish, say, timed
from torch import nn

import pellucid
from pellucid.code.linear.convolution import find_convolution
from pellucid.ir.program import Program

Kernel = Float[np.ndarray, "out_channels in_channels *size"]
Matrix = Float[np.ndarray, "outputs inputs"]

RANDOM_LAYOUTS = 100
BUDGET = 60.0
CHANGE = 1e-3
"""By how much one entry is changed on the public path, as a share of the largest."""


@dataclass(frozen=True)
class Layout:
    """A convolution of one or two spatial axes; sizes are channels first."""

    out_channels: int
    image: tuple[int, ...]
    size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]

    def __str__(self) -> str:
        by = "×".join
        return (
            f"{by(map(str, self.image))} → {self.out_channels} channels, kernel {by(map(str, self.size))}, "
            f"stride {by(map(str, self.stride))}, padding {by(map(str, self.padding))}"
        )

    def kernel(self, rng: np.random.Generator) -> Kernel:
        """Random numbers."""
        return rng.standard_normal((self.out_channels, self.image[0], *self.size)).astype(np.float32)

    def matrix(self, kernel: Kernel) -> Matrix:
        """The dense matrix, by running torch's convolution on every unit vector."""
        pixels = math.prod(self.image)
        function = nn.functional.conv1d if len(self.size) == 1 else nn.functional.conv2d
        basis = torch.eye(pixels).reshape(pixels, *self.image)
        outputs = function(basis, torch.from_numpy(kernel), None, self.stride, self.padding)
        return np.ascontiguousarray(outputs.flatten(1).T.numpy())


LAYOUTS = (
    Layout(4, (3, 40), (5,), (1,), (2,)),
    Layout(4, (3, 41), (5,), (2,), (2,)),
    Layout(8, (1, 64), (7,), (2,), (0,)),
    Layout(4, (2, 12, 12), (3, 3), (1, 1), (1, 1)),
    Layout(4, (3, 13, 13), (3, 3), (2, 2), (1, 1)),
    Layout(2, (1, 20, 20), (5, 5), (2, 2), (2, 2)),
    Layout(3, (2, 10, 14), (3, 5), (1, 2), (0, 2)),
)


def drawn(rng: np.random.Generator) -> Layout:
    """A random layout."""
    spatial = int(rng.integers(1, 3))
    longest = 41 if spatial == 1 else 15
    size = tuple(int(n) for n in rng.integers(2, 5, spatial))
    return Layout(
        int(rng.integers(1, 5)),
        (int(rng.integers(1, 4)), *(int(n) for n in rng.integers(longest // 2 + 1, longest, spatial))),
        size,
        tuple(int(n) for n in rng.integers(1, 3, spatial)),
        tuple(int(rng.integers(0, k)) for k in size),
    )


def changed(matrix: Matrix, rng: np.random.Generator, amount: float) -> Matrix:
    """One entry changed, of those whose number stands elsewhere, too; by its last bit for an amount of 0."""
    values, counts = np.unique(matrix, return_counts=True)
    shared = np.isin(matrix, values[counts > 1]) & (matrix != 0)
    row, column = rng.choice(np.argwhere(shared))
    other = matrix.copy()
    near = np.nextafter(matrix[row, column], np.float32(np.inf))
    other[row, column] = near if amount == 0.0 else matrix[row, column] + amount * np.abs(matrix).max()
    return other


def same(found: Kernel | None, kernel: Kernel) -> bool:
    """Equal in shape and every bit."""
    return found is not None and found.shape == kernel.shape and found.tobytes() == kernel.tobytes()


def direct(matrix: Matrix) -> Kernel | None:
    """The kernel that is found in a matrix."""
    found = find_convolution(matrix, budget=0.0)
    return None if found is None else found.kernel


# ---- the public path


def hidden_in_a_network(matrix: Matrix, seed: int) -> nn.Module:
    """A network whose first layer is the matrix."""
    torch.manual_seed(seed)
    first = nn.Linear(matrix.shape[1], matrix.shape[0])
    with torch.no_grad():
        first.weight.copy_(torch.from_numpy(matrix))
    parts = [("sight", first), ("relu", nn.ReLU()), ("head", nn.Linear(matrix.shape[0], 5))]
    return nn.Sequential(OrderedDict(parts)).eval()


def decompiled(matrix: Matrix, seed: int) -> tuple[Kernel | None, bool]:
    """The kernel that the written directory holds, and whether all verdicts passed."""
    inputs = torch.randn(256, matrix.shape[1], generator=torch.Generator().manual_seed(seed))
    with tempfile.TemporaryDirectory(prefix="pellucid-benchmark-") as scratch:
        place = Path(scratch) / "program"
        written = pellucid.decompile(hidden_in_a_network(matrix, seed), inputs, output=place, budget=BUDGET)
        passed = all(verdict.passed for verdict in written.notes.verdicts)
        return kernel_of(Program.load(place)), passed


def kernel_of(program: Program) -> Kernel | None:
    """The kernel of the convolution that a chosen code reading consists of."""
    for function in program.functions.values():
        reading = function.reading()
        if reading.kind == "code" and any(node.op in ("conv1d", "conv2d") for node in reading.body.nodes):
            names = [name for name in program.weights if name.endswith(".kernel")]
            return program.weights[names[0]].numpy() if len(names) == 1 else None
    return None


def public_row(layout: Layout, seed: int, outcome: Outcome) -> list[object]:
    """One layout both ways, with both controls."""
    rng = np.random.default_rng(seed)
    kernel = layout.kernel(rng)
    matrix = layout.matrix(kernel)
    noise = rng.standard_normal(matrix.shape).astype(np.float32) * matrix.std()
    with timed() as seconds:
        found, passed = decompiled(matrix, seed)
    wrong = [decompiled(other, seed)[0] is not None for other in (noise, changed(matrix, rng, CHANGE))]
    straight = [same(direct(matrix), kernel), direct(noise) is None, direct(changed(matrix, rng, 0.0)) is None]
    met = same(found, kernel) and passed and not any(wrong) and all(straight)
    say(f"{layout}: public {same(found, kernel)}, verdicts {passed}, controls found {wrong}, direct {straight}")
    return [
        str(layout),
        f"{matrix.size:,} → {kernel.size}",
        "every bit" if same(found, kernel) else "no",
        "every bit" if straight[0] else "no",
        "found" if wrong[0] or not straight[1] else "nothing found",
        "found" if wrong[1] or not straight[2] else "nothing found",
        f"{seconds[0]:.1f}",
        outcome.require(met, str(layout)),
    ]


def random_row(outcome: Outcome) -> list[object]:
    """Random layouts, directly."""
    rng = np.random.default_rng(0)
    recovered = noise = altered = 0
    with timed() as seconds:
        for _ in range(RANDOM_LAYOUTS):
            layout = drawn(rng)
            kernel = layout.kernel(rng)
            matrix = layout.matrix(kernel)
            recovered += same(direct(matrix), kernel)
            if not same(direct(matrix), kernel):
                say(f"not recovered: {layout}")
            noise += direct(rng.standard_normal(matrix.shape).astype(np.float32)) is not None
            altered += direct(changed(matrix, rng, 0.0)) is not None
    met = recovered == RANDOM_LAYOUTS and not noise and not altered
    return [
        f"{RANDOM_LAYOUTS} random layouts, seed 0",
        f"{recovered} of {RANDOM_LAYOUTS}",
        f"{noise} of {RANDOM_LAYOUTS}",
        f"{altered} of {RANDOM_LAYOUTS}",
        f"{seconds[0]:.1f}",
        outcome.require(met, f"random layouts: {recovered} recovered, controls {noise} and {altered}"),
    ]


def main() -> int:
    """Run the listed layouts both ways, then random ones directly."""
    chosen, started, outcome = options(__doc__), time.monotonic(), Outcome()
    rows = [public_row(layout, seed, outcome) for seed, layout in enumerate(LAYOUTS)]
    columns = (
        "convolution", "numbers", "kernel by decompile", "kernel by find_convolution", "control: random matrix",
        "control: one entry changed", "seconds", "met",
    )  # fmt: skip
    text = "A dense layer inside a network (seeds 0 to 6). Controls both ways; the changed entry is off by "
    text += f"{CHANGE:g} of the largest on the public path, by its last bit directly."
    outcome.tables.append(Table(text, columns, rows))
    heads = ("matrices", "recovered", "control: random matrix", "control: one bit changed", "seconds", "met")
    outcome.tables.append(Table("Directly, budget 0.", heads, [random_row(outcome)]))
    bar = "kernel recovered in every bit, 1-d and 2-d, stride 1 and 2, with padding; nothing found in the controls"
    return publish("convolutions", "Convolutions in dense matrices", bar, outcome, started, chosen.write)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
