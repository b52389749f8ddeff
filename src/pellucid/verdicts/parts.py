"""Every function on its own: fed with what it gets inside the network, compared with what it gives there.

The judge's own exact program runs on the inputs; as each function ends, the emitted one is run on the same values in
its process and compared at once, so that nothing is kept. A function that is called very often (the step of a loop) is
compared at its first calls and then at ever rarer ones. Readings that are not exact are put into the running network in
the function's place, and what comes out of the network is measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from pellucid.errors import CannotRun
from pellucid.ir.interpret import Watcher, run_functions
from pellucid.ir.program import Program
from pellucid.verdicts.controls import Control, Run, control
from pellucid.verdicts.measure import Claim, Gap, Share, Values, together

EVERY_CALL = 8
"""So many calls of a function in one run are compared, then the 16th, 32nd, 64th, …"""

EXACT = Claim("difference", 1e-4)
"""What an exact reading has to keep in single precision."""


@runtime_checkable
class Runs(Protocol):
    """What can run one reading of one function: the emitted program, or one in memory."""

    def run(self, function: str, reading: str, values: Values) -> tuple[Any, ...]:
        """The outputs; raises CannotRun."""


@dataclass
class Tally:
    """What has been seen of one reading of one function so far."""

    score: Gap | Share | None = None
    control: Control | None = None
    error: str = ""
    complete: bool = True


def compare_parts(
    reference: Program, emitted: Runs, runs: Iterable[Sequence[Any]], progress: Callable[[str], None]
) -> Mapping[str, Tally]:
    """Compare every exact function below the entry, over runs of the reference on the given inputs."""
    tallies = {name: Tally() for name in reference.functions if name != reference.entry}
    for values in runs:
        run_functions(reference, values, "weights", watch=_watcher(tallies, emitted, progress))
    return tallies


def _watcher(tallies: Mapping[str, Tally], emitted: Runs, progress: Callable[[str], None]) -> Watcher:
    calls: Counter[str] = Counter()

    def watch(name: str, inputs: Values, outputs: Values) -> None:
        tally = tallies.get(name)
        if tally is None:
            return
        calls[name] += 1
        if calls[name] > EVERY_CALL and calls[name].bit_count() > 1:
            tally.complete = False
            return
        if tally.error:
            return
        progress(name)
        try:
            _compare(tally, emitted, name, inputs, outputs)
        except CannotRun as error:
            tally.error = str(error)

    return watch


def _compare(tally: Tally, emitted: Runs, name: str, inputs: Values, outputs: Values) -> None:
    def run(values: Values) -> Values:
        return emitted.run(name, "weights", values)

    tally.score = together(tally.score, EXACT.score(run(inputs), outputs))
    if tally.control is None:
        tally.control = control(run, EXACT, lambda wrong: EXACT.score(wrong(inputs), outputs))


def compare_effects(
    reference: Program,
    emitted: Runs,
    claims: Mapping[tuple[str, str], Claim],
    runs: Iterable[Sequence[Any]],
    progress: Callable[[str], None],
) -> Mapping[tuple[str, str], Tally]:
    """Put each (function, reading) of `claims` into the reference in turn, and measure what the network gives."""
    tallies = {key: Tally() for key in claims}
    for values in runs if claims else ():
        wanted = run_functions(reference, values, "weights")
        for (name, kind), claim in claims.items():
            tally = tallies[name, kind]
            if tally.error:
                continue
            progress(name)
            try:
                _put_in(tally, reference, _reading(emitted, name, kind), name, claim, values, wanted)
            except CannotRun as error:
                tally.error = str(error)
    return tallies


def _reading(emitted: Runs, name: str, kind: str) -> Run:
    return lambda values: emitted.run(name, kind, values)


def _put_in(
    tally: Tally, reference: Program, run: Run, name: str, claim: Claim, values: Values, wanted: Values
) -> None:
    def outcome(instead: Run) -> Gap | Share:
        return claim.score(run_functions(reference, values, "weights", replace={name: instead}), wanted)

    tally.score = together(tally.score, outcome(run))
    if tally.control is None:
        tally.control = control(run, claim, outcome)
