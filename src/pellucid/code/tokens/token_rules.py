"""Networks over tokens as programs: a state that tokens move, or a few decisions over what attention can know.

1. What the network predicts is observed (`tokens.predicted`); where it takes position ids it is also asked for
   the same tokens at other ids.
2. Small alphabets: a finite-state machine is sought by merging states (`merging`), on whole sequences and on their
   beginnings, because networks are right where they were trained, and written as moves (`moves`).
3. Quantities that attention can know are measured (`rules`): which token follows the last equal one, which is the next
   larger, how often each came so far. Predictions that are one of these are copies of it.
4. A decision tree (`decisions`) says which copy, which token, or where the machine is wrong.
5. Where it leaves errors, counts are weighed against each other (`votes`), which is learned from sequences with some of
   their tokens drawn anew, too.

The shortest description of the predictions wins: program and exceptions together.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int64

from pellucid.code.propose import Candidate, Method, Part
from pellucid.code.tokens.decisions import Leaf, Tree, names_of_tests
from pellucid.code.tokens.merging import merge_states
from pellucid.code.tokens.moves import tracked
from pellucid.code.tokens.predicted import (
    Predicted,
    ask,
    at_once,
    ending,
    joined,
    kinds_of,
    observe,
    over,
    picked,
    redrawn,
    shifted,
)
from pellucid.code.tokens.rule_learning import MOST_CONSTANTS, Case, Learned, held_out, learned, right, weighed
from pellucid.code.tokens.rule_writing import Answer, Found, Machine, block_of_rules
from pellucid.code.tokens.rules import PERIODS, Alphabet, Quantities, alphabet_of, measured, no_calls, quantities
from pellucid.errors import InvalidProgram
from pellucid.ir.bits import code_bits
from pellucid.ir.graph import Block
from pellucid.ir.interpret import Scope, run_block
from pellucid.ir.program import Reading

MATCH = 0.9
"""Share of sequences on which a program has to predict what the network predicts, throughout."""

TRIVIAL, ELSEWHERE = 0.75, 0.8
"""One answer alone may be right throughout the first share of the sequences; the program has to be right on the second
share of the others."""

MOST_TOKENS = 12
"""Alphabets of more tokens are not moved through by a machine."""

ASKED_FOR = 1200
"""Sequences at other position ids."""

REDRAWN = 8000
"""Sequences of which some tokens are drawn anew."""

ASKING = 0.5
"""Asking the network about further sequences may take this share of the time that is left."""

BEGINNINGS = (1, 2, 3, 6)
"""Machines are sought on whole sequences and on these parts of them."""


def propose_token_rules(part: Part, seconds: float) -> Candidate | str:
    """A program that predicts what the network predicts, or why there is none."""
    deadline = time.monotonic() + seconds
    options = observe(part)
    if isinstance(options, str):
        return options
    reasons = []
    for seen in options:
        found = _read(part, seen, deadline)
        if isinstance(found, Candidate):
            return found
        reasons.append(f"{seen.measure}: {found}")
    return "; ".join(reasons)


def _read(part: Part, seen: Predicted, deadline: float) -> Candidate | str:
    """The program for one measure, if it is right on enough sequences and says something."""
    found = _shortest(part, seen, deadline)
    try:
        body = block_of_rules(found, *_signature(part, seen))
    except InvalidProgram as error:
        return str(error)
    held, alone = _right_throughout(body, seen), _one_answer(seen)
    told = f"right on {held.mean():.1%} of {len(seen.tokens)} sequences"
    if held.mean() < MATCH:
        return f"{found.method}: {told}; at least {MATCH:.0%} are needed"
    trivial = alone.mean() > TRIVIAL or held[~alone].mean() < ELSEWHERE
    if trivial and not (alone.all() and seen.certain):
        return f"{found.method}: {told}, but one answer alone on {alone.mean():.1%}, and the network is not certain"
    summary = f"predicts what the network predicts, {told} seen"
    return Candidate(Reading("code", body, found.method, code_bits(body), summary, seen.measure, 1.0 - MATCH))


TOKEN_RULES = Method("token rules", propose_token_rules)


def _one_answer(seen: Predicted) -> Bool[np.ndarray, " batch"]:
    """On which sequences one answer is right wherever something is asked: the answer that is right on most."""
    kinds = np.unique(seen.kinds[seen.asked])
    options = [((seen.kinds == kind) | ~seen.asked).all(1) for kind in kinds]
    return max(options, key=lambda right: int(right.sum()))


def _shortest(part: Part, seen: Predicted, deadline: float) -> Found:
    """The program of shortest description."""
    end = ending(seen)
    live = ~over(seen, end)
    alphabet = alphabet_of(seen.tokens, live)
    written = quantities(alphabet, seen.positions is not None)
    patterns, vocabulary = seen.patterns, seen.vocabulary

    def program(tree: Tree, answers: tuple[Answer, ...], machine: Machine | None) -> Found:
        return Found(tree, answers, machine, written, patterns, vocabulary, end)

    machine = _machine(seen, live, deadline) if len(alphabet.tokens) <= MOST_TOKENS else None
    if machine is not None and right(machine, seen, live).all():
        return program(Leaf(0), (Answer("machine"),), machine)
    wider, groups = _wider(part, seen, end, alphabet, deadline)
    case = _case(wider, groups, len(groups), end, alphabet, written)
    options = [(learned(case, base, deadline), base) for base in dict.fromkeys((machine, None))]
    best, base = max(options, key=_merit)
    if best.match < 1.0 and written.weighed:
        periods = [k for k in PERIODS if any(f"_every{k}" in name for name in names_of_tests(best.tree))] or [1]
        wider, groups = _redrawn(part, case, end, periods, deadline)
        best = weighed(_case(wider, groups, case.judged, end, alphabet, written), base, best, deadline)
    return program(best.tree, best.answers, base)


def _case(
    seen: Predicted,
    groups: Int64[np.ndarray, " batch"],
    judged: int,
    end: int | None,
    alphabet: Alphabet,
    written: Quantities,
) -> Case:
    """Sequences with their quantities, those to be weighed where there are more sequences than those `judged`."""
    names = [*written.numbers, *written.tokens, *(written.weighed if judged < len(groups) else ())]
    values = measured(written.writer.nodes, names, seen.given())
    return Case(seen, ~over(seen, end), groups, alphabet, written, values, judged)


def _redrawn(
    part: Part, case: Case, end: int | None, periods: Sequence[int], deadline: float
) -> tuple[Predicted, Int64[np.ndarray, " batch"]]:
    """The sequences of a case, and some with tokens drawn anew; of which each is a copy.

    Copies are made of long ones more often, by the square of the length: there networks err, and there is room to.
    """
    length = (~over(case.seen, end)).sum(1).astype(float) ** 2
    rows = np.random.default_rng(0).choice(len(length), REDRAWN, p=length / length.sum())
    drawn = redrawn(picked(case.seen, rows), end, case.alphabet.plain, periods)
    further = ask(part, case.seen, *drawn, _asked_until(deadline))
    return joined([case.seen, further]), np.concatenate([case.groups, case.groups[rows[: len(further.tokens)]]])


def _asked_until(deadline: float) -> float:
    now = time.monotonic()
    return now + ASKING * (deadline - now)


def _merit(option: tuple[Learned, Machine | None]) -> tuple[float, int]:
    """What decides between programs: the match on sequences that were held out, then how much there is to read."""
    found, machine = option
    return round(found.match, 2), -found.leaves - (machine.classifier.states if machine is not None else 0)


def _machine(seen: Predicted, live: Bool[np.ndarray, "batch time"], deadline: float) -> Machine | None:
    """The machine that is right on most sequences, of those found on sequences and on their beginnings.

    A third of the sequences is kept for judging (`rule_learning.held_out`).
    """
    kinds, codes = np.unique(seen.kinds[live], return_inverse=True)
    if len(kinds) > MOST_CONSTANTS:
        return None
    classes = np.full(seen.kinds.shape, -1)
    classes[live] = codes.ravel()
    columns = seen.patterns[kinds.clip(0)] if len(seen.patterns) else np.zeros((len(kinds), 0), dtype=bool)
    columns = columns & (kinds >= 0)[:, None]
    found, shown = [], ~held_out(np.arange(len(classes)))
    for part in BEGINNINGS:
        length = -(-seen.tokens.shape[1] // part)
        classifier = merge_states(seen.tokens[shown, :length], classes[shown, :length], deadline=deadline)
        if isinstance(classifier, str):
            continue
        share = float(((classifier.out[classifier.walk(seen.tokens)] == classes) | ~live).all(1).mean())
        found.append((share, -classifier.states, -part, classifier))
        if share == 1.0:
            break
    if not found:
        return None
    best = max(found, key=lambda item: item[:3])[3]
    return Machine(best, tracked(best, columns), tuple(map(int, kinds)))


def _wider(
    part: Part, seen: Predicted, end: int | None, alphabet: Alphabet, deadline: float
) -> tuple[Predicted, Int64[np.ndarray, " batch"]]:
    """The sequences seen, and, of small alphabets, the same at other position ids; of which each is a copy."""
    times, own = ASKED_FOR // len(seen.tokens), np.arange(len(seen.tokens))
    if not alphabet.plain or seen.positions is None or not times:
        return seen, own
    further = ask(part, seen, *shifted(seen, end, times), _asked_until(deadline))
    return joined([seen, further]), np.concatenate([own, np.repeat(own, times)[: len(further.tokens)]])


def _signature(part: Part, seen: Predicted) -> tuple[tuple[str, str | None], tuple[str, ...], str]:
    """The values that hold tokens and positions, all inputs, and the output of the function."""
    order = part.function.inputs
    tokens, positions = seen.places
    return (order[tokens], None if positions is None else order[positions]), order, part.function.outputs[0]


def _right_throughout(body: Block, seen: Predicted) -> Bool[np.ndarray, " batch"]:
    """On which sequences the block predicts what the network predicts."""
    held = []
    for rows in at_once(len(seen.tokens), seen.tokens.shape[1], seen.vocabulary):
        made = run_block(body, seen.call(rows), Scope({}, no_calls))[0].numpy()
        held.append((kinds_of(made, seen.patterns, seen.measure) == seen.kinds[rows]).all(1))
    return np.concatenate(held)
