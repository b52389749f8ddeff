"""One network in training: the loop that every method shares, with its checkpoints.

A checkpoint holds all that the rest of the run depends on: weights, the optimiser's state, the states of regularisers,
of the sampler and of torch's generator. So a run that is killed and resumed gives the same weights, bit by bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pellucid.errors import PellucidError
from pellucid.train.checkpoint import (
    last_checkpoint,
    optimiser_tensors,
    restore_optimiser,
    save_checkpoint,
    under,
    within,
)
from pellucid.train.modularity import Modularity
from pellucid.train.regularisers import Regulariser
from pellucid.train.task import Plan, Task

JUDGED = 4096
"""Samples that the task loss of a finished run is taken on."""


class Diverged(PellucidError):
    """A training run whose loss or weights are no longer finite; its last good checkpoint is kept."""

    exit_code = 3


@dataclass(frozen=True)
class Progress:
    """Where a run is: `restart` of `restarts`, `step` of `steps`; interface and z are nan before the split."""

    method: str
    restart: int
    restarts: int
    step: int
    steps: int
    loss: float
    accuracy: float
    interface: float
    z: float


Report = Callable[[Progress], None]


class Run:
    """A network, its optimiser and its sampler at some step. A folder with a checkpoint is taken up where it ends."""

    def __init__(
        self,
        task: Task,
        method: str,
        plan: Plan,
        seed: int,
        restart: int = 0,
        directory: Path | None = None,
        report: Report | None = None,
    ) -> None:
        self.task, self.method, self.plan, self.restart = task, method, plan, restart
        self.directory, self.report, self.seed = directory, report, seed
        torch.manual_seed(1000 * seed + restart)
        self.model = task.build()
        self.generator = torch.Generator().manual_seed(1000 * seed + restart)
        example = task.batch(torch.Generator().manual_seed(0), 2)[0]
        self.modularity = Modularity(
            self.model, example, strength=plan.strength, decay=plan.decay, parts=plan.parts, every=plan.every,
            pairs=plan.pairs, even=plan.even, seed=seed,
        )  # fmt: skip
        self.optimiser = torch.optim.AdamW(self.model.parameters(), plan.rate, weight_decay=0.0)
        self.step, self.loss = 0, math.nan
        self._waiting: dict[str, torch.Tensor] = {}
        self._resume()

    def go(self, until: int, *regularisers: Regulariser) -> None:
        """Train until a step; returns at once when the run is past it."""
        if self.step < until:
            for each in regularisers:
                self._restore(each)
        while self.step < until:
            rate = self.plan.rate_at(self.step)
            self._step(rate, regularisers)
            self.step += 1
            if self.step % self.plan.saved == 0 or self.step == self.plan.steps:
                self._save(regularisers)
            if self.report and (self.step % self.plan.reported == 0 or self.step == self.plan.steps):
                self.report(self.progress())

    def _step(self, rate: float, regularisers: tuple[Regulariser, ...]) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        inputs, targets = self.task.batch(self.generator, self.plan.batch)
        loss = self.task.loss(self.model(*inputs), targets)
        self.loss = self._finite(float(loss.detach()))
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for each in regularisers:
            each.add()
        self.optimiser.step()
        for each in regularisers:
            each.shrink(rate)

    def progress(self) -> Progress:
        """Where the run is."""
        with evaluating(self.model):
            accuracy = self.task.accuracy(self.model)
        return Progress(
            self.method, self.restart, self.plan.restarts, self.step, self.plan.steps,
            self.loss, accuracy, self.modularity.interface, self.modularity.z,
        )  # fmt: skip

    def fit_loss(self) -> float:
        """The task loss on samples of the training data, the same for all runs."""
        inputs, targets = self.task.batch(torch.Generator().manual_seed(0), JUDGED)
        with evaluating(self.model):
            return float(self.task.loss(self.model(*inputs), targets))

    def _finite(self, loss: float) -> float:
        if math.isfinite(loss):
            return loss
        where = "there is no checkpoint yet"
        found = last_checkpoint(self.directory) if self.directory else None
        if found is not None:
            where = f"the last good checkpoint is step {found[0]} in {self.directory}"
        raise Diverged(
            f"training {self.task.name!r} diverged at step {self.step} (loss {loss}); {where}; lower the rate"
            f" ({self.plan.rate}) or the strength of {self.method!r}"
        )

    # ---- checkpoints

    def _save(self, regularisers: tuple[Regulariser, ...]) -> None:
        if not all(bool(weight.isfinite().all()) for weight in self.model.parameters()):
            self._finite(math.nan)
        if self.directory is None:
            return
        tensors = {
            **under(self.model.state_dict(), "model"),
            **under(optimiser_tensors(self.optimiser), "optimiser"),
            **under(self.modularity.state_dict(), "modularity"),
            "sampler": self.generator.get_state(),
            "generator": torch.get_rng_state(),
        }
        for each in regularisers:
            if each is not self.modularity:
                tensors.update(under(each.state_dict(), type(each).__name__))
        save_checkpoint(self.directory, self.step, tensors, {"loss": self.loss})

    def _resume(self) -> None:
        found = last_checkpoint(self.directory) if self.directory else None
        if found is None:
            return
        self.step, tensors, facts = found
        self.loss = _number(facts)
        self.model.load_state_dict(within(tensors, "model"))
        restore_optimiser(self.optimiser, within(tensors, "optimiser"))
        self.modularity.load_state_dict(within(tensors, "modularity"))
        self.generator.set_state(tensors["sampler"])
        torch.set_rng_state(tensors["generator"])
        self._waiting = tensors

    def _restore(self, regulariser: Regulariser) -> None:
        """Give a regulariser the state that it had when the checkpoint was written."""
        state = within(self._waiting, type(regulariser).__name__)
        if state and regulariser is not self.modularity:
            regulariser.load_state_dict(state)
        self._waiting = {
            name: tensor for name, tensor in self._waiting.items() if name.split("/")[0] != type(regulariser).__name__
        }


def _number(facts: Mapping[str, Any]) -> float:
    loss = facts.get("loss")
    return float(loss) if isinstance(loss, (int, float)) else math.nan


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """A network in evaluation mode without gradients, put back afterwards."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)
