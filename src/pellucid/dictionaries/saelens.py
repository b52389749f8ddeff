"""Dictionaries as SAELens keeps them: a directory of cfg.json and sae_weights.safetensors.

Read: the architectures standard, topk, jumprelu, transcoder and jumprelu_transcoder, in the format since version 6 and
in the flat one before. What SAELens computes around the weights is folded into them: the decoder's bias taken from the
input, decoder norms that rescale latents. Written: version 6's; TopK as "topk", thresholds as "jumprelu" or
"jumprelu_transcoder". SAELens has no TopK transcoder, but its "topk" without the bias on the input computes one, where
the function gives as many values as it takes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from pellucid.dictionaries.dictionary import Dictionary, JumpReLU, Kind, TopK
from pellucid.errors import BadInput

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
VERSION = "6.0.0"
"""The format that is written."""

READ = ("standard", "topk", "jumprelu", "transcoder", "jumprelu_transcoder")

Tensors = Mapping[str, Float[torch.Tensor, "..."]]


def read_saelens(directory: str | os.PathLike[str]) -> Dictionary:
    """The dictionary of a SAELens directory; its latents and what it writes are those of SAELens.

    Raises:
        BadInput: a file is missing or damaged, or it is of an architecture or with a normalisation that a dictionary
            here cannot compute.
    """
    place = Path(directory)
    config = _config(place / CONFIG)
    architecture = config["architecture"]
    if architecture not in READ:
        raise BadInput(f"{place / CONFIG}: architecture {architecture!r} is not read; use one of {', '.join(READ)}")
    if config.get("normalize_activations") not in (None, "none", False):
        raise BadInput(
            f"{place / CONFIG}: normalize_activations {config['normalize_activations']!r} is not part of the weights;"
            " fold it into them with SAELens first"
        )
    if config.get("reshape_activations", "none") != "none":
        raise BadInput(f"{place / CONFIG}: reshaped activations (hook_z) are no single array; not read")
    tensors = _tensors(place / WEIGHTS, config)
    try:
        return _made(config, tensors)
    except BadInput as error:
        raise BadInput(f"{place}: {error}") from error


def write_saelens(
    dictionary: Dictionary, directory: str | os.PathLike[str], metadata: Mapping[str, str | int | bool] | None = None
) -> None:
    """Write a dictionary as SAELens reads it (from version 6 on).

    Args:
        metadata: what SAELens keeps beside it: model_name, hook_name, hook_name_out, context_size …

    Raises:
        BadInput: it is a TopK transcoder of a function that gives another number of values than it takes, or the
            directory cannot be written.
    """
    topk, transcodes = isinstance(dictionary.activation, TopK), dictionary.kind == "transcoder"
    if topk and dictionary.reads != dictionary.writes:
        raise BadInput(
            f"SAELens has no TopK transcoder from {dictionary.reads} to {dictionary.writes} values; train this one with"
            " JumpReLU to export it"
        )
    config: dict[str, Any] = {
        "architecture": "topk" if topk else "jumprelu_transcoder" if transcodes else "jumprelu",
        "d_in": dictionary.reads, "d_sae": dictionary.latents, "dtype": "float32", "device": "cpu",
        "apply_b_dec_to_input": False, "normalize_activations": "none", "reshape_activations": "none",
        "metadata": {"sae_lens_version": VERSION, "sae_lens_training_version": VERSION, "kind": dictionary.kind,
                     **(metadata or {})},
    }  # fmt: skip
    tensors = {
        "W_enc": dictionary.encoder.T, "b_enc": dictionary.encoder_bias,
        "W_dec": dictionary.decoder, "b_dec": dictionary.decoder_bias,
    }  # fmt: skip
    if isinstance(dictionary.activation, TopK):
        config |= {"k": dictionary.activation.k, "rescale_acts_by_decoder_norm": False}
    else:
        tensors["threshold"] = dictionary.activation.thresholds
    if not topk and transcodes:
        config["d_out"] = dictionary.writes
    place = Path(directory)
    try:
        place.mkdir(parents=True, exist_ok=True)
        part = place / f".{WEIGHTS}.part"
        save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, part)
        part.replace(place / WEIGHTS)
        (place / CONFIG).write_text(json.dumps(config, indent=1, sort_keys=True), encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{place}: cannot be written ({error}); give another directory") from error


def _config(file: Path) -> dict[str, Any]:
    """The configuration in today's form: what was flat before version 6 has the same names, but for TopK."""
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{file}: no configuration of SAELens ({error}); give a directory that SAELens saved") from error
    if not isinstance(config, dict):
        raise BadInput(f"{file}: no configuration of SAELens; give a directory that SAELens saved")
    activation = config.get("activation_fn", config.get("activation_fn_str", "relu"))
    config.setdefault("architecture", "standard")
    options = config.get("activation_fn_kwargs")
    if activation == "topk" and isinstance(options, dict) and "k" in options:
        config |= {"architecture": "topk", "k": options["k"]}
    elif activation not in ("relu", "topk"):
        raise BadInput(f"{file}: activation {activation!r} is not read; SAELens' relu, topk and jumprelu are")
    return config


def _tensors(file: Path, config: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    try:
        tensors = {name: tensor.float() for name, tensor in load_file(file).items()}
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{file}: no weights of SAELens ({error}); give a directory that SAELens saved") from error
    if "log_threshold" in tensors:
        tensors["threshold"] = tensors.pop("log_threshold").exp()
    scale = tensors.pop("scaling_factor", None)
    if scale is not None and not torch.equal(scale, torch.ones_like(scale)):
        tensors["W_dec"] = tensors["W_dec"] * scale[:, None]
    if "W_enc" in tensors:
        tensors.setdefault("b_enc", torch.zeros(tensors["W_enc"].shape[-1]))
    wanted = ["W_enc", "b_enc", "W_dec", "b_dec", *(["threshold"] if "jumprelu" in config["architecture"] else [])]
    if missing := [name for name in wanted if name not in tensors]:
        raise BadInput(f"{file}: no tensor {missing[0]!r}; give a directory that SAELens saved")
    _check_shapes(file, config, tensors)
    return tensors


def _check_shapes(file: Path, config: Mapping[str, Any], tensors: Tensors) -> None:
    takes, latents = config.get("d_in"), config.get("d_sae")
    gives = config.get("d_out", takes) if "transcoder" in config["architecture"] else takes
    wanted = {
        "W_enc": (takes, latents), "b_enc": (latents,), "W_dec": (latents, gives), "b_dec": (gives,),
        "threshold": (latents,),
    }  # fmt: skip
    for name, shape in wanted.items():
        if name in tensors and tuple(tensors[name].shape) != shape:
            raise BadInput(
                f"{file}: {name} has shape {list(tensors[name].shape)}, {CONFIG} says {list(shape)}; one is damaged"
            )


def _made(config: Mapping[str, Any], tensors: Tensors) -> Dictionary:
    architecture = config["architecture"]
    metadata = config.get("metadata") if isinstance(config.get("metadata"), dict) else {}
    transcodes = "transcoder" in architecture or (metadata or {}).get("kind") == "transcoder"
    encoder, bias, decoder = tensors["W_enc"].T.contiguous(), tensors["b_enc"], tensors["W_dec"]
    if config.get("apply_b_dec_to_input", "transcoder" not in architecture) and "transcoder" not in architecture:
        bias = bias - encoder @ tensors["b_dec"]
    if architecture == "topk":
        k = config.get("k")
        if type(k) is not int:
            raise BadInput(f"k is {k!r}; a TopK needs a whole number")
        if config.get("rescale_acts_by_decoder_norm", False):
            norms = decoder.norm(dim=1)
            encoder, bias, decoder = encoder * norms[:, None], bias * norms, decoder / norms.clamp(min=1e-12)[:, None]
        activation: TopK | JumpReLU = TopK(k)
    else:
        given = tensors["threshold"] if "jumprelu" in architecture else torch.zeros(len(encoder))
        activation = JumpReLU(given.relu())
    kind: Kind = "transcoder" if transcodes else "autoencoder"
    return Dictionary(kind, activation, encoder, bias, decoder, tensors["b_dec"])
