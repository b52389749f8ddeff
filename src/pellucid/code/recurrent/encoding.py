"""From a finite-state machine to the shortest step program that behaves like it.

Ways to hold the state, each tried: none at all; the last few inputs (if they determine the state); an integer: what
it puts out, numbered breadth first, by modular arithmetic (next = a·state + b·x + c mod n) or by the rank of what it
puts out; bits, over all assignments of codes. Updates and outputs become expressions by `expressions.tables`. The
shortest program wins, after it was run against the machine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import permutations, product

import numpy as np
from jaxtyping import Int8, Int64

from pellucid.code.expressions.boolean_cover import affine, cover
from pellucid.code.expressions.expression import Call, Expr, Lookup, Name, evaluate, walk
from pellucid.code.expressions.formulas import VARIABLES, shortest
from pellucid.code.expressions.tables import express
from pellucid.code.recurrent.automaton import Machine, Word
from pellucid.code.recurrent.steps import Assign, StepProgram, assign, program_bits, run, share, tidy

MAX_WINDOW = 4
_ROWS = 4096
_MODULAR = 5000
_CODES = 900
_KEPT = 2
_CLEARER = 16.0
"""Bits that a form which reads better may be longer."""
_SHORT = 72.0
"""Bits of a program that is short enough to stop looking for another form."""


@dataclass(frozen=True)
class Encoded:
    """The shortest program found for a machine, or None.

    Attributes:
        program: behaves as the machine does.
        form: how the state is held.
        trail: (form, outcome) for everything tried.
    """

    program: StepProgram | None
    form: str
    trail: tuple[tuple[str, str], ...]


@dataclass(frozen=True, eq=False)
class _Rows:
    """The graph of a machine as rows: state, inputs that vary (`names`), next state, outputs."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    names: tuple[str, ...]
    x: Int64[np.ndarray, "rows d_in"]
    state: Int64[np.ndarray, " rows"]
    next: Int64[np.ndarray, " rows"]
    y: Int64[np.ndarray, "rows d_out"]


def encode(
    machine: Machine, access: Sequence[Word], inputs: Sequence[str], outputs: Sequence[str], budget: float = 10.0
) -> Encoded:
    """The shortest step program for a machine, over named inputs and outputs.

    Forms not begun within `budget` seconds are left out. None if nothing fits in expressions or tables of 64 rows.
    """
    deadline = time.monotonic() + budget
    rows = _graph(machine, inputs, outputs)
    trail: list[tuple[str, str]] = []
    found: list[tuple[float, str, StepProgram]] = []
    for form, program in _programs(machine, access, rows, deadline):
        if program is None:
            trail.append((form, "no"))
            continue
        if not _behaves(program, machine, access):
            trail.append((form, "differs from the machine"))
            continue
        found.append((program_bits(program), form, program))
        trail.append((form, f"{found[-1][0]:.0f} bits"))
        if found[-1][0] <= _SHORT:
            break
    if not found:
        return Encoded(None, "", tuple(trail))
    _, form, best = min(found, key=lambda item: item[0])
    return Encoded(best, form, tuple(trail))


def _graph(machine: Machine, inputs: Sequence[str], outputs: Sequence[str]) -> _Rows:
    following, out = machine.tables
    count = len(machine.symbols)
    symbols = np.array(machine.symbols, dtype=np.int64)
    varying = np.flatnonzero(np.ptp(symbols, axis=0))
    x = np.tile(symbols[:, varying], (machine.states, 1))
    state = np.repeat(np.arange(machine.states), count)
    names = tuple(inputs[int(i)] for i in varying)
    return _Rows(tuple(inputs), tuple(outputs), names, x, state, following.ravel(), out.reshape(-1, out.shape[2]))


def _behaves(program: StepProgram, machine: Machine, access: Sequence[Word]) -> bool:
    """Run both on every symbol from every state, followed by random words."""
    count, rng = len(machine.symbols), np.random.default_rng(0)
    tail = max(8, 2 * machine.states)
    words = [(*word, a) for word in access for a in range(count)]
    longest = max(map(len, words)) + tail
    table = rng.integers(count, size=(max(len(words), 512), longest))
    for i, word in enumerate(words):
        table[i, : len(word)] = word
    _, y = machine.walk(table)
    return np.array_equal(run(program, np.array(machine.symbols)[table]), y)


def _programs(
    machine: Machine, access: Sequence[Word], rows: _Rows, deadline: float
) -> Iterator[tuple[str, StepProgram | None]]:
    if machine.states == 1:
        yield "no state", _memoryless(rows)
        return
    yield from _windows(machine, rows, deadline)
    for form, labels in _labelings(machine):
        if time.monotonic() > deadline:
            yield f"{form}: out of time", None
            return
        yield form, _labelled(rows, labels, deadline - time.monotonic())
    if time.monotonic() < deadline:
        yield from _coded(machine, rows, deadline)


def _outputs_from(
    keys: Int64[np.ndarray, "rows columns"], y: Int64[np.ndarray, "rows d_out"], names: Sequence[str]
) -> list[Expr] | None:
    """An expression for each output channel over these columns, or None where the columns do not determine it."""
    _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    if not np.array_equal(y[first][inverse.ravel()], y):
        return None
    found = [express(keys[first], y[first, i], names).expr for i in range(y.shape[1])]
    return [expr for expr in found if expr is not None] if None not in found else None


def _memoryless(rows: _Rows) -> StepProgram | None:
    values = _outputs_from(rows.x, rows.y, rows.names)
    if values is None:
        return None
    return StepProgram(rows.inputs, rows.outputs, (), tuple(map(assign, rows.outputs, values)))


def _windows(machine: Machine, rows: _Rows, deadline: float) -> Iterator[tuple[str, StepProgram | None]]:
    """Programs over the last k inputs, for the smallest k at which these determine the state."""
    count = len(machine.symbols)
    for k in range(1, MAX_WINDOW + 1):
        if count ** (k + 1) > _ROWS or time.monotonic() > deadline:
            return
        words = np.array(list(product(range(count), repeat=k)), dtype=np.int64)
        ends = np.stack([_follow(machine, np.full(len(words), s), words) for s in range(machine.states)])
        if (ends == ends[0]).all():
            yield f"last {k} inputs", _window(machine, rows, words, ends[0])
            return


def _follow(
    machine: Machine, state: Int64[np.ndarray, " words"], words: Int64[np.ndarray, "words time"]
) -> Int64[np.ndarray, " words"]:
    for t in range(words.shape[1]):
        state = machine.tables[0][state, words[:, t]]
    return state


def _window(
    machine: Machine, rows: _Rows, words: Int64[np.ndarray, "words lags"], ends: Int64[np.ndarray, " words"]
) -> StepProgram | None:
    """Registers start at a word that leads to the start state, if there is one, else at a value that no input has."""
    symbols = np.array(machine.symbols, dtype=np.int64)
    k, d_in = words.shape[1], symbols.shape[1]
    homes = [word for word, end in zip(words.tolist(), ends, strict=True) if end == 0]
    homes.sort(key=lambda word: (int(np.abs(symbols[word]).sum()), word))
    if homes:
        registers, start = symbols[words], symbols[homes[0]]
        states = ends
    else:
        start = np.full((k, d_in), symbols.min() - 1)
        partial = [w for j in range(k) for w in product(range(len(symbols)), repeat=j)]
        early = [np.concatenate([start[: k - len(w)], symbols[list(w)].reshape(-1, d_in)]) for w in partial]
        reached = [int(_follow(machine, np.zeros(1, np.int64), np.array([w], dtype=np.int64))[0]) for w in partial]
        registers, states = np.concatenate([symbols[words], np.stack(early)]), np.r_[ends, reached]
    count = len(symbols)
    past = np.repeat(registers[:, ::-1].reshape(len(registers), -1), count, axis=0)
    keys = np.concatenate([np.tile(symbols, (len(registers), 1)), past], axis=1)
    y = rows.y.reshape(machine.states, count, -1)[states].reshape(len(keys), -1)
    names = [*rows.inputs, *(f"{name}{lag}" for lag in range(1, k + 1) for name in rows.inputs)]
    values = _outputs_from(keys, y, names)
    if values is None:
        return None
    state = tuple(
        (f"{n}{lag}", Fraction(int(start[k - lag, j]))) for lag in range(1, k + 1) for j, n in enumerate(rows.inputs)
    )
    body = [assign(o, v) for o, v in zip(rows.outputs, values, strict=True)]
    for name in rows.inputs:
        body += [assign(f"{name}{lag}", Name(f"{name}{lag - 1}" if lag > 1 else name)) for lag in range(k, 0, -1)]
    return tidy(StepProgram(rows.inputs, rows.outputs, state, tuple(body)))


def _labelings(machine: Machine) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Integers for states, without repetition."""
    seen: set[tuple[int, ...]] = set()
    shown = _shown_labels(machine) if machine.states > 2 else None
    options = [] if shown is None else [("states as they are put out", shown)]
    options.append(("numbered states", tuple(range(machine.states))))
    options += [("modular states", labels) for labels in _modular_labels(machine)]
    ordered = _ordered_labels(machine)
    options += [("ordered states", ordered), ("states around 0", tuple(v - ordered[0] for v in ordered))]
    for form, labels in options:
        if labels not in seen:
            seen.add(labels)
            yield form, labels


def _shown_labels(machine: Machine) -> tuple[int, ...] | None:
    """Of each state the output on entering it, if that is one number and another for each state; the start, where it
    is never entered, has 0 or else the number before the least. Without negative numbers it has to be 0."""
    labels: dict[int, int] = {}
    for following, out in zip(machine.next, machine.out, strict=True):
        for after, values in zip(following, out, strict=True):
            if len(values) != 1 or labels.setdefault(after, values[0]) != values[0]:
                return None
    numbers = set(labels.values())
    labels.setdefault(0, 0 if 0 not in numbers else min(numbers) - 1)
    found = tuple(labels[state] for state in range(machine.states))
    odd_start = min(found) >= 0 and found[0] != 0
    return found if len(set(found)) == machine.states and not odd_start else None


def _modular_labels(machine: Machine) -> Iterator[tuple[int, ...]]:
    """Labels with start 0 under which the update is affine modulo the number of states; the simplest found."""
    n, d_in = machine.states, len(machine.symbols[0])
    if n ** (d_in + 2) > _MODULAR:
        return
    order = sorted(range(n), key=lambda w: (min(w, n - w), w))
    grid = sorted(product(order, repeat=d_in + 2), key=lambda g: (sum(min(w, n - w) for w in g), g))
    symbols = np.array(machine.symbols, dtype=np.int64)
    for factor, constant, *weights in grid:
        moves = ((symbols @ np.array(weights) + constant) % n).tolist()
        labels = _propagate(machine, factor, moves)
        if labels is not None:
            yield labels
            return


def _propagate(machine: Machine, factor: int, moves: Sequence[int]) -> tuple[int, ...] | None:
    labels = [0] + [-1] * (machine.states - 1)
    for state, following in enumerate(machine.next):
        for move, after in zip(moves, following, strict=True):
            value = (factor * labels[state] + move) % machine.states
            if labels[after] < 0:
                labels[after] = value
            elif labels[after] != value:
                return None
    return tuple(labels) if len(set(labels)) == machine.states else None


def _ordered_labels(machine: Machine) -> tuple[int, ...]:
    """States ranked by what they put out when one symbol is repeated, the sooner the more, over all symbols."""
    n, count = machine.states, len(machine.symbols)
    words = np.repeat(np.arange(count)[:, None], 2 * n, axis=1)
    scores = []
    for state in range(n):
        at, total = np.full(count, state), np.zeros(count)
        for t in range(words.shape[1]):
            total += (2 * n - t) * machine.tables[1][at, words[:, t]].sum(1)
            at = machine.tables[0][at, words[:, t]]
        scores.append((float(total.sum()), state))
    ranks = {state: rank for rank, (_, state) in enumerate(sorted(scores))}
    return tuple(ranks[state] for state in range(n))


def _labelled(rows: _Rows, labels: Sequence[int], budget: float) -> StepProgram | None:
    """State as one integer `s`: outputs from the old or from the new one, the update from the inputs or also from the
    outputs. The shortest, but quotient and remainder of one division read better than what is a little shorter."""
    values = np.array(labels, dtype=np.int64)
    before, after = np.c_[values[rows.state], rows.x], np.c_[values[rows.next], rows.x]
    names, state = ("s", *rows.names), (("s", Fraction(int(values[0]))),)
    update = express(before, values[rows.next], names, budget).expr
    read = _outputs_from(before, rows.y, names)
    found: list[tuple[float, tuple[Assign, ...]]] = []
    if update is not None:
        paired, late = _paired(update, before, rows, names), _outputs_from(after, rows.y, names)
        if read is not None:
            found.append((0.0, (*map(assign, rows.outputs, read), assign("s", update))))
        if late is not None:
            found.append((0.0, (assign("s", update), *map(assign, rows.outputs, late))))
        if paired is not None and update not in paired and not np.isin(before, (0, 1)).all():
            found.append((-_CLEARER, (*map(assign, rows.outputs, paired), assign("s", update))))
    if read is not None and any(not isinstance(e, Lookup) for e in read):
        back = express(np.c_[before, rows.y], values[rows.next], (*names, *rows.outputs), budget, table=False).expr
        if back is not None:
            found.append((_CLEARER / 2, (*map(assign, rows.outputs, read), assign("s", back))))
    options = [(gain, share(StepProgram(rows.inputs, rows.outputs, state, body))) for gain, body in found]
    return min(options, key=lambda o: o[0] + program_bits(o[1]))[1] if options else None


def _paired(
    update: Expr, keys: Int64[np.ndarray, "rows columns"], rows: _Rows, names: Sequence[str]
) -> list[Expr] | None:
    """If the update divides, the outputs as remainder, quotient or carry of the same division."""
    divisions = [part for part in walk(update) if isinstance(part, Call) and part.op in ("mod", "floordiv", "ge")]
    env = {name: keys[:, i] for i, name in enumerate(names)}
    found: list[Expr] = []
    for i in range(rows.y.shape[1]):
        options = [Call(op, part.args) for part in divisions for op in ("mod", "floordiv", "ge")]
        fits = [o for o in options if np.array_equal(evaluate(o, env), rows.y[:, i])]
        if not fits:
            return None
        found.append(fits[0])
    return found


def _coded(machine: Machine, rows: _Rows, deadline: float) -> Iterator[tuple[str, StepProgram | None]]:
    """State as bits, for up to 8 states and inputs of bits: the assignments of codes that look shortest, in full."""
    if machine.states > 8 or not np.isin(rows.x, (0, 1)).all() or rows.x.shape[1] > VARIABLES:
        return
    width = max(1, math.ceil(math.log2(machine.states)))
    if width == 1:
        return
    ranked = []
    for codes in _assignments(machine.states, width):
        if time.monotonic() > deadline:
            break
        bits = np.array(codes, dtype=np.int64)[:, None] >> np.arange(width) & 1
        keys = np.c_[bits[rows.state], rows.x]
        columns = [*bits[rows.next].T, *(y for y in rows.y.T if np.isin(y, (0, 1)).all())]
        ranked.append((sum(_estimate(keys, column) for column in columns), codes))
    for _, codes in sorted(ranked)[:_KEPT]:
        yield "state of bits", _bitwise(rows, codes, width, deadline - time.monotonic())


def _assignments(states: int, width: int) -> Iterator[tuple[int, ...]]:
    """Codes for the states, up to renaming of bits; beyond four states the start has code 0. At most 900."""
    seen: set[tuple[int, ...]] = set()
    for codes in permutations(range(2**width), states):
        if states > 4 and codes[0] != 0:
            return
        swapped = min(tuple(_permute(code, order) for code in codes) for order in permutations(range(width)))
        if swapped not in seen:
            seen.add(swapped)
            yield swapped
        if len(seen) >= _CODES:
            return


def _permute(code: int, order: Sequence[int]) -> int:
    return sum((code >> source & 1) << target for target, source in enumerate(order))


def _estimate(keys: Int64[np.ndarray, "rows columns"], values: Int64[np.ndarray, " rows"]) -> float:
    """Bits of a function of bits: its shortest formula up to four variables, else the size of a cover."""
    table: Int8[np.ndarray, " points"] = np.full(2 ** keys.shape[1], -1, dtype=np.int8)
    table[(keys << np.arange(keys.shape[1])).sum(1)] = values
    if keys.shape[1] <= VARIABLES:
        found = shortest(table)
        return found[1] if found is not None else math.inf
    if affine(table) is not None:
        return 20.0
    return float(sum(8 * (1 + mask.bit_count()) for _, mask in cover(table, nodes=50)))


def _bitwise(rows: _Rows, codes: Sequence[int], width: int, budget: float) -> StepProgram | None:
    bits = np.array(codes, dtype=np.int64)[:, None] >> np.arange(width) & 1
    states = tuple(f"s{i + 1}" for i in range(width))
    keys, names = np.c_[bits[rows.state], rows.x], (*states, *rows.names)
    updates = [express(keys, column, names, budget).expr for column in bits[rows.next].T]
    if None in updates:
        return None
    step = Assign(states, tuple(u for u in updates if u is not None))
    state = tuple((name, Fraction(int(v))) for name, v in zip(states, bits[0], strict=True))
    options = []
    for before in (True, False):
        exprs = _outputs_from(keys if before else np.c_[bits[rows.next], rows.x], rows.y, names)
        if exprs is not None:
            out = list(map(assign, rows.outputs, exprs))
            options.append(StepProgram(rows.inputs, rows.outputs, state, (*out, step) if before else (step, *out)))
    return min((tidy(share(p)) for p in options), key=program_bits, default=None)
