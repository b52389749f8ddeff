"""What decisions about predictions are learned from: which answer is right at each place, and how strict to be.

A tree may follow the accidents of its sequences. So it is grown at several prices for a test, each time without a third
of the sequences, and the dearest price is taken that does about as well as any on those that it has not seen.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, Int64

from pellucid.code.tokens.decisions import Column, Tree, decide, learn_tree, leaves_of
from pellucid.code.tokens.moves import STATE
from pellucid.code.tokens.predicted import NOTHING, Predicted
from pellucid.code.tokens.rule_writing import Answer, Machine
from pellucid.code.tokens.rules import Alphabet, Quantities

MOST_CONSTANTS = 12
"""Up to so many different predictions, each is an answer of its own; of more, most must be copies."""

COPIED, RARE = 0.005, 0.002
"""A copy has to give this share of the predictions, and another answer this share of what no copy gives."""

PRICES = (1.5, 4.0, 12.0, 40.0)
"""How many times a test has to pay for itself."""

AS_GOOD = 0.01
"""Shares of sequences that differ by less are about the same."""

Places = Bool[np.ndarray, "batch time"]


@dataclass(frozen=True, eq=False)
class Case:
    """Predictions, where they count, which sequences belong together, and quantities."""

    seen: Predicted
    live: Places
    groups: Int64[np.ndarray, " batch"]
    alphabet: Alphabet
    quantities: Quantities
    values: Mapping[str, Int[np.ndarray, "batch time"]]


@dataclass(frozen=True)
class Learned:
    """A tree over answers; `match` is the share of held-out sequences on which trees of this price were right."""

    tree: Tree
    answers: tuple[Answer, ...]
    match: float

    @property
    def leaves(self) -> int:
        """How many leaves it has."""
        return leaves_of(self.tree)


def learned(case: Case, machine: Machine | None, deadline: float) -> Learned:
    """Decisions over quantities, on top of a machine if there is one."""
    labels, answers = _labelled(case, machine)
    columns = [_column(case, name) for name in case.quantities.numbers]
    columns += [_token_column(case, name) for name in case.quantities.tokens]
    if machine is not None:
        states = np.array(machine.moves.labels)[machine.classifier.walk(case.seen.tokens)]
        columns.append(Column(STATE.name, states.ravel(), tuple(range(machine.classifier.states))))
    columns = [column for column in columns if column.ordered or column.equal_to]
    values = {column.name: column.values.reshape(labels.shape) for column in columns}
    known, held = case.live & (labels >= 0), held_out(case.groups)
    best: tuple[float, float] | None = None
    for price in sorted(PRICES, reverse=True):
        tree, _ = learn_tree(_picked(columns, known & ~held[:, None]), labels[known & ~held[:, None]], price)
        match = float(((decide(tree, values) == labels) | ~case.live).all(1)[held].mean())
        if best is None or match > best[0] + AS_GOOD:
            best = (match, price)
        if time.monotonic() > deadline:
            break
    assert best is not None
    tree, _ = learn_tree(_picked(columns, known), labels[known], best[1])
    return Learned(tree, answers, best[0])


def held_out(groups: Int64[np.ndarray, " batch"]) -> Bool[np.ndarray, " batch"]:
    """Which sequences are kept for judging: every third, with its copies."""
    return np.asarray(groups % 3 == 0)


def _picked(columns: Sequence[Column], rows: Places) -> list[Column]:
    return [Column(c.name, c.values[rows.ravel()], c.equal_to, c.ordered) for c in columns]


def right(machine: Machine, seen: Predicted, live: Places) -> Places:
    """Where the machine says what the network says; true where nothing counts."""
    said = np.array([*machine.kinds, NOTHING])[machine.classifier.out[machine.classifier.walk(seen.tokens)]]
    return np.asarray((said == seen.kinds) | ~live)


def _column(case: Case, name: str) -> Column:
    kinds = np.unique(case.values[name][case.live])
    return Column(name, case.values[name].ravel(), tuple(map(int, kinds)) if len(kinds) <= 4 else ())


def _token_column(case: Case, name: str) -> Column:
    """A token may be compared to single tokens, not ordered."""
    known = {*case.alphabet.special, *case.alphabet.plain, max(case.alphabet.tokens) + 1, min(case.alphabet.tokens) - 1}
    kinds = np.unique(case.values[name][case.live]).tolist()
    return Column(name, case.values[name].ravel(), tuple(k for k in kinds if k in known), ordered=False)


def _labelled(case: Case, machine: Machine | None) -> tuple[Int64[np.ndarray, "batch time"], tuple[Answer, ...]]:
    """Which answer is right at each position, the machine's before a copy before a kind; -1 where none is."""
    kinds, live = case.seen.kinds, case.live
    labels = np.full(kinds.shape, -1, dtype=np.int64)
    answers: list[Answer] = []

    def add(answer: Answer, right: Bool[np.ndarray, "batch time"]) -> None:
        labels[right & (labels < 0)] = len(answers)
        answers.append(answer)

    if machine is not None:
        add(Answer("machine"), right(machine, case.seen, live) & live)
    if case.seen.measure == "decisions" and len(np.unique(kinds[live])) > MOST_CONSTANTS:
        asked = live & case.seen.asked
        while len(answers) < len(case.quantities.tokens):
            gains = {
                name: int((asked & (labels < 0) & (case.values[name] == kinds)).sum())
                for name in case.quantities.tokens
            }
            name = max(gains, key=lambda key: gains[key])
            if gains[name] < COPIED * asked.sum():
                break
            add(Answer("copy", name), asked & (case.values[name] == kinds))
    left, often = np.unique(kinds[live & (labels < 0) & (kinds >= NOTHING)], return_counts=True)
    for kind, count in zip(left.tolist(), often.tolist(), strict=True):
        if count >= RARE * often.sum() and len(answers) < 2 * MOST_CONSTANTS:
            add(Answer("kind", kind=kind), kinds == kind)
    return labels, tuple(answers)
