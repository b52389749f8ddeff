"""Running a program with some functions replaced by their dictionaries, and the cross-entropy of what it predicts.

The first position of a window stays as it is: its token is always the same, so what a function writes there is one
constant, and no dictionary is trained on it. What is predicted there is not counted either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int

from pellucid.dictionaries.dictionary import Dictionary
from pellucid.ir.interpret import Scope, Values, run_block
from pellucid.ir.program import Program

Change: TypeAlias = Callable[[torch.Tensor, Callable[[], torch.Tensor]], torch.Tensor]
"""From what a function takes, and a call that gives what it would give, to what it gives instead."""

Logits = Float[torch.Tensor, "windows context vocabulary"]
Ids = Int[torch.Tensor, "windows context"]


def logits_with(program: Program, ids: Ids, changes: Mapping[str, Change]) -> Logits:
    """The program's first output with functions changed from the second position on; gradients pass."""

    def call(name: str, values: Values) -> tuple[Any, ...]:
        def before() -> tuple[Any, ...]:
            return run_block(program[name].reading("weights").body, values, scope)

        if name not in changes:
            return before()
        x = values[0]
        made: list[torch.Tensor] = []

        def whole() -> torch.Tensor:
            if not made:
                made.append(before()[0])
            return made[0]

        first = run_block(program[name].reading("weights").body, [x[:, :1]], scope)[0]
        return (torch.cat([first, changes[name](x, whole)[:, 1:]], dim=1),)

    scope = Scope(program.weights, call)
    (logits, *_) = call(program.entry, [ids])
    assert isinstance(logits, torch.Tensor)
    return logits


def as_change(dictionary: Dictionary) -> Change:
    """What a dictionary writes instead of what its function gives."""
    if dictionary.kind == "autoencoder":
        return lambda x, whole: dictionary(whole())
    return lambda x, whole: dictionary(x)


def constant(value: Float[torch.Tensor, " out"]) -> Change:
    """The same at every position: a mean, or zero."""
    return lambda x, whole: value.expand(*x.shape[:-1], -1)


def losses(logits: Logits, ids: Ids) -> Float[torch.Tensor, " windows"]:
    """Mean cross-entropy of each window, in nats a token, of what is predicted after the first position."""
    wanted = ids[:, 2:]
    flat = F.cross_entropy(logits[:, 1:-1].reshape(-1, logits.shape[-1]), wanted.reshape(-1), reduction="none")
    return flat.view(wanted.shape).mean(1)


def all_changed(dictionaries: Mapping[str, Dictionary], names: Sequence[str] | None = None) -> dict[str, Change]:
    """Dictionaries as changes, all of them or those of some functions."""
    return {name: as_change(dictionaries[name]) for name in (dictionaries if names is None else names)}
