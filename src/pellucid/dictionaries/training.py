"""Training a dictionary on pairs of inputs and outputs of a function.

Both sides are centred (geometric median of a sample) and scaled to mean square 1. A transcoder's latents begin as pairs
of the data: each reads the direction of one input and writes the direction of its output, as an autoencoder's begin
with encoder and decoder alike. Adam with warm-up and linear decay; decoder rows are kept at norm 1, and the part of
their gradient along themselves is dropped. Everything follows from the seed; a run that was stopped goes on from its
last state and ends with the same dictionary. In the end centres and scales are folded into the weights.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float

from pellucid.dictionaries.checkpoint import load_state, save_state
from pellucid.dictionaries.dictionary import Dictionary, JumpReLU, Kind, TopK
from pellucid.dictionaries.objectives import jump_loss, topk_loss
from pellucid.dictionaries.pairs import Pairs
from pellucid.errors import BadInput, PellucidError

SAMPLE = 8192
"""So many positions set centres and scales."""

WORSE = 20.0
"""A loss so many times the variance of the outputs is no longer training."""


class Diverged(PellucidError):
    """Training went astray; its last good state was kept where there is a checkpoint."""


@dataclass(frozen=True)
class Recipe:
    """How a dictionary is trained.

    Attributes:
        active: k of TopK; for JumpReLU the mean number of active latents to reach.
        batch: positions a step.
        rate: largest learning rate, after `warmup` (share of the steps); it falls linearly to zero over the last
            `decay`.
        silent_after: a latent that no position of so many activated is helped by the auxiliary loss.
        sparsity, bandwidth: weight of JumpReLU's penalty, and width of its kernel (outputs scaled to mean square 1).
    """

    kind: Kind = "transcoder"
    activation: Literal["topk", "jumprelu"] = "topk"
    latents: int = 1536
    active: int = 24
    epochs: int = 12
    batch: int = 1024
    rate: float = 2e-3
    warmup: float = 0.03
    decay: float = 0.5
    silent_after: int = 50_000
    sparsity: float = 0.3
    bandwidth: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.active <= self.latents:
            raise BadInput(f"recipe: {self.active} active of {self.latents} latents; use 1 to {self.latents}")
        if min(self.epochs, self.batch) < 1 or not self.rate > 0:
            raise BadInput("recipe: epochs, batch and rate have to be above zero")


@dataclass(frozen=True)
class Step:
    """Where training is: `loss` is the share of the outputs' variance that is unexplained in this batch, and aids."""

    step: int
    steps: int
    loss: float
    silent: int


Progress: TypeAlias = Callable[[Step], None]


@dataclass(frozen=True)
class Frame:
    """Centres and scales of both sides."""

    x_centre: Float[torch.Tensor, " in"]
    x_scale: float
    y_centre: Float[torch.Tensor, " out"]
    y_scale: float


def train_dictionary(
    pairs: Pairs,
    recipe: Recipe | None = None,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    every: int = 500,
) -> Dictionary:
    """A dictionary of a function from its inputs and outputs (for an autoencoder the outputs alone are read).

    Args:
        pairs: see `capture_pairs`.
        checkpoint: a file that holds the state; where it exists, the run goes on from it.
        progress: called after each step.
        every: steps between two states kept.

    Raises:
        BadInput: the checkpoint is of another recipe or of other pairs.
        Diverged: the loss left all bounds; the state kept last is still good.
    """
    recipe = recipe or Recipe()
    pairs = pairs.autoencoded() if recipe.kind == "autoencoder" else pairs
    run = _Run(pairs, recipe)
    told = repr((dataclasses.astuple(recipe), pairs.fingerprint))
    kept = load_state(checkpoint, told) if checkpoint is not None else None
    if kept is not None:
        run.restore(kept)
    while run.step < run.steps:
        loss = run.advance()
        if not loss < WORSE:
            where = f"; the state before is in {checkpoint}" if checkpoint is not None and checkpoint.is_file() else ""
            raise Diverged(f"training diverged at step {run.step} (loss {loss:g}); lower the rate{where}")
        if progress is not None:
            progress(Step(run.step, run.steps, loss, int(run.silent().sum())))
        if checkpoint is not None and (run.step % every == 0 or run.step == run.steps):
            save_state(checkpoint, told, run.state())
    return run.dictionary()


class _Run:
    """The state of one training: parameters, their moments, and when each latent was last active."""

    def __init__(self, pairs: Pairs, recipe: Recipe) -> None:
        self.pairs, self.recipe = pairs, recipe
        self.frame = frame_of(pairs, recipe.seed)
        self.parameters = {k: v.requires_grad_() for k, v in initial(pairs, self.frame, recipe).items()}
        self.optimiser = torch.optim.Adam([*self.parameters.values()], lr=recipe.rate, betas=(0.9, 0.99), fused=True)
        self.per_epoch = max(1, len(pairs) // recipe.batch)
        self.steps = self.per_epoch * recipe.epochs
        self.step = 0
        self.last = torch.zeros(recipe.latents, dtype=torch.int64)
        self.order = np.zeros(0, np.int64)

    def silent(self) -> torch.Tensor:
        """Which latents nothing has activated for long."""
        return (self.step - self.last) * self.recipe.batch > self.recipe.silent_after

    def advance(self) -> float:
        """One step; returns the loss before it."""
        x, y = self._batch()
        loss, fired = self._loss(x, y)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        value = float(loss.detach())
        if not value < WORSE:
            return value
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.rate * rate_share(self.step, self.steps, self.recipe)
        keep_norms(self.parameters["decoder"], before=True)
        self.optimiser.step()
        keep_norms(self.parameters["decoder"], before=False)
        self.step += 1
        self.last[fired > 0] = self.step
        return value

    def _loss(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        recipe = self.recipe
        if recipe.activation == "topk":
            return topk_loss(self.parameters, x, y, recipe.active, self.silent())
        grown = min(1.0, 4 * (self.step + 1) / self.steps)
        return jump_loss(self.parameters, x, y, recipe.active, recipe.sparsity * grown, recipe.bandwidth)

    def _batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        epoch, place = divmod(self.step, self.per_epoch)
        if place == 0 or len(self.order) == 0:
            self.order = np.random.default_rng((self.recipe.seed, epoch)).permutation(len(self.pairs))
        x, y = self.pairs.rows(np.sort(self.order[place * self.recipe.batch : (place + 1) * self.recipe.batch]))
        return scaled(self.frame, x, y)

    def state(self) -> dict[str, torch.Tensor]:
        """All tensors that the next step depends on."""
        found = {name: tensor.detach() for name, tensor in self.parameters.items()}
        for name, tensor in self.parameters.items():
            moments = self.optimiser.state[tensor]
            found |= {f"{name}.{moment}": value for moment, value in moments.items()}
        return {**found, "last": self.last, "step": torch.tensor(self.step)}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from what `state` gave."""
        with torch.no_grad():
            for name, tensor in self.parameters.items():
                tensor.copy_(state[name])
                self.optimiser.state[tensor] = {
                    moment: state[f"{name}.{moment}"] for moment in ("step", "exp_avg", "exp_avg_sq")
                }
        self.last, self.step = state["last"], int(state["step"])

    def dictionary(self) -> Dictionary:
        """The parameters as a dictionary of values as they are."""
        return folded({name: tensor.detach() for name, tensor in self.parameters.items()}, self.frame, self.recipe)


def rate_share(step: int, steps: int, recipe: Recipe) -> float:
    """The share of the learning rate that a step takes."""
    warm = (step + 1) / max(1.0, recipe.warmup * steps)
    left = (steps - step) / max(1.0, recipe.decay * steps)
    return min(1.0, warm, left)


@torch.no_grad()
def keep_norms(decoder: torch.Tensor, before: bool) -> None:
    """Before a step: drop what the gradient has along each row. After it: bring rows back to norm 1."""
    if before and decoder.grad is not None:
        decoder.grad -= (decoder.grad * decoder).sum(1, keepdim=True) * decoder
    elif not before:
        decoder /= decoder.norm(dim=1, keepdim=True).clamp(min=1e-8)


def frame_of(pairs: Pairs, seed: int) -> Frame:
    """Centres and scales from a sample of positions."""
    chosen = np.random.default_rng((seed, 1)).permutation(len(pairs))[:SAMPLE]
    found: list[tuple[torch.Tensor, float]] = []
    for side in pairs.rows(np.sort(chosen)):
        centre = geometric_median(side)
        found.append((centre, max(1e-6, math.sqrt(float((side - centre).square().sum(1).mean())))))
    return Frame(*found[0], *found[1])


def geometric_median(points: Float[torch.Tensor, "points width"], rounds: int = 20) -> Float[torch.Tensor, " width"]:
    """The point of least summed distance, by Weiszfeld's iteration from the mean."""
    found = points.mean(0)
    for _ in range(rounds):
        weights = 1 / (points - found).norm(dim=1).clamp(min=1e-6)
        found = (weights[:, None] * points).sum(0) / weights.sum()
    return found


def scaled(frame: Frame, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both sides, centred and scaled."""
    return (x - frame.x_centre) / frame.x_scale, (y - frame.y_centre) / frame.y_scale


def initial(pairs: Pairs, frame: Frame, recipe: Recipe) -> dict[str, torch.Tensor]:
    """Parameters to begin with: latents from pairs of the data, at random where there are too few."""
    rng = np.random.default_rng((recipe.seed, 2))
    chosen = rng.choice(len(pairs), recipe.latents, replace=len(pairs) < recipe.latents)
    x, y = scaled(frame, *pairs.rows(chosen))
    noise = torch.from_numpy(rng.normal(size=tuple(y.shape)).astype(np.float32)) / math.sqrt(y.shape[1])
    decoder = y + 0.1 * noise
    decoder = decoder / decoder.norm(dim=1, keepdim=True).clamp(min=1e-8)
    encoder = x / x.norm(dim=1, keepdim=True).clamp(min=1e-3)
    if recipe.kind == "autoencoder":
        encoder = decoder.clone()
    made = {
        "encoder": encoder * (0.5 if recipe.kind == "transcoder" else 1.0),
        "encoder_bias": torch.zeros(recipe.latents),
        "decoder": decoder,
        "decoder_bias": torch.zeros(y.shape[1]),
    }
    if recipe.activation == "jumprelu":
        made["log_thresholds"] = torch.full((recipe.latents,), math.log(recipe.bandwidth))
    return made


def folded(parameters: dict[str, torch.Tensor], frame: Frame, recipe: Recipe) -> Dictionary:
    """A dictionary of values as they are from parameters over centred, scaled ones."""
    encoder = parameters["encoder"] * (frame.y_scale / frame.x_scale)
    bias = parameters["encoder_bias"] * frame.y_scale - encoder @ frame.x_centre
    if recipe.activation == "topk":
        activation: TopK | JumpReLU = TopK(recipe.active)
    else:
        activation = JumpReLU(parameters["log_thresholds"].exp() * frame.y_scale)
    return Dictionary(
        recipe.kind, activation, encoder, bias, parameters["decoder"].clone(),
        parameters["decoder_bias"] * frame.y_scale + frame.y_centre,
    )  # fmt: skip
