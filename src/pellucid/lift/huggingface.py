"""Hugging Face folders: config.json and safetensors, read from local files only, never with code from the folder.

Before any weight is allocated, the headers of the safetensors files are checked, the sizes in config.json are bounded
by them, and the model that the config asks for is built on torch's meta device and matched with the headers by
transformers' own loading rules.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pellucid.errors import BadInput
from pellucid.lift.containers import (
    TensorEntry,
    first_line,
    parse_json,
    quote,
    read_bytes,
    read_safetensors_header,
)
from pellucid.lift.network import Network, from_module

INDEX = "model.safetensors.index.json"
WEIGHTS = "model.safetensors"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")

FOREIGN_ERRORS = (
    *(ValueError, TypeError, LookupError, AttributeError, RuntimeError, OSError, ImportError),
    *(AssertionError, ArithmeticError, MemoryError),
)
"""What transformers and torch raise on a config or on weights that do not make sense to them."""

_REFUSED_KEYS = {
    "auto_map": "it asks for code from the folder to be run; pass the live module instead",
    "quantization_config": "its weights are quantized; save a dequantized (float) copy first",
    "transformers_weights": "it names another weight file; remove that entry",
    "fusion_config": "it asks for fused modules; remove that entry",
}
_FREE = re.compile(r"theta|token|seed|factor|version|base|_ids?$")
_POSITIONS = re.compile(r"position|ctx|context|seq|window|distance|max_.*length")
_LAYERS = re.compile(r"(layer|block|depth)s?$|block_count$")
_SPARE_BUFFERS = 256 * 2**20


@dataclass(frozen=True)
class TextTokenizer:
    """A transformers tokenizer as a `Tokenizer`."""

    inner: Any

    @property
    def vocabulary(self) -> int:
        """How many different ids there are."""
        return len(self.inner)

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, with the special tokens that the model expects around it."""
        return list(self.inner.encode(text))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, special tokens included."""
        return str(self.inner.decode(list(ids)))


def load_folder(path: Path, label: str | None = None) -> Network:
    """The model of a Hugging Face folder in float32, with its tokenizer if the folder has one.

    `label` names the model in messages and as its source (the path and the folder's name if absent).

    Raises:
        BadInput: a file is missing or damaged, config and weights do not fit, a tensor holds NaN or Inf, the folder
            wants its own code to be run, or transformers is not installed.
    """
    shown = label or str(path)
    config = _read_config(path)
    files = _weight_files(path)
    entries = [entry for file in files for entry in read_safetensors_header(path / file).values()]
    _refuse_repeated(entries, shown)
    check_sizes(config, entries, f"{shown}: config.json")
    with quiet():
        kind, settings = _model_class(path, config, shown)
        _dry_run(kind, settings, entries, shown)
        module = _load_weights(kind, settings, [path / file for file in files], shown)
        tokenizer = _load_tokenizer(path, shown)
    return replace(from_module(module, shown, tokenizer), source=label or path.resolve().name)


def require(package: str) -> None:
    """Checks that an optional package can be imported.

    Raises:
        BadInput: names the extra to install.
    """
    if importlib.util.find_spec(package) is None:
        raise BadInput(f"{package} is needed to load this model and is not installed; pip install 'pellucid[hf]'")


def check_sizes(config: Mapping[str, object], entries: Sequence[TensorEntry], label: str) -> None:
    """Refuses sizes in a config that no model with these tensors can have; layers and positions have own limits.

    Raises:
        BadInput: names the entry of the config.
    """
    largest = max((size for entry in entries for size in entry.shape), default=0)
    for key, value in _integers(config):
        if _FREE.search(key):
            limit = 2**63
        elif _POSITIONS.search(key):
            limit = 2**24
        else:
            limit = max(1024, len(entries)) if _LAYERS.search(key) else max(65536, largest)
        if abs(value) > limit:
            raise BadInput(
                f"{label}: {quote(key)} is {quote(value)}, more than {limit}, the most that its {len(entries)} tensors "
                "allow; take the config.json that was saved with these weights"
            )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps transformers off the terminal (reports, progress bars, warnings) and off the network; then as before."""
    require("transformers")
    from huggingface_hub import constants
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    offline = constants.HF_HUB_OFFLINE
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    constants.HF_HUB_OFFLINE = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        constants.HF_HUB_OFFLINE = offline
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def attention_of(kind: type[Any]) -> str:
    """The attention implementation to ask for: torch's own fused one where the class has it."""
    return "sdpa" if getattr(kind, "_supports_sdpa", False) else "eager"


def _read_config(path: Path) -> dict[str, object]:
    file = path / "config.json"
    if not file.exists():
        held = sorted(entry.name for entry in path.iterdir())
        what = f"holds {quote(', '.join(held))}" if held else "is empty"
        raise BadInput(f"{path}: has no config.json, it {what}; give a folder with config.json and *.safetensors")
    if (path / "adapter_config.json").exists():
        raise BadInput(f"{path}: holds an adapter, not a whole model; merge it into its base model and save that")
    config = parse_json(read_bytes(file, "config.json", limit=2**24), str(file))
    for key, why in _REFUSED_KEYS.items():
        if config.get(key) is not None:
            raise BadInput(f"{file}: has {key}: {why}")
    if not isinstance(config.get("model_type"), str):
        raise BadInput(f"{file}: lacks model_type; take the config.json that was saved with these weights")
    return config


def _weight_files(path: Path) -> list[str]:
    if (path / INDEX).exists():
        return _shards(path)
    if (path / WEIGHTS).exists():
        return [WEIGHTS]
    found = sorted(file.name for file in path.glob("*.safetensors"))
    if len(found) == 1:
        return found
    if found:
        raise BadInput(f"{path}: holds {len(found)} safetensors files but no {INDEX}; add it or name one {WEIGHTS}")
    raise BadInput(f"{path}: holds no *.safetensors; save the model with save_pretrained(..., safe_serialization=True)")


def _shards(path: Path) -> list[str]:
    index = path / INDEX
    weight_map = parse_json(read_bytes(index, "an index of shards"), str(index)).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise BadInput(f"{index}: lacks weight_map; download it again")
    files = sorted({str(file) for file in weight_map.values()})
    for file in files:
        if Path(file).name != file or not file.endswith(".safetensors"):
            raise BadInput(f"{index}: names the shard {quote(file)}, which is no safetensors file of this folder")
        header = read_safetensors_header(path / file)
        for name in sorted(weight_map.keys()):
            if weight_map[name] == file and name not in header:
                raise BadInput(f"{index}: tensor {quote(name)} is not in {quote(file)}; download both again")
    return files


def _refuse_repeated(entries: Sequence[TensorEntry], shown: str) -> None:
    seen: set[str] = set()
    for entry in entries:
        if entry.name in seen:
            raise BadInput(f"{shown}: tensor {quote(entry.name)} is in two shards; download the folder again")
        seen.add(entry.name)


def _integers(value: object, key: str = "") -> Iterator[tuple[str, int]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _integers(item, str(name))
    elif isinstance(value, list):
        for item in value:
            yield from _integers(item, key)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield key, value


@contextlib.contextmanager
def translated(message: Callable[[str], str]) -> Iterator[None]:
    """Turns what the libraries of Hugging Face raise on files that make no sense to them into a one-line `BadInput`.

    `message` gets the first line of the error. Errors of other classes pass. The tokenizers library reports faults as a
    bare Exception, and some as a panic, which derives from BaseException and can only be told by its name.
    """
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    try:
        yield
    except BaseException as error:
        expected = isinstance(error, (*FOREIGN_ERRORS, StrictDataclassError, SafetensorError))
        if not (expected or type(error) is Exception or type(error).__name__ == "PanicException"):
            raise
        raise BadInput(message(first_line(error))) from error


def _model_class(path: Path, config: Mapping[str, object], shown: str) -> tuple[type[Any], Any]:
    """The public class of transformers that `architectures` names (else the causal language model), and its config."""
    import transformers

    with translated(
        lambda why: (
            f"{shown}: config.json is not accepted by transformers ({why}); "
            "take the config.json that was saved with these weights"
        )
    ):
        settings = transformers.AutoConfig.from_pretrained(str(path), local_files_only=True, trust_remote_code=False)
        named = settings.architectures
        if not named:
            return transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(settings)], settings
        kind = getattr(transformers, named[0], None) if re.fullmatch(r"[A-Z]\w*", named[0], re.ASCII) else None
    if not (isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)):
        raise BadInput(f"{shown}: config.json names the architecture {quote(named[0])}, no model class of transformers")
    if getattr(kind, "config_class", None) is not type(settings):
        raise BadInput(f"{shown}: config.json names {named[0]} but its model_type is {quote(config['model_type'])}")
    return kind, settings


def _dry_run(kind: type[Any], settings: Any, entries: Sequence[TensorEntry], shown: str) -> None:
    """Loads tensors without data into the model on the meta device: names and shapes have to fit."""
    state = {entry.name: torch.empty(entry.shape, dtype=torch.float32, device="meta") for entry in entries}
    with translated(
        lambda why: (
            f"{shown}: transformers cannot build {kind.__name__} from config.json ({why}); "
            "take the config.json that was saved with these weights"
        )
    ):
        module, found = kind.from_pretrained(
            None,
            config=settings,
            state_dict=state,
            device_map="meta",
            dtype=torch.float32,
            attn_implementation=attention_of(kind),
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            local_files_only=True,
        )
    refuse_misfits(found, kind, shown)
    _check_buffers(module, entries, shown)


def refuse_misfits(found: Mapping[str, Any], kind: type[Any], shown: str) -> None:
    """Refuses what transformers reports on loading: shapes that differ, tensors that are missing or unknown.

    Raises:
        BadInput: names the first such tensor.
    """
    for name, got, wanted in sorted(found["mismatched_keys"], key=lambda item: str(item[0])):
        raise BadInput(
            f"{shown}: tensor {quote(name)} has shape {list(got)} in the weights but {list(wanted)} by the config; "
            "take the config that was saved with these weights"
        )
    for key, state_of in (("missing_keys", "missing from the weights"), ("unexpected_keys", "unknown to the model")):
        if names := sorted(found[key]):
            more = f" and {len(names) - 1} more are" if len(names) > 1 else " is"
            raise BadInput(
                f"{shown}: tensor {quote(names[0])}{more} {state_of} ({kind.__name__}); "
                "take the config and the weights of one and the same model"
            )


def _check_buffers(module: nn.Module, entries: Sequence[TensorEntry], shown: str) -> None:
    """Refuses buffers (masks, tables of positions) that the config makes far larger than the weights."""
    limit = sum(entry.stop - entry.start for entry in entries) + _SPARE_BUFFERS
    for name, buffer in module.named_buffers():
        if (size := buffer.numel() * buffer.element_size()) > limit:
            raise BadInput(
                f"{shown}: config.json asks for a buffer {quote(name)} of {size} bytes, more than the weights; "
                "lower its number of positions"
            )


def _load_weights(kind: type[Any], settings: Any, files: Sequence[Path], shown: str) -> nn.Module:
    from safetensors import safe_open

    with contextlib.ExitStack() as stack:
        stack.enter_context(
            translated(lambda why: f"{shown}: the weights cannot be loaded ({why}); download them again")
        )
        opened = [stack.enter_context(safe_open(file, framework="pt")) for file in files]
        slices = {name: file.get_slice(name) for file in opened for name in file.keys()}  # noqa: SIM118
        module = kind.from_pretrained(
            None,
            config=settings,
            state_dict=slices,
            dtype=torch.float32,
            attn_implementation=attention_of(kind),
            local_files_only=True,
        )
    if not isinstance(module, nn.Module):
        raise BadInput(f"{shown}: transformers made no module of it; pass the live module instead")
    return module


def _load_tokenizer(path: Path, shown: str) -> TextTokenizer | None:
    if not any((path / name).exists() for name in TOKENIZER_FILES):
        return None
    import transformers

    with translated(
        lambda why: (
            f"{shown}: the tokenizer cannot be loaded ({why}); "
            f"download its files again or remove {', '.join(TOKENIZER_FILES)}"
        )
    ):
        inner = transformers.AutoTokenizer.from_pretrained(str(path), local_files_only=True, trust_remote_code=False)
        tokenizer = TextTokenizer(inner)
        tokenizer.encode("a")
    return tokenizer
