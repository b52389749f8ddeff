"""Small recurrent nets side by side: h₀ = 0, hₜ = MLP([hₜ₋₁, xₜ]), yₜ = MLP(hₜ), ReLU inside.

Nets of one depth and of several hidden sizes and widths are stacked, so that one product of matrices computes a layer
of all. The smaller ones are padded by zeros, which stay zero: units without weights on both sides have no gradient.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from mips_tasks import Task, Whole
from torch import nn

Stack = list[torch.Tensor]
"""Weights [members, in, out] and biases [members, 1, out], layer by layer, those of the hidden MLP first."""


class Net(nn.Module):
    """Integers [batch, time, channels] as floats to outputs [batch, time, outputs]; round them."""

    def __init__(self, hidden: nn.Sequential, output: nn.Sequential) -> None:
        super().__init__()
        self.hidden, self.output = hidden, output

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The loop over the steps, h₀ = 0."""
        h = x.new_zeros(x.shape[0], self.hidden[-1].out_features)
        outputs = []
        for t in range(x.shape[1]):
            h = self.hidden(torch.cat([h, x[:, t]], dim=-1))
            outputs.append(self.output(h))
        return torch.stack(outputs, dim=1)


def layers(sizes: Sequence[int]) -> nn.Sequential:
    """An MLP with ReLU inside."""
    made: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        made += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*made[:-1])


def build(channels: int, outputs: int, hidden: int, width: int, depths: tuple[int, int]) -> Net:
    """A net of a shape, with torch's random weights."""
    deep, out = depths
    return Net(
        layers([hidden + channels, *[width] * (deep - 1), hidden]), layers([hidden, *[width] * (out - 1), outputs])
    )


@dataclass(frozen=True)
class Size:
    """Hidden size, width of the layers inside, depths of the two MLPs."""

    hidden: int
    width: int
    depths: tuple[int, int]


def parameters(size: Size, channels: int, outputs: int) -> int:
    """Number of weights and biases of a shape."""
    return sum((inner[0] + 1) * outer for inner, outer, _, _ in _plan(channels, outputs, size, size))


def initial(task: Task, outputs: int, sizes: Sequence[Size], generator: torch.Generator) -> Stack:
    """Random nets in one stack, the smaller ones padded by zeros."""
    large = Size(max(s.hidden for s in sizes), max(s.width for s in sizes), sizes[0].depths)
    channels, stack = len(task.channels), []
    for size in sizes:
        parts = []
        for inner, outer, rows, columns in _plan(channels, outputs, size, large):
            bound = inner[0] ** -0.5
            weight, bias = torch.zeros(rows, columns), torch.zeros(1, columns)
            made = (torch.rand(inner[0], outer, generator=generator) * 2 - 1) * bound
            own = inner[0] - channels if inner[1] else inner[0]
            weight[:own, :outer] = made[:own]
            if inner[1]:
                weight[rows - channels :, :outer] = made[own:]
            bias[:, :outer] = (torch.rand(1, outer, generator=generator) * 2 - 1) * bound
            parts += [weight, bias]
        stack.append(parts)
    return [torch.stack(same) for same in zip(*stack, strict=True)]


def _plan(channels: int, outputs: int, size: Size, large: Size) -> list[tuple[tuple[int, bool], int, int, int]]:
    """Of each layer: ((inputs, whether the last are the net's), outputs, rows, columns of the stack)."""
    deep, out = size.depths

    def chain(of: Size) -> list[tuple[int, int]]:
        first = [of.hidden + channels, *[of.width] * (deep - 1), of.hidden]
        second = [of.hidden, *[of.width] * (out - 1), outputs]
        return [*itertools.pairwise(first), *itertools.pairwise(second)]

    own, most = chain(size), chain(large)
    return [((a, i == 0), b, rows, columns) for i, ((a, b), (rows, columns)) in enumerate(zip(own, most, strict=True))]


def forward_all(stack: Stack, deep: int, x: Float[torch.Tensor, "time batch channels"]) -> torch.Tensor:
    """Outputs [members, time, batch, outputs]."""
    members, (time, batch, channels) = len(stack[0]), x.shape
    weight, bias = stack[0], stack[1]
    flat = x.reshape(1, time * batch, channels).expand(members, -1, -1)
    driven = torch.baddbmm(bias, flat, weight[:, -channels:]).view(members, time, batch, -1).unbind(1)
    own = weight[:, :-channels]
    h, states = None, []
    for t in range(time):
        h = driven[t] if h is None else torch.baddbmm(driven[t], h, own)
        for i in range(1, deep):
            h = torch.baddbmm(stack[2 * i + 1], torch.relu(h), stack[2 * i])
        states.append(h)
    y = torch.stack(states, 1).view(members, time * batch, -1)
    for i in range(deep, len(stack) // 2):
        y = torch.baddbmm(stack[2 * i + 1], torch.relu(y) if i > deep else y, stack[2 * i])
    return y.view(members, time, batch, -1)


def net_of(task: Task, outputs: int, size: Size, stack: Stack) -> Net:
    """One member as a module of its own shape."""
    channels = len(task.channels)
    net = build(channels, outputs, size.hidden, size.width, size.depths)
    linear = [part for part in net.modules() if isinstance(part, nn.Linear)]
    with torch.no_grad():
        for i, part in enumerate(linear):
            weight, bias = stack[2 * i][0], stack[2 * i + 1][0, 0]
            rows = list(range(part.in_features))
            if i == 0:
                rows = [*range(size.hidden), *range(len(weight) - channels, len(weight))]
            part.weight.copy_(weight[rows, : part.out_features].T)
            part.bias.copy_(bias[: part.out_features])
    return net.eval()


def columns(x: Whole) -> torch.Tensor:
    """Time first, as floats."""
    return torch.from_numpy(np.ascontiguousarray(x.transpose(1, 0, 2))).float()


class Adam:
    """Adam with a learning rate and a bound on the gradient for each member."""

    def __init__(self, stack: Stack, rates: torch.Tensor) -> None:
        self.stack, self.rates, self.count = stack, rates.view(-1, 1, 1), 0
        self.first, self.second = ([torch.zeros_like(w) for w in stack] for _ in range(2))

    def step(self, gradients: Sequence[torch.Tensor], factor: float) -> None:
        self.count += 1
        norm = torch.stack([(g * g).sum((1, 2)) for g in gradients]).sum(0).sqrt().view(-1, 1, 1)
        scale = (1.0 / norm.clamp(min=1.0)).nan_to_num(0.0, 0.0, 0.0)
        rate = self.rates * factor * (1 - 0.99**self.count) ** 0.5 / (1 - 0.9**self.count)
        with torch.no_grad():
            for w, g, m, v in zip(self.stack, gradients, self.first, self.second, strict=True):
                clipped = (g * scale).nan_to_num(0.0, 0.0, 0.0)
                m.mul_(0.9).add_(clipped, alpha=0.1)
                v.mul_(0.99).addcmul_(clipped, clipped, value=0.01)
                w.sub_(rate * m / (v.sqrt() + 1e-8))

    def keep(self, members: torch.Tensor) -> None:
        self.stack = [w.detach()[members].clone().requires_grad_() for w in self.stack]
        self.first, self.second = [m[members] for m in self.first], [v[members] for v in self.second]
        self.rates = self.rates[members]
