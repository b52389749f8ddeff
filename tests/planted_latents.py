"""A small language model with a transcoder in one MLP, and a text for it."""

from __future__ import annotations

import numpy as np
import torch
from planted_language import VOCABULARY, WIDTH, language_program

from pellucid.data.corpus import Corpus
from pellucid.dictionaries.dictionary import Dictionary, TopK
from pellucid.dictionaries.install import install
from pellucid.ir.program import Program

LATENTS = 20
PIECES = tuple(f" w{i}" for i in range(VOCABULARY))


def latent_program() -> Program:
    """The dictionary is that of layers.1.mlp; one latent is active at a time."""
    generator = torch.Generator().manual_seed(0)
    encoder, decoder = (torch.randn(LATENTS, WIDTH, generator=generator) for _ in range(2))
    dictionary = Dictionary("transcoder", TopK(1), encoder, torch.zeros(LATENTS), decoder, torch.zeros(WIDTH))
    return install(language_program(), "layers.1.mlp", dictionary)


def random_corpus() -> Corpus:
    """200 windows of random words."""
    return Corpus(np.random.default_rng(0).integers(0, VOCABULARY, (200, 24)), PIECES)
