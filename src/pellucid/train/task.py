"""What is trained on what: a network, its batches, its loss, its accuracy on inputs held out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import nn

from pellucid.errors import BadInput

Tensor = Shaped[torch.Tensor, "..."]
Batch = tuple[tuple[Tensor, ...], Tensor]


@dataclass(frozen=True)
class Task:
    """A supervised task.

    Attributes:
        name: for messages and checkpoints.
        build: a new network, its weights drawn from torch's global generator.
        batch: inputs (positional arguments of the network) and targets, so many samples drawn with a generator.
        loss: of outputs and targets, a mean over samples.
        accuracy: of a network on inputs that `batch` never draws, from 0 to 1.
    """

    name: str
    build: Callable[[], nn.Module]
    batch: Callable[[torch.Generator, int], Batch]
    loss: Callable[[Any, Tensor], Float[torch.Tensor, ""]]
    accuracy: Callable[[nn.Module], float]


@dataclass(frozen=True)
class Plan:
    """How a task is trained. Shares are of all steps.

    Attributes:
        steps, batch, rate: of AdamW; the rate rises over the first `warming` and falls to zero over the last `cooling`.
        sparsity: L1 of the warm-up; a weight loses `rate · sparsity` a step.
        kept: L1 afterwards.
        warm: share of steps after which the partition is found.
        severed: share of steps after which its interface is cut; 1: never, the weak loss lasts to the end.
        strength, decay: of the cut loss in between, as gradient and as proximal step (see `Modularity`).
        every: steps after which units may change their region.
        pairs: pairs of blocks in a residual stream whose gradient is taken each step.
        parts: regions.
        even: whether regions have equally many units of each block.
        restarts: runs from different weights, of which the one with the least task loss is taken.
        ncut, wires, share: of the baselines: factor of the normalised cut, factor of wire lengths, share of weights.
        saved, reported: steps between checkpoints, and between reports of progress.
    """

    steps: int = 2400
    batch: int = 256
    rate: float = 6e-3
    warming: float = 0.0
    cooling: float = 0.3
    sparsity: float = 0.2
    kept: float = 0.1
    warm: float = 0.4
    severed: float = 0.6
    strength: float = 0.0
    decay: float = 3.0
    every: int = 50
    pairs: int = 16
    parts: int = 2
    even: bool = False
    restarts: int = 3
    ncut: float = 1.0
    wires: float = 0.6
    share: float = 0.1
    saved: int = 200
    reported: int = 100

    def __post_init__(self) -> None:
        if not 0 < self.warm < self.severed <= 1:
            raise BadInput(f"warm={self.warm} and severed={self.severed}: give shares with 0 < warm < severed <= 1")
        for name in ("steps", "batch", "every", "pairs", "restarts", "saved", "reported"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name}={getattr(self, name)}: give at least 1")
        for name, value in asdict(self).items():
            if not 0 <= value < float("inf"):
                raise BadInput(f"{name}={value}: give a finite number that is not negative")
        if not (self.rate > 0 and 0 < self.share <= 1):
            raise BadInput(f"rate={self.rate}, share={self.share}: give a positive rate and a share up to 1")

    def at(self, share: float) -> int:
        """The step that a share of all steps ends with."""
        return round(share * self.steps)

    def rate_at(self, step: int) -> float:
        """The learning rate of a step."""
        done, left = (step + 1) / self.steps, (self.steps - step) / self.steps
        rising = done / self.warming if self.warming else 1.0
        return self.rate * min(1.0, rising, left / self.cooling if self.cooling else 1.0)
