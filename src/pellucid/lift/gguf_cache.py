"""GGUF files: converted once by transformers into a Hugging Face folder in the cache, and loaded from there.

The cache is `$PELLUCID_CACHE`, else `$XDG_CACHE_HOME/pellucid`, else `~/.cache/pellucid`; one folder per file, named by
the SHA-256 of the file. A folder appears by one rename, when its model has been loaded from it. What is read from the
cache is believed only if the fingerprint of the loaded network is the one written down then, else it is made anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import math
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pellucid.errors import BadInput
from pellucid.lift.containers import DAMAGED, parse_json, quote, read_bytes
from pellucid.lift.gguf import GgufHeader, read_gguf_header
from pellucid.lift.huggingface import (
    WEIGHTS,
    attention_of,
    check_sizes,
    load_folder,
    quiet,
    refuse_misfits,
    require,
    translated,
)
from pellucid.lift.network import Network

MANIFEST = "pellucid.json"
_FORMAT = 2
PARTIAL = ".partial-"
ABANDONED = 86_400.0
"""Seconds after which an unfinished conversion belongs to a process that was killed."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Converted:
    """What a cached folder is made of."""

    config: Mapping[str, object]
    tensors: dict[str, torch.Tensor]
    tokenizer: Any


def cache_root() -> Path:
    """The folder of all cached conversions; it need not exist yet."""
    if own := os.environ.get("PELLUCID_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pellucid"


def load_gguf(path: Path, label: str | None = None) -> Network:
    """The language model of a GGUF file in float32, with its tokenizer; slow the first time (see the module).

    Raises:
        BadInput: the file is missing or damaged, of an architecture that transformers does not know, holds NaN or Inf,
            the cache cannot be written, or transformers, gguf or accelerate are not installed.
    """
    header = read_gguf_header(path)
    for package in ("transformers", "gguf", "accelerate"):
        require(package)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    shown = label or str(path)
    network = _load_cached(cache_root() / digest, shown) or _load_fresh(path, header, digest, shown)
    return replace(network, source=label or path.name)


def _load_cached(folder: Path, shown: str) -> Network | None:
    """The network of a cached folder; None where there is none, or one that is not what was written."""
    try:
        manifest = parse_json(read_bytes(folder / MANIFEST, "a manifest", limit=4096), str(folder))
        if manifest.get("format") != _FORMAT:
            return None
        network = load_folder(folder, shown)
    except BadInput as error:
        _log.info("no usable conversion in the cache: %s", error)
        return None
    return network if network.fingerprint == manifest.get("fingerprint") else None


def _load_fresh(path: Path, header: GgufHeader, digest: str, shown: str) -> Network:
    root = cache_root()
    needed = 4 * sum(math.prod(entry.shape) for entry in header.tensors)
    _log.info("converting %s once, which takes up to a minute", shown)
    with translated(
        lambda why: (
            f"{root}: the cache cannot be written ({why}); set PELLUCID_CACHE to a folder with {needed} bytes free"
        )
    ):
        root.mkdir(parents=True, exist_ok=True)
        if (free := shutil.disk_usage(root).free) < needed:
            raise BadInput(f"{root}: {needed} bytes are needed, {free} are free; set PELLUCID_CACHE to a larger place")
        _sweep(root)
        with tempfile.TemporaryDirectory(dir=root, prefix=PARTIAL, ignore_cleanup_errors=True) as partial:
            folder = Path(partial) / digest
            folder.mkdir()
            with quiet(), contextlib.redirect_stderr(io.StringIO()):
                _write(_convert(path, header, shown), folder)
            network = load_folder(folder, shown)
            manifest = {"format": _FORMAT, "fingerprint": network.fingerprint}
            (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
            _publish(folder, root / digest)
    return network


def _sweep(root: Path) -> None:
    """Remove what killed conversions left."""
    for left in root.glob(f"{PARTIAL}*"):
        if time.time() - left.stat().st_mtime > ABANDONED:
            shutil.rmtree(left, ignore_errors=True)


def _publish(folder: Path, place: Path) -> None:
    """Moves a finished folder to its place; a broken one that is there goes, one published meanwhile stays."""
    if place.exists():
        place.rename(folder.parent / "replaced")
    try:
        folder.rename(place)
    except OSError:
        if not place.exists():
            raise


def _convert(path: Path, header: GgufHeader, shown: str) -> _Converted:
    """Config, weights in float32 and tokenizer of a GGUF file, by transformers."""
    import transformers

    architecture = str(header.metadata["general.architecture"])
    sizes = {key: value for key, value in header.metadata.items() if key.startswith(architecture + ".")}
    check_sizes(sizes, header.tensors, f"{shown}: metadata")
    where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name, "local_files_only": True}
    with translated(
        lambda why: (
            f"{shown}: transformers cannot load this GGUF file of architecture {quote(architecture)} ({why}); "
            "give the original Hugging Face folder of the model instead"
        )
    ):
        settings = transformers.AutoConfig.from_pretrained(**where, trust_remote_code=False)
        _round_decimals(settings)
        kind = transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(settings)]
        _refuse_larger(kind, settings, header, shown)
        module, found = kind.from_pretrained(
            **where,
            **_dequantized(),
            config=settings,
            dtype=torch.float32,
            attn_implementation=attention_of(kind),
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
        refuse_misfits(found, kind, shown)
        tokenizer = transformers.AutoTokenizer.from_pretrained(**where, trust_remote_code=False)
    config = {**settings.to_dict(), "architectures": [kind.__name__], "dtype": "float32"}
    return _Converted(config, _distinct(module), tokenizer)


def _round_decimals(settings: Any) -> None:
    """Write each number of a config as briefly as its single precision allows: an epsilon stored so means 1e-05."""
    for name, value in vars(settings).items():
        if isinstance(value, float) and float(np.float32(value)) == value:
            setattr(settings, name, float(str(np.float32(value))))


def _write(converted: _Converted, folder: Path) -> None:
    from safetensors.torch import save_file

    (folder / "config.json").write_text(json.dumps(converted.config, sort_keys=True), encoding="utf-8")
    save_file(converted.tensors, folder / WEIGHTS, metadata={"format": "pt"})
    converted.tokenizer.save_pretrained(str(folder))


def _dequantized() -> dict[str, Any]:
    """Asks newer versions of transformers for plain weights, so that they look for no compiled kernels."""
    import transformers

    config = getattr(transformers, "GgufConfig", None)
    return {} if config is None else {"quantization_config": config(dequantize=True)}


def _refuse_larger(kind: type[Any], settings: Any, header: GgufHeader, shown: str) -> None:
    """Refuses metadata that ask for a model of more than twice what the file holds, before it is allocated."""
    with torch.device("meta"):
        parameters = list(kind(settings).parameters())
    wanted, held = sum(parameter.numel() for parameter in parameters), sum(math.prod(e.shape) for e in header.tensors)
    if wanted > 2 * held + 2**20 or len(parameters) > 2 * len(header.tensors) + 16:
        raise BadInput(
            f"{shown}: the metadata ask for {len(parameters)} tensors of {wanted} values in all, but the file holds "
            f"{len(header.tensors)} of {held}; {DAMAGED}"
        )


def _distinct(module: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and saved buffers, tied ones once, under the first of their names."""
    parameters = dict(module.named_parameters())
    every = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    buffers = {name: value for name, value in module.state_dict().items() if name not in every}
    return {name: value.detach().contiguous() for name, value in {**parameters, **buffers}.items()}
