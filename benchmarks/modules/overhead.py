"""Overhead of the modularity loss per training step, the refreshes of the partition included.

Steps with and without it take turns in one process, in blocks as long as the time between two refreshes, on two copies
of one network. Processor time; the ratio is the median over pairs of neighbouring blocks.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from shared import Outcome, Table, options, publish, say

from pellucid.train import Modularity

BAR, EVERY, PAIRS = 1.10, 100, 7


@dataclass(frozen=True)
class Case:
    """A network, its input without the batch axis, its classes, and the batch."""

    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    classes: int
    batch: int


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def perceptron(*sizes: int) -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


CASES = (
    Case("MLP 128-64-64-20", lambda: perceptron(128, 64, 64, 20), (128,), 20, 512),
    Case("MLP 784-256-256-10", lambda: perceptron(784, 256, 256, 10), (784,), 10, 512),
    Case("CNN 16-32-64-10 on 8×8", convolutional, (1, 8, 8), 10, 512),
)


class Trainer:
    """A network, its optimiser, and the loss if it has one."""

    def __init__(self, case: Case, form: dict[str, float] | None) -> None:
        torch.manual_seed(0)
        self.model = case.build()
        self.optimiser = torch.optim.AdamW(self.model.parameters(), 1e-3)
        example = torch.zeros(2, *case.shape)
        self.modularity = None if form is None else Modularity(self.model, (example,), every=EVERY, **form)

    def block(self, inputs: Float[torch.Tensor, "..."], targets: Float[torch.Tensor, "..."]) -> float:
        """Processor seconds of as many steps as lie between two refreshes."""
        started = time.process_time()
        for _ in range(EVERY):
            loss = nn.functional.cross_entropy(self.model(inputs), targets)
            self.optimiser.zero_grad()
            loss.backward()
            if self.modularity is not None:
                self.modularity.add()
            self.optimiser.step()
            if self.modularity is not None and self.modularity.decay:
                self.modularity.shrink(1e-3)
        return time.process_time() - started


def measured(case: Case, form: dict[str, float]) -> tuple[float, float, float, float]:
    """Median ratio, its quartiles, and milliseconds of a plain step."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(case.batch, *case.shape, generator=generator)
    targets = torch.randint(case.classes, (case.batch,), generator=generator)
    plain, modular = Trainer(case, None), Trainer(case, form)
    for trainer in (plain, modular):  # the first block compiles, and finds the partition
        trainer.block(inputs, targets)
    without = [0.0] * PAIRS
    ratios = []
    for i in range(PAIRS):
        pair = {each: each.block(inputs, targets) for each in ((plain, modular) if i % 2 else (modular, plain))}
        without[i] = pair[plain]
        ratios.append(pair[modular] / pair[plain])
    low, middle, high = (float(value) for value in np.quantile(ratios, (0.25, 0.5, 0.75)))
    return middle, low, high, 1000 * float(np.median(without)) / EVERY


def main() -> int:
    given = options(__doc__)
    started = time.monotonic()
    torch.set_num_threads(1)
    outcome, rows = Outcome(), []
    for case in CASES:
        for name, form in (("gradient", {"strength": 1.0}), ("proximal", {"strength": 0.0, "decay": 1.0})):
            middle, low, high, step = measured(case, form)
            say(f"{case.name}, {name}: {middle:.3f}")
            met = outcome.require(middle <= BAR, f"{case.name}, {name}: {middle - 1:.1%}")
            cells = (f"{step:.2f}", f"{middle - 1:.1%} ({low - 1:.1%} … {high - 1:.1%})", met)
            rows.append((case.name, case.batch, name, *cells))
    text = (
        f"AdamW, one thread, random inputs; {PAIRS} pairs of blocks of {EVERY} steps, one refresh of the partition in"
        " each. Control: the same steps without the loss, in the same run. Median (quartiles) of processor time."
    )
    columns = ("network", "batch", "form", "plain step, ms", "overhead", "≤ 10%")
    outcome.tables.append(Table(text, columns, rows))
    title = "Overhead of the modularity loss per training step"
    return publish(
        "modules/overhead", title, "at most 10% at batch 512, refresh included", outcome, started, given.write
    )


if __name__ == "__main__":
    sys.exit(main())
