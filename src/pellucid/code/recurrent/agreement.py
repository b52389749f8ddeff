"""Whether a step program does what a sequence function does, and up to which length.

A sequence function is a black box from integer sequences to real outputs, causal, for any length. The functions here
draw sequences from what the inputs were seen to hold, query the box with checks of what comes back, and compare.
A program agrees at a step if it is less than one half away from the network's output, that is, if both round alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float, Int64, Num

from pellucid.code.recurrent.steps import StepProgram, run
from pellucid.errors import BadInput

SequenceFunction = Callable[[Float[np.ndarray, "batch time d_in"]], Float[np.ndarray, "batch time d_out"]]
Sequences = Int64[np.ndarray, "batch time d_in"]
Outputs = Float[np.ndarray, "batch time d_out"]

_CHUNK = 2**20
_STILL = 1e-4
"""Variance below which an output counts as constant: a program must then meet it to a few hundredths."""


@dataclass(frozen=True)
class Inputs:
    """What a step of the input can be.

    Attributes:
        symbols: all vectors that occur, sorted, if there are at most `SYMBOLS`; else None.
        channels: values of each channel, sorted; whole ranges are taken where most of a range was seen.
        length: the usual length of a sequence.
    """

    symbols: tuple[tuple[int, ...], ...] | None
    channels: tuple[tuple[int, ...], ...]
    length: int


SYMBOLS = 64


@dataclass(frozen=True)
class Difference:
    """One place where the program and the network part: the input up to there, and the two outputs."""

    steps: tuple[tuple[int, ...], ...]
    channel: int
    network: float
    program: float


@dataclass(frozen=True)
class Agreement:
    """How a program compared with the network on a set of sequences.

    Attributes:
        sequences, length: number and length of the sequences.
        mismatches: sequences on which they part anywhere.
        largest_gap: largest |network - program|.
        typical_gap: root of the mean of (network - program)², of the channel where it is largest; 0.29 if the outputs
            lie anywhere between integers.
        explained: 1 - Σ(network - program)² / Σ(network - mean)², of the channel where it is least: near 1 when the
            raw outputs sit at what the program says, near or below 0 when only rounding makes them equal.
        example: the first difference, if any.
        exhaustive: whether the sequences are all there are of their length.
    """

    sequences: int
    length: int
    mismatches: int
    largest_gap: float
    typical_gap: float
    explained: float
    example: Difference | None
    exhaustive: bool = False


@dataclass(frozen=True)
class Drift:
    """How a program and the network move apart with length.

    Attributes:
        agree_up_to: length up to which all tested sequences agree (`limit` if they never part).
        limit: longest length tested.
        sequences: number of sequences.
        gaps: (length, largest |network - program| up to there), at a few lengths.
        example: where they first part, if they do.
    """

    agree_up_to: int
    limit: int
    sequences: int
    gaps: tuple[tuple[int, float], ...]
    example: Difference | None


def observe(x: Num[np.ndarray, "batch time d_in"]) -> Inputs:
    """What the steps of these sequences hold.

    Raises:
        BadInput: no sequences, or values that are not integers.
    """
    if x.ndim != 3 or 0 in x.shape:
        raise BadInput(f"input sequences have shape {x.shape}; give a non-empty array [batch, time, channels]")
    if not np.isfinite(x).all() or not (np.abs(x - np.rint(x)) < 1e-6).all():
        raise BadInput("input sequences hold values that are not integers; readings of state need integer inputs")
    flat = np.rint(x).astype(np.int64).reshape(-1, x.shape[2])
    vectors = np.unique(flat, axis=0)
    symbols = tuple(tuple(map(int, row)) for row in vectors) if len(vectors) <= SYMBOLS else None
    channels = []
    for column in flat.T:
        seen = np.unique(column)
        whole = np.arange(seen[0], seen[-1] + 1) if seen[-1] - seen[0] < 2 * len(seen) + 8 else seen
        channels.append(tuple(map(int, seen if symbols else whole)))
    return Inputs(symbols, tuple(channels), x.shape[1])


def draw(inputs: Inputs, rng: np.random.Generator, n: int, length: int) -> Sequences:
    """n random sequences: symbols uniformly where there are few, else each channel uniformly and on its own."""
    if inputs.symbols is not None:
        table = np.array(inputs.symbols, dtype=np.int64)
        return table[rng.integers(len(table), size=(n, length))]
    return np.stack([np.array(v, dtype=np.int64)[rng.integers(len(v), size=(n, length))] for v in inputs.channels], -1)


def enumerate_all(inputs: Inputs, limit: int) -> Sequences | None:
    """All sequences of the largest length, at most the usual one, of which there are at most `limit`; None for none."""
    if inputs.symbols is None:
        return None
    count, length = len(inputs.symbols), 0
    while length < inputs.length and count ** (length + 1) <= limit:
        length += 1
    if length < 2:
        return None
    table = np.array(inputs.symbols, dtype=np.int64)
    return np.asarray(table[np.array(list(product(range(count), repeat=length)))])


def query(f: SequenceFunction, x: Sequences) -> Outputs:
    """Outputs of the function, in batches of bounded size.

    Raises:
        BadInput: the output has another shape than [batch, time, d_out], or is not finite.
    """
    rows = max(1, _CHUNK // max(1, x.shape[1] * x.shape[2]))
    parts = [np.asarray(f(x[i : i + rows].astype(np.float64)), dtype=np.float64) for i in range(0, len(x), rows)]
    for part in parts:
        if part.ndim != 3 or part.shape[1] != x.shape[1]:
            raise BadInput(f"network put out shape {part.shape} for {x.shape[1]} steps; one output per step is needed")
        if not np.isfinite(part).all():
            raise BadInput("network put out values that are not finite; check its weights and the range of its inputs")
    return np.concatenate(parts)


def check_function(f: SequenceFunction, inputs: Inputs, seed: int = 0) -> None:
    """Check that the function repeats itself and does not look ahead.

    Raises:
        BadInput: it does not.
    """
    x = draw(inputs, np.random.default_rng(seed), 8, max(2, inputs.length))
    first, again = query(f, x), query(f, x)
    if not np.array_equal(first, again):
        raise BadInput("network gives different outputs for the same input; put it in evaluation mode (dropout off)")
    half = x.shape[1] // 2
    if np.abs(query(f, x[:, :half]) - first[:, :half]).max() > 1e-3 * (1 + np.abs(first).max()):
        raise BadInput("network's output at a step depends on later steps; readings of state need a causal network")


def compare(y: Outputs, predicted: Outputs, x: Sequences, exhaustive: bool = False) -> Agreement:
    """Agreement of the network's outputs `y` on `x` with a program's."""
    gap = np.abs(y - predicted)
    apart = gap >= 0.5
    spread = ((y - y.mean((0, 1))) ** 2).sum((0, 1))
    missed = (gap**2).sum((0, 1))
    explained = 1 - missed / np.maximum(spread, _STILL * y[..., 0].size)
    example = _first(apart, x, y, predicted) if apart.any() else None
    wrong = int(apart.any((1, 2)).sum())
    typical = float(np.sqrt((gap**2).mean((0, 1)).max()))
    return Agreement(len(x), x.shape[1], wrong, float(gap.max()), typical, float(explained.min()), example, exhaustive)


def _first(apart: np.ndarray, x: Sequences, y: Outputs, predicted: Outputs) -> Difference:
    """The difference at the earliest step, in the first sequence that has it."""
    t = int(np.argmax(apart.any((0, 2))))
    row, channel = divmod(int(np.argmax(apart[:, t].ravel())), apart.shape[2])
    steps = tuple(tuple(map(int, step)) for step in x[row, : t + 1])
    return Difference(steps, channel, float(y[row, t, channel]), float(predicted[row, t, channel]))


def drift(
    f: SequenceFunction, program: StepProgram, inputs: Inputs, limit: int = 400, n: int = 64, seed: int = 1
) -> Drift:
    """Compare on n fresh sequences of length `limit`, and say up to which length they agree.

    Far beyond the usual length a network may put out anything, also infinities: from there on they count as apart.
    """
    x = draw(inputs, np.random.default_rng(seed), n, limit)
    with np.errstate(all="ignore"):
        y = np.asarray(f(x.astype(np.float64)), dtype=np.float64)
    predicted = run(program, x)
    gap = np.where(np.isfinite(y), np.abs(y - predicted), np.inf)
    apart = gap >= 0.5
    worst = np.maximum.accumulate(gap.max((0, 2)))
    lengths = sorted({min(length, limit) for length in (inputs.length, 20, 50, 100, 200, limit)})
    first = int(np.argmax(apart.any((0, 2)))) if apart.any() else limit
    example = _first(apart, x, y, predicted) if apart.any() else None
    return Drift(first, limit, n, tuple((length, float(worst[length - 1])) for length in lengths), example)
