"""Checkpoints of a run: tensors as safetensors, the rest as JSON, never pickle.

Each is a folder `step-N`, written under another name and then renamed, so that one that is there is whole. The last
two are kept.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Shaped
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from pellucid.errors import BadInput

Tensors = dict[str, Shaped[torch.Tensor, "..."]]
KEPT = 2


def save_checkpoint(directory: Path, step: int, tensors: Tensors, facts: Mapping[str, Any]) -> Path:
    """Write a checkpoint and drop older ones; returns its folder."""
    directory.mkdir(parents=True, exist_ok=True)
    folder, scratch = directory / f"step-{step:08d}", directory / f".step-{step:08d}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()},
              scratch / "tensors.safetensors")  # fmt: skip
    (scratch / "facts.json").write_text(json.dumps({**facts, "step": step}, indent=1, sort_keys=True), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(scratch, folder)
    for old in _folders(directory)[:-KEPT]:
        shutil.rmtree(old)
    return folder


def last_checkpoint(directory: Path) -> tuple[int, Tensors, dict[str, Any]] | None:
    """Step, tensors and facts of the newest checkpoint; None where there is none.

    Raises:
        BadInput: it cannot be read.
    """
    folders = _folders(directory)
    if not folders:
        return None
    try:
        facts = json.loads((folders[-1] / "facts.json").read_text(encoding="utf-8"))
        return int(facts["step"]), load_file(folders[-1] / "tensors.safetensors"), facts
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise BadInput(f"the checkpoint {folders[-1]} cannot be read ({error}); delete it to resume earlier") from error


def _folders(directory: Path) -> list[Path]:
    return sorted(path for path in directory.glob("step-*") if path.is_dir())


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> Tensors:
    """The state of an optimiser, entry by entry of its parameters."""
    state = optimiser.state_dict()["state"]
    return {f"{number}.{name}": value for number, entry in state.items() for name, value in entry.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Tensors) -> None:
    """Put a state back into an optimiser of the same parameters."""
    state: dict[int, Tensors] = {}
    for name, value in tensors.items():
        number, _, entry = name.partition(".")
        state.setdefault(int(number), {})[entry] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


def within(tensors: Tensors, prefix: str) -> Tensors:
    """The tensors under a prefix, without it."""
    return {name[len(prefix) + 1 :]: value for name, value in tensors.items() if name.startswith(f"{prefix}/")}


def under(tensors: Mapping[str, Shaped[torch.Tensor, "..."]], prefix: str) -> Tensors:
    """The tensors with a prefix."""
    return {f"{prefix}/{name}": value for name, value in tensors.items()}
