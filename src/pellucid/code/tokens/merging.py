"""The finite-state machine behind observed sequences, by merging states, without asking about any others.

A network is right only on sequences like those it was trained on: what it says about others would blow a machine up
that is small on its language. So nothing is asked; the sequences become a tree of prefixes, and states of it are
merged while what was seen of them agrees: red and blue states with evidence (Lang, Pearlmutter and Price 1998), a
class to each state. A transition that was never seen is left open: whoever writes the machine down may fill it as is
shortest.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int64

Words = Int64[np.ndarray, "words time"]

STAY = -1
"""A transition that was never seen."""


@dataclass(frozen=True, eq=False)
class Classifier:
    """A machine that puts out a class at each step, started in state 0, states numbered breadth first.

    Attributes:
        tokens: the alphabet, sorted.
        next: state after a token, [state, token number]; `STAY` where that was never seen.
        out: the class of each state, put out when it is entered; that of state 0 is -1 if it is never entered again.
    """

    tokens: tuple[int, ...]
    next: Int64[np.ndarray, "states tokens"]
    out: Int64[np.ndarray, " states"]

    @property
    def states(self) -> int:
        """Number of states."""
        return len(self.out)

    def walk(self, words: Words) -> Words:
        """The state after each step; it stays on what was never seen."""
        stay = np.arange(self.states)[:, None]
        following = np.where(self.next == STAY, stay, self.next)
        numbers = np.searchsorted(self.tokens, words).clip(0, len(self.tokens) - 1)
        states, at = np.zeros_like(words), np.zeros(len(words), dtype=np.int64)
        for t in range(words.shape[1]):
            at = following[at, numbers[:, t]]
            states[:, t] = at
        return states


@dataclass
class _State:
    """A state of the tree: its class (None at the root), how often it was entered, and what follows."""

    depth: int
    said: int | None
    count: int = 0
    next: dict[int, int] = field(default_factory=dict)


def merge_states(words: Words, classes: Words, limit: int = 24, deadline: float = float("inf")) -> Classifier | str:
    """The machine that puts out `classes` for `words` of tokens, or why there is none.

    Args:
        classes: from 0; -1 where nothing is known (the word ends there).
        limit: most states.
        deadline: on the monotonic clock.
    """
    tokens = np.unique(words[classes >= 0])
    states = _tree(np.searchsorted(tokens, words), classes)
    if isinstance(states, str):
        return states
    red = [0]
    while True:
        blue = _fringe(states, red)
        if not blue:
            return _machine(states, tokens)
        if len(red) > limit or time.monotonic() > deadline:
            return f"more than {limit} states" if len(red) > limit else f"out of time at {len(red)} states"
        best: tuple[int, int, int] | None = None
        for candidate in blue:
            scores = [(score, -r) for r in red if (score := _evidence(states, r, candidate)) >= 0]
            if not scores:
                red.append(candidate)
                break
            score, into = max(scores)
            if best is None or score > best[0]:
                best = (score, -into, candidate)
        else:
            assert best is not None
            _merge(states, best[1], best[2], red)


def _tree(words: Words, classes: Words) -> list[_State] | str:
    states = [_State(0, None)]
    for word, said in zip(words.tolist(), classes.tolist(), strict=True):
        at = 0
        for symbol, value in zip(word, said, strict=True):
            if value < 0:
                break
            if symbol not in states[at].next:
                states[at].next[symbol] = len(states)
                states.append(_State(states[at].depth + 1, value))
            at = states[at].next[symbol]
            if states[at].said != value:
                return "equal tokens give different outputs"
            states[at].count += 1
    return states


def _fringe(states: list[_State], red: list[int]) -> list[int]:
    """States that red ones lead to and that are not red, the shallowest first."""
    known = set(red)
    found = {n for r in red for n in states[r].next.values() if n not in known}
    return sorted(found, key=lambda n: (states[n].depth, n))


def _evidence(states: list[_State], first: int, second: int) -> int:
    """Observations that agree if the second were the first; -1 if any contradicts."""
    agreed, waiting = 0, [(first, second)]
    while waiting:
        a, b = waiting.pop()
        if states[a].said is not None and states[b].said is not None:
            if states[a].said != states[b].said:
                return -1
            agreed += states[b].count
        shared = states[a].next.keys() & states[b].next.keys()
        waiting += [(states[a].next[symbol], states[b].next[symbol]) for symbol in shared]
    return agreed


def _merge(states: list[_State], first: int, second: int, red: list[int]) -> None:
    """Let the edges into `second` lead to `first`, and fold what follows it into what follows that."""
    for r in red:
        states[r].next = {symbol: first if n == second else n for symbol, n in states[r].next.items()}
    waiting = [(first, second)]
    while waiting:
        a, b = waiting.pop()
        states[a].said = states[b].said if states[a].said is None else states[a].said
        states[a].count += states[b].count
        for symbol, after in states[b].next.items():
            if symbol in states[a].next:
                waiting.append((states[a].next[symbol], after))
            else:
                states[a].next[symbol] = after


def _machine(states: list[_State], tokens: Int64[np.ndarray, " tokens"]) -> Classifier:
    order = [0]
    for at in order:
        order += [after for _, after in sorted(states[at].next.items()) if after not in order]
    number = {state: i for i, state in enumerate(order)}
    following = np.full((len(order), len(tokens)), STAY, dtype=np.int64)
    for i, at in enumerate(order):
        for symbol, after in states[at].next.items():
            following[i, symbol] = number[after]
    said = [states[at].said for at in order]
    return Classifier(
        tuple(map(int, tokens)), following, np.array([-1 if value is None else value for value in said], dtype=np.int64)
    )
