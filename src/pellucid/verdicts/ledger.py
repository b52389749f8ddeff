"""The ledger by behaviour: how much of the loss each kind of reading recovers when only it runs.

Loss recovered = (L_ablated - L_reading) / (L_ablated - L_original). Ablated: every leaf of the program (a function that
calls no other) gives its mean over the data; reading: only the leaves of the other kinds do. The loss is next-token
cross-entropy for language models, else the squared distance to the network's own output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Shaped

from pellucid.ir.graph import calls_made
from pellucid.ir.interpret import Replacement, Scope, Values, run_block, run_functions
from pellucid.ir.notes import ReadingKind
from pellucid.ir.program import Program

Tensor = Shaped[torch.Tensor, "..."]
Runs = Sequence[Values]

KINDS: tuple[ReadingKind, ...] = ("weights", "code", "words")


def measured_ledger(program: Program, runs: Runs) -> Program:
    """The program with its shares of loss in its notes, measured on `runs` (inputs of its entry)."""
    return program.with_notes(loss_shares=loss_shares(program, runs))


def loss_shares(program: Program, runs: Runs) -> Mapping[str, float]:
    """The share of the loss that each kind of reading recovers, from 0 to 1; all of it where all are exact."""
    kinds = _leaf_kinds(program)
    if set(kinds.values()) <= {"weights"}:
        return {"weights": 1.0, "code": 0.0, "words": 0.0}
    means = _means(program, kinds, runs)
    original = _mean_loss(program, runs, {}, exact=True)
    ablated = _mean_loss(program, runs, _ablations(program, kinds, means))
    shares: dict[str, float] = {}
    for kind in KINDS:
        others = {name: other for name, other in kinds.items() if other != kind}
        lost = (
            ablated - _mean_loss(program, runs, _ablations(program, others, means)) if len(others) < len(kinds) else 0.0
        )
        shares[kind] = min(1.0, max(0.0, lost / (ablated - original))) if ablated > original else 0.0
    return shares


def _leaf_kinds(program: Program) -> Mapping[str, ReadingKind]:
    """The leaves that run, with the kind of reading that each runs by."""
    kinds: dict[str, ReadingKind] = {}
    waiting, seen = [program.entry], {program.entry}
    while waiting:
        name = waiting.pop()
        reading = program[name].reading()
        callees = calls_made(reading.body)
        if not callees:
            kinds[name] = reading.kind
        waiting.extend(callee for callee in callees if callee not in seen)
        seen.update(callees)
    return kinds


@dataclass
class _Mean:
    """A running mean of one output over its general axes."""

    total: Tensor
    count: int

    def __add__(self, other: _Mean) -> _Mean:
        return _Mean(self.total + other.total, self.count + other.count)


def _means(program: Program, kinds: Mapping[str, ReadingKind], runs: Runs) -> Mapping[str, Sequence[Tensor | None]]:
    """The mean outputs of each leaf over all runs; None for outputs that are no real numbers."""
    sums: dict[str, list[_Mean | None]] = {}

    def watch(name: str, _: Values, outputs: Values) -> None:
        if name not in kinds:
            return
        found = [_summed(program, label, value) for label, value in zip(program[name].outputs, outputs, strict=True)]
        before = sums.get(name, [None] * len(found))
        sums[name] = [a + b if a is not None and b is not None else b for a, b in zip(before, found, strict=True)]

    for values in runs:
        run_functions(program, values, watch=watch)
    return {name: [m.total / m.count if m is not None else None for m in found] for name, found in sums.items()}


def _summed(program: Program, label: str, value: Any) -> _Mean | None:
    if not isinstance(value, torch.Tensor) or not value.is_floating_point() or value.ndim == 0:
        return None
    kind = program.values.get(label)
    fitting = kind is not None and len(kind.axes) == value.ndim
    axes = tuple(i for i, axis in enumerate(kind.axes) if isinstance(axis, str)) if kind and fitting else (0,)
    if not axes:
        return _Mean(value.double(), 1)
    total = value.double().sum(axes, keepdim=True)
    return _Mean(total, value.numel() // max(1, total.numel()))


def _ablations(
    program: Program, kinds: Mapping[str, ReadingKind], means: Mapping[str, Sequence[Tensor | None]]
) -> Mapping[str, Replacement]:
    def no_calls(name: str, values: Values) -> Values:
        return run_functions(program, values, start=name)

    def ablation(name: str) -> Replacement:
        body = program[name].reading().body

        def constant(values: Values) -> Values:
            outputs = run_block(body, values, Scope(program.weights, no_calls))
            pairs = zip(outputs, means.get(name, [None] * len(outputs)), strict=True)
            return [out if mean is None else mean.to(out.dtype).expand_as(out) for out, mean in pairs]

        return constant

    return {name: ablation(name) for name in kinds}


def _mean_loss(program: Program, runs: Runs, replace: Mapping[str, Replacement], exact: bool = False) -> float:
    losses, samples = 0.0, 0
    for values in runs:
        wanted = run_functions(program, values, "weights")
        found = wanted if exact else run_functions(program, values, replace=replace)
        count = values[0].shape[0] if isinstance(values[0], torch.Tensor) and values[0].ndim else 1
        losses += count * _loss(values[0], found[0], wanted[0])
        samples += count
    return losses / max(1, samples)


def _loss(ids: Any, found: Tensor, wanted: Tensor) -> float:
    """Next-token cross-entropy in nats where the network is a language model, else the mean squared distance."""
    speaks = isinstance(ids, torch.Tensor) and ids.dtype == torch.int64 and ids.ndim == 2 and ids.shape[1] > 1
    if speaks and found.ndim == 3 and found.shape[:2] == ids.shape and int(ids.max()) < found.shape[2]:
        return float(F.cross_entropy(found[:, :-1].flatten(0, 1).double(), ids[:, 1:].flatten()))
    if not found.is_floating_point():
        return float((found != wanted).double().mean())
    return float((found.double() - wanted.double()).pow(2).mean())
