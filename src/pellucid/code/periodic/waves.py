"""What a network on Z_p × Z_p holds: the spectra of its values over all pairs of tokens, and the waves in its stream.

A function of (a, b) is a sum of waves exp(2πi(m·a + n·b)/p) with a vector for each (m, n), by the Fourier transform
over the group (Nanda et al. 2023, "Progress measures for grokking via mechanistic interpretability"). A wave that runs
along a + b at frequency k is the term (k, k). In a stream, the terms of one frequency share a few complex directions:
these are found by a singular value decomposition of their vectors. The wave, as long as it is along them, is read off
by least squares, so that directions in which other waves differ by little are not blown up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Complex, Float, Int64

from pellucid.ir.interpret import Replacement, Values, run_functions
from pellucid.ir.program import Program

FEWEST, MOST = 5, 128
"""Periods that are looked at."""

KEY_SHARE = 5e-3
"""A frequency is a key of the outputs from this share of their variation on."""

STREAM_SHARE = 1e-3
"""A wave is in the stream from this share of its variation on."""

DIRECTION_SHARE = 0.05
"""A further direction of a wave counts from this share of the wave on."""

RIDGE = 1e-5
"""The penalty on reads, as a share of the mean variation of the stream along one coordinate."""

Rows = Float[np.ndarray, "pairs positions width"]


@dataclass(frozen=True, eq=False)
class Grid:
    """All pairs of tokens, and what each part of the exact program makes of them.

    Attributes:
        program: exact.
        period: p, the number of tokens that each of two positions takes.
        tokens: all p² inputs, the first varying position slowest.
        moving: the two positions that vary.
        parts: input and output of each function that runs once and calls no other, in that order.
        decided: the index of the largest output.
        outputs: of the whole.
    """

    program: Program
    period: int
    tokens: Int64[torch.Tensor, "pairs positions"]
    moving: tuple[int, int]
    parts: dict[str, tuple[torch.Tensor, torch.Tensor]]
    decided: Int64[torch.Tensor, " pairs"]
    outputs: Float[np.ndarray, "pairs classes"]

    def differs(self, instead: dict[str, Replacement]) -> Bool[torch.Tensor, " pairs"]:
        """On which pairs the network decides differently with these parts replaced."""
        (found,) = run_functions(self.program, [self.tokens], "weights", replace=instead)
        return torch.as_tensor(found.argmax(-1) != self.decided)

    def wrong(self, instead: dict[str, Replacement]) -> int:
        """On how many pairs the network decides differently with these parts replaced."""
        return int(self.differs(instead).sum())


def grid_of(program: Program, calls: Sequence[Values]) -> Grid | str:
    """The grid of a network that takes whole numbers at a few positions, of which two vary, both over p in a row."""
    entry = program[program.entry]
    kinds = [program.values.get(name) for name in (*entry.inputs, *entry.outputs)]
    if len(kinds) != 2 or kinds[0] is None or kinds[1] is None or len(kinds[0].axes) != 2 or len(kinds[1].axes) != 2:
        return ""
    alike = isinstance(kinds[0].axes[0], str) and len({call[0].shape[1] for call in calls}) == 1
    if not alike or kinds[0].dtype not in ("int64", "int32") or "float" not in kinds[1].dtype:
        return ""
    rows = torch.cat([call[0] for call in calls])
    seen = [torch.unique(column) for column in rows.T]
    moving = [place for place, values in enumerate(seen) if len(values) > 1]
    if len(moving) != 2:
        return ""
    first, second = (seen[place] for place in moving)
    period = len(first)
    runs = all(int(values[-1] - values[0]) == len(values) - 1 for values in (first, second))
    if not runs or len(second) != period or not FEWEST <= period <= MOST:
        return ""
    tokens = rows[:1].repeat(period * period, 1)
    tokens[:, moving[0]] = first.repeat_interleave(period).to(tokens.dtype)
    tokens[:, moving[1]] = second.repeat(period).to(tokens.dtype)
    parts, outputs = _captured(program, tokens)
    place = (moving[0], moving[1])
    return Grid(program, period, tokens, place, parts, outputs.argmax(-1), outputs.double().numpy())


def _captured(
    program: Program, tokens: Int64[torch.Tensor, "pairs positions"]
) -> tuple[dict[str, tuple[torch.Tensor, torch.Tensor]], torch.Tensor]:
    called = list(_leaves(program, program.entry))
    plain = {
        name
        for name in called
        if called.count(name) == 1 and len(program[name].inputs) == len(program[name].outputs) == 1
    }
    found: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def watch(name: str, inputs: Values, outputs: Values) -> None:
        if name in plain:
            found[name] = (inputs[0], outputs[0])

    (outputs,) = run_functions(program, [tokens], "weights", watch=watch)
    return {name: found[name] for name in called if name in found}, outputs


def _leaves(program: Program, name: str) -> Iterator[str]:
    """The functions that call no other, in the order in which they run, once for each time."""
    calls = [node.function for node in program[name].reading("weights").body.nodes if node.op == "call"]
    for child in calls:
        yield from _leaves(program, child)
    if not calls and name != program.entry:
        yield name


def spectrum(values: Float[np.ndarray, "pairs width"], period: int) -> Complex[np.ndarray, "period period width"]:
    """Fourier coefficients of a function of (a, b) over the group; its mean is the term (0, 0)."""
    return np.asarray(np.fft.fft2(values.reshape(period, period, -1), axes=(0, 1))) / period**2


def folded(frequency: int, period: int) -> int:
    """The frequency from 0 to p/2 that gives the same wave up to its direction of turning."""
    return min(frequency % period, -frequency % period)


def sum_frequencies(grid: Grid) -> dict[int, float]:
    """The share of all variation of the outputs that is a wave of a + b, by frequency, strongest first."""
    energy = (np.abs(spectrum(grid.outputs, grid.period)) ** 2).sum(-1)
    energy[0, 0] = 0.0
    shares = {k: 2 * float(energy[k, k]) / float(energy.sum()) for k in range(1, (grid.period + 1) // 2)}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def key_frequencies(grid: Grid) -> tuple[tuple[int, ...], float]:
    """Frequencies at which the outputs are waves of a + b, strongest first, and their share of all variation."""
    keys = {k: share for k, share in sum_frequencies(grid).items() if share >= KEY_SHARE}
    return tuple(keys), sum(keys.values())


def token_frequencies(output: torch.Tensor, grid: Grid) -> dict[int, float]:
    """The share of each frequency in what an embedding gives for each token, strongest first."""
    total = np.zeros(grid.period)
    for place, axis in zip(grid.moving, (0, 1), strict=True):
        found = spectrum(output[:, place].double().numpy(), grid.period)
        total += (np.abs(found[:, 0] if axis == 0 else found[0]) ** 2).sum(-1)
    shares = {k: 2 * float(total[k]) / max(float(total[1:].sum()), 1e-30) for k in range(1, (grid.period + 1) // 2)}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


@dataclass(frozen=True, eq=False)
class Wave:
    """One complex coordinate of the stream: `frequency` k of single tokens, or of their sum (`of_sum`); what it is at
    each position for each pair of tokens."""

    frequency: int
    of_sum: bool
    course: Complex[np.ndarray, "pairs positions"]


@dataclass(frozen=True, eq=False)
class Readout:
    """Waves in a stream, and how they are read: x @ reads - offsets gives all cosine parts, then all sine parts."""

    waves: tuple[Wave, ...]
    reads: Float[np.ndarray, "width twice"]
    offsets: Float[np.ndarray, "positions twice"]

    def places(self, keys: Sequence[int]) -> tuple[int, ...]:
        """Where the waves of single tokens at these frequencies stand."""
        return tuple(i for i, wave in enumerate(self.waves) if not wave.of_sum and wave.frequency in keys)


def waves_in(stream: Rows, grid: Grid, keys: Sequence[int], frequencies: Sequence[int]) -> Readout | None:
    """The waves of these frequencies in a stream: those of single tokens at key frequencies first."""
    spectra = [spectrum(stream[:, place], grid.period) for place in range(stream.shape[1])]
    energy = sum(float((np.abs(found) ** 2).sum() - (np.abs(found[0, 0]) ** 2).sum()) for found in spectra)
    ordered = [*keys, *(k for k in frequencies if k not in keys)]
    waves = [w for k in ordered for w in _waves(spectra, ((k, 0), (0, k)), k, False, energy)]
    waves += [w for k in ordered for w in _waves(spectra, ((k, k),), k, True, energy)]
    if not waves:
        return None
    courses = np.stack([*(wave.course.real for wave in waves), *(wave.course.imag for wave in waves)], axis=-1)
    moved = (stream - stream.mean(axis=0)).reshape(-1, stream.shape[-1])
    bend = moved.T @ moved
    penalty = RIDGE * np.trace(bend) / len(bend) * np.eye(len(bend))
    reads = np.linalg.solve(bend + penalty, moved.T @ courses.reshape(len(moved), -1))
    return Readout(tuple(waves), reads, stream.mean(axis=0) @ reads)


def _waves(
    spectra: Sequence[Complex[np.ndarray, "period period width"]],
    terms: Sequence[tuple[int, int]],
    frequency: int,
    of_sum: bool,
    energy: float,
) -> Iterator[Wave]:
    """The waves of one frequency: a course for each complex direction along which it moves the stream, turned so that
    its strongest term starts at 0."""
    vectors = np.stack([found[term] for found in spectra for term in terms])
    size = float((np.abs(vectors) ** 2).sum())
    if 2 * size < STREAM_SHARE * energy:
        return
    period = len(spectra[0])
    turns = 2 * np.pi / period * np.arange(period)
    running = np.stack([np.exp(1j * (m * turns[:, None] + n * turns)).ravel() for m, n in terms], axis=1)
    left, lengths, _ = np.linalg.svd(vectors, full_matrices=False)
    for i, length in enumerate(lengths):
        if length**2 >= DIRECTION_SHARE * size:
            turn = left[np.argmax(np.abs(left[:, i])), i]
            strengths = 2 * length * (left[:, i] * np.conj(turn) / abs(turn)).reshape(len(spectra), len(terms))
            yield Wave(frequency, of_sum, running @ strengths.T)
