"""The state of a training in one safetensors file, replaced as a whole, with a line that says what it belongs to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from pellucid.errors import BadInput


def save_state(file: Path, told: str, state: Mapping[str, torch.Tensor]) -> None:
    """Keep a state; `told` is what it belongs to (settings and data)."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    save_file({name: tensor.detach().contiguous().clone() for name, tensor in state.items()}, part, {"of": _mark(told)})
    part.replace(file)


def load_state(file: Path, told: str) -> dict[str, torch.Tensor] | None:
    """The state kept in a file; None where there is no file.

    Raises:
        BadInput: it cannot be read, or belongs to something else.
    """
    if not file.is_file():
        return None
    try:
        with safe_open(str(file), framework="pt") as opened:
            mark = (opened.metadata() or {}).get("of")
            state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise BadInput(f"the state {file} cannot be read ({error}); delete it to start again") from error
    if mark != _mark(told):
        raise BadInput(f"the state {file} belongs to another recipe or other data; delete it or give another file")
    return state


def _mark(told: str) -> str:
    return hashlib.sha256(told.encode()).hexdigest()
