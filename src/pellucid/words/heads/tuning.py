"""Tuning the numbers of all rules together, so that the network with every pattern ruled predicts as it did.

The loss is the cross-entropy of the ruled network to the network's own prediction at each position (which varies less
from text to text than the one token that followed), over the tokens that occur in the corpus. Everything but the rules'
tables stays as it is. Entries that are 0 because a term was left out stay 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int

from pellucid.data.corpus import Corpus
from pellucid.ir.program import Program
from pellucid.words.heads.fitting import Course, descend, divergence
from pellucid.words.heads.opened import Attended, OpenedProgram, Pattern, open_program
from pellucid.words.heads.rule import TERMS, Heads, Tables
from pellucid.words.heads.ruled import ruling, run_ruled

TUNING = Course(steps=80, windows=4, rate=0.006)

ANCHOR = 0.5
"""What a nat of divergence of a pattern counts, on average over heads, beside a nat of the prediction."""


def tune_heads(
    program: Program,
    heads: Heads,
    corpus: Corpus,
    course: Course = TUNING,
    anchor: float = ANCHOR,
    terms: Sequence[str] = tuple(TERMS),
) -> Heads:
    """The same rules with numbers tuned on a corpus that they were not fitted to.

    Raises:
        BadInput: the program is no language model over ids whose logits are a linear map.
    """
    opened = open_program(program, readout=[int(token) for token in np.unique(corpus.ids)])
    every = torch.from_numpy(corpus.ids.astype(np.int64))

    def loss(tables: Tables, chosen: np.ndarray) -> Float[torch.Tensor, ""]:
        ids = every[chosen]
        wanted, real = _real(opened, ids)
        ruled = ruling(heads, tables)(ids)
        found = run_ruled(opened, ids, ruled).log_softmax(-1)
        away = torch.stack([divergence(real[name], ruled[name])[:, :, 1:].mean() for name in ruled])
        return -(wanted * found)[:, :-1].sum(-1).mean() + anchor * away.mean()

    return descend(heads, loss, len(every), course, terms)


def _real(
    opened: OpenedProgram, ids: Int[torch.Tensor, "windows context"]
) -> tuple[Float[torch.Tensor, "windows context token"], dict[str, Pattern]]:
    """What the network itself predicts, and where its heads look."""
    patterns: dict[str, Pattern] = {}

    def hook(function: str, given: Attended) -> torch.Tensor:
        patterns[function] = given.pattern()
        return given.mixed(patterns[function])

    with torch.no_grad():
        return opened.run(ids, hook).softmax(-1), patterns
