"""Networks that add modulo a prime by waves of known frequencies, in a stream of hidden directions."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

PERIOD, WIDTH, UNITS = 13, 24, 16
KEYS = (2, 5)


def turned(seed: int = 0) -> np.ndarray:
    """Orthogonal directions [width, width]."""
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(WIDTH, WIDTH)))[0]


def angles(numbers, frequencies=KEYS) -> np.ndarray:
    """cos and sin of each frequency side by side [numbers, 2 · frequencies]."""
    turns = 2 * np.pi * np.outer(np.arange(numbers), frequencies) / PERIOD
    return np.stack([np.cos(turns), np.sin(turns)], -1).reshape(numbers, -1)


def pairs(period: int = PERIOD) -> torch.Tensor:
    """All pairs of tokens."""
    first, second = np.divmod(np.arange(period**2), period)
    return torch.tensor(np.stack([first, second], 1))


class Adder(nn.Module):
    """Embedding, attention, MLP and read-out around a stream; `power` 1 is a pizza, 2 a clock; `sharp` > 0 chooses."""

    def __init__(self, power: int = 1, sharp: float = 0.0, relabel: bool = False):
        super().__init__()
        basis, size = turned(), 2 * len(KEYS)
        put, mid, out = basis[:size], basis[size : 2 * size], basis[2 * size : 3 * size]
        tokens = angles(PERIOD) @ put
        if relabel:
            tokens = tokens[np.random.default_rng(1).permutation(PERIOD)]
        self.embed = self._weight(tokens)
        self.place = self._weight(0.1 * basis[-2:])
        self.query = self._weight(sharp * basis[-1:].repeat(8, 0))
        self.key = self._weight(put[:1].repeat(8, 0))
        self.move = self._weight(mid.T @ put)
        self.power = power
        fan = 2 * np.pi * np.arange(UNITS) / UNITS
        into, doubled = np.stack([np.cos(fan), np.sin(fan)]), np.stack([np.cos(2 * fan), np.sin(2 * fan)])
        blocks = [(mid[2 * i : 2 * i + 2].T @ into, doubled.T @ out[2 * i : 2 * i + 2]) for i in range(len(KEYS))]
        self.up = self._weight(np.concatenate([block[0] for block in blocks], 1).T)
        self.down = self._weight(np.concatenate([block[1] for block in blocks], 0).T)
        self.unembed = self._weight(out.T @ angles(PERIOD).T)

    @staticmethod
    def _weight(values: np.ndarray) -> nn.Parameter:
        return nn.Parameter(torch.tensor(np.ascontiguousarray(values)).float())

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed[tokens] + self.place
        scores = nn.functional.linear(x, self.query) @ nn.functional.linear(x, self.key).transpose(-1, -2)
        chosen = torch.softmax(scores, -1).unsqueeze(1)
        x = x + 20 * (chosen @ nn.functional.linear(x, self.move).unsqueeze(1)).squeeze(1)
        hidden = nn.functional.linear(x, self.up)
        hidden = torch.relu(hidden) if self.power == 1 else hidden * hidden
        x = x + nn.functional.linear(hidden, self.down)
        return x[:, -1] @ self.unembed
