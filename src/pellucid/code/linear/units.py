"""Hidden units that say nothing of their own: dead, constant, unread or duplicate; and the layers without them.

1. A unit whose pre-activation cannot (by interval arithmetic over input bounds, rounded outwards) or does not (on given
   inputs) move, or move a ReLU above zero, is a constant: its value times its out-weights goes into the next bias.
2. Two units whose in-weights and bias are multiples of each other are one, where the activation commutes with the
   factor: ReLU with any positive one, the identity with any but zero, tanh with 1 and -1, others with 1 only.
   Out-weights times the factor are added up. Candidates are pairs of nearly parallel rows, each checked entry by entry.
3. A unit without out-weights, from the start or after merging, is not read by anybody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit, ndtr

from pellucid.code.expressions.bits import require_finite
from pellucid.code.linear.layer import Layer

Activation = Literal["relu", "identity", "tanh", "sigmoid", "silu", "gelu"]

_VALUES: dict[Activation, Callable[[Float[np.ndarray, "units"]], Float[np.ndarray, "units"]]] = {
    "relu": lambda x: np.maximum(x, 0),
    "identity": lambda x: x,
    "tanh": np.tanh,
    "sigmoid": expit,
    "silu": lambda x: x * expit(x),
    "gelu": lambda x: x * ndtr(x),
}


@dataclass(frozen=True, eq=False)
class Ranges:
    """Smallest and largest pre-activation of each unit: on all inputs within bounds (`proved`) or on given inputs."""

    low: Float[np.ndarray, "units"]
    high: Float[np.ndarray, "units"]
    proved: bool


@dataclass(frozen=True)
class Duplicate:
    """`unit` computes `factor` times what unit `of` computes."""

    unit: int
    of: int
    factor: float


@dataclass(frozen=True, eq=False)
class ReducedUnits:
    """Two layers without the hidden units that say nothing of their own; `kept` are the units left, ascending.

    `constant` includes the dead ones (`dead`: ReLU units that are never active). `proved` is False where any of these
    was only seen on given inputs.
    """

    hidden: Layer
    readout: Layer
    kept: Int[np.ndarray, "kept"]
    dead: tuple[int, ...]
    constant: tuple[int, ...]
    unread: tuple[int, ...]
    duplicates: tuple[Duplicate, ...]
    proved: bool
    bits: int


def ranges_within(layer: Layer, lower: Float[np.ndarray, "in"], upper: Float[np.ndarray, "in"]) -> Ranges:
    """Pre-activations of a layer over all inputs between `lower` and `upper`, widened by the rounding of the layer."""
    weight, bias = layer.weight.astype(np.float64), layer.bias.astype(np.float64)
    middle, reach = (lower.astype(np.float64) + upper) / 2, (upper.astype(np.float64) - lower) / 2
    size = np.abs(weight) @ (np.abs(middle) + reach) + np.abs(bias)
    rounding = float(np.finfo(layer.weight.dtype).eps) * (weight.shape[1] + 2) * size
    centre, spread = weight @ middle + bias, np.abs(weight) @ reach + rounding
    return Ranges(centre - spread, centre + spread, proved=True)


def ranges_on(layer: Layer, inputs: Float[np.ndarray, "samples in"]) -> Ranges | None:
    """Pre-activations of a layer on given inputs; None without any."""
    if not len(inputs):
        return None
    values = inputs.astype(np.float64) @ layer.weight.T + layer.bias
    return Ranges(values.min(axis=0), values.max(axis=0), proved=False)


def reduce_units(
    hidden: Layer, readout: Layer, *, activation: Activation, tolerance: float, ranges: Ranges | None = None
) -> ReducedUnits | None:
    """The two layers around `activation` without dead, constant, unread and duplicate units, or None where none is.

    `tolerance` is how far a duplicate may be off, or the pre-activation of a constant unit may move, as a share of the
    largest in-weight; below the rounding of the weights it is raised to that. Raises `BadInput` on NaN.
    """
    for name, layer in (("hidden", hidden), ("readout", readout)):
        require_finite(f"{name} weight", layer.weight)
        require_finite(f"{name} bias", layer.bias)
    tolerance = max(tolerance, 4 * float(np.finfo(hidden.weight.dtype).eps))
    resting = _resting(hidden, ranges, activation, tolerance)
    constant = np.isfinite(resting)
    values = _VALUES[activation](np.where(constant, resting, 0.0))
    out = readout.weight.astype(np.float64)
    bias = readout.bias + out @ np.where(constant, values, 0.0)
    duplicates = tuple(_duplicates(hidden, activation, tolerance, np.flatnonzero(~constant)))
    for duplicate in duplicates:
        out[:, duplicate.of] += duplicate.factor * out[:, duplicate.unit]
    merged = np.isin(np.arange(len(constant)), [duplicate.unit for duplicate in duplicates])
    unread = ~constant & ~merged & ~out.any(axis=0)
    kept = np.flatnonzero(~(constant | merged | unread))
    if len(kept) == len(constant):
        return None
    new_hidden = Layer(hidden.weight[kept], hidden.bias[kept])
    new_readout = Layer(out[:, kept].astype(readout.weight.dtype), bias.astype(readout.bias.dtype))
    always = ~hidden.weight.any(axis=1)
    return ReducedUnits(
        hidden=new_hidden,
        readout=new_readout,
        kept=kept,
        dead=tuple(np.flatnonzero(constant & (values == 0)).tolist()) if activation == "relu" else (),
        constant=tuple(np.flatnonzero(constant).tolist()),
        unread=tuple(np.flatnonzero(unread).tolist()),
        duplicates=duplicates,
        proved=ranges is None or ranges.proved or not (constant & ~always).any(),
        bits=new_hidden.bits + new_readout.bits,
    )


def _resting(
    hidden: Layer, ranges: Ranges | None, activation: Activation, tolerance: float
) -> Float[np.ndarray, "units"]:
    """The pre-activation that stands for each constant unit, NaN for all others."""
    resting = np.where(hidden.weight.any(axis=1), np.nan, hidden.bias.astype(np.float64))
    if ranges is not None:
        still = ranges.high - ranges.low <= tolerance * np.abs(hidden.weight).max(axis=1, initial=0.0)
        resting = np.where(np.isnan(resting) & still, (ranges.low + ranges.high) / 2, resting)
        if activation == "relu":
            resting = np.where(np.isnan(resting) & (ranges.high <= 0), ranges.high, resting)
    return resting


def _duplicates(
    hidden: Layer, activation: Activation, tolerance: float, units: Int[np.ndarray, "candidates"]
) -> Iterator[Duplicate]:
    """Each unit that is a multiple of an earlier one that is itself none."""
    rows = np.column_stack([hidden.weight, hidden.bias]).astype(np.float64)
    gone: set[int] = set()
    for unit, of in _parallel(rows[units], tolerance):
        second, first = int(units[unit]), int(units[of])
        if first in gone or second in gone:
            continue
        factor = _factor(rows[second], rows[first], activation)
        if np.abs(rows[second] - factor * rows[first]).max() <= tolerance * np.abs(rows[second]).max():
            gone.add(second)
            yield Duplicate(second, first, factor)


def _parallel(rows: Float[np.ndarray, "units entries"], tolerance: float) -> Iterator[tuple[int, int]]:
    """(later, earlier) for all pairs of rows that point the same way or opposite, up to the tolerance."""
    directions = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    least = 1 - rows.shape[1] * tolerance**2 - 1e-9
    for start in range(0, len(rows), 512):
        cosines = np.abs(directions[start : start + 512] @ directions.T)
        later, earlier = np.nonzero(cosines >= least)
        for pair in zip((later + start).tolist(), earlier.tolist(), strict=True):
            if pair[1] < pair[0]:
                yield pair


def _factor(row: Float[np.ndarray, "entries"], of: Float[np.ndarray, "entries"], activation: Activation) -> float:
    """The factor nearest to `row` / `of` that the activation commutes with; 0 where there is none near."""
    ratio = float(row @ of / (of @ of))
    if activation == "identity":
        return ratio
    if activation == "relu":
        return max(ratio, 0.0)
    return float(np.sign(ratio)) if activation == "tanh" else 1.0
