"""All dictionaries of a network tuned together, end to end: what each misses is what the others have to live with.

The network runs with every function replaced at the same time, and its predictions are drawn to those of the network
itself (Kullback-Leibler divergence at every position but the first; Braun et al. 2024 train sparse autoencoders so).
The network's weights stay as they are, TopK keeps its k, JumpReLU its thresholds. Deterministic by seed; resumable as
`train_dictionary`.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from pellucid.data.corpus import Corpus
from pellucid.dictionaries.checkpoint import load_state, save_state
from pellucid.dictionaries.dictionary import Dictionary
from pellucid.dictionaries.install import check_fits
from pellucid.dictionaries.running import all_changed, logits_with
from pellucid.dictionaries.training import Diverged, keep_norms
from pellucid.errors import BadInput
from pellucid.ir.program import Program

TUNED = ("encoder", "encoder_bias", "decoder", "decoder_bias")


@dataclass(frozen=True)
class Tuning:
    """How dictionaries are tuned: `batch` windows a step; `rate` of Adam relative to each tensor's typical entry."""

    epochs: int = 1
    batch: int = 4
    rate: float = 0.01
    warmup: int = 10
    seed: int = 0


@dataclass(frozen=True)
class TuningStep:
    """Where tuning is: `divergence` in nats a token, of the step's batch."""

    step: int
    steps: int
    divergence: float


def tune_together(
    program: Program,
    dictionaries: Mapping[str, Dictionary],
    corpus: Corpus,
    tuning: Tuning | None = None,
    checkpoint: Path | None = None,
    progress: Callable[[TuningStep], None] | None = None,
    every: int = 25,
) -> dict[str, Dictionary]:
    """The dictionaries, by the names of their functions, tuned on a corpus that nothing is measured on.

    Raises:
        BadInput: a dictionary does not fit its function, there are no dictionaries, or the checkpoint is of others.
        Diverged: the loss is no number; the state kept last is still good.
    """
    if not dictionaries:
        raise BadInput("tuning: no dictionaries; give one for a function at least")
    for name, dictionary in dictionaries.items():
        check_fits(program, name, dictionary)
    run = _Run(program, dictionaries, corpus, tuning or Tuning())
    told = repr((dataclasses.astuple(run.tuning), corpus.fingerprint, program.fingerprint, run.digest()))
    kept = load_state(checkpoint, told) if checkpoint is not None else None
    if kept is not None:
        run.restore(kept)
    while run.step < run.steps:
        divergence = run.advance()
        if not divergence < float("inf"):
            raise Diverged(f"tuning diverged at step {run.step}; lower the rate")
        if progress is not None:
            progress(TuningStep(run.step, run.steps, divergence))
        if checkpoint is not None and (run.step % every == 0 or run.step == run.steps):
            save_state(checkpoint, told, run.state())
    return run.dictionaries(detached=True)


class _Run:
    """The state of one tuning."""

    def __init__(self, program: Program, found: Mapping[str, Dictionary], corpus: Corpus, tuning: Tuning) -> None:
        self.program, self.found, self.corpus, self.tuning = program, found, corpus, tuning
        self.parameters = {
            f"{name}/{part}": getattr(dictionary, part).detach().clone().requires_grad_()
            for name, dictionary in found.items()
            for part in TUNED
        }
        self.typical = {key: max(1e-4, float(tensor.detach().square().mean().sqrt()))
                        for key, tensor in self.parameters.items()}  # fmt: skip
        self.optimiser = torch.optim.Adam([{"params": [tensor]} for tensor in self.parameters.values()],
                                          betas=(0.9, 0.99))  # fmt: skip
        self.per_epoch = max(1, len(corpus) // tuning.batch)
        self.steps = self.per_epoch * tuning.epochs
        self.step = 0

    def digest(self) -> str:
        """SHA-256 over what tuning starts from."""
        found = hashlib.sha256()
        for name, tensor in self.parameters.items():
            found.update(name.encode() + tensor.detach().contiguous().numpy().tobytes())
        return found.hexdigest()

    def advance(self) -> float:
        """One step; returns the divergence before it."""
        ids = self._batch()
        with torch.no_grad():
            wanted = logits_with(self.program, ids, {})[:, 1:].log_softmax(-1)
        found = logits_with(self.program, ids, all_changed(self.dictionaries()))[:, 1:].log_softmax(-1)
        loss = F.kl_div(found, wanted, log_target=True, reduction="sum") / wanted[..., 0].numel()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        value = float(loss.detach())
        if not value < float("inf"):
            return value
        share = min((self.step + 1) / self.tuning.warmup, (self.steps - self.step) / self.steps * 1.5, 1.0)
        for group, typical in zip(self.optimiser.param_groups, self.typical.values(), strict=True):
            group["lr"] = self.tuning.rate * share * typical
        norms = {key: self.parameters[key] for key in self.parameters if key.endswith("/decoder")}
        for decoder in norms.values():
            keep_norms(decoder, before=True)
        self.optimiser.step()
        for decoder in norms.values():
            keep_norms(decoder, before=False)
        self.step += 1
        return value

    def _batch(self) -> torch.Tensor:
        epoch, place = divmod(self.step, self.per_epoch)
        order = np.random.default_rng((self.tuning.seed, epoch)).permutation(len(self.corpus))
        chosen = np.sort(order[place * self.tuning.batch : (place + 1) * self.tuning.batch])
        return torch.from_numpy(self.corpus.ids[chosen].astype(np.int64))

    def dictionaries(self, detached: bool = False) -> dict[str, Dictionary]:
        """The dictionaries as they stand."""
        return {
            name: dataclasses.replace(
                dictionary,
                **{part: self.parameters[f"{name}/{part}"].detach().clone() if detached
                   else self.parameters[f"{name}/{part}"] for part in TUNED},
            )
            for name, dictionary in self.found.items()
        }  # fmt: skip

    def state(self) -> dict[str, torch.Tensor]:
        """All tensors that the next step depends on."""
        kept = {name: tensor.detach() for name, tensor in self.parameters.items()}
        for name, tensor in self.parameters.items():
            kept |= {f"{name}.{moment}": value for moment, value in self.optimiser.state[tensor].items()}
        return {**kept, ":step": torch.tensor(self.step)}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from what `state` gave."""
        with torch.no_grad():
            for name, tensor in self.parameters.items():
                tensor.copy_(state[name])
                self.optimiser.state[tensor] = {
                    moment: state[f"{name}.{moment}"] for moment in ("step", "exp_avg", "exp_avg_sq")
                }
        self.step = int(state[":step"])
