"""Black-box learning of the finite-state machine that a sequence function is.

Mealy machines by Angluin's L* (1987) in the form of Rivest and Schapire (1993): a state is an access word, told from
others by its outputs on a growing set of suffixes; a counterexample adds the one suffix that separates two states taken
for one. Words are queried in batches. States are numbered breadth first, so equal functions give equal machines.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int64

from pellucid.code.recurrent.agreement import (
    Agreement,
    Inputs,
    Outputs,
    SequenceFunction,
    compare,
    draw,
    enumerate_all,
    query,
)

Word = tuple[int, ...]

_SUFFIXES = 16
_EXAMPLES = 8
_EXHAUSTIVE = 2**12


@dataclass(frozen=True)
class Machine:
    """A Mealy machine, minimal, started in state 0.

    Attributes:
        symbols: the input vectors, in order.
        next: state after reading a symbol, [state][symbol].
        out: output vector on reading a symbol, [state][symbol].
    """

    symbols: tuple[tuple[int, ...], ...]
    next: tuple[tuple[int, ...], ...]
    out: tuple[tuple[tuple[int, ...], ...], ...]

    @property
    def states(self) -> int:
        """Number of states."""
        return len(self.next)

    @cached_property
    def tables(self) -> tuple[Int64[np.ndarray, "states symbols"], Int64[np.ndarray, "states symbols d_out"]]:
        """`next` and `out` as arrays."""
        return np.array(self.next, dtype=np.int64), np.array(self.out, dtype=np.int64)

    def walk(self, words: Int64[np.ndarray, "batch time"]) -> tuple[Int64[np.ndarray, "batch time"], Outputs]:
        """(state after, outputs at) each step, for words of symbol numbers."""
        following, out = self.tables
        state = np.zeros(len(words), dtype=np.int64)
        states, y = np.zeros_like(words), np.zeros((*words.shape, out.shape[2]))
        for t in range(words.shape[1]):
            y[:, t] = out[state, words[:, t]]
            state = following[state, words[:, t]]
            states[:, t] = state
        return states, y


@dataclass(frozen=True)
class Learned:
    """A machine that passed the equivalence check, or why there is none.

    Attributes:
        machine: or None.
        access: shortest word to each state.
        agreement: of the machine on the words of the last equivalence check.
        queries: number of words asked.
        trail: (tried, outcome).
    """

    machine: Machine | None
    access: tuple[Word, ...]
    agreement: Agreement | None
    queries: int
    trail: tuple[tuple[str, str], ...]


class _Oracle:
    """Answers words of symbol numbers with rounded outputs, and counts them."""

    def __init__(self, f: SequenceFunction, inputs: Inputs) -> None:
        self.f, self.symbols, self.asked = f, np.array(inputs.symbols, dtype=np.int64), 0

    def __call__(self, words: Sequence[Word]) -> Int64[np.ndarray, "words time d_out"]:
        """Outputs along each word; after its end, whatever padding gives."""
        longest = max(map(len, words))
        padded = np.zeros((len(words), longest), dtype=np.int64)
        for i, word in enumerate(words):
            padded[i, : len(word)] = word
        self.asked += len(words)
        return np.asarray(np.rint(query(self.f, self.symbols[padded])).astype(np.int64))


def learn(
    f: SequenceFunction, inputs: Inputs, limit: int = 64, budget: float = 20.0, seed: int = 0, words: int = 4096
) -> Learned:
    """The minimal machine of at most `limit` states that equals the rounded function on `words` random words.

    All words of the usual length are checked where there are few. None in `machine`, with the reason in `trail`, if the
    alphabet is unknown, the states exceed `limit`, or `budget` seconds pass.
    """
    if inputs.symbols is None:
        return Learned(None, (), None, 0, (("automaton", "no: too many different inputs for an alphabet"),))
    oracle, deadline, trail = _Oracle(f, inputs), time.monotonic() + budget, []
    x, exhaustive = _examination(inputs, words, seed)
    y = query(f, x)
    tests = _numbers(inputs, x)
    count = len(inputs.symbols)
    suffixes: list[Word] = [(int(a),) for a in np.unique(np.linspace(0, count - 1, min(count, _SUFFIXES)).astype(int))]
    while True:
        found = _close(oracle, count, suffixes, limit, deadline)
        if isinstance(found, str):
            trail.append(("automaton", found))
            return Learned(None, (), None, oracle.asked, tuple(trail))
        following, out, access = found
        machine = Machine(inputs.symbols, following, out)
        states, predicted = machine.walk(tests)
        agreement = compare(y, predicted, x, exhaustive)
        if not agreement.mismatches:
            trail.append(("automaton", f"{machine.states} states, {len(suffixes)} suffixes"))
            return Learned(machine, access, agreement, oracle.asked, tuple(trail))
        trail.append((f"{machine.states} states", f"{agreement.mismatches} of {len(x)} words differ"))
        fresh = _separating(oracle, tests, y, predicted, states, access)
        if not fresh - set(suffixes):
            trail.append(("automaton", "no: the outputs contradict each other (rounding is not steady)"))
            return Learned(None, (), None, oracle.asked, tuple(trail))
        suffixes += sorted(fresh - set(suffixes), key=lambda word: (len(word), word))


def _examination(inputs: Inputs, words: int, seed: int) -> tuple[Int64[np.ndarray, "words time d_in"], bool]:
    """All words of the usual length if there are few, else random ones."""
    every = enumerate_all(inputs, _EXHAUSTIVE)
    if every is not None and every.shape[1] == inputs.length:
        return every, True
    return draw(inputs, np.random.default_rng([seed, 2]), words, inputs.length), False


def _numbers(inputs: Inputs, x: Int64[np.ndarray, "words time d_in"]) -> Int64[np.ndarray, "words time"]:
    """Sequences as words of symbol numbers."""
    table = np.array(inputs.symbols, dtype=np.int64)
    place = np.cumprod([1, *(np.ptp(table, axis=0) + 1)])[:-1]
    codes = (table - table.min(0)) @ place
    order = np.argsort(codes)
    number: Int64[np.ndarray, "words time"] = order[np.searchsorted(codes[order], (x - table.min(0)) @ place)]
    return number


Tables = tuple[tuple[tuple[int, ...], ...], tuple[tuple[tuple[int, ...], ...], ...], tuple[Word, ...]]


def _close(oracle: _Oracle, count: int, suffixes: Sequence[Word], limit: int, deadline: float) -> Tables | str:
    """(next, out, access words) of the machine that the suffixes tell apart, breadth first; or why it stopped."""
    known = {_signatures(oracle, [()], suffixes)[0]: 0}
    access: list[Word] = [()]
    following: list[tuple[int, ...]] = []
    out: list[tuple[tuple[int, ...], ...]] = []
    while len(following) < len(access):
        level = access[len(following) :]
        words = [(*word, a) for word in level for a in range(count)]
        answers = oracle(words)
        last = [tuple(map(int, answers[i, len(word) - 1])) for i, word in enumerate(words)]
        marks = _signatures(oracle, words, suffixes)
        for i in range(0, len(words), count):
            row = []
            for word, mark in zip(words[i : i + count], marks[i : i + count], strict=True):
                if mark not in known:
                    known[mark] = len(access)
                    access.append(word)
                row.append(known[mark])
            following.append(tuple(row))
            out.append(tuple(last[i : i + count]))
            if len(access) > limit:
                return f"no: more than {limit} states"
        if time.monotonic() > deadline:
            return f"no: out of time at {len(access)} states"
    return tuple(following), tuple(out), tuple(access)


def _signatures(oracle: _Oracle, words: Sequence[Word], suffixes: Sequence[Word]) -> list[bytes]:
    """The outputs of each word's state along every suffix."""
    marks = [b""] * len(words)
    step = max(1, 2**16 // len(suffixes))
    for begin in range(0, len(words), step):
        part = words[begin : begin + step]
        answers = oracle([word + suffix for word in part for suffix in suffixes])
        for i, word in enumerate(part):
            rows = answers[i * len(suffixes) : (i + 1) * len(suffixes)]
            seen = [rows[j, len(word) : len(word) + len(s)].tobytes() for j, s in enumerate(suffixes)]
            marks[begin + i] = b"".join(seen)
    return marks


def _separating(
    oracle: _Oracle,
    tests: Int64[np.ndarray, "words time"],
    y: Outputs,
    predicted: Outputs,
    states: Int64[np.ndarray, "words time"],
    access: Sequence[Word],
) -> set[Word]:
    """Suffixes from the shortest counterexamples, each of which splits a state."""
    wrong = (np.abs(y - predicted) >= 0.5).any(2)
    rows = np.flatnonzero(wrong.any(1))
    ends = np.argmax(wrong[rows], axis=1)
    order = np.lexsort((rows, ends))[:_EXAMPLES]
    found: set[Word] = set()
    for row, end in zip(rows[order].tolist(), ends[order].tolist(), strict=True):
        word = tuple(map(int, tests[row, : end + 1]))
        passed = [0, *map(int, states[row, :end])]
        answers = oracle([access[s] + word[i:] for i, s in enumerate(passed)])
        last = [tuple(answers[i, len(access[s]) + len(word) - i - 1]) for i, s in enumerate(passed)]
        flips = [i for i in range(len(last) - 1) if last[i] != last[i + 1]]
        if flips:
            found.add(word[flips[0] + 1 :])
    return found
