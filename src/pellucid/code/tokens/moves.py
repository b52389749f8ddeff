"""A machine over tokens as a person would write it: one number for the state, and what each token does to it.

All numberings of few states are tried. Under each, what a token does becomes the shortest move that agrees with every
transition that was seen (stay, set, add, add modulo, mirror, test), and each output the shortest comparison of the
state; transitions that were never seen may become anything. The numbering of shortest description wins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from jaxtyping import Bool, Int64

from pellucid.code.expressions.expression import Call, Expr, Lookup, Name, bits, call, evaluate, linear, negated, number
from pellucid.code.recurrent.writing import Writer
from pellucid.code.tokens.merging import STAY, Classifier
from pellucid.ir.graph import Block, Node, Ref

ALL_NUMBERINGS = 7
"""Up to so many states every numbering that starts at 0 is tried."""

STATE, TOKEN = Name("state"), Name("token")


@dataclass(frozen=True)
class Tracked:
    """The state as an expression of the state before and the token, from 0, and what holds in it.

    Attributes:
        name: what the state is called.
        update: over the names "state" and "token".
        outputs: one truth value for each column, over the name "state".
        labels: the number of each state of the machine.
    """

    name: str
    update: Expr
    outputs: tuple[Expr, ...]
    labels: tuple[int, ...]

    @property
    def bits(self) -> float:
        """Description length of the update and the outputs."""
        return bits(self.update) + sum(map(bits, self.outputs))


@dataclass(frozen=True, eq=False)
class _Options:
    """Expressions of the state, shortest first, and what they give for each state."""

    exprs: tuple[Expr, ...]
    values: Int64[np.ndarray, "options states"]

    def fitting(self, labels: Int64[np.ndarray, " rows"], wanted: Int64[np.ndarray, " rows"]) -> Expr:
        """The shortest that gives what is wanted; a table if there is none."""
        fits = np.flatnonzero((self.values[:, labels] == wanted).all(1))
        if len(fits):
            return self.exprs[int(fits[0])]
        rows = dict(sorted(zip(labels.tolist(), wanted.tolist(), strict=True)))
        return Lookup((STATE,), tuple((key,) for key in rows), tuple(rows.values()))


def tracked(machine: Classifier, columns: Bool[np.ndarray, "kinds columns"]) -> Tracked:
    """The machine in moves; `columns` says which truth values hold in each class."""
    count = machine.states
    rest = permutations(range(1, count)) if count <= ALL_NUMBERINGS else [tuple(range(1, count))]
    moves, tests = _moves(count), _tests(count)
    found = [_numbered(machine, columns, (0, *labels), moves, tests) for labels in rest]
    return min(found, key=lambda one: one.bits)


def _options(exprs: Sequence[Expr], count: int) -> _Options:
    ordered = sorted(exprs, key=lambda expr: (expr != STATE, bits(expr)))
    states = np.arange(count)
    values = np.stack([np.broadcast_to(evaluate(expr, {STATE.name: states}), (count,)) for expr in ordered])
    return _Options(tuple(ordered), values.astype(np.int64))


def _moves(count: int) -> _Options:
    found: list[Expr] = [STATE, *map(number, range(count))]
    for step in range(1, count):
        for signed in (step, -step):
            moved = linear([(1, STATE)], signed)
            found += [moved, call("mod", moved, number(count))]
        found += [linear([(-1, STATE)], step), call("eq", STATE, number(step))]
    found.append(call("eq", STATE, number(0)))
    return _options(found, count)


def _tests(count: int) -> _Options:
    found: list[Expr] = [number(0), number(1)]
    for value in range(count):
        equal = call("eq", STATE, number(value))
        below = call("lt", STATE, number(value))
        found += [equal, negated(equal), below, negated(below)]
        found += [call("in", STATE, number(value), number(other)) for other in range(value + 1, count)]
    odd = call("eq", call("mod", STATE, number(2)), number(1))
    return _options([*found, odd, negated(odd)], count)


def _numbered(
    machine: Classifier,
    columns: Bool[np.ndarray, "kinds columns"],
    labels: tuple[int, ...],
    moves: _Options,
    tests: _Options,
) -> Tracked:
    numbers = np.array(labels)
    known = machine.out >= 0
    outputs = tuple(tests.fitting(numbers[known], column[machine.out[known]].astype(np.int64)) for column in columns.T)
    name, update = min(_updates(machine, numbers, moves), key=lambda option: bits(option[1]))
    return Tracked(name, update, outputs, labels)


def _updates(machine: Classifier, numbers: Int64[np.ndarray, " states"], moves: _Options) -> Iterator[tuple[str, Expr]]:
    """One expression for all moves: a sum where each only adds, the same modulo, and a case for each move."""
    seen = machine.next != STAY
    gaps = np.where(seen, numbers[machine.next] - numbers[:, None], 0)
    for modulus in (0, machine.states):
        steps = [
            _only(column[here] % modulus if modulus else column[here])
            for column, here in zip(gaps.T, seen.T, strict=True)
        ]
        if None in steps:
            continue
        signed = [step - modulus if step and 2 * step > modulus > 0 else step for step in steps if step is not None]
        total = linear([(1, STATE), *((k, _one_of(_with(machine, signed, k))) for k in sorted(set(signed) - {0}))])
        kind = "depth" if set(signed) - {0} == {1, -1} else "count"
        yield ("phase", call("mod", total, number(modulus))) if modulus > 1 else (kind, total)
    each: dict[Expr, list[int]] = {}
    for i, token in enumerate(machine.tokens):
        here = seen[:, i]
        each.setdefault(moves.fitting(numbers[here], numbers[machine.next[here, i]]), []).append(token)
    update: Expr = STATE
    for move, tokens in reversed([item for item in each.items() if item[0] != STATE]):
        update = call("where", _one_of(tokens), move, update)
    yield "state", update


def _only(values: Int64[np.ndarray, " rows"]) -> int | None:
    """The one value that all have (0 if there are none)."""
    return None if len(np.unique(values)) > 1 else int(values[0]) if len(values) else 0


def _with(machine: Classifier, steps: Sequence[int], step: int) -> list[int]:
    return [token for token, own in zip(machine.tokens, steps, strict=True) if own == step]


def _one_of(tokens: Sequence[int]) -> Expr:
    if len(tokens) == 1:
        return call("eq", TOKEN, number(tokens[0]))
    return call("in", TOKEN, *map(number, tokens))


def write_state(writer: Writer, found: Tracked, tokens: Ref) -> Ref:
    """The state after each token, [batch, time], as a loop."""
    samples = writer.node("size", tokens, 0, name="samples")
    start = writer.node("full", (samples,), 0, "int64", name=f"{found.name}_start")
    inner = Writer("int64", "", taken=set(writer.taken))
    state, token = inner.fresh(found.name), inner.fresh("token")
    inner.known = {STATE.name: Ref(state), TOKEN.name: Ref(token)}
    after = _written(inner, found.update, f"{found.name}_after")
    body = Block((state, token), tuple(inner.nodes), (after.name, after.name))
    last, states = writer.fresh(f"{found.name}_last"), writer.fresh(found.name)
    writer.nodes.append(Node((last, states), "scan", ((start,), (tokens,), ()), (("axis", 1),), body=body))
    return Ref(states)


def _written(writer: Writer, update: Expr, name: str) -> Ref:
    """An update as an array with one entry per sample: its cases from the last to the first."""
    if not (isinstance(update, Call) and update.op == "where"):
        return writer.array(update, name)
    test, move, otherwise = update.args
    tokens = test.args[1:] if isinstance(test, Call) else ()
    is_one = [writer.node("eq", writer.known[TOKEN.name], writer.write(token)) for token in tokens]
    condition = is_one[0]
    for other in is_one[1:]:
        condition = writer.node("or", condition, other)
    return writer.node("where", condition, writer.write(move), _written(writer, otherwise, name), name=name)
