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
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pellucid.errors import BadInput
from pellucid.lift.containers import TensorEntry, first_line, parse_json, read_bytes
from pellucid.lift.gguf import GgufHeader, read_gguf_header
from pellucid.lift.huggingface import (
    WEIGHTS,
    attention_of,
    check_sizes,
    foreign_errors,
    load_folder,
    quiet,
    refuse_misfits,
    require,
)
from pellucid.lift.network import Network

MANIFEST = "pellucid.json"
_FORMAT = 1
_log = logging.getLogger(__name__)


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
    needed = 4 * sum(_count(entry) for entry in header.tensors)
    _log.info("converting %s once, which takes up to a minute", shown)
    try:
        root.mkdir(parents=True, exist_ok=True)
        if (free := shutil.disk_usage(root).free) < needed:
            raise BadInput(f"{root}: {needed} bytes are needed, {free} are free; set PELLUCID_CACHE to a larger place")
        with tempfile.TemporaryDirectory(dir=root, prefix=".partial-", ignore_cleanup_errors=True) as partial:
            folder = Path(partial) / digest
            folder.mkdir()
            with quiet(), contextlib.redirect_stderr(io.StringIO()):
                _convert(path, header, folder, shown)
            network = load_folder(folder, shown)
            manifest = {"format": _FORMAT, "fingerprint": network.fingerprint}
            (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
            _publish(folder, root / digest)
    except OSError as error:
        raise BadInput(
            f"{root}: the cache cannot be written ({error.strerror or error}); set PELLUCID_CACHE to another folder"
        ) from error
    return network


def _publish(folder: Path, place: Path) -> None:
    """Moves a finished folder to its place; a broken one that is there goes, one of another process may stay."""
    if place.exists():
        place.rename(folder.parent / "replaced")
    with contextlib.suppress(FileExistsError):
        try:
            folder.rename(place)
        except OSError as error:
            if not place.exists():
                raise
            raise FileExistsError(str(place)) from error


def _convert(path: Path, header: GgufHeader, folder: Path, shown: str) -> None:
    """Writes config, weights in float32 and tokenizer of a GGUF file into a folder."""
    import transformers
    from safetensors.torch import save_file

    architecture = str(header.metadata["general.architecture"])
    sizes = {key: value for key, value in header.metadata.items() if key.startswith(architecture + ".")}
    check_sizes(sizes, header.tensors, f"{shown}: metadata")
    where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name, "local_files_only": True}
    try:
        settings = transformers.AutoConfig.from_pretrained(**where, trust_remote_code=False)
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
        (folder / "config.json").write_text(json.dumps(config, sort_keys=True), encoding="utf-8")
        save_file(_distinct(module), folder / WEIGHTS, metadata={"format": "pt"})
        tokenizer.save_pretrained(str(folder))
    except foreign_errors() as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise BadInput(
            f"{shown}: transformers cannot load this GGUF file of architecture {architecture} ({first_line(error)}); "
            "give the original Hugging Face folder of the model instead"
        ) from error


def _dequantized() -> dict[str, Any]:
    """Asks newer versions of transformers for plain weights, so that they look for no compiled kernels."""
    import transformers

    config = getattr(transformers, "GgufConfig", None)
    return {} if config is None else {"quantization_config": config(dequantize=True)}


def _refuse_larger(kind: type[Any], settings: Any, header: GgufHeader, shown: str) -> None:
    """Refuses metadata that ask for a model of more than twice the values in the file, before it is allocated."""
    with torch.device("meta"):
        wanted = sum(parameter.numel() for parameter in kind(settings).parameters())
    held = sum(_count(entry) for entry in header.tensors)
    if wanted > 2 * held + 2**20:
        raise BadInput(
            f"{shown}: the metadata ask for {wanted} weights but the tensors hold {held}; "
            "the file is damaged: download it again"
        )


def _distinct(module: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and saved buffers, tied ones once, under the first of their names."""
    parameters = dict(module.named_parameters())
    every = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    buffers = {name: value for name, value in module.state_dict().items() if name not in every}
    return {name: value.detach().contiguous() for name, value in {**parameters, **buffers}.items()}


def _count(entry: TensorEntry) -> int:
    count = 1
    for size in entry.shape:
        count *= size
    return count
