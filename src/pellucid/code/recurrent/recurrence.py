"""Affine sequence functions as exact recurrences, read from a black box.

1. Regress the outputs of each step on all inputs so far, on random sequences: that is the impulse response, without
   leaving the domain. A function that is not affine shows in the residual.
2. Round the responses to integers, or the recurrence that they follow to simple fractions. A response of the constant
   (gravity, say) is that of one more input, which is always 1.
3. Write the shortest step program (`recurrent.realise`), and test it on fresh sequences.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pellucid.code.recurrent.agreement import Agreement, Inputs, SequenceFunction, compare, draw, query
from pellucid.code.recurrent.realise import shortest_program, simple, state_space, window
from pellucid.code.recurrent.steps import StepProgram, program_bits, run

_FIT = 0.98
_NEAR, _ON = 0.25, 0.05
"""How far from integers a response may be to be read as integers, and need not be to be read as fractions only."""


@dataclass(frozen=True)
class Response:
    """What a regression of outputs on inputs so far gives.

    Attributes:
        markov: mean response to an input k steps ago, [lags, d_out, d_in].
        offset: response to no input at each step, [steps, d_out].
        spread: largest deviation of a response from its mean over the steps: 0 if the function is time-invariant.
        explained: share of the variance of the outputs, of the channel where it is least.
    """

    markov: Float[np.ndarray, "lags d_out d_in"]
    offset: Float[np.ndarray, "lags d_out"]
    spread: float
    explained: float


@dataclass(frozen=True)
class Recurrence:
    """An affine reading, or why there is none.

    Attributes:
        program: the shortest that agrees, or None.
        kind: "window" or "recurrence".
        response: as measured, before rounding.
        agreement: on fresh sequences.
        trail: (tried, outcome).
    """

    program: StepProgram | None
    kind: str
    response: Response
    agreement: Agreement | None
    trail: tuple[tuple[str, str], ...]


def names_of(d_in: int, d_out: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names for channels: x, or a, b, c, …; y, or y1, y2, …."""
    inputs = ("x",) if d_in == 1 else tuple("abcdefghijklm"[i] for i in range(d_in))
    return inputs, ("y",) if d_out == 1 else tuple(f"y{i + 1}" for i in range(d_out))


def measure(f: SequenceFunction, inputs: Inputs, length: int, seed: int = 0) -> Response:
    """Regress each step's outputs on the inputs up to it."""
    d_in = len(inputs.channels)
    x = draw(inputs, np.random.default_rng(seed), 128 + 4 * length * d_in, length)
    y = query(f, x)
    seen = [np.zeros((0, y.shape[2], d_in)) for _ in range(length)]
    offset, missed = np.zeros((length, y.shape[2])), np.zeros(y.shape[2])
    for t in range(length):
        design = np.concatenate([x[:, t::-1].reshape(len(x), -1), np.ones((len(x), 1))], axis=1).astype(float)
        weights = np.linalg.lstsq(design, y[:, t], rcond=None)[0]
        missed += ((design @ weights - y[:, t]) ** 2).sum(0)
        offset[t] = weights[-1]
        for k in range(t + 1):
            response = weights[k * d_in : (k + 1) * d_in].T
            seen[k] = np.concatenate([seen[k], response[None]])
    spread_y = ((y - y.mean((0, 1))) ** 2).sum((0, 1))
    explained = np.where(spread_y > 1e-6 * y[..., 0].size, 1 - missed / np.maximum(spread_y, 1e-12), 1.0)
    markov = np.stack([responses.mean(0) for responses in seen])
    spread = max(float(np.abs(r - r.mean(0)).max()) for r in seen)
    return Response(markov, offset, spread, float(explained.min()))


def _with_constant(response: Response) -> Float[np.ndarray, "lags d_out channels"]:
    """Markov parameters with the constant as last input: its response is the growth of the offset."""
    growth = np.diff(response.offset, axis=0, prepend=0.0)
    return np.concatenate([response.markov, growth[:, :, None]], axis=2)


def read_recurrence(f: SequenceFunction, inputs: Inputs, budget: float = 10.0, seed: int = 0) -> Recurrence:
    """The shortest exact recurrence of an affine sequence function, if it is one.

    A program must agree with the rounded outputs on all of 512 fresh sequences of the usual length. `budget` in
    seconds bounds the search: forms not begun by then are left out.
    """
    start, trail = time.monotonic(), []
    response = measure(f, inputs, inputs.length, seed)
    if response.explained < _FIT:
        trail.append(("affine", f"no: explains {response.explained:.1%} of the output"))
        return Recurrence(None, "", response, None, tuple(trail))
    x = draw(inputs, np.random.default_rng([seed, 1]), 512, inputs.length)
    y = query(f, x)
    best: tuple[float, str, StepProgram, Agreement] | None = None
    for kind, program in _candidates(response, y.shape[2], start + budget, trail):
        agreement = compare(y, run(program, x), x)
        label = f"{kind}, {program_bits(program):.0f} bits"
        if agreement.mismatches:
            trail.append((label, f"{agreement.mismatches} of {len(x)} sequences differ"))
            continue
        trail.append((label, "agrees"))
        entry = (program_bits(program), kind, program, agreement)
        best = entry if best is None else min(best, entry, key=lambda e: e[0])
    if best is None:
        return Recurrence(None, "", response, None, tuple(trail))
    return Recurrence(best[2], best[1], response, best[3], tuple(trail))


def _rounded(value: float) -> float:
    """The simple fraction at a value, or the value."""
    found = simple(value)
    return value if found is None else float(found)


def _candidates(
    response: Response, d_out: int, deadline: float, trail: list[tuple[str, str]]
) -> list[tuple[str, StepProgram]]:
    """Windows and state spaces, over integers if the response is near them, over fractions if it is not on them."""
    names, outputs = names_of(response.markov.shape[2], d_out)
    measured = _with_constant(response)
    whole = np.rint(measured)
    gap = float(np.abs(measured - whole).max())
    readings = [("integers", whole, whole, 1e-6)] if gap < _NEAR else []
    if gap > _ON:
        readings.append(("fractions", np.vectorize(_rounded)(measured), measured, 0.02))
    found = []
    for label, rounded, seen, tolerance in readings:
        if time.monotonic() > deadline:
            trail.append((label, "not tried: out of time"))
            break
        names_, used = ((*names, "1"), seen) if rounded[..., -1].any() else (names, seen[..., :-1])
        steady = not rounded[1:, :, -1].any() and not rounded[-1, :, :-1].any()
        finite = window(rounded, (*names, "1"), outputs) if steady else None
        space = state_space(used, tolerance)
        trail.append((f"window over {label}", "none" if finite is None else "found"))
        trail.append((f"recurrence over {label}", "none" if space is None else f"{len(space.a)} states"))
        if finite is not None:
            found.append(("window", finite))
        if space is not None and space.a:
            found.append(("recurrence", shortest_program(space, names_, outputs)))
    return found
