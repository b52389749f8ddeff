"""A network of one layer whose heads are known: the first looks at the token before, the second at its own token's
copies, the third at random."""

from functools import cache

import numpy as np
import pytest
import torch

import pellucid
from pellucid.data.corpus import Corpus

VOCABULARY, CONTEXT, SIZE, HEADS = 40, 16, 16, 3
NAMES = {"previous": 0, "copies": 1, "random": 2}
PIECES = ("<s>", *(f" w{i}." if i % 7 == 3 else f" w{i}" for i in range(1, VOCABULARY)))


def corpus(count: int, seed: int = 0) -> Corpus:
    """Random tokens, some windows with a second beginning."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, VOCABULARY, (count, CONTEXT)).astype(np.int32)
    ids[:, 0] = 0
    ids[::5, CONTEXT // 2] = 0
    return Corpus(ids, PIECES, 0)


@cache
def network():
    """The model and its program."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_embd=SIZE * HEADS, n_layer=1, n_head=HEADS, n_positions=CONTEXT, initializer_range=0.2
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        _plant(model.transformer)
    graph = pellucid.trace(model, (), {"input_ids": torch.arange(12).reshape(2, 6)})
    return model, pellucid.structure(graph, pellucid.partition(graph))


def _plant(made) -> None:
    """Positions in the first features, tokens in the others; queries and keys of two heads read one or the other."""
    made.wpe.weight.zero_()
    made.wpe.weight[:, :SIZE] = 3 * torch.eye(CONTEXT)
    made.wte.weight[:, :SIZE] = 0
    made.wte.weight[:, SIZE:] = torch.randn(VOCABULARY, SIZE * (HEADS - 1)).sign()
    table = made.h[0].attn.c_attn.weight
    keys = SIZE * HEADS
    table[:, : 2 * SIZE] = 0
    table[:, keys : keys + 2 * SIZE] = 0
    table[1:SIZE, : SIZE - 1] = 2 * torch.eye(SIZE - 1)
    table[:SIZE, keys : keys + SIZE] = 2 * torch.eye(SIZE)
    table[SIZE : 2 * SIZE, SIZE : 2 * SIZE] = torch.eye(SIZE)
    table[SIZE : 2 * SIZE, keys + SIZE : keys + 2 * SIZE] = torch.eye(SIZE)


def real_patterns(model, ids: np.ndarray) -> np.ndarray:
    """Where heads look as the model itself says: windows, heads, query, key."""
    model.set_attn_implementation("eager")
    with torch.no_grad():
        return model(torch.from_numpy(ids.astype(np.int64)), output_attentions=True).attentions[0].numpy()
