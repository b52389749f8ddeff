"""The network with its attention patterns ruled: everything else is real, and gradients reach the rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float

from pellucid.data.corpus import Corpus
from pellucid.words.heads.opened import Attended, OpenedProgram, Pattern
from pellucid.words.heads.rule import Heads, Tables

Ruling: TypeAlias = Callable[[torch.Tensor], Mapping[str, Pattern]]
"""From ids to patterns of all heads of some attention functions."""

WINDOWS = 4


def ruling(heads: Heads, tables: Tables | None = None) -> Ruling:
    """The patterns that rules say, by function."""

    def ruled(ids: torch.Tensor) -> Mapping[str, Pattern]:
        pattern = heads.pattern(ids, tables)
        return {function: pattern[:, list(index)] for function, index in heads.by_function.items()}

    return ruled


def only(functions: tuple[str, ...], rule: Ruling) -> Ruling:
    """The same ruling for some functions alone."""
    return lambda ids: {name: pattern for name, pattern in rule(ids).items() if name in functions}


def run_ruled(
    opened: OpenedProgram, ids: torch.Tensor, patterns: Mapping[str, Pattern]
) -> Float[torch.Tensor, "windows context token"]:
    """The logits when the heads of some functions look where they are told, all others where they really look."""

    def hook(function: str, given: Attended) -> torch.Tensor:
        told = patterns.get(function)
        return given.mixed(given.pattern() if told is None else told)

    return opened.run(ids, hook)


def window_losses(opened: OpenedProgram, corpus: Corpus, rule: Ruling | None = None) -> Float[np.ndarray, " windows"]:
    """Mean cross-entropy of the next token in nats, of each window; the beginning token predicts, and is not predicted.

    Args:
        opened: with all tokens in its readout.
        corpus: windows.
        rule: patterns to use, None for the network as it is.
    """
    found = []
    with torch.no_grad():
        for ids in corpus.batches(WINDOWS):
            logits = run_ruled(opened, ids, {} if rule is None else rule(ids))[:, :-1]
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
            found.append(loss.view(len(ids), -1).double().mean(1).numpy())
    return np.concatenate(found)
