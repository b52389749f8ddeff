"""What is judged, by what, on what, and how much of it is run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pellucid.data import Batch, Inputs
from pellucid.errors import BadInput
from pellucid.ir.program import Program, loosest_claim
from pellucid.lift.load import Network
from pellucid.verdicts.measure import Claim
from pellucid.verdicts.plan import affordable, entry_values, portions
from pellucid.verdicts.process import Emitted


@dataclass(frozen=True)
class Effort:
    """How much is run. A declared finite domain is always run whole.

    Attributes:
        whole_work, part_work: multiply-adds that may go into samples of the whole and of the parts.
        whole_least, part_least: samples that are run whatever they cost.
        parts: samples that functions are compared on at most.
        effects: samples that readings are put into the network on at most.
        proofs: runs of the network that may go into putting every reading into it on all of a finite domain.
        loss: samples that the ledger by loss is measured on at most.
        timeout: seconds after which a request to program.py counts as hung.
    """

    whole_work: float = 1e12
    part_work: float = 6e11
    whole_least: int = 20
    part_least: int = 8
    parts: int = 4096
    effects: int = 1024
    proofs: int = 65536
    loss: int = 64
    timeout: float = 300.0


@dataclass(frozen=True)
class Case:
    """An emitted program (as it runs in single and in double precision), the network, and the judge's own program."""

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
        raise BadInput(f"{self.inputs.description}: fewer samples than the network's fixed batch size; give more")

    @cached_property
    def whole_inputs(self) -> Inputs:
        """What the whole is compared on."""
        if self.inputs.kind == "domain":
            return self.inputs
        return affordable(self.reference, self.inputs, self.effort.whole_work, self.effort.whole_least, self.seed)

    @cached_property
    def part_inputs(self) -> Inputs:
        """What functions are compared on."""
        effort = self.effort
        few = affordable(self.reference, self.inputs, effort.part_work, effort.part_least, self.seed, parts=True)
        return few.take(effort.parts, self.seed)

    def effect_inputs(self, readings: int) -> Inputs:
        """What readings are put into the network on, when there are so many of them: a finite domain whole, if the
        runs allow it."""
        whole = self.part_inputs.kind == "domain" and readings * len(self.part_inputs) <= self.effort.proofs
        if whole:
            return self.part_inputs
        many = max(self.effort.part_least, 4 * self.effort.effects // max(1, readings))
        return self.part_inputs.take(min(self.effort.effects, many), self.seed)

    def runs(self, inputs: Inputs) -> Iterator[Sequence[Any]]:
        """Inputs as values of the reference's entry."""
        return (entry_values(self.reference, batch) for batch in portions(inputs, self.reference))

    @cached_property
    def chosen(self) -> tuple[str, Claim] | None:
        """How the program runs by its chosen readings, and what it has to keep; None where that is the exact way."""
        chosen = [function.reading() for function in self.program.functions.values() if function.chosen != "weights"]
        if not chosen:
            return None
        measure, budget = loosest_claim(chosen)
        entry = self.program[self.program.entry]
        return (entry.chosen if entry.chosen != "weights" else "chosen"), Claim(measure, budget)

    @cached_property
    def kept(self) -> Mapping[str, Claim]:
        """What readings of the whole claim that are neither exact nor chosen."""
        entry = self.program[self.program.entry]
        kept = (reading for reading in entry.readings[1:] if reading.kind not in ("weights", entry.chosen))
        return {reading.kind: Claim(reading.measure, reading.budget) for reading in kept}

    @cached_property
    def claims(self) -> Mapping[tuple[str, str], Claim]:
        """What code claims, of all functions below the whole; words are judged by what the network loses."""
        return {
            (name, reading.kind): Claim(reading.measure, reading.budget)
            for name, function in self.program.functions.items()
            for reading in function.readings
            if reading.kind == "code" and name != self.program.entry and name in self.reference.functions
        }
