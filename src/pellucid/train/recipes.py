"""The recipes that ship: a task with the plan that was found to work for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import nn
from torch.nn.functional import cross_entropy

from pellucid.data.sample_digits import pictures
from pellucid.errors import BadInput
from pellucid.train.task import Batch, Plan, Task

PAIRS = 10_000
"""Pairs of held-out digits that accuracy is taken on."""


@dataclass(frozen=True)
class Recipe:
    """A task and its plan."""

    task: Task
    plan: Plan


def double_digits() -> Recipe:
    """Two 8×8 digits side by side, pixels in random order; ten outputs for each. Nothing says which belong together.

    A third of scikit-learn's 1,797 pictures is held out; pairs are drawn anew for each batch. Accuracy is the mean of
    the two digits'.

    Raises:
        BadInput: scikit-learn is not installed.
    """
    pixels, digits = pictures()
    held = len(digits) // 3
    order = double_digits_order()
    tests = _pairs(pixels[-held:], digits[-held:], order, torch.Generator().manual_seed(1), PAIRS)

    def batch(generator: torch.Generator, samples: int) -> Batch:
        return _pairs(pixels[:-held], digits[:-held], order, generator, samples)

    def accuracy(model: nn.Module) -> float:
        (pairs,), targets = tests
        return float((model(pairs).unflatten(1, (2, 10)).argmax(-1) == targets).float().mean())

    return Recipe(Task("double-digits", _double_digits_network, batch, _both, accuracy), Plan())


def double_digits_order() -> Int[torch.Tensor, "128"]:
    """Which pixel each input shows: the first digit's are 0 to 63, the second's 64 to 127."""
    return torch.from_numpy(np.random.default_rng(0).permutation(128))


def _double_digits_network() -> nn.Module:
    return nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 20))


def _pairs(
    pixels: Float[torch.Tensor, "pictures 64"],
    digits: Int[torch.Tensor, " pictures"],
    order: Int[torch.Tensor, "128"],
    generator: torch.Generator,
    samples: int,
) -> Batch:
    chosen = torch.randint(len(digits), (samples, 2), generator=generator)
    return (pixels[chosen].flatten(1)[:, order],), digits[chosen]


def _both(outputs: Float[torch.Tensor, "samples 20"], targets: Int[torch.Tensor, "samples 2"]) -> torch.Tensor:
    return cross_entropy(outputs[:, :10], targets[:, 0]) + cross_entropy(outputs[:, 10:], targets[:, 1])


RECIPES: Mapping[str, Callable[[], Recipe]] = {"double-digits": double_digits}


def planned(chosen: Recipe, *, steps: int | None = None, restarts: int | None = None) -> Recipe:
    """A recipe with another number of steps or restarts.

    Raises:
        BadInput: fewer than one.
    """
    plan = chosen.plan
    plan = plan if steps is None else replace(plan, steps=steps)
    plan = plan if restarts is None else replace(plan, restarts=restarts)
    return replace(chosen, plan=plan)


def recipe(name: str) -> Recipe:
    """A recipe by name.

    Raises:
        BadInput: there is none of that name, or it needs a package that is not installed.
    """
    if name not in RECIPES:
        raise BadInput(f"unknown recipe {name!r}; take one of {', '.join(RECIPES)}")
    return RECIPES[name]()
