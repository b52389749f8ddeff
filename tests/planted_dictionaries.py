"""What the tests of dictionaries share: a small random Llama, planted sparse pairs, dictionaries at random."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from pellucid.data.corpus import Corpus
from pellucid.dictionaries.dictionary import Dictionary, JumpReLU, TopK
from pellucid.dictionaries.pairs import Pairs
from pellucid.ir.program import Program
from pellucid.lift.trace import trace
from pellucid.modules.partition import partition
from pellucid.modules.structure import structure

WIDTH, VOCABULARY = 16, 23


@cache
def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=32, tie_word_embeddings=True, initializer_range=0.4,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@cache
def program() -> Program:
    graph = trace(llama(), (torch.randint(0, VOCABULARY, (2, 9)),))
    return structure(graph, partition(graph))


def corpus(windows: int = 12, context: int = 10) -> Corpus:
    ids = np.random.default_rng(5).integers(0, VOCABULARY, (windows, context)).astype(np.int32)
    return Corpus(ids, tuple(f"t{i}" for i in range(VOCABULARY)), None)


def at_random(activation: str = "topk", kind: str = "transcoder", latents: int = 30, width: int = WIDTH) -> Dictionary:
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    act = TopK(4) if activation == "topk" else JumpReLU(draw(latents).abs())
    return Dictionary(kind, act, draw(latents, width), draw(latents), draw(latents, width), draw(width))


def planted(positions: int = 3000, latents: int = 12, reads: int = 10, writes: int = 8, seed: int = 0) -> Pairs:
    """Inputs that are few of some directions, and outputs that are the same few of others."""
    rng = np.random.default_rng(seed)
    into, out = rng.normal(size=(latents, reads)), rng.normal(size=(latents, writes))
    into /= np.linalg.norm(into, axis=1, keepdims=True)
    active = (rng.random((positions, latents)) < 0.1) * rng.uniform(0.5, 1.5, (positions, latents))
    shift = np.full(writes, 3.0)
    return Pairs((active @ into * 5 + 1).astype(np.float16), (active @ out + shift).astype(np.float16))
