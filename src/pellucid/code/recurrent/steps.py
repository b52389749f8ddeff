"""Step programs: what happens at each step of a sequence, written as assignments.

A state with initial values, and a body that is executed once per step: it reads the inputs of the step and the state,
changes the state and sets the outputs. The common form of all readings of recurrent networks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Float, Num, Shaped

from pellucid.code.expressions.expression import (
    NODE_BITS,
    Expr,
    Linear,
    Name,
    bits,
    evaluate,
    integral,
    names_in,
    number_bits,
    replace,
    text,
    walk,
)

_SAFE = 2**31


@dataclass(frozen=True)
class Assign:
    """All `targets` get their `values` at once, as in `a, b = b, a`."""

    targets: tuple[str, ...]
    values: tuple[Expr, ...]


@dataclass(frozen=True)
class StepProgram:
    """A loop over the steps of a sequence.

    Attributes:
        inputs: names of the input channels, in order.
        outputs: names of the output channels, in order; the body sets each of them.
        state: names kept from step to step, with their values before the first step.
        body: executed once per step, in order.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    state: tuple[tuple[str, Fraction], ...]
    body: tuple[Assign, ...]


def assign(target: str, value: Expr) -> Assign:
    """`target = value`."""
    return Assign((target,), (value,))


def _initial(program: StepProgram, batch: int) -> dict[str, Shaped[np.ndarray, " batch"]]:
    whole = all(integral(value) for step in program.body for value in step.values)
    whole = whole and all(value.denominator == 1 for _, value in program.state)
    if whole:
        return {name: np.full(batch, int(value), dtype=np.int64) for name, value in program.state}
    return {name: np.full(batch, float(value)) for name, value in program.state}


def _unbounded(values: Shaped[np.ndarray, "*samples"]) -> Shaped[np.ndarray, "*samples"]:
    """The same values; as Python integers once they come near the limits of 64 bits."""
    large = values.dtype == np.int64 and values.size and np.abs(values).max() > _SAFE
    return values.astype(object) if large else values


def run(program: StepProgram, x: Num[np.ndarray, "batch time d_in"]) -> Float[np.ndarray, "batch time d_out"]:
    """Outputs of the program at every step. Integer arithmetic is exact at any size; fractions are float64."""
    steps = np.rint(x).astype(np.int64)
    state = _initial(program, len(x))
    y = np.zeros((*x.shape[:2], len(program.outputs)))
    for t in range(x.shape[1]):
        env = {**state, **{name: steps[:, t, i] for i, name in enumerate(program.inputs)}}
        for step in program.body:
            values = [_unbounded(evaluate(value, env)) for value in step.values]
            env.update(zip(step.targets, values, strict=True))
        state = {name: env[name] for name in state}
        for i, name in enumerate(program.outputs):
            y[:, t, i] = env[name]
    return y


def program_bits(program: StepProgram) -> float:
    """Description length: each target 4 bits and its value, each state variable 4 bits and its initial value."""
    body = sum(NODE_BITS + bits(value) for step in program.body for value in step.values)
    return body + sum(NODE_BITS + number_bits(value) for _, value in program.state)


def program_text(program: StepProgram) -> str:
    """The program as Python lines: the initial state, then the loop over steps."""
    start = [f"{name} = {value}" for name, value in program.state]
    each = program.inputs[0] if len(program.inputs) == 1 else ", ".join(program.inputs)
    lines = [f"{', '.join(step.targets)} = {', '.join(map(text, step.values))}" for step in program.body]
    out = ", ".join(program.outputs)
    return "\n".join([*start, f"for {each} in steps:", *(f"    {line}" for line in lines), f"    yield {out}"])


def tidy(program: StepProgram) -> StepProgram:
    """The program without state that no output depends on."""
    needed = set(program.outputs)
    while True:
        more = {
            name
            for step in program.body
            for target, value in zip(step.targets, step.values, strict=True)
            if target in needed
            for name in names_in(value)
        }
        if more <= needed:
            break
        needed |= more
    body = []
    for step in program.body:
        kept = [(t, v) for t, v in zip(step.targets, step.values, strict=True) if t in needed]
        if kept:
            body.append(Assign(tuple(t for t, _ in kept), tuple(v for _, v in kept)))
    state = tuple(item for item in program.state if item[0] in needed)
    return StepProgram(program.inputs, program.outputs, state, tuple(body))


def _parts(value: Expr) -> set[Expr]:
    """Sub-expressions that could be computed beforehand, among them the terms of a sum without its constant."""
    found: set[Expr] = {part for part in walk(value) if not isinstance(part, Name) and names_in(part)}
    return found | {Linear(p.terms) for p in found if isinstance(p, Linear) and p.constant and len(p.terms) > 1}


def share(program: StepProgram, names: Sequence[str] = ("t", "u")) -> StepProgram:
    """The program with sub-expressions that its leading assignments have in common computed once, where shorter.

    Only assignments up to the first that changes the state are looked at together with that one: in them all names
    still mean the same.
    """
    for name in names:
        reach = _reach(program)
        counts = Counter(part for step in program.body[:reach] for value in step.values for part in _parts(value))
        common = sorted((p for p, n in counts.items() if n > 1), key=lambda p: (-bits(p), text(p)))
        options = [_hoist(program, part, name, reach) for part in common[:16]]
        best = min(options, key=program_bits, default=program)
        if program_bits(best) >= program_bits(program):
            break
        program = best
    return program


def _reach(program: StepProgram) -> int:
    state = {name for name, _ in program.state}
    changed = (i for i, step in enumerate(program.body) if state & set(step.targets))
    return next(changed, len(program.body) - 1) + 1


def _hoist(program: StepProgram, part: Expr, name: str, reach: int) -> StepProgram:
    mapping: dict[Expr, Expr] = {part: Name(name)}
    if isinstance(part, Linear) and not part.constant:
        for step in program.body[:reach]:
            for inner in (p for value in step.values for p in walk(value) if isinstance(p, Linear)):
                if inner.terms == part.terms and inner.constant:
                    mapping[inner] = Linear(((Fraction(1), Name(name)),), inner.constant)
    steps = [Assign(s.targets, tuple(replace(v, mapping) for v in s.values)) for s in program.body[:reach]]
    body = (assign(name, part), *steps, *program.body[reach:])
    return StepProgram(program.inputs, program.outputs, program.state, body)
