"""What keeps tuned numbers descriptions of their parts, while they are tuned for the network as a whole.

What an MLP's words write is a function of the text alone; the share of the variance of what the MLP writes in the
network that it leaves unexplained says how well the words still describe that MLP. The tables of head rules start at
their best fit and are log-odds; their distance from it is the mean square, in nats².
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float

Numbers = Mapping[str, Float[torch.Tensor, "..."]]
Outputs = Mapping[str, Float[torch.Tensor, "windows context width"]]


def unexplained(said: Outputs, real: Outputs) -> Float[torch.Tensor, ""]:
    """The mean over parts of the share of the variance that is unexplained; the first position is left out."""
    shares = []
    for name, found in said.items():
        wanted = real[name][:, 1:]
        variance = (wanted - wanted.mean((0, 1))).square().mean().clamp_min(1e-12)
        shares.append((found[:, 1:] - wanted).square().mean() / variance)
    return torch.stack(shares).mean() if shares else torch.zeros(())


def distance(numbers: Numbers, start: Numbers) -> Float[torch.Tensor, ""]:
    """The mean square of the change of the numbers that are in `start`, each tensor counted alike."""
    moved = [(numbers[name] - begun).square().mean() for name, begun in start.items()]
    return torch.stack(moved).mean() if moved else torch.zeros(())
