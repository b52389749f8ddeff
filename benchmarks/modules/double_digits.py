"""Double digits: a network that reads two digits, trained by the modular schedule and by each baseline.

Two 8×8 digits of scikit-learn go in, their pixels in random order; ten outputs for each digit. Nothing in training says
which pixel or output belongs to which digit. A hidden unit belongs to the digit whose exchange changes it more; the
partition is compared with that, by the adjusted Rand index over units that depend on their input at all.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from sklearn.metrics import adjusted_rand_score
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from shared import Outcome, Table, options, publish, say

from pellucid.train import Figures, recipe, train
from pellucid.train.recipes import double_digits_order

METHODS = ("none", "l1", "n-cut", "bimt", "top-k", "modular", "random")
SEEDS = range(5)
SAMPLES = 1000
ACCURACY, INDEX = 0.005, 0.95


@dataclass(frozen=True)
class Row:
    """One trained network: its figures, agreement with the planted labels, live hidden units, processor seconds."""

    figures: Figures
    hidden: float
    inputs: float
    outputs: float
    live: int
    seconds: float


def main() -> int:
    given = options(__doc__, ("--seeds", "how many seeds, else five"), ("--methods", "some of them, with commas"))
    started = time.monotonic()
    torch.set_num_threads(1)
    seeds = range(int(given.seeds)) if given.seeds else SEEDS
    methods = given.methods.split(",") if given.methods else METHODS
    rows: dict[str, list[Row]] = {}
    for method in methods:
        for seed in seeds:
            row = trained(method, seed)
            rows.setdefault(method, []).append(row)
            f = row.figures
            say(
                f"{method}, seed {seed}: accuracy {f.accuracy:.2%}, interface {f.interface:.2%}, without it"
                f" {f.accuracy_cut:.2%}, index of hidden units {row.hidden:.2f}, {row.seconds:.0f} s"
            )
    bar = "modular: accuracy within 0.5 points of the plain net's, interface exactly zero, index ≥ 0.95 on 5 of 5 seeds"
    title = "Double digits: two tasks in one network, told apart"
    return publish("modules/double_digits", title, bar, judged(rows), started, given.write)


def trained(method: str, seed: int) -> Row:
    """Train by one method and compare the partition with what the units depend on."""
    chosen = recipe("double-digits")
    plan = replace(chosen.plan, restarts=1) if method == "random" else chosen.plan
    before = time.process_time()
    found = train(chosen.task, method, plan=plan, seed=seed)
    seconds = time.process_time() - before
    parts = np.split(found.division.labels, np.cumsum([*found.blocks.values()])[:-1])
    owners = [owner for layer in (2, 4) for owner in dependence(found.model[:layer])]
    labels = np.concatenate(parts[1:3])
    live = np.array([owner is not None for owner in owners])
    hidden = adjusted_rand_score([owner for owner in owners if owner is not None], labels[live])
    inputs = adjusted_rand_score(double_digits_order() >= 64, parts[0])
    outputs = adjusted_rand_score(np.arange(20) >= 10, parts[3])
    return Row(found.figures, hidden, inputs, outputs, int(live.sum()), seconds)


@torch.no_grad()
def dependence(layers: nn.Module) -> list[int | None]:
    """For each unit, the digit whose exchange for another changes it more; None where neither does."""
    generator = torch.Generator().manual_seed(0)
    (pairs,), _ = recipe("double-digits").task.batch(generator, SAMPLES)
    first = double_digits_order() < 64
    others = pairs[torch.randperm(len(pairs), generator=generator)]
    as_is = layers(pairs)
    changes = [moved(as_is, layers(torch.where(own, others, pairs))) for own in (first, ~first)]
    return [None if a + b < 1e-12 else int(b > a) for a, b in zip(*changes, strict=True)]


def moved(before: Float[torch.Tensor, "samples units"], after: Float[torch.Tensor, "samples units"]) -> list[float]:
    """The mean square by which each unit changed."""
    return [float(change) for change in (after - before).square().mean(0)]


def judged(rows: dict[str, list[Row]]) -> Outcome:
    """The table, and the bars."""
    outcome = Outcome()
    table = [
        [
            method,
            spread([100 * row.figures.accuracy for row in found], 2),
            spread([100 * row.figures.interface for row in found], 2),
            spread([100 * row.figures.accuracy_cut for row in found], 2),
            spread([row.hidden for row in found], 2),
            spread([row.inputs for row in found], 2),
            spread([row.outputs for row in found], 2),
            spread([row.live for row in found], 0),
            spread([row.figures.z for row in found], 1),
            f"{np.median([row.seconds for row in found]):.0f}",
        ]
        for method, found in rows.items()
    ]
    columns = ("method", "accuracy %", "interface %", "accuracy % without it", "index, hidden", "index, pixels",
               "index, outputs", "live hidden units", "z", "s")  # fmt: skip
    count = len(next(iter(rows.values())))
    text = (
        f"Medians over {count} seeds (least … most). MLP 128-64-64-20; a third of 1,797 pictures held out, accuracy on"
        " 10,000 pairs of them, mean of both digits. Interface: share of absolute weights between the two regions, mean"
        " over layers. The partition of baselines is the spectral split of the finished network. s: processor seconds."
    )
    outcome.tables.append(Table(text, columns, table))
    if "modular" in rows and "none" in rows:
        require(outcome, rows["modular"], rows["none"])
    outcome.notes.append(
        "random: the control, the modular schedule with the regions' units dealt out anew in each layer, then cut and"
        " fine-tuned in the same way (one run a seed)."
    )
    outcome.notes.append(
        "l1 and bimt take the same proximal step as the modular schedule, which makes exact zeros; bimt swaps inputs"
        " and outputs too and starts in random order. Pixels that no picture uses are nobody's: they lower the index."
    )
    return outcome


def require(outcome: Outcome, modular: list[Row], plain: list[Row]) -> None:
    """The bars."""
    own, other = (float(np.median([row.figures.accuracy for row in rows])) for rows in (modular, plain))
    outcome.require(own >= other - ACCURACY, f"accuracy {own:.2%} against {other:.2%}")
    crossing = max(row.figures.interface for row in modular)
    outcome.require(crossing == 0.0, f"interface {crossing}")
    right = sum(row.hidden >= INDEX for row in modular)
    outcome.require(right == len(modular), f"index ≥ {INDEX} on {right} of {len(modular)} seeds")


def spread(values: list[float] | list[int], digits: int) -> str:
    """Median (least … most)."""
    middle, low, high = float(np.median(values)), min(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} … {high:.{digits}f})"


if __name__ == "__main__":
    sys.exit(main())
