"""The judge: an emitted directory beside the network it came from.

1. The network is traced and structured anew: the judge's own exact program, its reference.
2. The tensors of the directory are compared with the network's own, bit by bit.
3. program.py runs in a fresh process: as a whole beside the live network, function by function beside the reference.
4. Exact readings are compared again in double precision, on fresh inputs; other readings with what program.json says.
5. Every verdict has its control: the same measure for a substitution that must fail.

Verifying executes program.py of the directory. Only verify directories that you trust.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from pellucid.data import Batch, Inputs
from pellucid.errors import BadInput, CannotRun
from pellucid.ir.directory import CODE
from pellucid.ir.interpret import run_functions
from pellucid.ir.notes import Verdict
from pellucid.ir.program import Program
from pellucid.ir.serialize import load_program
from pellucid.lift.load import Network
from pellucid.lift.trace import call_network
from pellucid.verdicts.double import Double, compare_in_double
from pellucid.verdicts.ledger import loss_shares
from pellucid.verdicts.measure import Claim, Gap, Share, gap, value_of
from pellucid.verdicts.parts import EXACT, Tally, compare_effects, compare_parts
from pellucid.verdicts.plan import affordable, entry_values, fresh, portions, shortened
from pellucid.verdicts.process import Emitted
from pellucid.verdicts.reference import derive, widened_batch
from pellucid.verdicts.weights import compare_weights
from pellucid.verdicts.whole import compare_whole, drift

WHOLE = "program"
EFFECT_FROM = 1e-5
"""From this local difference of an exact function on, its effect at the network's output is measured too."""


@dataclass(frozen=True)
class Effort:
    """How much is run. A declared finite domain is always run whole.

    Attributes:
        whole_work, part_work: multiply-adds of the network that may go into samples of the whole and of the parts.
        least: samples that are run whatever they cost.
        parts: samples that functions are compared on at most.
        effects: samples that readings are put into the network on at most.
        loss: samples that the ledger by loss is measured on at most.
        timeout: seconds after which a request to program.py counts as hung.
    """

    whole_work: float = 1e12
    part_work: float = 6e11
    least: int = 8
    parts: int = 4096
    effects: int = 1024
    loss: int = 64
    timeout: float = 300.0


@dataclass(frozen=True)
class Judgement:
    """Verdicts, failures first, and the shares of loss of the readings."""

    verdicts: tuple[Verdict, ...]
    loss_shares: Mapping[str, float]


@dataclass(frozen=True)
class _Case:
    """What is judged (as it runs in single and in double precision), by what, on what."""

    emitted: Emitted
    emitted_double: Emitted
    network: Network
    inputs: Inputs
    program: Program
    reference: Program
    seed: int
    effort: Effort
    say: Callable[[str], None]

    @cached_property
    def first(self) -> Batch:
        """The first portion of the inputs."""
        for batch in portions(self.inputs, self.reference):
            return batch
        raise BadInput(
            f"{self.inputs.description}: fewer samples than the batch size that the network fixes; give more"
        )

    @cached_property
    def whole_inputs(self) -> Inputs:
        """What the whole is compared on."""
        if self.inputs.kind == "domain":
            return self.inputs
        return affordable(self.reference, self.inputs, self.effort.whole_work, self.effort.least, self.seed)

    @cached_property
    def part_inputs(self) -> Inputs:
        """What functions are compared on."""
        few = affordable(self.reference, self.inputs, self.effort.part_work, self.effort.least, self.seed)
        return few.take(self.effort.parts, self.seed)

    def runs(self, inputs: Inputs) -> Iterator[Sequence[Any]]:
        """Inputs as values of the reference's entry."""
        return (entry_values(self.reference, batch) for batch in portions(inputs, self.reference))

    @cached_property
    def chosen(self) -> tuple[str, Claim] | None:
        """How the program runs by its chosen readings, and what it has to keep; None where that is the exact way."""
        chosen = [f.reading() for f in self.program.functions.values() if f.chosen != "weights"]
        if not chosen:
            return None
        order = ("decision", "rounded", "difference")
        measure = min((reading.measure for reading in chosen), key=order.index)
        budget = max(reading.budget for reading in chosen if reading.measure == measure)
        entry = self.program[self.program.entry]
        return (entry.chosen if entry.chosen != "weights" else "chosen"), Claim(measure, budget)


def verify_directory(
    directory: str | PathLike[str],
    network: Network,
    inputs: Inputs,
    *,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
    effort: Effort | None = None,
) -> Judgement:
    """Judge an emitted program. Runs program.py of `directory` in a process of its own; verify only what you trust.

    Args:
        directory: holds program.py, program.json and weights.safetensors.
        network: the network it should equal.
        inputs: samples that no reading has seen (the *verify* split), or a whole finite domain.
        seed: of everything drawn.
        progress: told the name of each part as it is looked at.
        effort: how much is run.

    Raises:
        BadInput: a file is missing or damaged, or the inputs do not fit the network.
    """
    place, effort, say = Path(directory), effort or Effort(), progress or (lambda part: None)
    program = _open(place)
    with Emitted(place, "single", effort.timeout) as single, Emitted(place, "double", effort.timeout) as double:
        say("reference")
        reference = derive(network, inputs, program.regions)
        case = _Case(single, double, network, inputs, program, reference, seed, effort, say)
        verdicts = _identity(case)
        try:
            verdicts += _run_all(case)
        except CannotRun as error:
            verdicts.append(_failed(WHOLE, "weights", EXACT, f"{error}"))
    return Judgement(tuple(sorted(verdicts, key=lambda v: (v.passed, v.part != WHOLE))), _shares(case))


def _shares(case: _Case) -> Mapping[str, float]:
    """The ledger by loss; empty where a reading does not run (a verdict says so)."""
    runs = list(case.runs(case.inputs.take(case.effort.loss, case.seed)))
    try:
        return loss_shares(case.program, runs)
    except CannotRun:
        return {}


def _open(directory: Path) -> Program:
    program = load_program(directory)
    if not (directory / CODE).is_file():
        raise BadInput(f"{directory / CODE}: no such file; give a directory that `pellucid decompile` wrote")
    return program


def _identity(case: _Case) -> list[Verdict]:
    """Is this a program of this network at all: fingerprint, tensors, and the judge's own program."""
    verdicts = [compare_weights(case.program.weights, case.reference.weights)]
    if case.program.fingerprint and case.program.fingerprint != case.network.fingerprint:
        cause = f"program.json was made from another network ({case.program.source or 'unknown'})"
        verdicts.append(_failed(WHOLE, "weights", Claim("decision", 0.0), cause, "fingerprint"))
    for batch in islice(portions(case.whole_inputs, case.reference), 2):
        found = run_functions(case.reference, entry_values(case.reference, batch), "weights")
        off = gap(found, call_network(case.network, batch.args, batch.kwargs)).relative
        if off > EXACT.budget:
            cause = f"the judge's own trace of the network is off by {off:.1e}: it cannot be followed on these inputs"
            verdicts.append(_failed(WHOLE, "weights", EXACT, cause, "trace"))
            break
    return verdicts


def _run_all(case: _Case) -> list[Verdict]:
    case.say(WHOLE)
    if not case.emitted.functions:
        raise CannotRun("program.py has no FUNCTIONS")
    double = _double(case)
    verdicts = _whole(case, double)
    parts = compare_parts(case.reference, case.emitted, case.runs(case.part_inputs), case.say)
    off = {name: EXACT for name, t in parts.items() if isinstance(t.score, Gap) and t.score.relative > EFFECT_FROM}
    claims = {**_claims(case), **{(name, "weights"): claim for name, claim in off.items()}}
    few = case.part_inputs.take(
        min(case.effort.effects, max(case.effort.least, 4096 // max(1, len(claims)))), case.seed
    )
    effects = compare_effects(case.reference, case.emitted, claims, case.runs(few), case.say)
    for name, tally in parts.items():
        verdicts.append(_part(case, name, tally, effects.get((name, "weights")), double))
    for (name, kind), tally in effects.items():
        if kind != "weights":
            verdicts.append(_other(case, name, kind, claims[name, kind], tally, double))
    return verdicts


def _double(case: _Case) -> Double:
    new = widened_batch(fresh(case.reference, case.first, case.seed))
    few = widened_batch(shortened(case.reference, case.first, 256).rows(slice(0, 256)))
    values = [entry_values(_any_type(case.reference), batch) for batch in (new, few)]
    return compare_in_double(case.emitted_double, case.reference, case.program, values[0], values[1])


def _any_type(reference: Program) -> Program:
    """The reference with inputs of double precision, for binding."""
    values = {
        n: dataclasses.replace(t, dtype=t.dtype.replace("float32", "float64")) for n, t in reference.values.items()
    }
    return dataclasses.replace(reference, values=values)


def _claims(case: _Case) -> Mapping[tuple[str, str], Claim]:
    """What the readings that are not exact claim, of all functions below the whole."""
    return {
        (name, reading.kind): Claim(reading.measure, reading.budget)
        for name, function in case.program.functions.items()
        for reading in function.readings
        if reading.kind != "weights" and name != case.program.entry and name in case.reference.functions
    }


# ---- verdicts


def _whole(case: _Case, double: Double) -> list[Verdict]:
    readings = {"weights": EXACT} | ({case.chosen[0]: case.chosen[1]} if case.chosen else {})
    batches = portions(case.whole_inputs, case.reference)
    tallies = compare_whole(case.network, case.reference, case.emitted, readings, batches)
    new = fresh(case.reference, case.first, case.seed)
    more = compare_whole(case.network, case.reference, case.emitted, {"weights": EXACT}, [new])
    kind = _kind(case.whole_inputs, True)
    verdicts = []
    for reading, tally in tallies.items():
        details, sound = [double.detail(case.program.entry, reading)], double.passes(case.program.entry, reading)
        if reading == "weights":
            details.append(_fresh_detail(more["weights"]))
            sound = sound and _met(EXACT, more["weights"])
        else:
            details.append(
                drift(case.network, case.reference, case.emitted, reading, readings[reading], case.first, case.seed)
            )
        verdicts.append(_verdict(WHOLE, reading, readings[reading], tally, kind, sound, details))
    return verdicts


def _fresh_detail(tally: Tally) -> str:
    if tally.score is None:
        return f"on fresh inputs: {tally.error}"
    return f"on {tally.score.samples} fresh inputs {value_of(tally.score):.1e}"


def _met(claim: Claim, tally: Tally) -> bool:
    return not tally.error and tally.score is not None and claim.met(tally.score)


def _part(case: _Case, name: str, tally: Tally, effect: Tally | None, double: Double) -> Verdict:
    mine, theirs = case.reference[name], case.program.functions.get(name)
    if theirs is None or (theirs.inputs, theirs.outputs) != (mine.inputs, mine.outputs):
        cause = "the program does not have this function" if theirs is None else "its signature is not the network's"
        return _failed(name, "weights", EXACT, cause)
    details = [double.detail(name, "weights")]
    if isinstance(tally.score, Gap) and tally.score.bitwise:
        details.append("every bit equal")
    if effect is not None and effect.score is not None:
        details.append(f"at the network's output {value_of(effect.score):.1e}")
    kind = _kind(case.part_inputs, tally.complete)
    return _verdict(name, "weights", EXACT, tally, kind, double.passes(name, "weights"), details)


def _other(case: _Case, name: str, kind: str, claim: Claim, tally: Tally, double: Double) -> Verdict:
    details = ["measured at the network's output", double.detail(name, kind)]
    return _verdict(name, kind, claim, tally, "sampled", double.passes(name, kind), details)


def _kind(inputs: Inputs, complete: bool) -> Literal["proved", "sampled"]:
    return "proved" if inputs.kind == "domain" and complete else "sampled"


def _verdict(
    part: str,
    reading: Any,
    claim: Claim,
    tally: Tally,
    kind: Literal["proved", "sampled"],
    sound: bool,
    details: Sequence[str],
) -> Verdict:
    if tally.error or tally.score is None:
        return _failed(part, reading, claim, tally.error or "it was never called on these inputs")
    example = tally.score.example if isinstance(tally.score, Share) else ""
    controlled = tally.control is not None and tally.control.failed
    how = f"control: {tally.control.how}" if tally.control else "no control"
    return Verdict(
        part=part,
        reading=reading if reading != "chosen" else "code",
        measure=claim.title,
        value=value_of(tally.score),
        unit=claim.unit,
        interval=tally.score.interval,
        inputs=tally.score.samples,
        kind=kind,
        control=tally.control.value if tally.control else float("nan"),
        passed=claim.met(tally.score) and sound and controlled,
        bar=claim.bar,
        detail="; ".join(part for part in (example, *details, how) if part),
    )


def _failed(part: str, reading: Any, claim: Claim, cause: str, measure: str = "") -> Verdict:
    worst = float("inf") if claim.measure == "difference" else 0.0
    interval = (worst, worst)
    kind: Any = reading if reading != "chosen" else "code"
    return Verdict(
        part, kind, measure or claim.title, worst, claim.unit, interval, 0, "sampled", worst, False, claim.bar, cause
    )
