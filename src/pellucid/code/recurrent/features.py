"""Quantities that a person would keep while reading a sequence: past inputs, totals, extremes, counts, encodings.

Each is a named state variable with a start value and an update. They depend on the inputs alone, so their values on any
sequences can be computed beforehand and an output be sought as an expression over them (`recurrent.running`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Int64

from pellucid.code.expressions.expression import (
    NODE_BITS,
    Expr,
    Name,
    bits,
    call,
    evaluate,
    linear,
    names_in,
    number,
    number_bits,
)
from pellucid.code.recurrent.agreement import Inputs, Sequences
from pellucid.code.recurrent.steps import StepProgram, assign

FEW = 8


@dataclass(frozen=True)
class Feature:
    """A state variable.

    Attributes:
        name: unique.
        start: value before the first step.
        update: new value, over inputs and features.
        late: updated after the outputs are set (a past value), else before (a running value).
    """

    name: str
    start: int
    update: Expr
    late: bool = False

    @property
    def bits(self) -> float:
        """What keeping it costs in a program."""
        return 2 * NODE_BITS + bits(self.update) + number_bits(Fraction(self.start))


def delays(inputs: Inputs, names: Sequence[str], lags: int, absent: bool) -> tuple[Feature, ...]:
    """The inputs of 1 to `lags` steps ago; before the first step 0, or a value that no input has (`absent`)."""
    found = []
    for name, values in zip(names, inputs.channels, strict=True):
        start = min(values) - 1 if absent else 0
        for lag in range(1, lags + 1):
            found.append(Feature(f"{name}{lag}", start, Name(f"{name}{lag - 1}" if lag > 1 else name), late=True))
    return tuple(found)


def extremes(inputs: Inputs, names: Sequence[str]) -> tuple[Feature, ...]:
    """Totals, the totals before this step, running maxima and minima, and the number of steps."""
    found = []
    for name, values in zip(names, inputs.channels, strict=True):
        tag = "" if len(names) == 1 else f"_{name}"
        here = Name(name)
        found += [_total(f"total{tag}", here), Feature(f"before{tag}", 0, Name(f"total{tag}"), late=True)]
        for word, op, starts in (("top", "max", {min(values), 0}), ("low", "min", {max(values), 0})):
            for start in sorted(starts, key=lambda v: (v != 0, v)):
                own = f"{word}{tag}_or_0" if start == 0 and len(starts) > 1 else f"{word}{tag}"
                found.append(Feature(own, start, call(op, Name(own), here)))
    return (*found, Feature("n", 0, linear([(1, Name("n"))], 1)))


def _total(name: str, term: Expr, constant: int = 0) -> Feature:
    return Feature(name, 0, linear([(1, Name(name)), (1, term)], constant))


def counts(inputs: Inputs, names: Sequence[str]) -> tuple[Feature, ...]:
    """How many inputs so far were even, positive, negative, a given symbol, …, and how many in a row."""
    found = []
    for name, values in zip(names, inputs.channels, strict=True):
        tag = "" if len(names) == 1 else f"_{name}"
        here, past = Name(name), Name(f"{name}1")
        events: list[tuple[str, Expr]] = [("repeats", call("eq", here, past)), ("rises", call("gt", here, past))]
        if len(values) > 2:
            events.append(("evens", call("eq", call("mod", here, number(2)), number(0))))
        if min(values) < 0:
            events += [("positives", call("gt", here, number(0))), ("negatives", call("lt", here, number(0)))]
            found.append(_total(f"size{tag}", call("abs", here)))
        if len(values) <= FEW and set(values) != {0, 1}:
            for v in values:
                events.append((f"count{tag}_{v}".replace("-", "m"), call("eq", here, number(v))))
        if set(values) == {0, 1}:
            found += [_total(f"ones{tag}", here), _total(f"zeros{tag}", linear([(-1, here)], 1))]
            found.append(Feature(f"streak{tag}", 0, call("mul", here, linear([(1, Name(f"streak{tag}"))], 1))))
        for word, event in events:
            found.append(_total(f"{word}{tag}" if not word.startswith("count") else word, event))
    if len(names) == 2:
        a, b = map(Name, names)
        if all(set(values) == {0, 1} for values in inputs.channels):
            found += [_total("both", call("and", a, b)), _total("differ", call("xor", a, b))]
        found += [_total("gap", linear([(1, a), (-1, b)])), _total("equals", call("eq", a, b))]
    return tuple(found)


def nested(inputs: Inputs, names: Sequence[str]) -> tuple[Feature, ...]:
    """Of one channel: the balance of two symbols and its extremes, the total of totals, and the sequence as a number,
    read forwards and backwards."""
    if len(names) != 1:
        return ()
    here, values = Name(names[0]), inputs.channels[0]
    found = [_total("total", here), _total("area", Name("total")), *_pair("total", "")]
    if set(values) == {0, 1}:
        found += [Feature("balance", 0, linear([(1, Name("balance")), (2, here)], -1)), *_pair("balance", "_balance")]
    if min(values) >= 0 and len(values) <= FEW:
        base = max(values) + 1
        found += [
            Feature("forwards", 0, linear([(base, Name("forwards")), (1, here)])),
            Feature("place", 1, linear([(base, Name("place"))]), late=True),
            Feature("backwards", 0, linear([(1, Name("backwards")), (1, call("mul", here, Name("place")))])),
        ]
    return tuple(found)


def _pair(of: str, tag: str) -> list[Feature]:
    return [
        Feature(f"peak{tag}", 0, call("max", Name(f"peak{tag}"), Name(of))),
        Feature(f"floor{tag}", 0, call("min", Name(f"floor{tag}"), Name(of))),
    ]


def derived(inputs: Inputs, names: Sequence[str]) -> tuple[Expr, ...]:
    """Expressions over features that are worth starting from: the most frequent symbol."""
    values = inputs.channels[0]
    if len(names) != 1 or not 3 <= len(values) <= FEW or values != tuple(range(len(values))):
        return ()
    return (call("argmax", *(Name(f"count_{v}") for v in values)),)


def trace(
    features: Sequence[Feature], names: Sequence[str], x: Sequences
) -> dict[str, Int64[np.ndarray, "batch time"]]:
    """What an output sees of each input and feature at each step."""
    ordered = arrange(features)
    state = {f.name: np.full(len(x), f.start, dtype=np.int64) for f in features}
    seen = {name: np.zeros(x.shape[:2], dtype=np.int64) for name in (*names, *state)}
    for t in range(x.shape[1]):
        env = {**state, **{name: x[:, t, i] for i, name in enumerate(names)}}
        for feature in (f for f in ordered if not f.late):
            env[feature.name] = evaluate(feature.update, env)
        for name, values in seen.items():
            values[:, t] = env[name]
        for feature in (f for f in ordered if f.late):
            env[feature.name] = evaluate(feature.update, env)
        state = {name: env[name] for name in state}
    return seen


def arrange(features: Sequence[Feature]) -> list[Feature]:
    """Running values so that each follows those it reads, then past values so that each precedes those it reads."""
    early = {f.name: f for f in features if not f.late}
    done: dict[str, Feature] = {}

    def visit(feature: Feature) -> Iterator[Feature]:
        if feature.name not in done:
            done[feature.name] = feature
            for name in sorted(names_in(feature.update) - {feature.name}):
                if name in early:
                    yield from visit(early[name])
            yield feature

    running = [f for feature in early.values() for f in visit(feature)]
    late = [f for f in features if f.late]
    past = sorted(late, key=lambda f: -_depth(f, {g.name: g for g in late}))
    return [*running, *past]


def _depth(feature: Feature, late: dict[str, Feature]) -> int:
    """How many past values stand between this one and the step."""
    below = [late[name] for name in names_in(feature.update) - {feature.name} if name in late]
    return 1 + max((_depth(other, late) for other in below), default=0)


def needed(expr: Expr, features: Sequence[Feature]) -> list[Feature]:
    """The features that an expression rests on, directly or not."""
    known, wanted = {f.name: f for f in features}, set(names_in(expr))
    while True:
        more = {name for w in wanted if w in known for name in names_in(known[w].update)} - wanted
        if not more:
            return [f for f in features if f.name in wanted]
        wanted |= more


def program(
    values: Sequence[Expr], features: Sequence[Feature], names: Sequence[str], outputs: Sequence[str]
) -> StepProgram:
    """The step program that keeps the features that the output values rest on."""
    used = {f.name: f for value in values for f in needed(value, features)}
    ordered = arrange(list(used.values()))
    body = [assign(f.name, f.update) for f in ordered if not f.late]
    body += [assign(output, value) for output, value in zip(outputs, values, strict=True)]
    body += [assign(f.name, f.update) for f in ordered if f.late]
    state = tuple((f.name, Fraction(f.start)) for f in ordered)
    return StepProgram(tuple(names), tuple(outputs), state, tuple(body))
