"""Sequence functions with known programs: exact loops on arrays, and recurrent networks with random weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def loop(step: Callable, *start: float) -> Callable[[np.ndarray], np.ndarray]:
    """step(state, *channels) -> (state, output or tuple of outputs), all on arrays [batch]."""

    def f(x: np.ndarray) -> np.ndarray:
        whole = np.rint(x).astype(np.int64)
        state, y = [np.full(len(x), value) for value in start], []
        for t in range(x.shape[1]):
            state, out = step(state, *(whole[:, t, i] for i in range(x.shape[2])))
            outs = out if isinstance(out, tuple) else (out,)
            y.append(np.stack([np.broadcast_to(o, len(x)) for o in outs], -1))
        return np.stack(y, 1).astype(np.float64)

    return f


def sequences(low: int, high: int, channels: int = 1, n: int = 500, length: int = 10) -> np.ndarray:
    return np.random.default_rng(0).integers(low, high + 1, (n, length, channels))


def adder(base: int) -> Callable[[np.ndarray], np.ndarray]:
    return loop(lambda s, a, b: ([(a + b + s[0]) // base], (a + b + s[0]) % base), 0)


def step_adder(x: np.ndarray) -> np.ndarray:
    """A recurrent network with threshold units that adds two binary numbers: three hidden units count to 1, 2, 3."""
    h, y = np.zeros((len(x), 3)), []
    for t in range(x.shape[1]):
        total = x[:, t].sum(1) + h[:, 1]
        h = (total[:, None] >= np.array([1, 2, 3]) - 0.5).astype(float)
        y.append(h @ np.array([1.0, -1.0, 1.0]))
    return np.stack(y, 1)[..., None]


def tanh_parity(x: np.ndarray) -> np.ndarray:
    """A recurrent network with saturated tanh units that keeps the parity of the bits so far."""
    h, y = np.zeros(len(x)), []
    for t in range(x.shape[1]):
        total = h + x[:, t, 0]
        h = 0.5 * (np.tanh(20 * (total - 0.5)) - np.tanh(20 * (total - 1.5)))
        y.append(h)
    return np.stack(y, 1)[..., None]


def random_network(seed: int, hidden: int, channels: int, scale: float = 2.0) -> Callable[[np.ndarray], np.ndarray]:
    """h = W relu(V [h, x] + b), y = u·h: the form of the benchmark's networks, with random weights."""
    rng = np.random.default_rng(seed)
    v = scale * rng.normal(size=(hidden + channels, 16)) / np.sqrt(hidden + channels)
    b, w, u = rng.normal(size=16), scale * rng.normal(size=(16, hidden)) / 4, rng.normal(size=hidden)

    def f(x: np.ndarray) -> np.ndarray:
        h, y = np.zeros((len(x), hidden)), []
        for t in range(x.shape[1]):
            h = np.maximum(np.concatenate([h, x[:, t]], 1) @ v + b, 0) @ w
            y.append(h @ u)
        return np.stack(y, 1)[..., None]

    return f
