"""Is a black box an affine formula with few terms? Fitted on some samples, checked on others.

1. Terms: orthogonal matching pursuit (Pati et al. 1993) takes up the input that fits the rest best until the budget
   holds; as inputs may depend on each other, the inputs that matter most in the fit of all are tried as well. Of both,
   every term that the budget does not need is dropped; the shorter one is kept. A formula without terms is a constant.
2. Coefficients are snapped to integers, then to fractions with denominators up to 12, the others refitted, as long as
   the budget holds on the fitted samples.
3. The formula counts only if the budget also holds on every sample that was held out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import floor

import numpy as np
from jaxtyping import Bool, Float, Int

from pellucid.code.expressions.bits import FLOAT_BITS, index_bits, integers_bits, natural_bits, require_finite

Number = Fraction | float


@dataclass(frozen=True)
class Term:
    """coefficient * input."""

    coefficient: Number
    input: int


@dataclass(frozen=True)
class AffineFormula:
    """constant + sum of terms, by input index; a constant has no terms.

    `deviation` is the largest on all samples, `held_out` the number of samples it was not fitted to.
    """

    constant: Number
    terms: tuple[Term, ...]
    deviation: float
    held_out: int
    bits: int

    def __call__(self, inputs: Float[np.ndarray, "samples in"]) -> Float[np.ndarray, "samples"]:
        """The values of the formula, in double precision."""
        total = np.full(len(inputs), float(self.constant))
        for term in self.terms:
            total += float(term.coefficient) * inputs[:, term.input]
        return total


@dataclass(frozen=True)
class AffineOptions:
    """How many terms still read as a formula, denominators to snap to, and the share and choice of held-out samples."""

    max_terms: int = 4
    max_denominator: int = 12
    held_out: float = 0.3
    seed: int = 0


DEFAULT_OPTIONS = AffineOptions()


def find_constant(
    outputs: Float[np.ndarray, "samples"], *, budget: float, options: AffineOptions = DEFAULT_OPTIONS
) -> AffineFormula | None:
    """The constant within `budget` of every output, as simple as the budget allows, or None.

    Fewer than four samples show no constant. Raises `BadInput` on NaN or infinity.
    """
    return find_affine(np.zeros((len(outputs), 0)), outputs, budget=budget, options=options)


def find_affine(
    inputs: Float[np.ndarray, "samples in"],
    outputs: Float[np.ndarray, "samples"],
    *,
    budget: float,
    options: AffineOptions = DEFAULT_OPTIONS,
) -> AffineFormula | None:
    """The affine formula of at most `max_terms` inputs within `budget` (absolute) of every output, or None.

    There have to be at least twice as many fitted samples as numbers in the formula, and a held-out one. Raises
    `BadInput` on NaN or infinity.
    """
    require_finite("affine inputs", inputs)
    require_finite("affine outputs", outputs)
    held = _held_out(len(outputs), options)
    design = np.column_stack([np.ones(len(outputs)), inputs]).astype(np.float64)
    fitted = _Samples(design[~held], outputs[~held].astype(np.float64), budget)
    if not held.any() or not fitted.values.size:
        return None
    most = min(options.max_terms, fitted.values.size // 2 - 1)
    columns = _choose(fitted, most)
    if columns is None:
        return None
    numbers = _snap(fitted, columns, options.max_denominator)
    constant, *coefficients = numbers
    terms = tuple(Term(number, int(column) - 1) for number, column in zip(coefficients, columns[1:], strict=True))
    deviation = float(np.abs(design[:, columns] @ [float(number) for number in numbers] - outputs).max())
    bits = sum(map(_number_bits, numbers)) + natural_bits(len(terms)) + len(terms) * index_bits(inputs.shape[1])
    return AffineFormula(constant, terms, deviation, int(held.sum()), bits) if deviation <= budget else None


@dataclass(frozen=True, eq=False)
class _Samples:
    """Samples to fit, the first column of the design the constant 1."""

    design: Float[np.ndarray, "samples columns"]
    values: Float[np.ndarray, "samples"]
    budget: float

    def fit(self, columns: Int[np.ndarray, "chosen"]) -> Float[np.ndarray, "chosen"]:
        """Least-squares coefficients of these columns."""
        found: Float[np.ndarray, "chosen"] = np.linalg.lstsq(self.design[:, columns], self.values, rcond=None)[0]
        return found

    def rest(self, columns: Int[np.ndarray, "chosen"]) -> Float[np.ndarray, "samples"]:
        """What the least-squares fit of these columns leaves."""
        left: Float[np.ndarray, "samples"] = self.values - self.design[:, columns] @ self.fit(columns)
        return left

    def holds(self, columns: Int[np.ndarray, "chosen"]) -> bool:
        """Is that within the budget?"""
        return bool((np.abs(self.rest(columns)) <= self.budget).all())


def _held_out(samples: int, options: AffineOptions) -> Bool[np.ndarray, "samples"]:
    order = np.random.default_rng(options.seed).permutation(samples)
    return np.isin(np.arange(samples), order[: floor(samples * options.held_out)])


def _choose(samples: _Samples, most: int) -> Int[np.ndarray, "chosen"] | None:
    """Columns of the shortest fit within the budget, the constant first; None where `most` terms do not do it."""
    if most < 0:
        return None
    found = [_prune(samples, columns) for columns in _candidates(samples, most) if samples.holds(columns)]
    return min(found, key=len, default=None)


def _candidates(samples: _Samples, most: int) -> Iterator[Int[np.ndarray, "chosen"]]:
    """Columns that matching pursuit takes up, and those that matter most in the fit of all."""
    centred = samples.design - samples.design.mean(axis=0)
    spread = np.linalg.norm(centred, axis=0)
    useful = np.flatnonzero(spread > 1e-12 * np.abs(samples.design).max(axis=0))
    columns = np.zeros(1, np.int64)
    while len(columns) <= most and not samples.holds(columns):
        left = np.setdiff1d(useful, columns)
        if not left.size:
            break
        match = np.abs(samples.rest(columns) @ centred[:, left]) / spread[left]
        columns = np.append(columns, left[np.argmax(match)])
    yield columns
    if most > 0 and 2 * samples.design.shape[1] <= len(samples.values):
        effect = np.abs(samples.fit(np.arange(samples.design.shape[1]))) * spread
        yield np.append(0, useful[np.argsort(-effect[useful], kind="stable")[:most]])


def _prune(samples: _Samples, columns: Int[np.ndarray, "chosen"]) -> Int[np.ndarray, "kept"]:
    """The columns, inputs ascending, without those that the budget does not need, the least effective tried first."""
    effect = np.abs(samples.fit(columns)) * np.linalg.norm(samples.design[:, columns], axis=0)
    kept = np.sort(columns)
    for column in columns[np.argsort(effect, kind="stable")]:
        if column and samples.holds(kept[kept != column]):
            kept = kept[kept != column]
    return kept


def _snap(samples: _Samples, columns: Int[np.ndarray, "chosen"], max_denominator: int) -> list[Number]:
    """Coefficients of these columns, as many as the budget allows snapped to fractions, small denominators first."""
    snapped: dict[int, Fraction] = {}
    for denominator in range(1, max_denominator + 1):
        free = [column for column in columns.tolist() if column not in snapped]
        numbers = dict(zip(free, _refit(samples, snapped, free), strict=True))
        for column in sorted(free, key=lambda c: abs(numbers[c] * denominator - round(numbers[c] * denominator))):
            number = Fraction(round(numbers[column] * denominator), denominator)
            trial = {**snapped, column: number}
            rest = [other for other in free if other not in trial]
            if (number or column == 0) and _within(samples, trial, rest):
                snapped = trial
    free = [column for column in columns.tolist() if column not in snapped]
    left = dict(zip(free, _refit(samples, snapped, free), strict=True))
    return [snapped[column] if column in snapped else left[column] for column in columns.tolist()]


def _refit(samples: _Samples, snapped: dict[int, Fraction], free: list[int]) -> list[float]:
    """Least-squares coefficients of the free columns, the others as they are snapped."""
    fixed = samples.design[:, list(snapped)] @ np.array([float(number) for number in snapped.values()])
    found: list[float] = np.linalg.lstsq(samples.design[:, free], samples.values - fixed, rcond=None)[0].tolist()
    return found


def _within(samples: _Samples, snapped: dict[int, Fraction], free: list[int]) -> bool:
    """Does the budget hold with these coefficients snapped and the free ones refitted?"""
    numbers = [float(number) for number in snapped.values()] + _refit(samples, snapped, free)
    predicted = samples.design[:, [*snapped, *free]] @ np.array(numbers)
    return bool((np.abs(samples.values - predicted) <= samples.budget).all())


def _number_bits(number: Number) -> int:
    """One bit for the kind, then the float, or numerator and denominator."""
    if isinstance(number, float):
        return 1 + FLOAT_BITS
    return 1 + integers_bits(np.array([number.numerator])) + natural_bits(number.denominator)
