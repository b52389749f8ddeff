"""The shortest program of a recurrent network, read from outside.

Readings are tried cheapest first: an affine recurrence, a finite-state machine, an expression over running quantities.
What agrees with the network is compared once more on fresh sequences, and its raw outputs must sit at what the program
says, not only round to it: a network that nobody trained rounds to something, too. Of the programs that are left, those
that still hold at four times the length come first, then the shortest.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Num

from pellucid.code.recurrent.agreement import (
    Agreement,
    Drift,
    Inputs,
    SequenceFunction,
    check_function,
    compare,
    draw,
    drift,
    enumerate_all,
    observe,
    query,
)
from pellucid.code.recurrent.automaton import Machine, learn
from pellucid.code.recurrent.encoding import encode
from pellucid.code.recurrent.naming import with_names
from pellucid.code.recurrent.recurrence import Response, names_of, read_recurrence
from pellucid.code.recurrent.running import read_running
from pellucid.code.recurrent.steps import StepProgram, program_bits, run

EXPLAINED = 0.9
"""Share of the variance of the raw outputs that a program must account for."""
TYPICAL_GAP = 0.2
"""Distance of the raw outputs from a program's that it may have, root mean square."""

_FRESH = 2048
_GROWING = 16.0
_ALL = 2**16


@dataclass(frozen=True)
class StateOptions:
    """What to spend on a reading.

    Attributes:
        budget: seconds for all searches together.
        seed: for the sequences that are drawn.
        states: largest number of states of a machine.
        limit: longest sequences on which drift is measured.
    """

    budget: float = 60.0
    seed: int = 0
    states: int = 64
    limit: int = 400


@dataclass(frozen=True)
class StateReading:
    """A program without weights for a sequence function, or why there is none.

    Attributes:
        program: or None.
        kind: "recurrence", "window", "automaton: …" or "running: …".
        bits: description length of the program.
        given: agreement on the sequences that were given.
        fresh: agreement on sequences drawn after the search.
        every: agreement on all sequences of a length (`every.length`), where these are few enough.
        drift: up to which length they agree.
        machine: the finite-state machine, if one was learned.
        response: measured impulse response (always).
        trail: (tried, outcome), in order.
    """

    program: StepProgram | None
    kind: str
    bits: float
    given: Agreement | None
    fresh: Agreement | None
    every: Agreement | None
    drift: Drift | None
    machine: Machine | None
    response: Response
    trail: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Candidate:
    program: StepProgram
    kind: str
    fresh: Agreement
    drift: Drift

    def rank(self, length: int) -> tuple[bool, float]:
        """Programs that hold beyond the usual length first, then the shortest; running quantities, which may grow
        without bound, count as a little longer than they are."""
        growing = _GROWING if self.kind.startswith("running") else 0.0
        return self.drift.agree_up_to < min(4 * length, self.drift.limit), program_bits(self.program) + growing


def read_state(
    f: SequenceFunction, x: Num[np.ndarray, "batch time d_in"], options: StateOptions = StateOptions()
) -> StateReading:
    """The shortest program found for the rounded outputs of a sequence function, on inputs like `x`.

    Raises:
        BadInput: `x` holds no integers; the function is not causal, does not repeat itself, or puts out what is not
            finite.
    """
    inputs = observe(x)
    check_function(f, inputs, options.seed)
    names = names_of(len(inputs.channels), query(f, draw(inputs, np.random.default_rng(0), 1, 2)).shape[2])
    deadline = time.monotonic() + options.budget
    affine = read_recurrence(f, inputs, options.budget / 4, options.seed)
    trail = list(affine.trail)
    found = [(affine.kind, affine.program)]
    machine, encoded = _finite(f, inputs, names, options, deadline, trail)
    found += encoded
    if affine.program is None:
        left = deadline - time.monotonic()
        running = read_running(f, inputs, *names, budget=left, seed=options.seed)
        trail += running.trail
        found.append((f"running: {running.kind}", running.program))
    candidates = [
        c for kind, program in found if program is not None for c in _tested(f, inputs, program, kind, options, trail)
    ]
    if not candidates:
        return StateReading(None, "", float("inf"), None, None, None, None, machine, affine.response, tuple(trail))
    best = min(candidates, key=lambda c: c.rank(inputs.length))
    chosen, steps = with_names(best.program), np.rint(x).astype(np.int64)
    given = compare(query(f, steps), run(chosen, steps), steps)
    return StateReading(
        chosen, best.kind, program_bits(chosen), given, best.fresh, prove(f, chosen, inputs),
        best.drift, machine, affine.response, tuple(trail),
    )  # fmt: skip


def _finite(
    f: SequenceFunction,
    inputs: Inputs,
    names: tuple[tuple[str, ...], tuple[str, ...]],
    options: StateOptions,
    deadline: float,
    trail: list[tuple[str, str]],
) -> tuple[Machine | None, list[tuple[str, StepProgram | None]]]:
    """The function as a finite-state machine; over one symbol if its output does not depend on the input."""
    x = draw(inputs, np.random.default_rng([options.seed, 6]), 64, inputs.length)
    y = np.rint(query(f, x))
    if (y == y[0]).all():
        trail.append(("input", "no influence on the output"))
        inputs = replace(inputs, symbols=(tuple(map(int, x[0, 0])),))
    learned = learn(f, inputs, options.states, (deadline - time.monotonic()) / 2, options.seed)
    trail += learned.trail
    if learned.machine is None:
        return None, []
    encoded = encode(learned.machine, learned.access, *names, budget=(deadline - time.monotonic()) / 2)
    trail += encoded.trail
    return learned.machine, [(f"automaton: {encoded.form}", encoded.program)]


def _tested(
    f: SequenceFunction,
    inputs: Inputs,
    program: StepProgram,
    kind: str,
    options: StateOptions,
    trail: list[tuple[str, str]],
) -> list[_Candidate]:
    """The program as a candidate, if it passes on fresh sequences; else nothing, and a line in the trail."""
    x = draw(inputs, np.random.default_rng([options.seed, 7]), _FRESH, inputs.length)
    fresh = compare(query(f, x), run(program, x), x)
    label = f"{kind}, {program_bits(program):.0f} bits, fresh sequences"
    if fresh.mismatches:
        trail.append((label, f"{fresh.mismatches} of {_FRESH} differ"))
        return []
    if fresh.explained < EXPLAINED or fresh.typical_gap > TYPICAL_GAP:
        share = f"explains {max(0.0, fresh.explained):.0%} of the raw outputs, {fresh.typical_gap:.2f} away"
        trail.append((label, f"rejected: equal by rounding only ({share})"))
        return []
    measured = drift(f, program, inputs, options.limit, seed=options.seed + 1)
    trail.append((label, f"agree; up to length {measured.agree_up_to}"))
    return [_Candidate(program, kind, fresh, measured)]


def prove(f: SequenceFunction, program: StepProgram, inputs: Inputs, limit: int = _ALL) -> Agreement | None:
    """Agreement on all sequences of the largest length (at most the usual one) that has at most `limit` of them."""
    every = enumerate_all(inputs, limit)
    return None if every is None else compare(query(f, every), run(program, every), every, exhaustive=True)
