"""Are weights integers or simple fractions, once free scales are taken out?

A hidden ReLU unit computes the same when its in-weights and bias are divided by any t > 0 and its out-weights
multiplied by t (a unit without nonlinearity: by any t other than 0). So, layer by layer:

1. Multiply the columns of the layer by the scales of the units below.
2. Hidden layer: for each unit try to make its largest weight 1, 2, 3, ...; the first number at which all others are
   within the tolerance of integers wins; t is then the least-squares fit of the row to its integers.
3. Last layer: no scale is free. For each row the first common denominator 1, 2, ... at which all entries fit.

Any number is close to some fraction. So each row has the expected number of denominators up to the one it needed at
which random numbers would have fitted as well, sum over d of (2 * tolerance * d) ^ (free numbers); zeros do not count,
nor does the number that a free scale makes whole. Denominators at which already half of all single numbers fit are not
tried. `chance` is the probability that random rows all fit with a product as small as this (Fisher's method for values
cut at one half), and must be small.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from scipy.special import gammaincc

from pellucid.code.expressions.bits import integers_bits, naturals_bits, require_finite
from pellucid.code.linear.layer import Layer


@dataclass(frozen=True, eq=False)
class Fractions:
    """A layer in fractions: row i is numerators[i] / denominators[i], and its bias likewise.

    `deviation` is the largest deviation of an entry as a share of the largest weight of its row, `chance` how often
    random numbers would do as well.
    """

    numerators: Int[np.ndarray, "out in"]
    bias_numerators: Int[np.ndarray, "out"]
    denominators: Int[np.ndarray, "out"]
    deviation: float
    chance: float
    bits: int

    def layer(self) -> Layer:
        """The layer in double precision."""
        return Layer(self.numerators / self.denominators[:, None], self.bias_numerators / self.denominators)


@dataclass(frozen=True, eq=False)
class Rescaled:
    """A chain of layers with free scales taken out; layers that are no simple fractions stay floats.

    What hidden unit j of layer l computed is now scales[l][j] times as small. `deviation` is the largest of any layer.
    """

    layers: tuple[Fractions | Layer, ...]
    scales: tuple[Float[np.ndarray, "_"], ...]
    deviation: float
    bits: int


@dataclass(frozen=True)
class Search:
    """How far to look: denominators of the read-out, whole numbers of a hidden unit, and the chance to be believed."""

    max_denominator: int = 12
    max_numerator: int = 1024
    max_chance: float = 1e-3


DEFAULT_SEARCH = Search()
_HALF = 0.5


@dataclass(frozen=True, eq=False)
class _Row:
    """scale * numerators is the row, in units of 1 / denominator; no chance where no number had to fit."""

    numerators: Int[np.ndarray, "entries"]
    denominator: int
    scale: float
    deviation: float
    chance: float | None


def simple_fractions(
    weight: Float[np.ndarray, "out in"],
    bias: Float[np.ndarray, "out"] | None = None,
    *,
    tolerance: float,
    search: Search = DEFAULT_SEARCH,
) -> Fractions | None:
    """Rows of `weight` (and bias) as fractions with a common denominator each, without any rescaling, or None.

    `tolerance` is the largest deviation of an entry, as a share of the largest weight of its row; below the rounding of
    the numbers themselves it is raised to that. Raises `BadInput` on NaN or infinity.
    """
    layer = Layer(weight, np.zeros(len(weight), weight.dtype) if bias is None else bias)
    require_finite("fractions weight", layer.weight)
    require_finite("fractions bias", layer.bias)
    slack = _slack(weight, tolerance)
    found = _fractions(_fit_rows(layer, partial(_fixed_row, tolerance=slack, search=search)))
    return found if found is not None and found.chance <= search.max_chance else None


def rescale_to_fractions(
    layers: Sequence[Layer],
    *,
    activation: Literal["relu", "identity"],
    tolerance: float,
    search: Search = DEFAULT_SEARCH,
) -> Rescaled | None:
    """A chain of layers, `activation` between them, with hidden units rescaled to integers and the last in fractions.

    None where no layer is believably rational. `tolerance` as in `simple_fractions`. Raises `BadInput` on NaN.
    """
    for number, layer in enumerate(layers):
        require_finite(f"fractions weight of layer {number}", layer.weight)
        require_finite(f"fractions bias of layer {number}", layer.bias)
    scale = np.ones(layers[0].weight.shape[1]) if layers else np.ones(0)
    done: list[Fractions | Layer] = []
    scales = []
    for number, layer in enumerate(layers):
        last = number == len(layers) - 1
        scaled = Layer(layer.weight * scale, layer.bias.astype(np.float64))
        slack = _slack(layer.weight, tolerance)
        fit = _fixed_row if last else _signed_row if activation == "identity" else _free_row
        rows = _fit_rows(scaled, partial(fit, tolerance=slack, search=search))
        fractions = _fractions(rows)
        believed = fractions is not None and (fractions.chance <= search.max_chance or _is_free(rows))
        done.append(fractions if fractions is not None and believed else scaled)
        scale = np.array([row.scale for row in rows]) if believed else np.ones(len(layer.bias))
        scales.append(scale)
    found = [layer for layer in done if isinstance(layer, Fractions)]
    if not any(layer.chance <= search.max_chance for layer in found):
        return None
    return Rescaled(
        layers=tuple(done),
        scales=tuple(scales[:-1]),
        deviation=max(layer.deviation for layer in found),
        bits=sum(layer.bits for layer in done),
    )


def _slack(weight: Float[np.ndarray, "out in"], tolerance: float) -> float:
    """The tolerance, at least the rounding of the weights themselves."""
    return max(tolerance, 4 * float(np.finfo(weight.dtype).eps))


def _fit_rows(layer: Layer, fit: Callable[[Float[np.ndarray, "entries"]], _Row | None]) -> list[_Row]:
    """Each unit's in-weights with its bias behind them, fitted; nothing as soon as one cannot be."""
    rows = []
    for entries in np.column_stack([layer.weight, layer.bias]).astype(np.float64):
        row = fit(entries)
        if row is None:
            return []
        rows.append(row)
    return rows


def _unit(row: Float[np.ndarray, "entries"]) -> float:
    """The largest weight of a row; its bias where there is none but zeros."""
    return float(np.abs(row[:-1]).max(initial=0.0)) or abs(float(row[-1]))


def _expected(tolerance: float, free: int, most: int) -> Float[np.ndarray, "tried"]:
    """How many of the denominators up to 1, 2, ... would fit `free` random numbers, as far as they are worth trying."""
    fitting = 2 * tolerance * np.arange(1.0, most + 1)
    tried = most if free == 0 else int(np.searchsorted(np.cumsum(fitting), _HALF, side="right"))
    expected: Float[np.ndarray, "tried"] = np.cumsum(fitting[:tried] ** free) if free else np.ones(most)
    return expected


def _fixed_row(row: Float[np.ndarray, "entries"], tolerance: float, search: Search) -> _Row | None:
    """The row in fractions with the smallest common denominator, or None."""
    unit = _unit(row)
    free = int(np.count_nonzero(np.abs(row) > tolerance * unit))
    expected = _expected(tolerance * unit, free, search.max_denominator)
    denominators = np.arange(1, expected.size + 1)
    numerators = np.rint(row * denominators[:, None])
    deviation = np.abs(row - numerators / denominators[:, None]).max(axis=1)
    good = (deviation <= tolerance * unit) & (np.abs(numerators).max(axis=1) < 2**31)
    if not good.any():
        return None
    first = int(np.argmax(good))
    share = float(deviation[first] / unit) if unit else 0.0
    return _Row(
        numerators[first].astype(np.int64),
        int(denominators[first]),
        1.0,
        share,
        float(expected[first]) if free else None,
    )


def _free_row(row: Float[np.ndarray, "entries"], tolerance: float, search: Search) -> _Row | None:
    """The row as positive scale times integers, the largest weight as small an integer as possible, or None."""
    unit = _unit(row)
    if unit == 0:
        return _Row(np.zeros(row.size, np.int64), 1, 1.0, 0.0, None)
    free = int(np.count_nonzero(np.abs(row) > tolerance * unit)) - 1
    expected = _expected(tolerance, free, search.max_numerator)
    telling = row[np.argsort(-np.abs(row), kind="stable")[:16]] / unit
    for whole in _wholes(telling, tolerance, np.arange(1, expected.size + 1)):
        numerators = np.rint(row / unit * whole)
        scale = float(row @ numerators / (numerators @ numerators))
        numerators = np.rint(row / scale)
        deviation = float(np.abs(row - scale * numerators).max())
        if deviation <= tolerance * unit and np.abs(numerators).max() < 2**31:
            chance = float(expected[whole - 1]) if free else None
            return _Row(numerators.astype(np.int64), 1, scale, deviation / unit, chance)
    return None


def _wholes(
    telling: Float[np.ndarray, "entries"], tolerance: float, candidates: Int[np.ndarray, "candidates"]
) -> Int[np.ndarray, "good"]:
    """Integers for the largest weight at which the others may be integers too, its own deviation allowed for."""
    scaled = telling * candidates[:, None]
    nearest = np.rint(scaled)
    good = np.abs(scaled - nearest) <= tolerance * (candidates[:, None] + np.abs(nearest))
    passed: Int[np.ndarray, "good"] = candidates[good.all(axis=1)]
    return passed


def _signed_row(row: Float[np.ndarray, "entries"], tolerance: float, search: Search) -> _Row | None:
    """As `_free_row`, the scale of either sign, so that the first integer is positive."""
    found = _free_row(row, tolerance, search)
    if found is None or not found.numerators.any() or found.numerators[np.flatnonzero(found.numerators)[0]] > 0:
        return found
    return replace(found, numerators=-found.numerators, scale=-found.scale)


def _fractions(rows: Sequence[_Row]) -> Fractions | None:
    """The layer of these rows, None without any."""
    if not rows:
        return None
    numerators = np.stack([row.numerators for row in rows])
    denominators = np.array([row.denominator for row in rows])
    return Fractions(
        numerators=numerators[:, :-1],
        bias_numerators=numerators[:, -1],
        denominators=denominators,
        deviation=max(row.deviation for row in rows),
        chance=_joint_chance([row.chance for row in rows if row.chance is not None]),
        bits=integers_bits(numerators) + naturals_bits(denominators.tolist()),
    )


def _joint_chance(chances: Sequence[float]) -> float:
    """How often so many random rows, each of chance at most one half, have a product of chances as small as this."""
    evidence = -float(np.log(np.maximum(chances, 1e-300)).sum())
    count = len(chances)
    return _HALF**count * float(gammaincc(count, max(evidence + count * np.log(_HALF), 0.0))) if count else 1.0


def _is_free(rows: Sequence[_Row]) -> bool:
    """Was there no number that had to fit, so that the scales alone made this layer whole?"""
    return all(row.chance is None for row in rows)
