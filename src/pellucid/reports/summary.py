"""The top of the report: whose program this is, and the ledger with its bits before and after."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pellucid.ir.bits import code_bits, tensor_bits
from pellucid.ir.graph import calls_made, weights_read
from pellucid.ir.notes import ReadingKind
from pellucid.ir.program import Ledger, Program
from pellucid.reports.tree import KINDS
from pellucid.reports.wording import percent, plural, ratio, rounded_count
from pellucid.verdicts.words import on_all_words
from pellucid.words.reading.install import has_words, worded

NAMELESS = "unnamed network"


@dataclass(frozen=True)
class Share:
    """One reading's share by one measure: as a number from 0 to 1, as text, and where its bar starts."""

    kind: ReadingKind
    value: float
    shown: str
    start: float


@dataclass(frozen=True)
class Line:
    """One line of the ledger: a measure, what it counts, and the shares; no shares when it was not measured.

    Shares that are not `additive` stand each for itself, with a bar of its own.
    """

    measure: str
    basis: str
    shares: tuple[Share, ...]
    additive: bool


@dataclass(frozen=True)
class Summary:
    """What the report says before anything else; `spoken` are the lines of the ledger with all words in place, none
    where they run already or there are none, `losses` what the network then loses, and beside what."""

    network: str
    fingerprint: str
    parameters: int
    tensors: int
    functions: int
    origin: str
    lines: tuple[Line, ...]
    spoken: tuple[Line, ...]
    losses: str
    bits_before: float
    bits_after: float
    shorter: str


def summarise(program: Program) -> Summary:
    """Identity, ledger and description length of a program."""
    ledger = program.ledger
    before, after = program_bits(program, "weights"), program_bits(program, None)
    loss = Line("loss", "recovered when only this reading runs", _shares(ledger.loss, False), False)
    return Summary(
        network=program.source or NAMELESS,
        fingerprint=program.fingerprint,
        parameters=ledger.parameter_count,
        tensors=len(program.weights),
        functions=len(program.functions),
        origin=program.regions.origin if program.regions is not None else "",
        lines=(*_carried(ledger), loss),
        spoken=_spoken(program),
        losses=", ".join(one.detail for one in on_all_words(program.notes.verdicts)),
        bits_before=before,
        bits_after=after,
        shorter=ratio(before, after),
    )


def _carried(ledger: Ledger) -> tuple[Line, ...]:
    return (
        Line("parameters", plural(ledger.parameter_count, "parameter"), _shares(ledger.parameters, True), True),
        Line("units", plural(ledger.unit_count, "unit"), _shares(ledger.units, True), True),
    )


def _spoken(program: Program) -> tuple[Line, ...]:
    """The ledger of the program that runs by words wherever it has them, and what the whole then recovers."""
    if all(function.chosen == "words" or not has_words(function) for function in program.functions.values()):
        return ()
    whole = on_all_words(program.notes.verdicts)
    shares = _shares({"words": whole[0].value}, False) if whole else ()
    loss = Line("loss", "recovered by all words together", shares, False)
    return (*_carried(worded(program).ledger), loss)


def _shares(shares: Mapping[str, float], additive: bool) -> tuple[Share, ...]:
    if not shares:
        return ()
    made, start = [], 0.0
    for kind in KINDS:
        value = shares.get(kind, 0.0)
        drawn = min(max(value, 0.0), 1.0 - start) if math.isfinite(value) else 0.0
        made.append(Share(kind, drawn, percent(value) if kind in shares else "", start))
        start += drawn if additive else 0.0
    return tuple(made)


def program_bits(program: Program, kind: ReadingKind | None) -> float:
    """Description length of all that runs with this kind of reading: each function once, each tensor once."""
    tensors: set[str] = set()
    seen: set[str] = set()
    pending, bits = [program.entry], 0.0
    while pending:
        name = pending.pop()
        if name in seen or name not in program.functions:
            continue
        seen.add(name)
        body = program[name].reading(kind).body
        bits += code_bits(body)
        tensors.update(weights_read(body))
        pending.extend(calls_made(body))
    return bits + sum(tensor_bits(program.weights[name]) for name in sorted(tensors))


def bits(amount: float) -> str:
    """Bits for a reader: to the bit while that can be read, then with a prefix."""
    return plural(round(amount), "bit") if amount < 1e5 else rounded_count(amount, "bit")
