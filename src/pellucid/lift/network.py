"""What every loader ends with: a network in eval mode, checked for finite weights, with a fingerprint of its tensors.

The fingerprint is SHA-256 over the tensors in the order of their names, one tensor at a time, so that no copy of all
weights is made; tensors that share their memory (tied weights) are read once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Shaped
from torch import nn

from pellucid.errors import BadInput


@runtime_checkable
class Tokenizer(Protocol):
    """Turns text into input ids and back."""

    @property
    def vocabulary(self) -> int:
        """How many different ids there are."""

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, with the special tokens that the model expects around it."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, special tokens included."""


@dataclass(frozen=True)
class Network:
    """A loaded model in eval mode, with its fingerprint.

    `fingerprint` is a SHA-256 over names, dtypes, shapes and bytes of all parameters and buffers (hex). `source` is a
    short text that says where the network came from, never an absolute path. Input ids of a language model lie in
    [0, vocabulary). `exported` holds the program of a `.pt2` file, whose `module` runs it.
    """

    module: nn.Module
    fingerprint: str
    source: str
    tokenizer: Tokenizer | None = None
    vocabulary: int | None = None
    exported: torch.export.ExportedProgram | None = None


def from_module(module: nn.Module, source: str, tokenizer: Tokenizer | None = None) -> Network:
    """A live module as a network. The module itself is put in eval mode: dropout would make it nondeterministic.

    Raises:
        BadInput: a tensor has no data, is quantized or sparse, or holds NaN or Inf; or the module is TorchScript.
    """
    if isinstance(module, torch.jit.ScriptModule):
        raise BadInput(f"{source}: TorchScript cannot be traced; pass the Python module it was made from")
    if any(part.training for part in module.modules()) and not _is_unlifted(module):
        module.eval()
    check_tensors(module, source)
    return Network(module, fingerprint(module), source, tokenizer, input_vocabulary(module))


def input_vocabulary(module: nn.Module) -> int | None:
    """Number of rows of the input embedding, where the module names one (as transformers' models do)."""
    getter = getattr(module, "get_input_embeddings", None)
    if getter is None:
        return None
    try:
        embedding = getter()
    except (NotImplementedError, AttributeError):
        return None
    return embedding.num_embeddings if isinstance(embedding, nn.Embedding) else None


def fingerprint(module: nn.Module) -> str:
    """SHA-256 (hex) over the sorted names of all parameters and buffers with their dtypes, shapes and bytes."""
    total = hashlib.sha256()
    digests: dict[tuple[object, ...], bytes] = {}
    for name, tensor in sorted(_tensors(module), key=lambda pair: pair[0]):
        place = (tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        if place not in digests:
            digests[place] = _digest(tensor)
        total.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        total.update(digests[place])
    return total.hexdigest()


def check_tensors(module: nn.Module, source: str) -> None:
    """Refuses tensors without data and NaN; Inf too in parameters (buffers may hold it: a mask of -inf is usual).

    Raises:
        BadInput: names the first such tensor.
    """
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    seen: set[int] = set()
    for name, tensor in _tensors(module):
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        if nn.parameter.is_lazy(tensor):
            raise BadInput(f"{source}: tensor {name} has no shape yet; run the module once before decompiling it")
        if tensor.is_meta:
            raise BadInput(f"{source}: tensor {name} is on the meta device and has no data; load its weights first")
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise BadInput(f"{source}: tensor {name} is sparse or quantized; convert it to a dense float tensor first")
        _check_finite(tensor, name, source, allow_inf=name not in parameters)


def _check_finite(tensor: Shaped[torch.Tensor, "..."], name: str, source: str, allow_inf: bool) -> None:
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return
    low, high = torch.aminmax(tensor.detach())  # NaN wins over every number here, so two scalars tell
    if torch.isfinite(low) and torch.isfinite(high):
        return
    nans, infs = int(torch.isnan(tensor).sum()), int(torch.isinf(tensor).sum())
    if nans or not allow_inf:
        found = " and ".join(f"{count} {kind}" for count, kind in ((nans, "NaN"), (infs, "Inf")) if count)
        raise BadInput(
            f"{source}: tensor {name} holds {found} among its {tensor.numel()} values; "
            "the training diverged or the file is damaged: take an earlier checkpoint"
        )


def _tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


def _digest(tensor: Shaped[torch.Tensor, "..."]) -> bytes:
    dense = tensor.detach().resolve_conj().resolve_neg().to("cpu").contiguous()
    flat = dense.as_strided((dense.numel(),), (1,))  # an axis of length 1 may have any stride
    return hashlib.sha256(flat.view(torch.uint8).numpy().data).digest()


def _is_unlifted(module: nn.Module) -> bool:
    """Whether the module came out of `ExportedProgram.module()`: its mode is baked in and cannot be switched."""
    return isinstance(module, torch.fx.GraphModule) and "eval" in vars(module)
