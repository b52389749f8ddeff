"""What decisions about predictions are learned from: which answer is right at each place, and how strict to be.

A tree may follow the accidents of its sequences. So it is grown at several prices for a test, each time without a third
of the sequences, and the dearest price is taken that does about as well as any on those that it has not seen. Where
this leaves errors, tests that weigh quantities (`votes`) are tried; they are learned from further sequences too, which
count for nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Int64

from pellucid.code.tokens.decisions import Column, Tree, decide, learn_tree, leaves_of, names_of_tests, prices_of
from pellucid.code.tokens.moves import STATE
from pellucid.code.tokens.predicted import NOTHING, Predicted
from pellucid.code.tokens.rule_writing import Answer, Machine
from pellucid.code.tokens.rules import Alphabet, Quantities
from pellucid.code.tokens.votes import Ballot, with_votes

MOST_CONSTANTS = 12
"""Up to so many different predictions, each is an answer of its own; of more, most must be copies."""

COPIED, RARE = 0.005, 0.002
"""A copy has to give this share of the predictions, and another answer this share of what no copy gives."""

PRICES = (1.5, 4.0, 12.0, 40.0)
"""How many times a test has to pay for itself."""

AS_GOOD = 0.01
"""Shares of sequences that differ by less are about the same."""

VOTE_PRICES = (1.5, 4.0, 12.0)
"""The same for tests that weigh quantities."""

FEWER = 0.9
"""Votes, and cheaper ones, are taken if at most this share of the exceptions is left."""

FAMILIAR = 2 / 3
"""Votes are learned from further sequences if the tree is right throughout on this share of them: else these are no
sequences that the network was made for."""

Places = Bool[np.ndarray, "batch time"]


@dataclass(frozen=True, eq=False)
class Case:
    """Predictions, where they count, which sequences belong together, and quantities.

    Attributes:
        judged: how many of the sequences, from the first on, decide how good a tree is; the others only help votes.
    """

    seen: Predicted
    live: Places
    groups: Int64[np.ndarray, " batch"]
    alphabet: Alphabet
    quantities: Quantities
    values: Mapping[str, Int[np.ndarray, "batch time"]]
    judged: int


@dataclass(frozen=True)
class Learned:
    """A tree over answers; `match` is the share of held-out sequences on which trees of this price were right."""

    tree: Tree
    answers: tuple[Answer, ...]
    match: float
    price: float

    @property
    def leaves(self) -> int:
        """How many leaves it has."""
        return leaves_of(self.tree)


class _Score(NamedTuple):
    """How right a tree is: the share of sequences that are judged, and of the others, on which it is right throughout,
    and at how many places of all it is wrong."""

    match: float
    familiar: float
    exceptions: int


@dataclass(frozen=True, eq=False)
class _Lesson:
    """A case as columns and labels (-1 where no answer is right); `known` where there is one, `held` what is kept."""

    case: Case
    columns: Sequence[Column]
    labels: Int64[np.ndarray, "batch time"]
    answers: tuple[Answer, ...]
    known: Places
    held: Bool[np.ndarray, " batch"]

    def rows(self, without_held: bool) -> Places:
        """The places to learn from."""
        return np.asarray(self.known & ~self.held[:, None]) if without_held else self.known

    def grown(self, price: float, without_held: bool) -> Tree:
        """The tree of one price, of the sequences that are judged."""
        rows = self.rows(without_held).copy()
        rows[self.case.judged :] = False
        plain = [column for column in self.columns if column.name not in self.case.quantities.weighed]
        return learn_tree(_picked(plain, rows), self.labels[rows], price)[0]

    def voted(self, tree: Tree, price: float, without_held: bool, deadline: float) -> Tree:
        """The tree with votes of one price, of all sequences."""
        rows = self.rows(without_held)
        columns = {column.name: column for column in _picked(self.columns, rows)}
        labels = self.labels[rows]
        prices = prices_of([len(np.unique(column.values)) for column in columns.values()], labels, price)
        return with_votes(tree, Ballot(columns, labels, self.case.alphabet.plain, prices, deadline))

    def score(self, tree: Tree) -> _Score:
        """How right a tree is on the sequences that were kept."""
        needed = {*names_of_tests(tree), self.columns[0].name}
        values = {c.name: c.values.reshape(self.labels.shape)[self.held] for c in self.columns if c.name in needed}
        right = (decide(tree, values) == self.labels[self.held]) | ~self.case.live[self.held]
        throughout, cut = np.asarray(right.all(axis=1)), int(self.held[: self.case.judged].sum())
        familiar = float(throughout[cut:].mean()) if cut < len(throughout) else 1.0
        return _Score(float(throughout[:cut].mean()), familiar, int((~right).sum()))


def learned(case: Case, machine: Machine | None, deadline: float) -> Learned:
    """Decisions over quantities, on top of a machine if there is one."""
    lesson = _lesson(case, machine)
    best: tuple[float, float] | None = None
    for price in sorted(PRICES, reverse=True):
        match = lesson.score(lesson.grown(price, True)).match
        if best is None or match > best[0] + AS_GOOD:
            best = (match, price)
        if time.monotonic() > deadline:
            break
    assert best is not None
    return Learned(lesson.grown(best[1], False), lesson.answers, *best)


def weighed(case: Case, machine: Machine | None, found: Learned, deadline: float) -> Learned:
    """What was learned, with votes if they leave fewer exceptions and about as many sequences right throughout."""
    lesson = _lesson(case, machine)
    tree = lesson.grown(found.price, True)
    plain = lesson.score(tree)
    if plain.familiar < FAMILIAR:
        return found
    best = (FEWER * plain.exceptions, 0.0)
    for price in sorted(VOTE_PRICES, reverse=True):
        if time.monotonic() > deadline:
            break
        score = lesson.score(lesson.voted(tree, price, True, deadline))
        if score.exceptions < best[0] and score.match > plain.match - AS_GOOD:
            best = (FEWER * score.exceptions, price)
    if not best[1]:
        return found
    tree = lesson.voted(lesson.grown(found.price, False), best[1], False, deadline)
    return Learned(tree, lesson.answers, found.match, found.price)


def _lesson(case: Case, machine: Machine | None) -> _Lesson:
    labels, answers = _labelled(case, machine)
    numbers = (*case.quantities.numbers, *case.quantities.weighed)
    columns = [_column(case, name) for name in numbers if name in case.values]
    columns += [_token_column(case, name) for name in case.quantities.tokens]
    if machine is not None:
        states = np.array(machine.moves.labels)[machine.classifier.walk(case.seen.tokens)]
        columns.append(Column(STATE.name, states.ravel(), tuple(range(machine.classifier.states))))
    columns = [column for column in columns if column.ordered or column.equal_to]
    return _Lesson(case, columns, labels, answers, case.live & (labels >= 0), held_out(case.groups))


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
