"""Sparse dictionaries of a function: transcoders (input to output) and autoencoders (output to itself), frozen.

Latents are `activation(encoder @ x + encoder_bias)`, what is written is `decoder.T @ latents + decoder_bias`. Two
activations: TopK (Makhzani and Frey 2013, Gao et al. 2024) keeps the largest k above zero, JumpReLU (Rajamanoharan et
al. 2024) what exceeds a threshold of its own for every latent; thresholds of zero make it a ReLU.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from pellucid.errors import BadInput
from pellucid.ir.torch_layers import jump_relu, top_k

Kind = Literal["transcoder", "autoencoder"]
"""A transcoder reads the inputs of its function, an autoencoder the outputs; both write the outputs."""


@dataclass(frozen=True)
class TopK:
    """The k largest latents of each position stay, if they are above zero."""

    k: int


@dataclass(frozen=True)
class JumpReLU:
    """A latent stays where it exceeds its threshold."""

    thresholds: Float[torch.Tensor, " latents"]


Activation: TypeAlias = TopK | JumpReLU


@dataclass(frozen=True)
class Dictionary:
    """A dictionary, float32; see the module.

    Attributes:
        encoder: [latents, in], what each latent reads; encoder_bias [latents].
        decoder: [latents, out], what each latent writes; of norm 1 where it was trained here, so that a latent is a
            length in the output's space; decoder_bias [out].
    """

    kind: Kind
    activation: Activation
    encoder: Float[torch.Tensor, "_ _"]
    encoder_bias: Float[torch.Tensor, " _"]
    decoder: Float[torch.Tensor, "_ _"]
    decoder_bias: Float[torch.Tensor, " _"]

    def __post_init__(self) -> None:
        latents, out = self.encoder.shape[0], self.decoder.shape[-1]
        wanted = {"encoder_bias": (latents,), "decoder": (latents, out), "decoder_bias": (out,)}
        for name, shape in wanted.items():
            if (found := tuple(getattr(self, name).shape)) != shape:
                raise BadInput(f"dictionary: {name} has shape {list(found)}, the encoder wants {list(shape)}")
        if self.kind not in get_args(Kind):
            raise BadInput(f"dictionary: kind {self.kind!r}; use one of {', '.join(get_args(Kind))}")
        if self.kind == "autoencoder" and self.encoder.shape[1] != out:
            raise BadInput(
                f"dictionary: an autoencoder of {self.encoder.shape[1]} values writes {out}; they must agree"
            )
        _check_activation(self.activation, latents)

    @property
    def latents(self) -> int:
        """How many latents it has."""
        return self.encoder.shape[0]

    @property
    def reads(self) -> int:
        """How many values it reads at a position."""
        return self.encoder.shape[1]

    @property
    def writes(self) -> int:
        """How many values it writes at a position."""
        return self.decoder.shape[1]

    def encode(self, x: Float[torch.Tensor, "... in"]) -> Float[torch.Tensor, "... latents"]:
        """The latents of inputs, most of them zero."""
        raw = torch.nn.functional.linear(x, self.encoder, self.encoder_bias)
        if isinstance(self.activation, TopK):
            return top_k(raw, self.activation.k)
        return jump_relu(raw, self.activation.thresholds)

    def decode(self, latents: Float[torch.Tensor, "... latents"]) -> Float[torch.Tensor, "... out"]:
        """What latents write."""
        return latents @ self.decoder + self.decoder_bias

    def __call__(self, x: Float[torch.Tensor, "... in"]) -> Float[torch.Tensor, "... out"]:
        """What is written for inputs."""
        return self.decode(self.encode(x))

    def save(self, file: str | os.PathLike[str]) -> None:
        """Write it as one safetensors file, all or nothing."""
        path = Path(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {name: getattr(self, name).contiguous() for name in _TENSORS}
        facts = {"kind": self.kind, "activation": "topk"}
        if isinstance(self.activation, TopK):
            facts["k"] = str(self.activation.k)
        else:
            facts["activation"] = "jumprelu"
            tensors["thresholds"] = self.activation.thresholds.contiguous()
        part = path.with_name(f".{path.name}.part")
        save_file(tensors, part, {"dictionary": json.dumps(facts, sort_keys=True)})
        part.replace(path)

    @staticmethod
    def load(file: str | os.PathLike[str]) -> Dictionary:
        """Read what `save` wrote. Raises BadInput when it is missing, damaged or something else."""
        try:
            with safe_open(str(file), framework="pt") as opened:
                facts = json.loads((opened.metadata() or {})["dictionary"])
                tensors = {name: opened.get_tensor(name).float() for name in opened.keys()}  # noqa: SIM118
            jumps = facts["activation"] == "jumprelu"
            activation = JumpReLU(tensors["thresholds"]) if jumps else TopK(int(facts["k"]))
            return Dictionary(facts["kind"], activation, *(tensors[name] for name in _TENSORS))
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise BadInput(f"{file}: no dictionary of pellucid ({error!r}); write one with Dictionary.save") from error


_TENSORS = ("encoder", "encoder_bias", "decoder", "decoder_bias")


def _check_activation(activation: Activation, latents: int) -> None:
    if isinstance(activation, TopK):
        if not 1 <= activation.k <= latents:
            raise BadInput(f"dictionary: TopK of {activation.k} in {latents} latents; use 1 to {latents}")
        return
    thresholds = activation.thresholds
    if tuple(thresholds.shape) != (latents,):
        raise BadInput(f"dictionary: thresholds of shape {list(thresholds.shape)} for {latents} latents")
    if not bool((thresholds >= 0).all()):
        raise BadInput("dictionary: a threshold of JumpReLU is negative or no number; use 0 or more")
