"""Pretrained language models as tasks: fine-tuning on a text, the next token to be predicted.

The network that is trained is a copy of the pretrained one that returns nothing but logits. Its table of tokens stays
as it was trained: what tokens mean is the same for all regions, and the clusters of tokens that stand for them in the
unit graph stay the same units from the first step to the last.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import nn
from torch.nn.functional import cross_entropy

from pellucid.data.corpus import Corpus
from pellucid.data.corpus_files import read_corpus
from pellucid.errors import BadInput
from pellucid.lift.load import Network, load
from pellucid.lift.vocabulary import beginning_of, encode_bare, pieces_of
from pellucid.train.task import Batch, Plan, Task

CONTEXT = 128
"""Tokens of a window."""

TOGETHER = 32
"""Windows that are run at the same time at most, whatever is asked for: their logits have to be held."""

HELD = 32
"""Windows of the last tenth that accuracy is taken on."""

PLAN = Plan(
    steps=300, batch=8, rate=3e-4, warming=0.05, cooling=0.7, sparsity=0.0, kept=0.0, warm=0.1, severed=1.0,
    strength=1.0, decay=0.0, pairs=16, restarts=1, saved=50, reported=50,
)  # fmt: skip


class Logits(nn.Module):
    """A language model as a function from ids to logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Int[torch.Tensor, "windows context"]) -> Float[torch.Tensor, "windows context vocabulary"]:
        """The logits of the token after each one."""
        output: Any = self.model(ids, use_cache=False)
        logits: torch.Tensor = output.logits
        return logits


def fine_tuning(model: nn.Module, corpus: Corpus, name: str) -> Task:
    """The task of a pretrained causal model of transformers and a text; its last tenth of windows is held out.

    Raises:
        BadInput: too few windows, ids beyond the model's vocabulary, or a model that gives no logits.
    """
    fitted, held = parts(corpus)
    wrapped = Logits(copy.deepcopy(model).eval())
    _tried(wrapped, corpus, name)
    rows = torch.from_numpy(fitted.ids.astype("int64"))
    asked = held.rows(slice(0, HELD))

    def build() -> nn.Module:
        network = copy.deepcopy(wrapped)
        for table in _tables(network):
            table.weight.requires_grad_(False)
        return network

    def batch(generator: torch.Generator, samples: int) -> Batch:
        windows = rows[torch.randint(len(rows), (min(samples, TOGETHER),), generator=generator)]
        return (windows[:, :-1],), windows[:, 1:]

    def accuracy(network: nn.Module) -> float:
        right = [network(ids[:, :-1]).argmax(-1) == ids[:, 1:] for ids in asked.batches(8)]
        return float(torch.cat(right).float().mean())

    return Task(name, build, batch, next_token, accuracy)


def parts(corpus: Corpus) -> tuple[Corpus, Corpus]:
    """The windows that are trained on, and the last tenth, at least one.

    Raises:
        BadInput: a single window.
    """
    if len(corpus) < 2:
        raise BadInput("a text of one window cannot be held out and trained on; give a longer one with --text")
    held = max(1, len(corpus) // 10)
    return corpus.rows(slice(0, len(corpus) - held)), corpus.rows(slice(len(corpus) - held, len(corpus)))


def next_token(
    outputs: Float[torch.Tensor, "windows context vocabulary"], targets: Int[torch.Tensor, "windows context"]
) -> Float[torch.Tensor, ""]:
    """Cross-entropy in nats a token."""
    return cross_entropy(outputs.flatten(0, 1), targets.flatten())


def read_text(network: Network, text: Path, context: int = CONTEXT) -> Corpus:
    """A text as windows of a model's ids.

    Raises:
        BadInput: the model has no tokenizer, or the file is no text of a window.
    """
    tokenizer = network.tokenizer
    if tokenizer is None:
        raise BadInput(f"{network.source}: has no tokenizer to read {text.name} with; put its tokenizer.json beside it")
    pieces = pieces_of(tokenizer, network.vocabulary or tokenizer.vocabulary)
    return read_corpus(text, lambda words: encode_bare(tokenizer, words), pieces, context, beginning_of(tokenizer))


def pretrained(source: str) -> Network:
    """A language model from a Hugging Face folder, a GGUF file, or smollm2.

    Raises:
        BadInput: it cannot be loaded, or is no causal language model.
    """
    network = load(source)
    if network.vocabulary is None or network.exported is not None:
        raise BadInput(f"{network.source}: is no language model with its code; give a Hugging Face folder or smollm2")
    return network


def _tables(network: nn.Module) -> list[nn.Embedding]:
    return [part for part in network.modules() if isinstance(part, nn.Embedding)]


def _tried(network: nn.Module, corpus: Corpus, name: str) -> None:
    """Run the model once. Raises BadInput where it gives no logits for its ids."""
    vocabulary = max((table.num_embeddings for table in _tables(network)), default=0)
    if int(corpus.ids.max()) >= vocabulary:
        raise BadInput(f"{name}: the text has ids beyond its vocabulary of {vocabulary}; take its own tokenizer")
    try:
        with torch.no_grad():
            shape = network(torch.from_numpy(corpus.ids[:1, :-1].astype("int64"))).shape
    except (AttributeError, TypeError, IndexError, RuntimeError, ValueError) as error:
        raise BadInput(
            f"{name}: gives no logits for {corpus.ids.shape[1] - 1} tokens; give a causal language model"
        ) from error
    if len(shape) != 3:
        raise BadInput(f"{name}: its logits have shape {list(shape)}; give a causal language model")
