"""Readings of waves that hold one by one, or nearly do, tuned until all hold, each and together.

Each part keeps its form and its frequencies; only directions and constants move, by Adam. Steps are taken with all
readings in place and with one of them alone (in turn, or where it is decided worst), by turns. Each adds up two losses:
the hinge loss on the outputs of the network, with a margin, and the share that the readings in place miss of what the
exact parts write in the exact network (hints, as in Romero et al. 2015, "FitNets"). With one alone this keeps it a
reading of its part; with all, it stops errors from growing from part to part, counts most at first, and fades, so that
in the end decisions settle. A step takes some of the pairs, up to half of them from those that were decided wrongly
when last looked at. Directions stay in whole steps: they are rounded on the way forward and taken as they are on the
way back (Bengio et al. 2013, "Estimating or propagating gradients through stochastic neurons").

How much of its part a reading tells afterwards stands in its summary.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, Shaped

from pellucid.code.periodic.fourier_draft import Try, running
from pellucid.code.periodic.waves import Grid
from pellucid.code.propose import Candidate
from pellucid.ir.interpret import Replacement, Values, run_functions

RATE, LAST_RATE = 1e-3, 0.05
"""Of Adam: the rate as a share of the size of what is tuned, and what is left of it in the end."""

LOOKS, SETTLING, STEPS, PAIRS = 30, 10, 300, 256
"""How often all pairs are looked at, after how many looks the rate falls no more, the steps between two looks, and the
pairs of one step."""

AGAIN = 4
"""How often a pair that is decided wrongly comes in one step."""

MARGIN = 4.0
"""By how much the right output is to be the largest."""

FAITHFUL, FADING = 0.1, 0.6
"""What a reading misses of what the exact part writes counts so much; with all in place, so much of that is left after
each look."""

SLOWLY = 0.9
"""Running means of losses keep so much each time."""

ALL = ""
"""Stands for all readings at once among the names of those in place."""

SMALLEST = 1e-12
"""Sizes and variations below this count as this."""

Tensor = Shaped[torch.Tensor, "..."]
Wrong = Bool[torch.Tensor, " pairs"]
Pairs = Int64[torch.Tensor, " chosen"]


@dataclass(frozen=True, eq=False)
class Tuned:
    """A reading while its numbers move.

    Attributes:
        wanted: what the exact part writes on each pair, and `spread` its mean variance.
        most: how many steps to either side those `numbers` may take that are whole steps.
    """

    name: str
    tried: Try
    numbers: Mapping[str, Tensor]
    most: Mapping[str, int]
    wanted: Tensor
    spread: float

    @classmethod
    def of(cls, grid: Grid, name: str, tried: Try) -> Tuned:
        """The reading before anything moves."""
        weights = tried.candidate.weights
        numbers = {label: value.detach().clone().float().requires_grad_() for label, value in weights.items()}
        whole = {label: value.dtype for label, value in weights.items() if not value.is_floating_point()}
        most = {label: torch.iinfo(dtype).max for label, dtype in whole.items()}
        _, wanted = grid.parts[name]
        return cls(name, tried, numbers, most, wanted, max(float(wanted.var(0).mean()), SMALLEST))

    def replacement(self) -> Replacement:
        """What stands in for the part; gradients pass the rounding."""
        now = {
            label: value + (value.detach().round() - value.detach()) if label in self.most else value
            for label, value in self.numbers.items()
        }
        return running(self.tried.candidate.reading.body, now)

    def clamp(self) -> None:
        """Bring whole steps back to what their type holds."""
        with torch.no_grad():
            for label, most in self.most.items():
                self.numbers[label].clamp_(-most, most)

    def missed(self, pairs: Pairs, found: Tensor) -> Float[torch.Tensor, ""]:
        """The share of what the exact part writes on these pairs that is not in what was found instead."""
        lost: Tensor = (self.wanted[pairs] - found).square().mean() / self.spread
        return lost

    def finished(self, grid: Grid) -> Candidate:
        """The reading as it is now."""
        old = self.tried.candidate
        weights = {
            label: (value.detach().round() if label in self.most else value.detach()).to(old.weights[label].dtype)
            for label, value in self.numbers.items()
        }
        how = ", tuned with the other parts"
        return Try.of(grid, self.name, old.reading.body, weights, self.tried.told, how).candidate


def agreed(grid: Grid, found: Mapping[str, Try], deadline: float) -> dict[str, Candidate] | str:
    """The readings, tuned so that the network decides the same on all pairs with all of them in place and with each
    of them; a text where steps or time do not suffice."""
    parts = {name: Tuned.of(grid, name, tried) for name, tried in found.items()}
    moving = [number for part in parts.values() for number in part.numbers.values()]
    optimiser = torch.optim.Adam([{"params": [each], "lr": RATE * _size(each)} for each in moving])
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, LAST_RATE, SETTLING * STEPS)
    rng, losses, turns = np.random.default_rng(0), dict.fromkeys(parts, 1.0), cycle(parts)
    for look in range(LOOKS):
        wrong = {name: _wrong(grid, parts, name) for name in (ALL, *parts)}
        if not any(bool(each.any()) for each in wrong.values()):
            return {name: part.finished(grid) for name, part in parts.items()}
        hard = [name for name in parts if wrong[name].any()] or list(parts)
        for step in range(STEPS):
            if time.monotonic() > deadline:
                return "the budget was used up before it was tuned to the others"
            optimiser.zero_grad()
            if step % 2:
                _push(grid, parts, ALL, _pairs(wrong[ALL], rng), FAITHFUL * FADING**look)
            else:
                name = next(turns) if step % 4 else max(hard, key=lambda one: losses[one])
                loss = _push(grid, parts, name, _pairs(wrong[name], rng), FAITHFUL)
                losses[name] = SLOWLY * losses[name] + (1 - SLOWLY) * loss
            optimiser.step()
            schedule.step()
            for part in parts.values():
                part.clamp()
    return f"{LOOKS * STEPS:,} steps of tuning did not bring it and the others together"


def _instead(parts: Mapping[str, Tuned], name: str) -> dict[str, Replacement]:
    return {each: part.replacement() for each, part in parts.items() if name in (ALL, each)}


def _wrong(grid: Grid, parts: Mapping[str, Tuned], name: str) -> Wrong:
    with torch.no_grad():
        return grid.differs(_instead(parts, name))


def _push(grid: Grid, parts: Mapping[str, Tuned], name: str, pairs: Pairs, faithful: float) -> float:
    """Add the gradients of the losses with one reading in place, or with all; returns that on the outputs."""
    made: dict[str, Tensor] = {}
    instead = {each: _noted(change, made, each) for each, change in _instead(parts, name).items()}
    (outputs,) = run_functions(grid.program, [grid.tokens[pairs]], "weights", replace=instead, gradients=True)
    loss = torch.nn.functional.multi_margin_loss(outputs, grid.decided[pairs], margin=MARGIN)
    missed = torch.stack([parts[each].missed(pairs, found) for each, found in made.items()]).sum()
    (loss + faithful * missed).backward()  # type: ignore[no-untyped-call]
    return float(loss.detach())


def _noted(instead: Replacement, made: dict[str, Tensor], name: str) -> Replacement:
    """The same replacement, noting what it makes."""

    def run(values: Values) -> Values:
        found = instead(values)
        (made[name],) = found
        return found

    return run


def _pairs(wrong: Wrong, rng: np.random.Generator) -> Pairs:
    """Pairs for a step, up to half of them, and each up to so many times, from those that are decided wrongly."""
    hard, count = np.flatnonzero(wrong.numpy()), min(PAIRS, len(wrong))
    again = min(AGAIN * len(hard), count // 2)
    drawn = rng.choice(len(wrong), count - again, replace=False)
    return torch.from_numpy(np.concatenate([drawn, rng.choice(np.tile(hard, AGAIN), again, replace=False)]))


def _size(values: Tensor) -> float:
    return max(float(values.detach().square().mean().sqrt()), SMALLEST)
