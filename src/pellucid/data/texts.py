"""Texts for language models: paragraphs, tokens, sequences of bounded length. Nothing is ever padded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from operator import index
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch

from pellucid.data.arrays import one_line
from pellucid.data.batches import Batch
from pellucid.errors import BadInput

SHORTEST = 2
"""A sequence of one token predicts nothing that could be checked."""


@runtime_checkable
class Tokenizer(Protocol):
    """What turns text into ids and back. Tokenizers of `transformers` fit."""

    def encode(self, text: str, /) -> Sequence[int]:
        """Return the ids of a text."""
        ...

    def decode(self, ids: Sequence[int], /) -> str:
        """Return the text of ids."""
        ...


def paragraphs(path: Path) -> list[str]:
    """Return the paragraphs of a UTF-8 file: separated by blank lines or, where it has none, its lines."""
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{path.name}: not UTF-8 text (byte {error.start}): convert it, say with iconv -t UTF-8"
        ) from error
    parts = re.split(r"\n\s*\n", text)
    return [part.strip() for part in (parts if len(parts) > 1 else text.splitlines()) if part.strip()]


def sequences(text: str, tokenizer: Tokenizer | None, context: int, where: str) -> Iterator[Batch]:
    """Yield a text as sequences of 2 to `context` ids, each a batch int64 [1, length]; a last single token is left out.

    Raises BadInput without a tokenizer, or if the tokenizer fails or returns no ids.
    """
    if tokenizer is None:
        raise BadInput(f"{where}: text needs a tokenizer: pass one, or give token ids as an integer array")
    if context < SHORTEST:
        raise BadInput(f"{where}: a context of {context} tokens is too short: use at least {SHORTEST}")
    ids = _ids(text, tokenizer, where)
    for start in range(0, len(ids), context):
        chunk = ids[start : start + context]
        if len(chunk) >= SHORTEST:
            yield Batch({0: torch.tensor([chunk], dtype=torch.int64)})


def _ids(text: str, tokenizer: Tokenizer, where: str) -> list[int]:
    try:
        return [index(i) for i in tokenizer.encode(text)]
    except (LookupError, RuntimeError, TypeError, ValueError) as error:
        raise BadInput(
            f"{where}: the tokenizer failed on a text ({one_line(error)}): encode has to return integers"
        ) from error
