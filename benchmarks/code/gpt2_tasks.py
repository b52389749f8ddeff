"""The GPT-2s of ../shared/data with their sequences, as what they are scored on; the same shapes with nothing learned.

`Asked` puts zeros where a task asks nothing, so that a program has to say where something is asked, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import torch
from jaxtyping import Float, Int
from shared import DATA
from torch import nn

BINS = ("0_50", "51_100", "101_150")
FRESH = ("unique_copy", "sort")
"""Tasks of which more sequences can be drawn as the given ones were."""

STEPS, BATCH, SHORT = 150, 32, 60
"""Controls are trained for so many steps, on the first positions of the sequences."""

Tokens = Int[torch.Tensor, "batch time"]
Logits = Float[torch.Tensor, "batch time vocabulary"]


class Asked(nn.Module):
    """A GPT-2 with zeros where its task asks nothing: from `end` on, and up to `separator`, if there is one."""

    def __init__(self, net: nn.Module, end: int, separator: int | None) -> None:
        super().__init__()
        self.net, self.end, self.separator = net, end, separator

    def forward(self, input_ids: Tokens, position_ids: Tokens) -> Logits:
        """Numbers for each token of the vocabulary."""
        asked = torch.cumsum((input_ids == self.end).int(), 1) == 0
        if self.separator is not None:
            asked = asked & (torch.cumsum((input_ids == self.separator).int(), 1) > 0)
        logits: Logits = self.net(input_ids=input_ids, position_ids=position_ids).logits
        return logits * asked.unsqueeze(-1)


@dataclass(frozen=True, eq=False)
class Task:
    """A network with its given sequences, all of one length, in a seeded order.

    Attributes:
        labels: at each position the next token, or for each token whether it may follow.
        bins: the length bin of each sequence.
    """

    name: str
    module: Asked
    ids: Tokens
    positions: Tokens
    labels: Int[torch.Tensor, "batch time ..."]
    bins: Int[np.ndarray, " batch"]

    @property
    def signs(self) -> bool:
        """Whether the task is to say which tokens may follow."""
        return self.labels.ndim == 3

    def arrays(self) -> dict[str, Tokens]:
        """The inputs by the names of the network's arguments."""
        return {"input_ids": self.ids, "position_ids": self.positions}


def task_of(networks: ModuleType, name: str) -> Task:
    """One network with its inputs."""
    net, inputs = networks.load(str(DATA / "gpt2_algorithmic" / f"{name}.npz"))
    vocabulary = json.loads(str(inputs["vocab"]))
    signs, end, pad = name.startswith("bce_"), vocabulary["<eos>"], vocabulary["<pad>"]
    width = max(inputs[f"ids_{length}"].shape[1] for length in BINS)
    ids, positions, labels = (
        np.concatenate([_widened(inputs[f"{key}_{length}"].astype(np.int64), width, fill) for length in BINS])
        for key, fill in (("ids", pad), ("pos", 0), ("label", 0 if signs else pad))
    )
    if not signs:
        labels = np.concatenate([labels[:, 1:], np.full((len(labels), 1), pad)], axis=1)
    bins = np.repeat(np.arange(len(BINS)), [len(inputs[f"ids_{length}"]) for length in BINS])
    order = np.random.default_rng(0).permutation(len(ids))
    module = Asked(net, end, None if signs else vocabulary["<sep>"]).eval()
    tensors = [torch.from_numpy(array[order]) for array in (ids, positions, labels)]
    return Task(name, module, tensors[0], tensors[1], tensors[2], bins[order])


def fresh(task: Task, count: int, seed: int) -> tuple[dict[str, Tokens], Int[np.ndarray, " batch"]] | None:
    """Further sequences of a task and their bins, `count` of each, where the given ones show how they were drawn:
    different tokens in any order, any length of the bin, any first position; None for other tasks."""
    kind = next((kind for kind in FRESH if task.name.startswith(kind)), None)
    if kind is None:
        return None
    rng, end, start, width = np.random.default_rng(seed), task.module.end, int(task.ids[0, 0]), task.ids.shape[1]
    bins = np.repeat(np.arange(len(BINS)), count)
    ids, positions = np.full((len(bins), width), end + 1), np.zeros((len(bins), width), dtype=np.int64)
    for row, which in enumerate(bins):
        least, most = (max(1, int(edge)) for edge in BINS[which].split("_"))
        tokens = rng.permutation(start)[: rng.integers(least, most + 1)]
        line = [start, *tokens, task.module.separator, *(np.sort(tokens) if kind == "sort" else tokens), end]
        ids[row, : len(line)] = line
        positions[row, : len(line)] = rng.integers(0, width - len(line) + 1) + np.arange(len(line))
    return {"input_ids": torch.from_numpy(ids), "position_ids": torch.from_numpy(positions)}, bins


def _widened(array: Int[np.ndarray, "batch time ..."], width: int, fill: int) -> Int[np.ndarray, "batch width ..."]:
    widths = [(0, 0), (0, width - array.shape[1]), *[(0, 0)] * (array.ndim - 2)]
    return np.pad(array, widths, constant_values=fill)


def predictions(logits: Logits, signs: bool) -> Int[torch.Tensor, "batch time ..."]:
    """What is predicted at each position; where nothing is asked, the same for all."""
    return logits.sign().long() if signs else torch.where((logits != 0).any(-1), logits.argmax(-1), -1)


def network_logits(module: nn.Module, arrays: Mapping[str, Tokens]) -> Logits:
    """What the network puts out, in portions."""
    with torch.no_grad():
        parts = zip(*(value.split(50) for value in arrays.values()), strict=True)
        return torch.cat([module(*part) for part in parts])


def random_module(task: Task, seed: int) -> Asked:
    """The same shapes with the library's random initial weights."""
    torch.manual_seed(seed)
    net = type(task.module.net)(task.module.net.config)  # type: ignore[call-arg, arg-type]
    return Asked(net, task.module.end, task.module.separator).eval()


def shuffled_module(task: Task, seed: int) -> Asked:
    """The same shapes trained on answers that were shuffled among all scored positions."""
    module = random_module(task, seed).train()
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        asked = (network_logits(task.module, task.arrays()) != 0).any(-1)
    labels = task.labels.clone()
    answers = labels[asked]
    labels[asked] = answers[torch.from_numpy(rng.permutation(len(answers)))]
    optimiser = torch.optim.AdamW(module.parameters(), lr=3e-3)
    for _ in range(STEPS):
        rows = rng.choice(len(labels), BATCH, replace=False)
        counts = asked[rows, :SHORT]
        logits = module(task.ids[rows, :SHORT], task.positions[rows, :SHORT])[counts]
        target = labels[rows, :SHORT][counts]
        loss = (
            nn.functional.binary_cross_entropy_with_logits(logits, target.float())
            if task.signs
            else nn.functional.cross_entropy(logits, target)
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return module.eval()
