"""What a language model can do, before training and after it: held-out loss, minimal pairs, and pronouns.

- loss: mean negative log-likelihood of a corpus, in nats a token (the token that begins a window is not counted).
- BLiMP (Warstadt et al. 2020): share of pairs whose good sentence is the more probable one, as a whole.
- Winograd schemas (Levesque et al. 2012), scored as Trinh & Le (2018) do: which candidate in place of the pronoun makes
  what follows it the more probable. Where nothing follows, the whole sentence is compared.

A model is called as `model(ids)` with int64 [1, tokens] and returns logits, or an object that has them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import nn

from pellucid.data.corpus import Corpus
from pellucid.data.texts import Tokenizer
from pellucid.errors import BadInput
from pellucid.train.run import evaluating

MASK = "[MASK]"
PRECISION = 1.96
"""Standard errors of a 95% interval."""


@dataclass(frozen=True)
class Share:
    """How many of so many were right."""

    right: int
    of: int

    @property
    def value(self) -> float:
        """From 0 to 1."""
        return self.right / self.of

    @property
    def margin(self) -> float:
        """Half of the 95% interval, by the normal approximation."""
        return PRECISION * math.sqrt(self.value * (1 - self.value) / self.of)


@dataclass(frozen=True)
class Schema:
    """A sentence whose pronoun is cut out, two candidates for it, and which of them is meant."""

    before: str
    after: str
    candidates: tuple[str, str]
    answer: int


def held_out_loss(model: nn.Module, corpus: Corpus, windows: int = 8) -> float:
    """Mean negative log-likelihood over a corpus, in nats a token; so many windows at a time."""
    total, count = 0.0, 0
    with evaluating(model):
        for ids in corpus.batches(windows):
            chances = _logits(model(ids))[:, :-1].log_softmax(-1)
            total -= float(chances.gather(-1, ids[:, 1:, None]).double().sum())
            count += ids[:, 1:].numel()
    return total / count


def minimal_pairs(
    model: nn.Module, tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]], seen: Callable[[int], None] | None = None
) -> Share:
    """The share of pairs (good, bad) whose good sentence has the larger probability; `seen` is told how many are done.

    Raises:
        BadInput: there are no pairs.
    """
    if not pairs:
        raise BadInput("minimal pairs: none were given")
    right = 0
    with evaluating(model):
        for done, (good, bad) in enumerate(pairs, start=1):
            scores = [_score(model, tokenizer.encode(text), 1) for text in (good, bad)]
            right += scores[0] > scores[1]
            if seen is not None:
                seen(done)
    return Share(right, len(pairs))


def pronouns(model: nn.Module, tokenizer: Tokenizer, schemas: Sequence[Schema]) -> Share:
    """The share of Winograd schemas in which the candidate that is meant scores higher.

    Raises:
        BadInput: there are no schemas.
    """
    if not schemas:
        raise BadInput("Winograd schemas: none were given")
    right = 0
    with evaluating(model):
        for schema in schemas:
            texts = [tokenizer.encode(schema.before + name + schema.after) for name in schema.candidates]
            follows = min(_common_end(*texts), len(tokenizer.encode(schema.after)))
            starts = [max(1, len(ids) - follows) if follows else 1 for ids in texts]
            scores = [_score(model, ids, start) for ids, start in zip(texts, starts, strict=True)]
            right += scores[schema.answer] > scores[1 - schema.answer]
    return Share(right, len(schemas))


def read_pairs(folder: Path) -> list[tuple[str, str]]:
    """All pairs of a folder of BLiMP's `.jsonl` files, in the order of the files' names.

    Raises:
        BadInput: there is no such file, or a line is not a JSON object with both sentences.
    """
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise BadInput(f"{folder.name}: holds no .jsonl files; give BLiMP's data folder")
    return [pair for file in files for pair in _pairs_of(file)]


def _pairs_of(file: Path) -> list[tuple[str, str]]:
    found = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            pair = (row["sentence_good"], row["sentence_bad"])
        except (json.JSONDecodeError, TypeError, KeyError) as error:
            raise BadInput(f"{file.name}: line {number} has no sentence_good and sentence_bad") from error
        if not all(isinstance(text, str) for text in pair):
            raise BadInput(f"{file.name}: line {number}: both sentences have to be text")
        found.append(pair)
    return found


def read_schemas(file: Path) -> list[Schema]:
    """Winograd schemas of a text file: blocks of sentence with [MASK], the mask, two candidates, the answer.

    Raises:
        BadInput: a block is none.
    """
    blocks = [block.splitlines() for block in file.read_text(encoding="utf-8").split("\n\n") if block.strip()]
    return [_schema(block, f"{file.name}: block {number}") for number, block in enumerate(blocks, start=1)]


def _schema(lines: Sequence[str], where: str) -> Schema:
    parts = [line.strip() for line in lines if line.strip()]
    if len(parts) != 4 or parts[0].count(MASK) != 1:
        raise BadInput(
            f"{where}: give a sentence with one {MASK}, the mask, two candidates and the answer, a line each"
        )
    before, after = (" ".join(part.split()) for part in parts[0].split(MASK))
    names = [" ".join(name.split()) for name in parts[2].split(",")]
    answer = " ".join(parts[3].split())
    if len(names) != 2 or answer not in names:
        raise BadInput(f"{where}: the answer {answer!r} is not one of two candidates separated by a comma")
    glue = "" if not after or after[0] in ".,;:!?'" else " "
    return Schema(before + " " if before else "", glue + after, (names[0], names[1]), names.index(answer))


def _common_end(one: Sequence[int], other: Sequence[int]) -> int:
    """How many ids two texts have in common at their ends."""
    length = 0
    while length < min(len(one), len(other)) and one[-1 - length] == other[-1 - length]:
        length += 1
    return length


def _score(model: nn.Module, ids: Sequence[int], start: int) -> float:
    """The log-probability of the ids from `start` on."""
    row: Int[torch.Tensor, "1 tokens"] = torch.tensor([[*ids]], dtype=torch.int64)
    if row.shape[1] < 2:
        return 0.0
    chances = _logits(model(row))[0, start - 1 : -1].log_softmax(-1)
    return float(chances.gather(-1, row[0, start:, None]).double().sum())


def _logits(output: Any) -> Float[torch.Tensor, "batch seq vocabulary"]:
    logits: torch.Tensor = output.logits if hasattr(output, "logits") else output
    return logits
