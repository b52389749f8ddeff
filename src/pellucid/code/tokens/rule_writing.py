"""From decisions over named quantities, and a state that tokens move, to the intermediate representation.

The body reads from the top: the state as a loop, the quantities that the decisions ask for, the decisions as cases, and
at last what they say as one number for each token of the vocabulary: 1 for the token decided on, or the signs 1 and -1;
0 wherever nothing is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

import numpy as np
from jaxtyping import Bool

from pellucid.code.expressions.expression import Linear, Name
from pellucid.code.recurrent.writing import Writer
from pellucid.code.tokens.decisions import Leaf, Split, Tree, Vote, labels_of, leaves_of, votes_of
from pellucid.code.tokens.merging import Classifier
from pellucid.code.tokens.moves import STATE, Tracked, write_state
from pellucid.code.tokens.predicted import NOTHING
from pellucid.code.tokens.rules import POSITIONS, TOKENS, Quantities, only_needed
from pellucid.ir.graph import Arg, Block, Node, Ref, rename_refs

USUAL = -1
"""In place of a kind: what the machine says."""


@dataclass(frozen=True)
class Answer:
    """What a decision says: what the machine says, a copy of a quantity, or a kind of prediction."""

    form: Literal["machine", "copy", "kind"]
    name: str = ""
    kind: int = 0


@dataclass(frozen=True, eq=False)
class Machine:
    """A machine written as moves; `kinds` are the predictions that its classes stand for."""

    classifier: Classifier
    moves: Tracked
    kinds: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Found:
    """A program for what a network predicts.

    Attributes:
        tree: over quantities and "state"; its labels are places in `answers`.
        patterns: which tokens are positive for each kind, of signs; empty for decisions.
        end: the token from which on nothing is asked.
    """

    tree: Tree
    answers: tuple[Answer, ...]
    machine: Machine | None
    quantities: Quantities
    patterns: Bool[np.ndarray, "kinds vocabulary"]
    vocabulary: int
    end: int | None

    @property
    def method(self) -> str:
        """What sort of program it is."""
        uses = {self.answers[label].form for label in labels_of(self.tree)}
        if isinstance(self.tree, Leaf) and uses == {"machine"}:
            return f"state: {self.machine.moves.name}" if self.machine else ""
        kept = "state and " if "machine" in uses else ""
        weighed = votes_of(self.tree)
        return f"{kept}{leaves_of(self.tree)} decisions{f', {weighed} by votes' if weighed else ''}"


def block_of_rules(found: Found, inputs: tuple[str, str | None], order: tuple[str, ...], target: str) -> Block:
    """The program as a block.

    Args:
        inputs: names of the values that hold tokens and positions.
        order: names of all inputs of the function.
        target: name of the output [batch, time, vocabulary], float32.
    """
    writer = _Writing(found, Writer("int64", "", taken={*found.quantities.writer.taken, *order, target}))
    result = writer.signs() if len(found.patterns) else writer.decided()
    nodes = [*found.quantities.writer.nodes, *writer.out.nodes, Node((target,), "cast", (result, "float32"))]
    kept = only_needed(nodes, [target])
    names = {old: new for old, new in zip((TOKENS, POSITIONS), inputs, strict=True) if new is not None}
    return Block(order, tuple(rename_refs(node, names) for node in kept), (target,))


@dataclass
class _Writing:
    """Writes one program: `out` holds what comes after the quantities."""

    found: Found
    out: Writer
    state: Ref | None = None
    literals: dict[Arg, Ref] = field(default_factory=dict)

    def decided(self) -> Ref:
        """One for the token decided on, zero for all others."""
        answer = self.cases(self.found.tree, self.said_by_machine)
        if self.found.end is None:
            answer = self.everywhere(answer, "answer")
        else:
            answer = self.out.node("where", self.ended(), NOTHING, answer, name="answer")
        vocabulary = self.out.node("arange", 0, self.found.vocabulary, name="vocabulary")
        return self.out.node("eq", self.out.node("unsqueeze", answer, -1), vocabulary, name="decided")

    def signs(self) -> Ref:
        """One for tokens that may follow, minus one for others."""
        tree, answers = self.found.tree, self.found.answers
        if isinstance(tree, Leaf) and answers[tree.label].form == "machine":
            allowed = self.allowed_by_machine()
        else:
            kind = self.everywhere(self.cases(tree, lambda: USUAL), "kind")
            rows = tuple(tuple(int(v) for v in row) for row in self.found.patterns)
            allowed = self.out.node("lookup", rows, (self.out.node("maximum", kind, 0),), name="exceptions")
            if any(answers[label].form == "machine" for label in labels_of(tree)):
                usual = self.out.node("unsqueeze", self.out.node("lt", kind, 0), -1, name="usual")
                allowed = self.out.node("where", usual, self.allowed_by_machine(), allowed, name="allowed")
        signs = self.out.node("sub", self.out.node("mul", allowed, 2), 1, name="signs")
        if self.found.end is None:
            return signs
        return self.out.node("where", self.out.node("unsqueeze", self.ended(), -1), 0, signs, name="asked_signs")

    def cases(self, tree: Tree, machine: Callable[[], Arg]) -> Arg:
        """The answer of a tree, as nested cases; `machine()` is what the machine says."""
        if not isinstance(tree, Leaf):
            test = self.test(tree)
            yes, no = self.cases(tree.yes, machine), self.cases(tree.no, machine)
            return self.out.node("where", test, yes, no, name="answer")
        answer = self.found.answers[tree.label]
        if answer.form == "machine":
            return machine()
        return answer.kind if answer.form == "kind" else self.quantity(answer.name)

    def test(self, tree: Split | Vote) -> Ref:
        """Whether rows go to `yes`."""
        if isinstance(tree, Split):
            return self.out.node(tree.test, self.quantity(tree.name), tree.value, name=_spoken(tree))
        self.out.known |= {name: self.quantity(name) for name, _ in tree.terms}
        votes = self.out.array(Linear(tuple((Fraction(w), Name(n)) for n, w in tree.terms)), "votes")
        return self.out.node("gt", votes, tree.threshold, name="carried")

    def quantity(self, name: str) -> Ref:
        """A quantity by its name; the machine's state is one."""
        return self.current_state() if name == STATE.name else Ref(name)

    def current_state(self) -> Ref:
        """The state after each token."""
        if self.state is None:
            assert self.found.machine is not None
            self.state = write_state(self.out, self.found.machine.moves, Ref(TOKENS))
        return self.state

    def said_by_machine(self) -> Arg:
        """The token that each state stands for."""
        machine = self.found.machine
        assert machine is not None
        rows = sorted(zip(machine.moves.labels, machine.classifier.out.tolist(), strict=True))
        table = tuple(machine.kinds[max(code, 0)] for _, code in rows)
        return self.out.node("lookup", table, (self.current_state(),), name="said")

    def allowed_by_machine(self) -> Ref:
        """Which tokens may follow each state, [batch, time, vocabulary]."""
        machine = self.found.machine
        assert machine is not None
        self.out.known[STATE.name] = self.current_state()
        columns: list[Arg] = []
        for token, test in enumerate(machine.moves.outputs):
            value = self.out.write(test, f"allows{token}")
            columns.append(value if isinstance(value, Ref) else self.everywhere(value, "always" if value else "never"))
        return self.out.node("stack", tuple(columns), -1, name="allowed")

    def everywhere(self, value: Arg, name: str) -> Ref:
        """A literal, or a value of the step alone, as an array [batch, time]; the same one for the same literal."""
        if isinstance(value, Ref):
            return self.out.node("add", value, self.everywhere(0, "zero"), name=name)
        if value not in self.literals:
            zeros = self.out.node("mul", Ref(TOKENS), 0, name=name if value == 0 else "zero")
            self.literals[value] = zeros if value == 0 else self.out.node("add", zeros, value, name=name)
        return self.literals[value]

    def ended(self) -> Ref:
        """Whether the ending token has come."""
        here = self.out.node("cast", self.out.node("eq", Ref(TOKENS), self.found.end), "int64")
        return self.out.node("gt", self.out.node("cumsum", here, 1), 0, name="ended")


def _spoken(split: Split) -> str:
    word = {"le": "up_to", "eq": "is"}[split.test]
    value = str(split.value) if split.value >= 0 else f"_minus{-split.value}"
    return f"{split.name}_{word}{value}"
