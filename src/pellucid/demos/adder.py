"""A recurrent network that adds two binary numbers bit by bit, least significant bit first.

Its weights come with the package; `train` made them (`python -m pellucid.demos.adder`, about a minute): Adam on random
additions, a penalty that lets the hidden state saturate, checked on every pair of bits in sequences of length 6.
"""

from __future__ import annotations

import itertools
from importlib import resources

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import nn

WEIGHTS = "adder.safetensors"
HIDDEN = 6


class Adder(nn.Module):
    """Pairs of bits [batch, time, 2] to the bits of their sum [batch, time, 1], as numbers near 0 and 1."""

    def __init__(self, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.recurrent = nn.RNN(2, hidden, batch_first=True)
        self.readout = nn.Linear(hidden, 1)

    def forward(self, bits: Float[torch.Tensor, "batch time 2"]) -> Float[torch.Tensor, "batch time 1"]:
        """Add; the carry lives in the hidden state."""
        hidden, _ = self.recurrent(bits)
        return torch.sigmoid(self.readout(hidden))


def adder() -> Adder:
    """The trained network that comes with the package."""
    network = Adder()
    with resources.as_file(resources.files(__package__) / WEIGHTS) as path:
        network.load_state_dict(load_file(path))
    return network.eval()


def sums(bits: Float[torch.Tensor, "batch time 2"]) -> Float[torch.Tensor, "batch time 1"]:
    """The right answer."""
    out, carry = [], torch.zeros(bits.shape[0])
    for t in range(bits.shape[1]):
        total = bits[:, t].sum(-1) + carry
        out.append(total % 2)
        carry = (total >= 2).float()
    return torch.stack(out, 1)[..., None]


def train(seed: int = 0, steps: int = 3000, hidden: int = HIDDEN) -> Adder:
    """Train until every sequence of length 6 is added with a margin of 0.05."""
    torch.manual_seed(seed)
    network = Adder(hidden)
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    for step in range(steps):
        bits = torch.randint(0, 2, (256, 4 + step % 13, 2)).float()
        loss = nn.functional.binary_cross_entropy(network(bits), sums(bits))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    pairs = list(itertools.product((0.0, 1.0), repeat=2))
    every = torch.tensor(list(itertools.product(pairs, repeat=6)))
    worst = (network.eval()(every) - sums(every)).abs().max().item()
    if worst > 0.05:
        raise RuntimeError(f"training with seed {seed} ended {worst:.3f} away from the sums; use another seed")
    return network


if __name__ == "__main__":
    trained = train()
    save_file({name: tensor.contiguous() for name, tensor in trained.state_dict().items()}, WEIGHTS)
    random_bits = torch.randint(0, 2, (1000, 400, 2)).float()
    with torch.no_grad():
        print("length 400, largest distance:", (trained(random_bits) - sums(random_bits)).abs().max().item())
