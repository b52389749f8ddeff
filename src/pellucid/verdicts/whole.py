"""The whole program beside the live network: every input, and how far they go together on longer sequences."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pellucid.data import Batch
from pellucid.errors import BadInput, CannotRun
from pellucid.ir.program import Program
from pellucid.lift.load import Network
from pellucid.lift.trace import call_network
from pellucid.verdicts.controls import control
from pellucid.verdicts.measure import Claim, Share, Values, located, same_bits, together
from pellucid.verdicts.parts import Runs, Tally
from pellucid.verdicts.plan import entry_values, of_length
from pellucid.verdicts.process import Emitted

LENGTHS = (10, 20, 50, 100, 200)
SEQUENCES = 64
"""Sequences of each length that drift is looked for on."""


def compare_whole(
    network: Network,
    reference: Program,
    emitted: Runs,
    readings: dict[str, Claim],
    batches: Iterable[Batch],
) -> dict[str, Tally]:
    """Run the entry of the emitted program, by each of `readings`, beside the live network."""
    tallies = {reading: Tally() for reading in readings}
    for batch in batches:
        wanted = call_network(network, batch.args, batch.kwargs)
        values = entry_values(reference, batch)
        for reading, claim in readings.items():
            tally = tallies[reading]
            if tally.error:
                continue
            try:
                _compare(tally, reference.entry, reading, claim, emitted, values, wanted)
            except CannotRun as error:
                tally.error = str(error)
    return tallies


def _compare(
    tally: Tally, entry: str, reading: str, claim: Claim, emitted: Runs, values: Values, wanted: Values
) -> None:
    def run(given: Values) -> Values:
        return emitted.run(entry, reading, given)

    tally.score = together(tally.score, claim.score(run(values), wanted))
    if tally.control is None:
        tally.control = control(run, claim, lambda wrong: claim.score(wrong(values), wanted))


def run_differs(emitted: Emitted, program: Program, values: Values) -> str:
    """Whether `run`, which is what users call, gives what the tables give, bit by bit; empty where it does.

    The tables have no row for a kind of reading that only parts have and that is not chosen throughout.
    """
    entry = program[program.entry]
    known = emitted.functions.get(entry.name, ())
    for reading in (None, *sorted({"weights", *(kind for kind in emitted.runs if kind)})):
        kind = entry.chosen if reading is None else reading
        if reading is not None and kind not in known and not _everywhere(program, kind):
            continue
        row = "chosen" if "chosen" in known and (kind not in known or reading is None) else kind
        try:
            found, wanted = emitted.run_whole(reading, values), emitted.run(entry.name, row, values)
        except CannotRun as error:
            return f"run(reading={reading!r}) fails: {error}"
        if len(found) != len(wanted) or not all(map(same_bits, found, wanted)):
            return f"run(reading={reading!r}) does not give what FUNCTIONS[{entry.name!r}][{row!r}] gives"
    return ""


def _everywhere(program: Program, kind: str) -> bool:
    """Whether all functions that have a reading of a kind run by it."""
    having = (f for f in program.functions.values() if any(reading.kind == kind for reading in f.readings))
    return all(function.chosen == kind for function in having)


def drift(
    network: Network, reference: Program, emitted: Runs, reading: str, claim: Claim, batch: Batch, seed: int
) -> str:
    """Up to which length network and program go together, and where they part; empty without a time axis."""
    held: list[int] = []
    for length in LENGTHS:
        longer = of_length(reference, batch, length, SEQUENCES, seed + length)
        if longer is None:
            return ""
        try:
            wanted = call_network(network, longer.args, longer.kwargs)
            values = entry_values(reference, longer)
            found = emitted.run(reference.entry, reading, values)
        except (BadInput, CannotRun) as error:
            said = f"length {length} does not run ({error})"
            return f"{_agreed(held)}; {said}" if held else f"not compared at other lengths: {said}"
        score = claim.score(found, wanted)
        if not claim.met(score):
            where = _where(score, emitted, reference.entry, values, wanted, found)
            return f"{_agreed(held)}; they part at length {length}{where}"
        held.append(length)
    return _agreed(held)


def _agreed(lengths: list[int]) -> str:
    return (
        f"network and program agree at lengths {', '.join(map(str, lengths))}" if lengths else "they agree at no length"
    )


def _where(score: Any, emitted: Runs, entry: str, values: Values, wanted: Values, found: Values) -> str:
    """The first position where they part, with the exact reading beside both."""
    if not isinstance(score, Share) or not score.place:
        return ""
    try:
        exact = f"{_at(emitted.run(entry, 'weights', values), score.place)}"
    except CannotRun:
        exact = "does not run"
    return (
        f", where all agrees before {located(score.place)}: network {_at(wanted, score.place)}, exact reading {exact}, "
        f"program {_at(found, score.place)}"
    )


def _at(outputs: Values, place: tuple[int, ...]) -> str:
    value = outputs[0][place]
    return f"{float(value):.6g}" if value.ndim == 0 else f"argmax {int(value.argmax())}"
