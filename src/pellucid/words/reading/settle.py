"""One pass of the exact network over a text, for what words are put beside.

What a dictionary's labels miss is set to its mean (for the first position: to what it is there, a constant); means of
every part are what it is ablated to; correlations say how well each label predicts its latent. Everything is summed as
the text streams by; the first position is left out of all sums.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from pellucid.data.corpus import Corpus
from pellucid.ir.interpret import Values, run_functions
from pellucid.ir.program import Program
from pellucid.words.reading.install import CONSTANT, DICTIONARY, FIRST, MISSED, WRITTEN, has_words, parts_of

WINDOWS = 8
"""Windows that run at the same time."""


@dataclass(frozen=True, eq=False)
class Mean:
    """What a part puts out on average, and at the first position."""

    rest: Float[torch.Tensor, " width"]
    first: Float[torch.Tensor, " width"]


def settle(program: Program, corpus: Corpus) -> Program:
    """The program with what every dictionary's labels miss set to its mean on a corpus, under exact inputs."""
    sums: dict[str, _Sum] = {}
    written: dict[str, torch.Tensor] = {}
    described = [name for name in parts_of(program) if name + DICTIONARY in program.functions]

    def watch(name: str, inputs: Values, outputs: Values) -> None:
        if name.removesuffix(DICTIONARY) in described and name.endswith(DICTIONARY):
            latents = run_functions(program, inputs, "words", start=name)
            owner = name.removesuffix(DICTIONARY)
            (written[owner],) = run_functions(program, latents, "weights", start=owner + WRITTEN)
        elif name in described:
            sums.setdefault(name, _Sum()).add(outputs[0] - written.pop(name))

    _stream(program, corpus, watch)
    weights = dict(program.weights)
    for name, total in sums.items():
        weights |= {name + MISSED + CONSTANT: total.mean().rest, name + MISSED + FIRST: total.mean().first}
    return dataclasses.replace(program, weights=weights)


def means(program: Program, corpus: Corpus) -> dict[str, Mean]:
    """What every part that has words puts out on average in the exact network."""
    sums = {name: _Sum() for name in parts_of(program)}

    def watch(name: str, _: Values, outputs: Values) -> None:
        if name in sums:
            sums[name].add(outputs[0])

    _stream(program, corpus, watch)
    return {name: total.mean() for name, total in sums.items()}


def label_correlations(program: Program, corpus: Corpus) -> dict[str, Float[np.ndarray, " latents"]]:
    """Pearson's r of every latent with what its label says, by part; NaN for latents that do not vary."""
    sums: dict[str, _Products] = {}

    def watch(name: str, inputs: Values, outputs: Values) -> None:
        if name.endswith(DICTIONARY) and has_words(program[name]):
            (said,) = run_functions(program, inputs, "words", start=name)
            sums.setdefault(name.removesuffix(DICTIONARY), _Products()).add(outputs[0][:, 1:], said[:, 1:])

    _stream(program, corpus, watch)
    return {name: total.correlation() for name, total in sums.items()}


def _stream(program: Program, corpus: Corpus, watch: Callable[[str, Values, Values], None]) -> None:
    for ids in corpus.batches(WINDOWS):
        run_functions(program, [ids], "weights", watch=watch)


class _Sum:
    def __init__(self) -> None:
        self.total: torch.Tensor | float = 0.0
        self.count = 0
        self.first: torch.Tensor | None = None

    def add(self, values: torch.Tensor) -> None:
        """Windows of values."""
        rest = values[:, 1:].reshape(-1, values.shape[-1])
        self.total = self.total + rest.double().sum(0)
        self.count += len(rest)
        self.first = values[:, 0].mean(0) if self.first is None else self.first

    def mean(self) -> Mean:
        """Of all positions but the first, and of the first."""
        assert isinstance(self.total, torch.Tensor)
        assert self.first is not None
        return Mean((self.total / self.count).float(), self.first)


class _Products:
    """Sums for correlations, in double precision."""

    def __init__(self) -> None:
        self.sums: torch.Tensor | float = 0.0
        self.count = 0

    def add(self, real: torch.Tensor, said: torch.Tensor) -> None:
        """Windows of both."""
        x, y = (values.reshape(-1, values.shape[-1]).double() for values in (real, said))
        self.sums = self.sums + torch.stack([part.sum(0) for part in (x, y, x * x, y * y, x * y)])
        self.count += len(x)

    def correlation(self) -> Float[np.ndarray, " latents"]:
        """0 where only what is said does not vary."""
        assert isinstance(self.sums, torch.Tensor)
        x, y, xx, yy, xy = (self.sums / self.count).numpy()
        real, said = np.maximum(xx - x * x, 0), np.maximum(yy - y * y, 0)
        flat = said <= 1e-12 * np.maximum(yy, 1e-300)
        with np.errstate(invalid="ignore", divide="ignore"):
            r = np.where(flat, 0.0, (xy - x * y) / np.sqrt(real * np.where(flat, 1.0, said)))
        found: Float[np.ndarray, " latents"] = np.where(real <= 1e-12 * np.maximum(xx, 1e-300), np.nan, r)
        return found


def replaced_by(mean: Mean) -> Callable[[Values], Values]:
    """A function that puts out a mean whatever it is given."""

    def constant(values: Values) -> Values:
        shape = (*values[0].shape[:2], len(mean.rest))
        return (torch.where(torch.arange(shape[1])[:, None] == 0, mean.first, mean.rest).expand(shape),)

    return constant


def zeroed(means_of: Mapping[str, Mean]) -> dict[str, Mean]:
    """The same parts with zeros."""
    return {name: Mean(torch.zeros_like(mean.rest), torch.zeros_like(mean.first)) for name, mean in means_of.items()}
