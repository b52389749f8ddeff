"""What acts on the weights beside the task: one protocol, and the losses that modular training is compared with.

- `Sparsity`: L1, as a proximal step.
- `NormalisedCut`: the sum of the smallest eigenvalues of the normalised Laplacian (Filan et al. 2021, "Clusterability
  in neural networks"), by first-order perturbation: with L u = λ D u and uᵀDu = 1, dλ/dA_ij = (u_i − u_j)² −
  λ (u_i² + u_j²).
- `BrainInspired`: L1 weighted by the distance between units on a line, units swapping places where that shortens their
  wires (BIMT; Liu, Gan & Tegmark 2023, "Seeing is believing"). Inputs and outputs swap too and all start in random
  order, so that places tell nothing.
- `TopShare`: after each step all but the largest weights of a matrix are zero (Gao et al. 2025, "Weight-sparse
  transformers have interpretable circuits"), from all to the wanted share over the first steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from scipy import sparse
from scipy.sparse.linalg import eigsh
from torch import nn

from pellucid.ir.graph import Graph
from pellucid.modules.unitgraph import UnitGraph
from pellucid.train.division import live_units
from pellucid.train.layers import Layer
from pellucid.train.weights import shrink

_DENSE = 600

Tensors = dict[str, Shaped[torch.Tensor, "..."]]


@runtime_checkable
class Regulariser(Protocol):
    """What a training loop calls: `add` before the optimiser's step, `shrink` after it with its learning rate."""

    def add(self) -> object:
        """Add to the gradients."""

    def shrink(self, rate: float) -> None:
        """Change the weights themselves."""

    def state_dict(self) -> Tensors:
        """What a resumed run needs."""

    def load_state_dict(self, state: Tensors) -> None:
        """Take up where another run stopped."""


class Sparsity:
    """L1: every weight loses `rate · strength` a step."""

    def __init__(self, weights: Sequence[nn.Parameter], strength: float) -> None:
        self.weights, self.strength = weights, strength

    def add(self) -> None:
        """Nothing: the step is proximal."""

    def shrink(self, rate: float) -> None:
        """The proximal step."""
        shrink(self.weights, rate * self.strength)

    def state_dict(self) -> Tensors:
        """Empty."""
        return {}

    def load_state_dict(self, state: Tensors) -> None:
        """Nothing to take up."""


class TopShare:
    """Only the largest weights of each matrix stay; their share falls evenly from 1 to `share` over `steps` steps."""

    def __init__(self, weights: Sequence[nn.Parameter], share: float, steps: int) -> None:
        self.weights, self.share, self.steps, self.step = weights, share, steps, 0

    def add(self) -> None:
        """Nothing: weights are set to zero after the step."""

    @torch.no_grad()
    def shrink(self, rate: float) -> None:
        """Set the smallest weights to zero."""
        self.step += 1
        now = 1 - (1 - self.share) * min(1.0, self.step / self.steps)
        for weight in self.weights:
            kept = max(1, round(now * weight.numel()))
            if kept < weight.numel():
                sizes = weight.abs()
                least = torch.topk(sizes.flatten(), kept).values[-1]
                weight.masked_fill_(sizes < least, 0.0)

    def state_dict(self) -> Tensors:
        """How far the share has fallen."""
        return {"step": torch.tensor(self.step)}

    def load_state_dict(self, state: Tensors) -> None:
        """Take up where another run stopped."""
        self.step = int(state["step"])


class NormalisedCut:
    """`strength` times the sum of the 2nd to `parts`-th smallest eigenvalue, eigenvectors renewed every few steps."""

    def __init__(
        self, model: nn.Module, graph: Graph, layers: Sequence[Layer], strength: float, parts: int = 2, every: int = 25
    ) -> None:
        self.model, self.graph, self.layers, self.strength = model, graph, layers, strength
        self.parts, self.every, self.step = parts, every, 0
        self.vectors, self.values = torch.zeros(0, 0), torch.zeros(0)

    @torch.no_grad()
    def add(self) -> None:
        """Add the gradient, at the eigenvectors last found."""
        if self.step % self.every == 0:
            self.vectors, self.values = _smallest(live_units(self.graph, self.model), self.parts)
        self.step += 1
        for layer in self.layers:
            if layer.weight.grad is None:
                continue
            slope = torch.zeros(len(layer.rows), len(layer.columns))
            for vector, value in zip(self.vectors.T, self.values, strict=True):
                rows, columns = vector[layer.rows][:, None], vector[layer.columns][None, :]
                slope += (rows - columns).square() - value * (rows.square() + columns.square())
            slope = slope.reshape(*slope.shape, *(1 for _ in layer.weight.shape[2:])).to(layer.weight.device)
            layer.weight.grad.add_(torch.sign(layer.weight).mul_(slope), alpha=self.strength)

    def shrink(self, rate: float) -> None:
        """Nothing: the gradient does it."""

    def state_dict(self) -> Tensors:
        """The eigenvectors last found."""
        return {"step": torch.tensor(self.step), "vectors": self.vectors, "values": self.values}

    def load_state_dict(self, state: Tensors) -> None:
        """Take up where another run stopped."""
        self.step, self.vectors, self.values = int(state["step"]), state["vectors"], state["values"]


def _smallest(units: UnitGraph, parts: int) -> tuple[Float[torch.Tensor, "units few"], Float[torch.Tensor, " few"]]:
    """The 2nd to `parts`-th smallest generalised eigenvalue of the Laplacian, and their vectors."""
    degrees = np.asarray(units.adjacency.sum(1)).ravel()
    # units without edges get eigenvalue 1, far from the smallest
    root = np.where(degrees > 0, 1 / np.sqrt(np.where(degrees > 0, degrees, 1.0)), 0.0)
    scaled = sparse.diags(root) @ units.adjacency @ sparse.diags(root)
    if units.size <= _DENSE:
        values, vectors = np.linalg.eigh(scaled.toarray())
    else:
        start = np.random.default_rng(0).standard_normal(units.size)
        values, vectors = eigsh(scaled, k=parts, which="LA", v0=start, tol=1e-4)
    order = np.argsort(-values, kind="stable")[1:parts]
    chosen = np.ascontiguousarray(root[:, None] * vectors[:, order])
    return torch.from_numpy(chosen).float(), torch.from_numpy(1 - values[order]).float()


class BrainInspired:
    """L1 weighted by wire length: a weight loses `rate · strength · (floor + distance)` a step."""

    def __init__(
        self,
        model: nn.Module,
        graph: Graph,
        layers: Sequence[Layer],
        strength: float,
        *,
        floor: float = 0.1,
        every: int = 200,
        swapped: int = 30,
        seed: int = 0,
    ) -> None:
        self.model, self.graph, self.layers, self.strength = model, graph, layers, strength
        self.floor, self.every, self.swapped, self.step = floor, every, swapped, 0
        rng = np.random.default_rng(seed)
        sizes = [block.size for block in live_units(graph, model).blocks]
        self.places = torch.from_numpy(np.concatenate([rng.permutation(size) / max(1, size - 1) for size in sizes]))

    def add(self) -> None:
        """Let units swap places when due."""
        self.step += 1
        if self.step % self.every == 0:
            self.places = torch.from_numpy(
                _swapped(live_units(self.graph, self.model), self.places.numpy(), self.swapped)
            )

    @torch.no_grad()
    def shrink(self, rate: float) -> None:
        """The proximal step."""
        for layer in self.layers:
            places = self.places.float()
            distance = (places[layer.rows][:, None] - places[layer.columns][None, :]).abs() + self.floor
            distance = distance.reshape(*distance.shape, *(1 for _ in layer.weight.shape[2:])).to(layer.weight.device)
            threshold = distance.mul_(rate * self.strength)
            layer.weight.sub_(torch.minimum(torch.maximum(layer.weight, -threshold), threshold))

    def state_dict(self) -> Tensors:
        """The places of units."""
        return {"step": torch.tensor(self.step), "places": self.places}

    def load_state_dict(self, state: Tensors) -> None:
        """Take up where another run stopped."""
        self.step, self.places = int(state["step"]), state["places"]


def _swapped(units: UnitGraph, places: Float[np.ndarray, " units"], count: int) -> Float[np.ndarray, " units"]:
    """Places after the `count` heaviest units of each block have each made the swap that shortens wires most."""
    places = places.copy()
    degrees = np.asarray(units.adjacency.sum(1)).ravel()
    for start, stop in zip(units.starts, units.starts[1:], strict=False):
        own: Int[np.ndarray, " block"] = np.arange(start, stop)
        edges = units.adjacency[own].toarray()
        cost = edges @ np.abs(places[:, None] - places[own][None, :])  # unit, place of another unit of its block
        for unit in np.argsort(-degrees[own], kind="stable")[:count]:
            gain = cost[unit, unit] + np.diag(cost) - cost[unit] - cost[:, unit]
            other = int(gain.argmax())
            if gain[other] > 1e-9:
                places[own[[unit, other]]] = places[own[[other, unit]]]
                cost[:, [unit, other]] = cost[:, [other, unit]]
    return places
