"""The search for code readings: every method is tried on every part, cheapest first, under a clock.

1. The exact program runs on samples of the *fit* split; what goes into each function and what comes out is kept.
2. Callers come before callees: a reading of a whole makes those of its parts unnecessary.
3. A method proposes a reading. It is put in the function's place in the running program, and what comes out of the
   *network* is measured against its own claim (`Reading.measure`, `Reading.budget`) on samples the method has not seen.
   A difference has to keep within half of what it claims there: other samples may lie further out.
4. Of the readings that hold, the shortest stays, if it is shorter than the exact one. Every attempt is on the trail.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Shaped

from pellucid.errors import CannotRun
from pellucid.ir.graph import calls_made
from pellucid.ir.interpret import Scope, Values, run_block, run_functions
from pellucid.ir.notes import Attempt
from pellucid.ir.program import Function, Measure, Program, Reading, loosest_claim

Tensor = Shaped[torch.Tensor, "..."]


@dataclass(frozen=True)
class Candidate:
    """A reading that a method proposes, with the weights that it needs and the network does not have; chosen unless
    something stands `against` it, as that it does not hold together with others that were found with it."""

    reading: Reading
    weights: Mapping[str, torch.Tensor] = field(default_factory=dict)
    against: str = ""


@dataclass(frozen=True)
class Part:
    """What a method may look at: the exact program, the function, and its inputs and outputs on some samples."""

    program: Program
    function: Function
    inputs: tuple[Values, ...]
    outputs: tuple[Values, ...]

    @property
    def whole(self) -> bool:
        """Whether the function is the network itself."""
        return self.function.name == self.program.entry

    def run(self, values: Values) -> Values:
        """The function's exact outputs for other inputs."""
        return run_functions(self.program, values, "weights", start=self.function.name)


@dataclass(frozen=True)
class Method:
    """A way to find code. `propose(part, seconds)` returns a candidate, or a text that says why there is none."""

    name: str
    propose: Callable[[Part, float], Candidate | str]


Calls = Sequence[Values]

SLACK = 0.5
"""The share of its budget that a difference may use on the samples of the search."""


def find_code(
    program: Program,
    calls: Calls,
    methods: Sequence[Method],
    budget: float = 60.0,
    progress: Callable[[str], None] | None = None,
) -> Program:
    """The program with code readings where they were found and held.

    Args:
        calls: inputs of the whole program to find readings on; the last third is kept for the check.
        methods: cheapest first.
        budget: seconds for the whole search; what is not tried in time is noted on the trail.
        progress: told the name of each function as it is looked at.
    """
    deadline = time.monotonic() + budget
    seen, unseen = _divided(calls)
    captured = _capture(program, seen)
    trail: list[Attempt] = []
    done: set[str] = set()
    for name in _callers_first(program):
        if name in done or name not in captured:
            continue
        if progress is not None:
            progress(name)
        part = Part(program, program[name], *captured[name])
        found = _best(part, methods, unseen, deadline, trail)
        if found is not None:
            program = program.with_function(program[name].with_reading(found.reading), found.weights)
            done.update(_below(program, name))
    program = _holding_together(program, unseen, trail)
    return program.with_notes(trail=(*program.notes.trail, *trail))


def _holding_together(program: Program, unseen: Calls, trail: list[Attempt]) -> Program:
    """Readings that hold one by one may be off together; those that save least are taken back until they are not."""
    while True:
        found = [function for function in program.functions.values() if function.chosen != "weights"]
        if len(found) < 2:
            return program
        measure, budget = loosest_claim([function.reading() for function in found])
        off = max(
            gap(a, b, measure)
            for call in unseen
            for a, b in zip(run_functions(program, call), run_functions(program, call, "weights"), strict=True)
        )
        if off <= budget:
            return program
        least = min(found, key=lambda f: (program.exact_bits(f.name) - f.reading().bits, f.name))
        trail.append(
            Attempt(least.name, least.reading().method, f"taken back: all readings together are off by {off:.2g}")
        )
        exact = dataclasses.replace(least, readings=(least.reading("weights"),), chosen="weights")
        program = program.with_function(exact)


def _divided(calls: Calls) -> tuple[Calls, Calls]:
    """Samples to look at, and samples to check on: of each shape the last third."""
    alike: dict[tuple[tuple[int, ...], ...], list[Values]] = {}
    for call in calls:
        shapes = tuple(tuple(value.shape[1:]) for value in call if isinstance(value, torch.Tensor))
        alike.setdefault(shapes, []).append(call)
    seen: list[Values] = []
    unseen: list[Values] = []
    for group in alike.values():
        if len(group) > 2:
            cut = len(group) - len(group) // 3
            seen += group[:cut]
            unseen += group[cut:]
            continue
        for call in group:
            rows = min(value.shape[0] for value in call if isinstance(value, torch.Tensor))
            cut = max(1, rows - rows // 3)
            seen.append([value[:cut] for value in call])
            unseen += [[value[cut:] for value in call]] if rows > cut else []
    return seen, unseen or seen


def _callers_first(program: Program) -> Iterator[str]:
    waiting, seen = [program.entry], set()
    while waiting:
        name = waiting.pop(0)
        if name in seen:
            continue
        seen.add(name)
        yield name
        waiting.extend(calls_made(program[name].reading("weights").body))


def _below(program: Program, name: str) -> Iterator[str]:
    for child in calls_made(program[name].reading("weights").body):
        yield child
        yield from _below(program, child)


def _capture(program: Program, calls: Calls) -> dict[str, tuple[tuple[Values, ...], tuple[Values, ...]]]:
    kept: dict[str, tuple[list[Values], list[Values]]] = {}

    def watch(name: str, inputs: Values, outputs: Values) -> None:
        into = kept.setdefault(name, ([], []))
        into[0].append(tuple(inputs))
        into[1].append(tuple(outputs))

    for call in calls:
        run_functions(program, call, "weights", watch=watch)
    return {name: (tuple(inputs), tuple(outputs)) for name, (inputs, outputs) in kept.items()}


def _best(
    part: Part, methods: Sequence[Method], unseen: Calls, deadline: float, trail: list[Attempt]
) -> Candidate | None:
    best: Candidate | None = None
    exact_bits = part.program.exact_bits(part.function.name)
    for method in methods:
        left = deadline - time.monotonic()
        if left <= 0:
            trail.append(Attempt(part.function.name, method.name, "not tried: the time for the search was used up"))
            continue
        proposed = method.propose(part, left)
        if isinstance(proposed, str):
            if proposed:
                trail.append(Attempt(part.function.name, method.name, proposed))
            continue
        limit = exact_bits if best is None else best.reading.bits
        outcome = _judged(part, proposed, unseen, limit)
        trail.append(Attempt(part.function.name, method.name, outcome or proposed.reading.summary))
        if not outcome:
            best = proposed
    return best


def _judged(part: Part, candidate: Candidate, unseen: Calls, limit: float) -> str:
    """Empty when the candidate holds on unseen samples and is shorter than `limit` bits, else why not."""
    reading = candidate.reading
    if reading.bits >= limit:
        return f"held back: {reading.bits:,.0f} bits are no shorter than {limit:,.0f}"
    weights = {**part.program.weights, **candidate.weights}

    def no_calls(name: str, _: Values) -> Values:
        raise CannotRun(f"a proposed reading calls {name!r}")

    def instead(values: Values) -> Values:
        return run_block(reading.body, values, Scope(weights, no_calls))

    gaps: list[tuple[float, int]] = []
    exact = [run_functions(part.program, call, "weights") for call in unseen]
    sizes = [float(value.double().abs().max()) for wanted in exact for value in wanted if value.numel()]
    for call, wanted in zip(unseen, exact, strict=True):
        try:
            found = run_functions(part.program, call, "weights", replace={part.function.name: instead})
        except CannotRun as error:
            return f"rejected: it does not run ({error})"
        for a, b in zip(found, wanted, strict=True):
            gaps.append((gap(a, b, reading.measure, max(sizes, default=0.0)), b.numel()))
    worst = max(each for each, _ in gaps)
    if reading.measure != "difference" and worst <= 1.0:
        worst = sum(each * count for each, count in gaps) / max(1, sum(count for _, count in gaps))
    difference = reading.measure == "difference"
    if worst <= reading.budget * (SLACK if difference else 1.0):
        return ""
    unit = "largest relative difference" if difference else "share of mismatches"
    return f"rejected: {unit} {worst:.2g} at the network's output"


def gap(found: Tensor, wanted: Tensor, measure: Measure, scale: float = 0.0) -> float:
    """How far `found` is from `wanted`: difference relative to the largest value, or share of mismatches.

    See `Reading.measure`; `scale` is the largest magnitude elsewhere.
    """
    if found.shape != wanted.shape:
        return float("inf")
    if wanted.numel() == 0:
        return 0.0
    if measure == "difference":
        scale = max(scale, float(wanted.abs().max()), 1e-30)
        return float((found.double() - wanted.double()).abs().max()) / scale
    if measure == "decision":
        return float((found.argmax(-1) != wanted.argmax(-1)).double().mean())
    if measure in ("decisions", "signs"):
        a, b = (x.sign() if measure == "signs" else x.argmax(-1) for x in (found, wanted))
        return float((a != b).reshape(len(b), -1).any(1).double().mean())
    return float((found.double().round() != wanted.double().round()).double().mean())
