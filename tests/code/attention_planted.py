"""Small transformers with planted rules: one-hot residual streams, hard attention, written down by hand."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

HARD = 60.0
"""Score of a selected key; the mark of the beginning gets half of it."""


@dataclass(frozen=True)
class Head:
    """A head by what it does: `match[q, k]` over stream directions tells scores, `move[from, to]` values."""

    match: torch.Tensor
    move: torch.Tensor


class Planted(nn.Module):
    """Tokens 1 … after the mark 0; the stream holds the mark, tokens, positions and `extra` free directions."""

    def __init__(self, tokens, positions, extra, layers, out, hidden=None, causal=False, seed=0):
        super().__init__()
        self.width = 1 + tokens + positions + extra
        self.causal = causal
        turn = torch.linalg.qr(torch.randn(self.width, self.width, generator=torch.Generator().manual_seed(seed)))[0]
        basis = torch.eye(self.width)
        self.tok = nn.Parameter(basis[: 1 + tokens] @ turn)
        places = torch.zeros(positions + 1, self.width)
        places[1:] = basis[1 + tokens : 1 + tokens + positions]
        self.pos = nn.Parameter(places @ turn)
        self.query = nn.ParameterList([nn.Parameter(turn.T @ head.match * HARD) for head in layers])
        self.key = nn.ParameterList([nn.Parameter(turn.T.clone()) for _ in layers])
        self.value = nn.ParameterList([nn.Parameter(turn.T @ head.move @ turn) for head in layers])
        self.read, self.write, self.bias = None, None, None
        if hidden is not None:
            self.read = nn.Parameter(turn.T @ hidden[0])
            self.bias = nn.Parameter(hidden[1])
            self.write = nn.Parameter(hidden[2] @ turn)
        self.out = nn.Parameter(turn.T @ out)

    def forward(self, ids):
        x = self.tok[ids] + self.pos[: ids.shape[1]]
        for query, key, value in zip(self.query, self.key, self.value, strict=True):
            q, k, v = ((x @ matrix).unsqueeze(1) for matrix in (query, key, value))
            x = x + F.scaled_dot_product_attention(q, k, v, is_causal=self.causal, scale=1.0).squeeze(1)
        if self.read is not None:
            x = x + torch.relu(x @ self.read + self.bias) @ self.write
        return x @ self.out


class Places:
    """Where things are in the stream."""

    def __init__(self, tokens, positions, extra):
        self.tokens, self.positions, self.extra = tokens, positions, extra
        self.width = 1 + tokens + positions + extra

    def token(self, t):
        """Of token t, from 1."""
        return t

    def position(self, i):
        """Of position i, from 0."""
        return 1 + self.tokens + i

    def free(self, j):
        """Of free direction j."""
        return 1 + self.tokens + self.positions + j

    def zeros(self, *shape):
        """An empty matrix, square over the stream unless told otherwise."""
        return torch.zeros(*(shape or (self.width, self.width)))

    def from_position(self, rule):
        """Selects position j for position i where `rule(i, j)`; the mark of the beginning half, the mark itself."""
        match = self.zeros()
        match[0, 0] = 1.0
        for i in range(self.positions):
            match[self.position(i), 0] = 0.5
            for j in range(self.positions):
                match[self.position(i), self.position(j)] = float(rule(i, j))
        return match

    def copy_tokens(self):
        """Moves token t to free direction t - 1."""
        move = self.zeros()
        for t in range(1, self.tokens + 1):
            move[self.token(t), self.free(t - 1)] = 1.0
        return move


def previous_token(causal=False):
    """Puts out the token before, nothing at the first position."""
    at = Places(4, 6, 4)
    head = Head(at.from_position(lambda i, j: j == i - 1), at.copy_tokens())
    out = at.zeros(at.width, 4)
    for t in range(4):
        out[at.free(t), t] = 1.0
    return Planted(4, 6, 4, [head], out, causal=causal)


def share_so_far():
    """Puts out the share of token 2 up to each position."""
    at = Places(3, 6, 1)
    move = at.zeros()
    move[at.token(2), at.free(0)] = 1.0
    out = at.zeros(at.width, 1)
    out[at.free(0), 0] = 1.0
    return Planted(3, 6, 1, [Head(at.from_position(lambda i, j: j <= i), move)], out)


def same_as_first():
    """Class 1 where the token is that of the first position, else class 0: a head, and a hidden unit for each token."""
    at = Places(3, 6, 4)
    head = Head(at.from_position(lambda i, j: j == 0), at.copy_tokens())
    read, write, out = at.zeros(at.width, 3), at.zeros(3, at.width), at.zeros(at.width, 2)
    for t in range(3):
        read[at.token(t + 1), t] = read[at.free(t), t] = 1.0
        write[t, at.free(3)] = 1.0
    out[at.free(3), 1] = 1.0
    out[at.free(3), 0] = -1.0
    out[[at.token(t + 1) for t in range(3)], 0] = 1.0
    return Planted(3, 6, 4, [head], out, hidden=(read, torch.full((3,), -1.0), write))


def sequences(tokens, longest, each, seed=0):
    """Random sequences of every length, with the mark of the beginning."""
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randint(1, tokens + 1, (each, n), generator=generator) for n in range(1, longest + 1)]
    return [torch.cat([torch.zeros(each, 1, dtype=torch.long), part], dim=1) for part in made]
