"""A trained network as `pellucid decompile` takes it: the exported program, and inputs to run it on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pellucid.lift.trained import INPUTS, NETWORK
from pellucid.train.task import Task

HANDED = 2048
"""Samples of the training data that go with a network."""


def hand_over(model: nn.Module, task: Task, directory: Path) -> None:
    """Write the network, general in the first axis of its inputs, and samples under the names of its arguments.

    Language models are left out: decompile takes their folder.
    """
    samples = task.batch(torch.Generator().manual_seed(0), HANDED)[0]
    if not all(sample.is_floating_point() for sample in samples):
        return
    batch = torch.export.Dim("batch")
    shapes = tuple({0: batch} for _ in samples)
    device = next(iter(model.parameters())).device
    exported = torch.export.export(
        model.eval(), tuple(sample[:2].to(device) for sample in samples), dynamic_shapes=shapes
    )
    with _complete(directory / NETWORK) as scratch:
        torch.export.save(exported, scratch)
    names = exported.graph_signature.user_inputs
    with _complete(directory / INPUTS) as scratch:
        np.savez(scratch, **{str(name): sample.numpy() for name, sample in zip(names, samples, strict=True)})  # type: ignore[arg-type]


@contextlib.contextmanager
def _complete(path: Path) -> Iterator[Path]:
    """A place to write a file that is then there as a whole, or not at all."""
    scratch = path.with_name(f".{path.name}")
    ending = scratch.with_name(f"{scratch.name}{path.suffix}")
    yield ending
    os.replace(ending, path)
