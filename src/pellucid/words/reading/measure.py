"""What the network loses when parts of it run by words, beside the same parts knocked out and beside n-gram models.

Recovered is (L_ablated - L_words) / (L_ablated - L_real), L the cross-entropy of the next token in nats; ablated is the
part put out by its mean (at the first position, a constant, by what it is there) or by zero. Intervals are bootstraps
over windows, all losses of a window drawn together. The token after the first position is not scored, as for n-grams.
Controls: the same labels dealt to other latents, and labels that read another window's text.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from pellucid.data.corpus import Corpus
from pellucid.ir.interpret import Replacement, Values, run_functions
from pellucid.ir.program import Program
from pellucid.words.reading.install import DICTIONARY, choose, parts_of
from pellucid.words.reading.ngrams import FIRST_SCORED
from pellucid.words.reading.settle import Mean, replaced_by, zeroed
from pellucid.words.scores.intervals import DRAWS, Estimate

WINDOWS = 4
"""Windows that run at the same time."""

Losses = Float[np.ndarray, " windows"]


@dataclass(frozen=True, eq=False)
class Measured:
    """Losses of each window, in nats a token, of some parts of the network.

    Attributes:
        name: of the parts together, `parts` one by one.
        real, words, mean, zero: the network as it is, with the parts by words, by their means, by zeros.
    """

    name: str
    parts: tuple[str, ...]
    real: Losses
    words: Losses
    mean: Losses
    zero: Losses

    def recovered(self, ablation: str = "mean", seed: int = 0) -> Estimate:
        """The share of what knocking the parts out costs that words do not cost; ablation "mean" or "zero"."""
        return recovered(self.real, self.words, self.zero if ablation == "zero" else self.mean, seed)


def recovered(real: Losses, words: Losses, ablated: Losses, seed: int = 0) -> Estimate:
    """(L_ablated - L_words) / (L_ablated - L_real) with a 95 % interval by bootstrap over windows."""
    count = len(real)
    times = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=DRAWS)
    times = np.concatenate([np.ones((1, count)), times])
    shares = _share(times @ real, times @ words, times @ ablated)
    low, high = np.quantile(shares[1:], [0.025, 0.975])
    return Estimate(float(shares[0]), float(low), float(high), count)


def _share(
    real: Float[np.ndarray, " draws"], words: Float[np.ndarray, " draws"], ablated: Float[np.ndarray, " draws"]
) -> Float[np.ndarray, " draws"]:
    gap = np.where(ablated == real, np.nan, ablated - real)
    shares: Float[np.ndarray, " draws"] = (ablated - words) / gap
    return shares


def groups(program: Program) -> dict[str, tuple[str, ...]]:
    """What is measured together: each part alone, all MLPs, all attention, the whole."""
    every = tuple(parts_of(program))
    mlps = tuple(part for part in every if part + DICTIONARY in program.functions)
    attention = tuple(part for part in every if part not in mlps)
    wanted = {"all MLPs": mlps, "all attention": attention, "whole network": every if mlps and attention else ()}
    return {**{part: (part,) for part in every}, **{name: parts for name, parts in wanted.items() if parts}}


def measure(
    program: Program,
    corpus: Corpus,
    means: Mapping[str, Mean],
    wanted: Mapping[str, Collection[str]] | None = None,
    report: Callable[[str], None] | None = None,
) -> tuple[Measured, ...]:
    """Measure parts of a program on words on a corpus that nothing was fitted to.

    Args:
        means: what each part puts out on average (`settle.means`).
        wanted: names and their parts (default: `groups`).
        report: told the name of each before it is measured.
    """
    real = window_losses(program, corpus)
    found = []
    for name, parts in (groups(program) if wanted is None else wanted).items():
        if report is not None:
            report(name)
        own = {part: means[part] for part in parts}
        found.append(
            Measured(
                name, tuple(parts), real, window_losses(program, corpus, parts),
                window_losses(program, corpus, instead={part: replaced_by(mean) for part, mean in own.items()}),
                window_losses(program, corpus, instead={p: replaced_by(mean) for p, mean in zeroed(own).items()}),
            )
        )  # fmt: skip
    return tuple(found)


def window_losses(
    program: Program,
    corpus: Corpus,
    words: Collection[str] = (),
    instead: Mapping[str, Replacement] | None = None,
) -> Losses:
    """The loss of each window when some parts run by words and some functions are replaced.

    Args:
        words: parts (`install.parts_of`); all others run exactly.
        instead: functions that run something else.
    """
    parts = parts_of(program)
    running = choose(program, [name for part in words for name in parts[part]])
    found = []
    for ids in corpus.batches(WINDOWS):
        logits = run_functions(running, [ids], None, replace=instead)[0]
        scored = logits[:, FIRST_SCORED - 1 : -1].flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(scored, ids[:, FIRST_SCORED:].flatten(), reduction="none")
        found.append(loss.view(len(ids), -1).double().mean(1).numpy())
    return np.concatenate(found)


def dealt_to_others(program: Program, parts: Collection[str], seed: int = 0) -> dict[str, Replacement]:
    """The control in which every label of a dictionary is dealt to another of its latents."""
    rng = np.random.default_rng(seed)

    def dealt(name: str) -> Replacement:
        count = len(program.weights[f"{name}.labels.values"])
        order = torch.from_numpy(rng.permutation(count))
        return lambda values: (run_functions(program, values, "words", start=name)[0][..., order],)

    return {part + DICTIONARY: dealt(part + DICTIONARY) for part in parts if part + DICTIONARY in program.functions}


def of_another_text(program: Program, parts: Collection[str]) -> dict[str, Replacement]:
    """The control in which labels read the text of the window before (of those that run together)."""

    def other(name: str) -> Replacement:
        def run(values: Values) -> Values:
            *given, ids = values
            return run_functions(program, [*given, ids.roll(1, 0)], "words", start=name)

        return run

    return {part + DICTIONARY: other(part + DICTIONARY) for part in parts if part + DICTIONARY in program.functions}
