"""Makes the small files that the loader tests read: whole, and broken on purpose."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "vocab_size": 40,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def llama_tensors(layers: int = 2) -> dict[str, torch.Tensor]:
    """The tensors of the model of `LLAMA` by their Hugging Face names, drawn from a fixed seed."""
    draw = torch.Generator().manual_seed(0)
    shapes = {"model.embed_tokens.weight": (40, 16), "model.norm.weight": (16,)}
    for layer in range(layers):
        at = f"model.layers.{layer}."
        shapes |= {at + "self_attn.q_proj.weight": (16, 16), at + "self_attn.k_proj.weight": (8, 16)}
        shapes |= {at + "self_attn.v_proj.weight": (8, 16), at + "self_attn.o_proj.weight": (16, 16)}
        shapes |= {at + "mlp.gate_proj.weight": (24, 16), at + "mlp.up_proj.weight": (24, 16)}
        shapes |= {at + "mlp.down_proj.weight": (16, 24)}
        shapes |= {at + "input_layernorm.weight": (16,), at + "post_attention_layernorm.weight": (16,)}
    return {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}


def safetensors_bytes(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """A safetensors file of float32 tensors."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, tensor in tensors.items():
        raw = tensor.float().numpy().tobytes()
        header[name] = {
            "dtype": "F32",
            "shape": list(tensor.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    return with_header(header, data)


def with_header(header: object, data: bytes = b"") -> bytes:
    """A safetensors file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def write_folder(
    folder: Path, config: object = LLAMA, tensors: Mapping[str, torch.Tensor] | bytes | None = None
) -> Path:
    """A Hugging Face folder of the small model."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_bytes(config if isinstance(config, bytes) else json.dumps(config).encode())
    tensors = llama_tensors() if tensors is None else tensors
    content = tensors if isinstance(tensors, bytes) else safetensors_bytes(tensors)
    (folder / "model.safetensors").write_bytes(content)
    return folder


def gguf_string(text: str) -> bytes:
    """Text as GGUF holds it."""
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def gguf_value(value: object) -> bytes:
    """A metadata value with its type: unsigned, float, bool, text, or an array of text or integers."""
    if isinstance(value, bool):
        return struct.pack("<IB", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + gguf_string(value)
    assert isinstance(value, list)
    if isinstance(value[0], str):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(gguf_string, value))
    return struct.pack("<IIQ", 9, 5, len(value)) + struct.pack(f"<{len(value)}i", *value)


def gguf_bytes(
    metadata: Mapping[str, object],
    tensors: Mapping[str, torch.Tensor],
    *,
    counts: tuple[int, int] | None = None,
    version: int = 3,
    edit_offset: Callable[[int], int] = int,
    kind: int = 0,
) -> bytes:
    """A GGUF file of float32 tensors; the keywords break it."""
    n_tensors, n_entries = counts or (len(tensors), len(metadata))
    head = b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_entries)
    head += b"".join(gguf_string(key) + gguf_value(value) for key, value in metadata.items())
    infos, data = b"", b""
    for name, tensor in tensors.items():
        dims = list(reversed(tensor.shape))
        infos += gguf_string(name) + struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
        infos += struct.pack("<IQ", kind, edit_offset(len(data)))
        data += pad(tensor.float().numpy().tobytes())
    return pad(head + infos) + data


def pad(raw: bytes, alignment: int = 32) -> bytes:
    """Zero bytes behind, up to the next multiple."""
    return raw + b"\0" * (-len(raw) % alignment)


def llama_gguf(tensors: Mapping[str, torch.Tensor], **changes: object) -> bytes:
    """The small model as llama.cpp converts it: other names, rows of the queries and keys in rotary pairs."""
    letters = [chr(97 + i) for i in range(26)] + [chr(65 + i) for i in range(9)]
    metadata: dict[str, object] = {
        "general.architecture": "llama",
        "general.name": "tiny",
        "llama.context_length": 64,
        "llama.embedding_length": 16,
        "llama.block_count": 2,
        "llama.feed_forward_length": 24,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.layer_norm_rms_epsilon": 1e-6,
        "llama.rope.freq_base": 10000.0,
        "llama.rope.dimension_count": 4,
        "llama.vocab_size": 40,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", *letters, "ab", "Ġ"],
        "tokenizer.ggml.token_type": [3, 3, 3] + [1] * 37,
        "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }
    metadata |= changes
    renamed = {gguf_name(name): in_pairs(name, tensor) for name, tensor in tensors.items()}
    return gguf_bytes({key: value for key, value in metadata.items() if value is not None}, renamed)


def gguf_name(name: str) -> str:
    """llama.cpp's name of a tensor."""
    pairs = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "model.layers": "blk"}
    pairs |= {f"self_attn.{x}_proj": f"attn_{x}" for x in "qkv"} | {"self_attn.o_proj": "attn_output"}
    pairs |= {f"mlp.{x}_proj": f"ffn_{x}" for x in ("gate", "up", "down")}
    pairs |= {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    for ours, theirs in pairs.items():
        name = name.replace(ours, theirs)
    return name


def in_pairs(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Rows of query and key projections ordered so that rotary pairs are neighbours."""
    heads = {"q_proj": 4, "k_proj": 2}.get(name.split(".")[-2])
    if heads is None:
        return tensor
    return tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(tensor.shape)


def rewrite_archive(source: Path, target: Path, edits: Mapping[str, Callable[[bytes], bytes] | bytes | None]) -> Path:
    """A copy of a .pt2 archive with members changed (function), replaced or added (bytes), or left out (None)."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        top = old.namelist()[0].split("/")[0]
        names = [name.removeprefix(top + "/") for name in old.namelist()]
        for name in [*names, *(name for name in edits if name not in names)]:
            edit = edits.get(name, lambda content: content)
            content = edit(old.read(f"{top}/{name}")) if callable(edit) else edit
            if content is not None:
                new.writestr(f"{top}/{name}", content)
    return target
