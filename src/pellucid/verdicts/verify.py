"""The judge: an emitted directory beside the network it came from.

1. The network is traced and structured anew: the judge's own exact program, its reference.
2. The tensors of the directory are compared with the network's own, bit by bit.
3. program.py runs in a fresh process: as a whole beside the live network, function by function beside the reference.
4. Exact readings are compared again in double precision, on fresh inputs; other readings with what program.json says.
5. Every verdict has its control: the same measure for a substitution that must fail.

Verifying executes program.py of the directory. Only verify directories that you trust.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from os import PathLike
from pathlib import Path

from pellucid.data import Inputs
from pellucid.errors import BadInput, CannotRun
from pellucid.ir.directory import CODE
from pellucid.ir.interpret import run_functions
from pellucid.ir.notes import Verdict
from pellucid.ir.program import Program
from pellucid.ir.serialize import load_program
from pellucid.ir.threading import with_ids
from pellucid.lift.load import Network
from pellucid.lift.trace import call_network
from pellucid.verdicts.case import Case, Effort
from pellucid.verdicts.double import Double, compare_in_double
from pellucid.verdicts.ledger import loss_shares
from pellucid.verdicts.measure import Claim, Gap, gap, value_of
from pellucid.verdicts.parts import EXACT, Tally, compare_effects, compare_parts
from pellucid.verdicts.plan import entry_values, fresh, portions, shortened
from pellucid.verdicts.process import Emitted
from pellucid.verdicts.reference import derive, widened_batch
from pellucid.verdicts.rounding import allowing, own_rounding
from pellucid.verdicts.verdict import WHOLE, certainty, failed, verdict
from pellucid.verdicts.weights import compare_weights
from pellucid.verdicts.whole import compare_whole, drift, run_differs
from pellucid.verdicts.words import judge_words

EFFECT_FROM = 1e-5
"""From this local difference of an exact function on, its effect at the network's output is measured too."""

ROUNDING_RUNS = 4
"""Portions of the inputs that the network's own rounding is measured on."""


@dataclass(frozen=True)
class Judgement:
    """Verdicts, failures first, and the shares of loss of the readings."""

    verdicts: tuple[Verdict, ...]
    loss_shares: Mapping[str, float]


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
    program = load_program(place)
    if not (place / CODE).is_file():
        raise BadInput(f"{place / CODE}: no such file; give a directory that `pellucid decompile` wrote")
    with Emitted(place, "single", effort.timeout) as single, Emitted(place, "double", effort.timeout) as double:
        say("reference")
        reference = _handing_down(derive(network, inputs, program.regions), program)
        case = Case(single, double, network, inputs, program, reference, seed, effort, say)
        verdicts = _identity(case)
        try:
            verdicts += [*_all_parts(case), *judge_words(case)]
        except CannotRun as error:
            verdicts.append(failed(WHOLE, "weights", EXACT, f"{error}"))
    return Judgement(tuple(sorted(verdicts, key=lambda v: (v.passed, v.part != WHOLE))), _shares(case))


def _handing_down(reference: Program, program: Program) -> Program:
    """The reference, its functions taking token ids as well where those of a program with words do."""
    more = [
        name
        for name, function in program.functions.items()
        if name in reference.functions and len(function.inputs) > len(reference[name].inputs)
    ]
    with contextlib.suppress(BadInput):
        return with_ids(reference, more) if more else reference
    return reference


def _shares(case: Case) -> Mapping[str, float]:
    """The ledger by loss; empty where a reading does not run (a verdict says so)."""
    runs = list(case.runs(case.inputs.take(case.effort.loss, case.seed)))
    try:
        return loss_shares(case.program, runs)
    except CannotRun:
        return {}


def _identity(case: Case) -> list[Verdict]:
    """Is this a program of this network at all: fingerprint, tensors, and the judge's own program."""
    verdicts = [compare_weights(case.program.weights, case.reference.weights)]
    if case.program.fingerprint and case.program.fingerprint != case.network.fingerprint:
        cause = f"program.json was made from another network ({case.program.source or 'unknown'})"
        verdicts.append(failed(WHOLE, "weights", Claim("decision", 0.0), cause, "fingerprint"))
    off = 0.0
    for batch in islice(portions(case.whole_inputs, case.reference), 2):
        found = run_functions(case.reference, entry_values(case.reference, batch), "weights")
        off = max(off, gap(found, call_network(case.network, batch.args, batch.kwargs)).relative)
    if off > EXACT.budget and off > allowing(EXACT, _own(case, case.reference.entry)).budget:
        cause = f"the judge's own trace of the network is off by {off:.1e}; it cannot judge on these inputs"
        verdicts.append(failed(WHOLE, "weights", EXACT, cause, "trace"))
    return verdicts


def _own(case: Case, name: str) -> float:
    return own_rounding(case.reference, name, islice(case.runs(case.part_inputs), ROUNDING_RUNS))


def _all_parts(case: Case) -> list[Verdict]:
    case.say(WHOLE)
    if not case.emitted.functions:
        raise CannotRun("program.py has no FUNCTIONS")
    double = _double(case)
    verdicts = _whole(case, double)
    parts = compare_parts(case.reference, case.emitted, case.runs(case.part_inputs), case.say)
    off = {name: EXACT for name, t in parts.items() if isinstance(t.score, Gap) and t.score.relative > EFFECT_FROM}
    claims = {**case.claims, **{(name, "weights"): claim for name, claim in off.items()}}
    few = case.effect_inputs(len(claims))
    effects = compare_effects(case.reference, case.emitted, claims, case.runs(few), case.say)
    for name, tally in parts.items():
        verdicts.append(_part(case, name, tally, effects.get((name, "weights")), double))
    for (name, kind), tally in effects.items():
        if kind != "weights":
            details = ["measured at the network's output", double.detail(name, kind)]
            sound = double.passes(name, kind)
            verdicts.append(verdict(name, kind, claims[name, kind], tally, certainty(few, True), sound, details))
    return verdicts


def _double(case: Case) -> Double:
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


def _whole(case: Case, double: Double) -> list[Verdict]:
    readings = {"weights": EXACT} | ({case.chosen[0]: case.chosen[1]} if case.chosen else {}) | {**case.kept}
    batches = portions(case.whole_inputs, case.reference)
    tallies = compare_whole(case.network, case.reference, case.emitted, readings, batches)
    kind = certainty(case.whole_inputs, True)
    entry = case.program.entry
    verdicts = [_exact_whole(case, tallies["weights"], double)]
    for reading, claim in readings.items():
        if reading != "weights":
            details = [
                *(["with all chosen readings in place"] if reading == "chosen" else []),
                *(["a reading of the whole that is not the chosen one"] if reading in case.kept else []),
                double.detail(entry, reading),
                drift(case.network, case.reference, case.emitted, reading, claim, case.first, case.seed),
            ]
            sound = double.passes(entry, reading)
            verdicts.append(verdict(WHOLE, reading, claim, tallies[reading], kind, sound, details))
    return verdicts


def _exact_whole(case: Case, tally: Tally, double: Double) -> Verdict:
    """The exact reading of the whole, also on fresh inputs: they decide where double precision cannot."""
    entry = case.program.entry
    claim, details = _allowed(case, entry, tally, double)
    sound, said = _on_fresh(case, claim, double.compared(entry))
    astray = run_differs(case.emitted, case.program, entry_values(case.reference, case.first))
    sound = sound and double.passes(entry, "weights") and not astray
    return verdict(WHOLE, "weights", claim, tally, certainty(case.whole_inputs, True), sound, [astray, *details, said])


def _on_fresh(case: Case, claim: Claim, compared: bool) -> tuple[bool, str]:
    """Whether the whole keeps its claim on fresh inputs; only that it runs, if it was compared in double precision."""
    new = fresh(case.reference, case.first, case.seed)
    try:
        tally = compare_whole(case.network, case.reference, case.emitted, {"weights": claim}, [new])["weights"]
    except BadInput:
        return True, "the network does not take fresh inputs"
    if tally.error or tally.score is None:
        return False, f"on fresh inputs: {tally.error}"
    return compared or claim.met(tally.score), f"on fresh inputs {value_of(tally.score):.1e}"


def _part(case: Case, name: str, tally: Tally, effect: Tally | None, double: Double) -> Verdict:
    mine, theirs = case.reference[name], case.program.functions.get(name)
    if theirs is None or (theirs.inputs, theirs.outputs) != (mine.inputs, mine.outputs):
        cause = "the program does not have this function" if theirs is None else "its signature is not the network's"
        return failed(name, "weights", EXACT, cause)
    claim, details = _allowed(case, name, tally, double)
    if isinstance(tally.score, Gap) and tally.score.bitwise:
        details.append("every bit equal")
    if effect is not None and effect.score is not None:
        details.append(f"at the network's output {value_of(effect.score):.1e}")
    kind = certainty(case.part_inputs, tally.complete)
    return verdict(name, "weights", claim, tally, kind, double.passes(name, "weights"), details)


def _allowed(case: Case, name: str, tally: Tally, double: Double) -> tuple[Claim, list[str]]:
    """What an exact reading has to keep: no more than the network itself, where double precision shows no fault."""
    details = [double.detail(name, "weights")]
    met = tally.score is None or EXACT.met(tally.score)
    if met or not double.compared(name) or not double.passes(name, "weights"):
        return EXACT, details
    own = _own(case, name)
    return allowing(EXACT, own), [*details, f"the network's own rounding error here is {own:.1e}"]
