"""How a network is trained to fall apart, and how the methods it is compared with are trained.

`modular` is the whole schedule; each other method is a line or two. All share one loop (`run`), one optimiser and one
way to be measured: by what a partition of the finished network says.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from safetensors.torch import save_file
from torch import nn

from pellucid.errors import BadInput
from pellucid.train.division import Division, divide, live_units
from pellucid.train.handover import hand_over
from pellucid.train.modularity import crossings
from pellucid.train.regularisers import BrainInspired, NormalisedCut, Sparsity, TopShare
from pellucid.train.run import Report, Run, evaluating
from pellucid.train.task import Plan, Task
from pellucid.train.weights import cut


def modular(run: Run) -> None:
    """Sparse warm-up, split, weak cut loss, cut, fine-tuning."""
    plan, modularity = run.plan, run.modularity
    run.go(plan.at(plan.warm), Sparsity(modularity.weights, plan.sparsity))
    if modularity.division is None:
        modularity.refresh()
    run.go(plan.at(plan.severed), Sparsity(modularity.weights, plan.kept), modularity)
    if plan.severed < 1:
        modularity.sever()
    run.go(plan.steps, Sparsity(modularity.weights, plan.kept), modularity)


def random_partition(run: Run) -> None:
    """The control: the same schedule, but after the warm-up the regions' units are dealt out anew in each layer."""
    plan, modularity = run.plan, run.modularity
    run.go(plan.at(plan.warm), Sparsity(modularity.weights, plan.sparsity))
    if modularity.division is None:
        modularity.refresh()
        modularity.adopt(_dealt(run))
    modularity.sever()
    run.go(plan.steps, Sparsity(modularity.weights, plan.kept), modularity)


def plain(run: Run) -> None:
    """The task loss alone."""
    run.go(run.plan.steps)


def sparse(run: Run) -> None:
    """L1, as in the warm-up and after it, and no more."""
    plan, weights = run.plan, run.modularity.weights
    run.go(plan.at(plan.warm), Sparsity(weights, plan.sparsity))
    run.go(plan.steps, Sparsity(weights, plan.kept))


def normalised_cut(run: Run) -> None:
    """The normalised cut throughout (Filan et al. 2021)."""
    plan, own = run.plan, run.modularity
    run.go(plan.steps, NormalisedCut(run.model, own.graph, own.layers, plan.ncut, plan.parts))


def brain_inspired(run: Run) -> None:
    """Wire lengths, strong at first and weak at last, as in its paper (Liu et al. 2023)."""
    plan, own, weak = run.plan, run.modularity, run.plan.kept / max(run.plan.sparsity, 1e-12)
    wires = BrainInspired(run.model, own.graph, own.layers, plan.wires, seed=run.seed)
    run.go(plan.at(plan.severed), wires)
    wires.strength = plan.wires * weak
    run.go(plan.steps, wires)


def top_share(run: Run) -> None:
    """Only the largest weights stay (Gao et al. 2025)."""
    plan = run.plan
    run.go(plan.steps, TopShare(run.modularity.weights, plan.share, plan.at(0.5)))


METHODS: Mapping[str, Callable[[Run], None]] = {
    "modular": modular,
    "none": plain,
    "l1": sparse,
    "n-cut": normalised_cut,
    "bimt": brain_inspired,
    "top-k": top_share,
    "random": random_partition,
}
_RESTARTED = ("modular", "random")


@dataclass(frozen=True)
class Figures:
    """A finished run in numbers.

    Attributes:
        loss: task loss on training data.
        accuracy: on inputs held out.
        interface: share of weight that crosses the partition, the mean over layers and pairs in a stream.
        accuracy_cut: after all that crosses is set to zero; nan where units meet in a residual stream.
        z: deviations of the spectral split of the finished network above shuffled weights.
    """

    loss: float
    accuracy: float
    interface: float
    accuracy_cut: float
    z: float


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network, its partition (the run's own, or what the spectral split finds) and its figures."""

    model: nn.Module = field(repr=False)
    division: Division = field(repr=False)
    blocks: Mapping[str, int]
    figures: Figures
    method: str
    seed: int
    restart: int


def train(
    task: Task,
    method: str = "modular",
    *,
    plan: Plan | None = None,
    seed: int = 0,
    directory: Path | None = None,
    report: Report | None = None,
) -> Trained:
    """Train a network by one of `METHODS`; of several restarts the one with the least task loss is taken.

    Args:
        task: what is trained on what.
        method: a name in `METHODS`.
        plan: steps, rates and strengths.
        seed: of weights, samples and shuffles; the same seed gives the same network.
        directory: where checkpoints and the network go; a run that was killed there is resumed.
        report: told of progress.

    Raises:
        BadInput: an unknown method, a network with nothing to partition, or a folder with another run.
        Diverged: the loss is no longer finite.
    """
    if method not in METHODS:
        raise BadInput(f"unknown method {method!r}; take one of {', '.join(METHODS)}")
    plan = plan or Plan()
    plan = plan if method in _RESTARTED else dataclasses.replace(plan, restarts=1)
    if directory is not None:
        _claim(directory, {"task": task.name, "method": method, "seed": seed, "plan": dataclasses.asdict(plan)})
    best: Trained | None = None
    with torch.random.fork_rng(devices=[]):
        for restart in range(plan.restarts):
            folder = None if directory is None else directory / f"restart-{restart}"
            run = Run(task, method, plan, seed, restart, folder, report)
            METHODS[method](run)
            found = _measured(run)
            if best is None or found.figures.loss < best.figures.loss:
                best = found
    assert best is not None
    if directory is not None:
        _write(best, directory)
        hand_over(best.model, task, directory)
    return best


def _dealt(run: Run) -> Int[np.ndarray, " units"]:
    """The labels of a run in random order within each layer; the pattern of a head goes with its head."""
    assert run.modularity.division is not None
    rng = np.random.default_rng([run.seed, run.restart])
    stops = np.cumsum([block.size for block in run.modularity.blocks])
    parts: dict[str, np.ndarray] = {}
    for block, part in zip(run.modularity.blocks, np.split(run.modularity.division.labels, stops[:-1]), strict=True):
        head = parts.get(block.name.removesuffix(".pattern")) if block.kind == "pattern" else None
        parts[block.name] = rng.permutation(part) if head is None else head
    return np.concatenate([*parts.values()])


def _measured(run: Run) -> Trained:
    own = run.modularity
    with evaluating(run.model):
        found = divide(live_units(own.graph, run.model), run.plan.parts, run.seed)
        if own.division is None:
            own.adopt(found.labels)
        assert own.division is not None
        accuracy, loss = run.task.accuracy(run.model), run.fit_loss()
        severed = math.nan if own.passages else _without_interface(run)
    blocks = {block.name: block.size for block in own.blocks}
    figures = Figures(loss, accuracy, own.interface, severed, found.z)
    return Trained(run.model, own.division, blocks, figures, run.method, run.seed, run.restart)


def _without_interface(run: Run) -> float:
    """The accuracy after all that crosses is set to zero; the weights are put back."""
    own = run.modularity
    assert own.division is not None
    before = [layer.weight.clone() for layer in own.layers]
    cut(own.layers, crossings(own.layers, own.division))
    accuracy = run.task.accuracy(run.model)
    for layer, weight in zip(own.layers, before, strict=True):
        layer.weight.copy_(weight)
    return accuracy


def _claim(directory: Path, facts: Mapping[str, object]) -> None:
    """Note what a folder is for. Raises BadInput when it holds something else."""
    path = directory / "run.json"
    text = json.dumps(facts, indent=1, sort_keys=True)
    if path.exists():
        if path.read_text(encoding="utf-8") != text:
            raise BadInput(f"{directory} holds a run with other settings ({path.name}); give another --output")
        return
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise BadInput(f"{directory} is not an empty directory and holds no run to resume; give another --output")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _replace(path, text)
    except OSError as error:
        raise BadInput(f"{directory} cannot be written ({error.strerror}); give another --output") from error


def _write(found: Trained, directory: Path) -> None:
    scratch = directory / ".network.safetensors"
    save_file({name: tensor.contiguous().clone() for name, tensor in found.model.state_dict().items()}, scratch)
    os.replace(scratch, directory / "network.safetensors")
    stops = np.cumsum([*found.blocks.values()])
    labels = dict(zip(found.blocks, np.split(found.division.labels, stops[:-1]), strict=True))
    figures = {name: value if math.isfinite(value) else str(value)
               for name, value in dataclasses.asdict(found.figures).items()}  # fmt: skip
    facts = {"method": found.method, "seed": found.seed, "restart": found.restart, "figures": figures,
             "regions": {name: part.tolist() for name, part in labels.items()}}  # fmt: skip
    _replace(directory / "result.json", json.dumps(facts, indent=1))


def _replace(path: Path, text: str) -> None:
    scratch = path.with_name(f".{path.name}")
    scratch.write_text(text, encoding="utf-8")
    os.replace(scratch, path)
