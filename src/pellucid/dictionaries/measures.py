"""How faithful dictionaries are: by what they reconstruct, and by what the network predicts on them.

Downstream loss stands beside two ablations: the function's mean output, and zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from pellucid.data.corpus import Corpus
from pellucid.dictionaries.dictionary import Dictionary
from pellucid.dictionaries.install import check_fits
from pellucid.dictionaries.pairs import Pairs
from pellucid.dictionaries.running import Change, all_changed, constant, logits_with, losses
from pellucid.ir.program import Program

DRAWS = 1000
"""Resamples of windows behind an interval."""


@dataclass(frozen=True)
class Fidelity:
    """Shares from 0 to 1: of the outputs' variance that is not explained, of latents that no position activates; and
    the mean number of active latents."""

    unexplained: float
    dead: float
    active: float
    positions: int


@dataclass(frozen=True)
class Loss:
    """Cross-entropy in nats a token, with a 95% interval over windows."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Downstream:
    """Losses of the network itself, and with functions replaced: each alone by name, and all under "all"."""

    network: Loss
    dictionary: Mapping[str, Loss]
    mean: Mapping[str, Loss]
    zero: Mapping[str, Loss]

    def recovered(self, name: str, ablation: str = "zero") -> float:
        """How much of what an ablation costs the dictionary saves: 1 is the network, 0 the ablation."""
        worst = (self.zero if ablation == "zero" else self.mean)[name].mean
        lost = worst - self.network.mean
        return (worst - self.dictionary[name].mean) / lost if lost else 1.0


def fidelity(dictionary: Dictionary, pairs: Pairs, together: int = 4096) -> Fidelity:
    """Reconstruction over held-out pairs."""
    pairs = pairs.autoencoded() if dictionary.kind == "autoencoder" else pairs
    missed = torch.zeros(dictionary.writes, dtype=torch.float64)
    total, square = torch.zeros_like(missed), torch.zeros_like(missed)
    fired = torch.zeros(dictionary.latents, dtype=torch.int64)
    for start in range(0, len(pairs), together):
        x, y = pairs.rows(slice(start, start + together))
        latents = dictionary.encode(x)
        fired += (latents > 0).sum(0)
        missed += (y - dictionary.decode(latents)).double().square().sum(0)
        total += y.double().sum(0)
        square += y.double().square().sum(0)
    variance = float((square - total.square() / len(pairs)).sum())
    return Fidelity(
        float(missed.sum()) / variance if variance else float(missed.sum() > 0),
        float((fired == 0).float().mean()), float(fired.sum()) / len(pairs), len(pairs),
    )  # fmt: skip


def downstream(
    program: Program,
    dictionaries: Mapping[str, Dictionary],
    means: Mapping[str, Float[torch.Tensor, " out"]],
    corpus: Corpus,
    together: int = 4,
    progress: Callable[[str], None] | None = None,
) -> Downstream:
    """The network's loss on a held-out corpus with functions replaced by their dictionaries, their means, or zero.

    Args:
        means: of each function's outputs, from other text (`Pairs.outputs`).

    Raises:
        BadInput: a dictionary does not fit its function.
    """
    for name, dictionary in dictionaries.items():
        check_fits(program, name, dictionary)
    say = progress or (lambda text: None)
    kinds: dict[str, dict[str, Change]] = {
        "dictionary": all_changed(dictionaries),
        "mean": {name: constant(means[name]) for name in dictionaries},
        "zero": {name: constant(torch.zeros(d.writes)) for name, d in dictionaries.items()},
    }
    found: dict[str, dict[str, Loss]] = {}
    for kind, changes in kinds.items():
        runs = {**{name: {name: change} for name, change in changes.items()}, "all": changes}
        found[kind] = {}
        for name, run in runs.items():
            say(f"{kind}: {name}")
            found[kind][name] = loss_with(program, run, corpus, together)
    return Downstream(loss_with(program, {}, corpus, together), found["dictionary"], found["mean"], found["zero"])


def loss_with(program: Program, changes: Mapping[str, Change], corpus: Corpus, together: int = 4) -> Loss:
    """The loss on a corpus with functions changed."""
    with torch.no_grad():
        parts = [losses(logits_with(program, ids, changes), ids) for ids in corpus.batches(together)]
    return interval(torch.cat(parts).double().numpy())


def interval(windows: Float[np.ndarray, " windows"], seed: int = 0) -> Loss:
    """Mean of windows with a 95% bootstrap interval."""
    drawn = np.random.default_rng(seed).integers(0, len(windows), (DRAWS, len(windows)))
    low, high = np.quantile(windows[drawn].mean(1), [0.025, 0.975])
    return Loss(float(windows.mean()), float(low), float(high))
