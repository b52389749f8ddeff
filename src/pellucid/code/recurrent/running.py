"""Sequence functions as expressions over running quantities.

1. How far back does the output look? Two sequences that share the last k + 1 inputs, and differ before, tell.
2. If not at all, it is a finite function of the input (`expressions.tables`).
3. Else features are tried in groups, cheapest first (past inputs; totals and extremes; counts; nested ones), and each
   output is sought as the smallest expression over a group. What fits a sample but not all data adds the samples where
   it fails, and the search goes on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product

import numpy as np
from jaxtyping import Int64

from pellucid.code.expressions.expression import Expr, Name, call, evaluate, linear, number
from pellucid.code.expressions.grammar import Grammar, Leaf, smallest
from pellucid.code.expressions.tables import express
from pellucid.code.recurrent.agreement import Agreement, Inputs, SequenceFunction, Sequences, compare, draw, query
from pellucid.code.recurrent.features import Feature, counts, delays, derived, extremes, needed, nested, program, trace
from pellucid.code.recurrent.steps import StepProgram, assign, program_bits, run

MAX_LAG = 6
_SAMPLES = 96
_ROUNDS = 6
_DOMAIN = 4096


@dataclass(frozen=True)
class Running:
    """A program over running quantities, or why there is none.

    Attributes:
        program: or None.
        kind: the group of features it rests on.
        agreement: on fresh sequences.
        trail: (tried, outcome).
    """

    program: StepProgram | None
    kind: str
    agreement: Agreement | None
    trail: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Group:
    """Features to search over together, with the largest size of expression."""

    label: str
    features: tuple[Feature, ...]
    extra: tuple[Expr, ...]
    size: int


def look_back(f: SequenceFunction, inputs: Inputs, seed: int = 0, n: int = 256) -> int | None:
    """The smallest k for which the last k + 1 inputs settle the rounded output at the last step; None if above 6."""
    x = draw(inputs, np.random.default_rng([seed, 3]), n, inputs.length)
    other = draw(inputs, np.random.default_rng([seed, 4]), n, inputs.length)
    y = np.rint(query(f, x)[:, -1])
    for k in range(min(MAX_LAG, inputs.length - 2) + 1):
        mixed = np.concatenate([other[:, : inputs.length - k - 1], x[:, inputs.length - k - 1 :]], axis=1)
        if np.array_equal(np.rint(query(f, mixed)[:, -1]), y):
            return k
    return None


def read_running(
    f: SequenceFunction,
    inputs: Inputs,
    names: Sequence[str],
    outputs: Sequence[str],
    budget: float = 20.0,
    seed: int = 0,
) -> Running:
    """The shortest program that a group of features has, of those which agree on 1024 fresh sequences.

    Groups not begun when `budget` seconds have passed are left out.
    """
    deadline, trail = time.monotonic() + budget, []
    lags = look_back(f, inputs, seed)
    trail.append(("look back", "far" if lags is None else f"{lags} steps"))
    x = draw(inputs, np.random.default_rng([seed, 5]), 1024, inputs.length)
    y = query(f, x)
    whole = np.rint(y).astype(np.int64)
    if (whole == whole[0]).all():
        trail.append(("features", "no: the output does not depend on the input"))
        return Running(None, "", None, tuple(trail))
    best = Running(None, "", None, ())
    for label, found in _solutions(f, inputs, (names, outputs), x, whole, lags, deadline, trail):
        agreement = compare(y, run(found, x), x)
        if agreement.mismatches:
            trail.append((label, f"{agreement.mismatches} of {len(x)} sequences differ"))
            continue
        trail.append((label, f"{program_bits(found):.0f} bits, agrees"))
        if best.program is None or program_bits(found) < program_bits(best.program):
            best = Running(found, label, agreement, ())
    return Running(best.program, best.kind, best.agreement, tuple(trail))


def _solutions(
    f: SequenceFunction,
    inputs: Inputs,
    names: tuple[Sequence[str], Sequence[str]],
    x: Sequences,
    y: Int64[np.ndarray, "batch time d_out"],
    lags: int | None,
    deadline: float,
    trail: list[tuple[str, str]],
) -> Iterator[tuple[str, StepProgram]]:
    """Programs that fit x and y; for an output that depends on the last input alone, the first."""
    if lags == 0:
        values = _tabulated(f, inputs, names[0])
        if values is not None:
            yield "input alone", program(values, (), *names)
            return
    if lags is None:
        found = accumulator(x, y, *names)
        if found is None:
            trail.append(("accumulator", "no"))
        else:
            yield "accumulator", found
    for group in _groups(inputs, names[0], lags):
        if time.monotonic() > deadline:
            trail.append((group.label, "not tried: out of time"))
            return
        values = _searched(group, names[0], x, y, deadline)
        if values is None:
            trail.append((group.label, f"none up to size {group.size}"))
        else:
            yield group.label, program(values, group.features, *names)


def accumulator(
    x: Sequences, y: Int64[np.ndarray, "batch time d_out"], names: Sequence[str], outputs: Sequence[str]
) -> StepProgram | None:
    """s += x; y = s >= least; s -= amount * y: integrate and fire, as in dithering by error diffusion.

    With the network's own outputs put in, `least` and `amount` are what separates the steps that fire from the others.
    """
    if x.shape[2] != 1 or y.shape[2] != 1 or y.min() != 0 or y.max() != 1:
        return None
    total, fires = x[..., 0].cumsum(1), y[..., 0] == 1
    paid = fires.cumsum(1) - fires
    for amount in range(1, 2 * int(np.abs(x).max()) + 3):
        level = total - amount * paid
        least, most = int(level[fires].min()), int(level[~fires].max())
        if least > most:
            s, out = Name("s"), Name(outputs[0])
            round_ = next((v for v in (amount, (amount + 1) // 2, 0, 1) if most < v <= least), least)
            body = (
                assign("s", linear([(1, s), (1, Name(names[0]))])),
                assign(outputs[0], call("ge", s, number(round_))),
                assign("s", linear([(1, s), (-amount, out)])),
            )
            return StepProgram(tuple(names), tuple(outputs), (("s", Fraction(0)),), body)
    return None


def _tabulated(f: SequenceFunction, inputs: Inputs, names: Sequence[str]) -> list[Expr] | None:
    """Each output of a single step over the whole domain of the inputs, as an expression."""
    if inputs.symbols is None and np.prod([float(len(c)) for c in inputs.channels]) > _DOMAIN:
        return None
    domain = inputs.symbols if inputs.symbols is not None else tuple(product(*inputs.channels))
    keys = np.array(domain, dtype=np.int64)
    y = np.rint(query(f, keys[:, None])[:, 0]).astype(np.int64)
    found = [express(keys, column, names).expr for column in y.T]
    return [expr for expr in found if expr is not None] if None not in found else None


def _groups(inputs: Inputs, names: Sequence[str], lags: int | None) -> Iterator[_Group]:
    if lags is not None:
        if lags == 0:
            yield _Group("input alone", (), (), 7)
        for absent in (False, True):
            word = ", none before the first" if absent else ""
            yield _Group(f"last {max(lags, 1)} inputs{word}", delays(inputs, names, max(lags, 1), absent), (), 7)
        return
    past, most = delays(inputs, names, 1, False), extremes(inputs, names)
    yield _Group("totals and extremes", most, (), 5)
    yield _Group("counts", (*past, *counts(inputs, names)), derived(inputs, names), 5)
    yield _Group("counts", (*delays(inputs, names, 1, True), *counts(inputs, names)), (), 4)
    yield _Group("nested totals", nested(inputs, names), (), 5)
    yield _Group("totals, extremes and the last input", (*past, *most), (), 6)


def _searched(
    group: _Group, names: Sequence[str], x: Sequences, y: Int64[np.ndarray, "batch time d_out"], deadline: float
) -> list[Expr] | None:
    seen = trace(group.features, names, x)
    found: list[Expr] = []
    for channel in range(y.shape[2]):
        expr = _fitted(group, names, seen, y[..., channel].ravel(), deadline)
        if expr is None:
            return None
        found.append(expr)
    return found


def _fitted(
    group: _Group,
    names: Sequence[str],
    seen: dict[str, Int64[np.ndarray, "batch time"]],
    y: Int64[np.ndarray, " samples"],
    deadline: float,
) -> Expr | None:
    """The smallest expression for one output: sought on some samples, extended by those where it fails."""
    env = {name: values.ravel() for name, values in seen.items()}
    picks = _balanced(y)
    low, high = int(y.min()), int(y.max())
    constants = sorted({0, 1, low, high} if high - low <= 64 else {0, 1}, key=lambda c: (abs(c), c))
    moduli = sorted({2, 3, high + 1} - {0, 1}) if low >= 0 and high < 64 else [2]
    grammar = Grammar(tuple(constants), tuple(moduli), group.size)
    extra = {f.name: sum(g.bits for g in needed(Name(f.name), group.features)) for f in group.features}
    exprs: list[tuple[Expr, float]] = [(Name(name), extra.get(name, 0.0)) for name in env]
    exprs += [(expr, 0.0) for expr in group.extra]
    for _ in range(_ROUNDS):
        sample = {name: values[picks] for name, values in env.items()}
        leaves = [Leaf(expr, evaluate(expr, sample), cost) for expr, cost in exprs]
        expr = smallest(leaves, y[picks], grammar, deadline - time.monotonic())
        if expr is None:
            return None
        wrong = np.flatnonzero(np.broadcast_to(evaluate(expr, env), y.shape) != y)
        if not len(wrong):
            return expr
        picks = np.concatenate([picks, wrong[np.linspace(0, len(wrong) - 1, min(len(wrong), 32)).astype(int)]])
    return None


def _balanced(y: Int64[np.ndarray, " samples"]) -> Int64[np.ndarray, " picks"]:
    """Samples in which every value of the output occurs, as equally often as there are."""
    rng = np.random.default_rng(0)
    order = rng.permutation(len(y))
    rank = np.zeros(len(y), dtype=np.int64)
    for value in np.unique(y):
        places = np.flatnonzero(y[order] == value)
        rank[places] = np.arange(len(places))
    return np.sort(order[np.lexsort((np.arange(len(y)), rank))[:_SAMPLES]])
