"""Programs: the tree of functions that computes what a network computes.

Each `Function` has a signature (named values in and out) and up to three readings; `weights` is always there and exact.
A program runs by its chosen readings (`program(x)`) or by one kind where there is one
(`program.run(x, reading="weights")`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from typing import Any, Literal

import torch
from jaxtyping import Shaped

from pellucid.errors import BadInput
from pellucid.ir.graph import Block, ValueType, calls_made
from pellucid.ir.notes import Notes, ReadingKind
from pellucid.ir.regions import RegionTree

Tensor = Shaped[torch.Tensor, "..."]
Measure = Literal["difference", "rounded", "decision", "decisions", "signs"]

LOOSEST_FIRST: tuple[Measure, ...] = ("decisions", "signs", "decision", "rounded", "difference")
"""What several readings together keep is what the loosest of them claims."""


@dataclass(frozen=True)
class Reading:
    """One way to compute a function.

    Attributes:
        kind: `weights` (exact), `code` or `words`.
        body: what is computed, over the function's signature.
        method: how it was found, for example "exact", "recurrence", "convolution".
        bits: description length of the body and the weights that only it reads (see `pellucid.ir.bits`).
        summary: one line for the reader.
        measure: what it claims to keep: "difference" (the values, within `budget` relative to the largest), "rounded"
            (the network's output rounded to integers), "decision" (the index of the largest output), "decisions" (the
            same at every position of a sample) or "signs" (whether each output of a sample is positive, zero or
            negative).
        budget: for "difference" the largest relative difference allowed, else the largest share of mismatches: of
            positions, for "decisions" and "signs" of samples.
    """

    kind: ReadingKind
    body: Block
    method: str
    bits: float
    summary: str = ""
    measure: Measure = "difference"
    budget: float = 1e-4


def loosest_claim(readings: Sequence[Reading]) -> tuple[Measure, float]:
    """What readings that run together keep: measure and budget of the loosest of them."""
    measure = min((reading.measure for reading in readings), key=LOOSEST_FIRST.index)
    return measure, max(reading.budget for reading in readings if reading.measure == measure)


@dataclass(frozen=True)
class Function:
    """A named part of the program.

    Attributes:
        name: unique, the path of the region it came from.
        kind: what sort of part it is, for example "attention", "mlp", "layer", "network".
        scope: prefix of the names of its own weights.
        inputs, outputs: names of the values of its signature.
        readings: `weights` first, then those found.
        chosen: the kind that runs by default.
    """

    name: str
    kind: str
    scope: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    readings: tuple[Reading, ...]
    chosen: ReadingKind = "weights"

    def reading(self, kind: ReadingKind | None = None) -> Reading:
        """The reading of this kind, or the chosen one; the exact one where the function has none of this kind."""
        wanted = self.chosen if kind is None else kind
        return next((reading for reading in self.readings if reading.kind == wanted), self.readings[0])

    def with_reading(self, reading: Reading, choose: bool = True) -> Function:
        """A copy with `reading` added, in place of one of the same kind; chosen unless told otherwise."""
        others = tuple(other for other in self.readings if other.kind != reading.kind)
        chosen = reading.kind if choose else self.chosen
        return dataclasses.replace(self, readings=(*others, reading), chosen=chosen)


@dataclass(frozen=True)
class Program:
    """The functions of a network, callers before callees, with their weights and everything known about them."""

    entry: str
    functions: Mapping[str, Function]
    values: Mapping[str, ValueType]
    weights: Mapping[str, torch.Tensor] = field(repr=False)
    fingerprint: str = ""
    source: str = ""
    regions: RegionTree | None = None
    notes: Notes = field(default_factory=Notes)

    def __getitem__(self, name: str) -> Function:
        if name not in self.functions:
            near = ", ".join([known for known in self.functions if name in known][:5]) or ", ".join(
                [*self.functions][:5]
            )
            raise BadInput(f"program has no function {name!r}; there are, for example, {near}")
        return self.functions[name]

    def __call__(self, *args: object, **kwargs: Any) -> Tensor | tuple[Tensor, ...]:
        """Run the chosen readings. Takes what the network took; returns its output, or a tuple of them."""
        return self.run(*args, reading=None, **kwargs)

    def run(self, *args: object, reading: ReadingKind | None = None, **kwargs: object) -> Tensor | tuple[Tensor, ...]:
        """Run with one kind of reading wherever it exists (None: the chosen ones)."""
        from pellucid.ir.interpret import run_program

        return run_program(self, args, kwargs, reading)

    def __str__(self) -> str:
        return self.text()

    def text(self, depth: int | None = 2) -> str:
        """Pseudocode, opened down to `depth` levels below the whole (None: all levels)."""
        from pellucid.ir.printing import program_text

        return program_text(self, depth)

    def children(self, name: str) -> tuple[str, ...]:
        """Names of the functions that the chosen reading of `name` calls."""
        return calls_made(self[name].reading().body)

    def exact_bits(self, name: str) -> float:
        """Description length of the exact reading of a function and of all that it calls, each counted once."""
        found, waiting = {name}, [name]
        while waiting:
            called = set(calls_made(self[waiting.pop()].reading("weights").body)) - found
            found |= called
            waiting.extend(called)
        return sum(self[part].reading("weights").bits for part in sorted(found))

    @cached_property
    def ledger(self) -> Ledger:
        """What share of the network each reading carries."""
        from pellucid.ir.ledger import take_stock

        return take_stock(self)

    def save(self, directory: str | PathLike[str]) -> None:
        """Write `program.json` and `weights.safetensors` into `directory`, all or nothing."""
        from pellucid.ir.serialize import save_program

        save_program(self, directory)

    @staticmethod
    def load(directory: str | PathLike[str]) -> Program:
        """Read what `save` wrote. Raises BadInput when a file is missing, damaged or breaks a rule."""
        from pellucid.ir.serialize import load_program

        return load_program(directory)

    def with_function(self, function: Function, weights: Mapping[str, torch.Tensor] | None = None) -> Program:
        """A copy with one function replaced or added, and `weights` added."""
        return dataclasses.replace(
            self, functions={**self.functions, function.name: function}, weights={**self.weights, **(weights or {})}
        )

    def with_notes(self, **changes: object) -> Program:
        """A copy with some of the side tables replaced."""
        return dataclasses.replace(self, notes=dataclasses.replace(self.notes, **changes))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Ledger:
    """Shares from 0 to 1, by reading: of parameters, of units, and (once verified) of behaviour."""

    parameters: Mapping[str, float]
    units: Mapping[str, float]
    loss: Mapping[str, float]
    parameter_count: int
    unit_count: int

    def share(self, reading: ReadingKind, by: str = "parameters") -> float:
        """The share that `reading` carries, by "parameters", "units" or "loss".

        Raises:
            BadInput: for another `by`, or for "loss" before `verify` has measured it.
        """
        tables = {"parameters": self.parameters, "units": self.units, "loss": self.loss}
        if by not in tables:
            raise BadInput(f"by={by!r} is not a measure of the ledger; use one of {', '.join(tables)}")
        if by == "loss" and not self.loss:
            raise BadInput("the share by loss has not been measured; run pellucid.verify on this program first")
        return tables[by].get(reading, 0.0)
