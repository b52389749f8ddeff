"""What a network predicts is told by its numbers alone: signs, decisions, or nothing."""

import math

import numpy as np
import torch
from torch import nn

from pellucid.code.propose import Part
from pellucid.code.tokens.predicted import (
    FEWEST_AT_ONCE,
    NOTHING,
    UNKNOWN,
    ask,
    ending,
    joined,
    observe,
    over,
    picked,
    redrawn,
    shifted,
)
from pellucid.ir.interpret import run_functions
from pellucid.lift.trace import trace
from pellucid.modules.partition import partition
from pellucid.modules.structure import structure

COUNT, LENGTH, VOCABULARY, END = 40, 10, 6, 4
rng = np.random.default_rng(0)
IDS = rng.integers(0, 4, (COUNT, LENGTH))
IDS[np.arange(COUNT), rng.integers(5, 9, COUNT)] = END
PLACES = rng.integers(0, 7, (COUNT, 1)) + np.arange(LENGTH)


class Predicting(nn.Module):
    """Puts out `logits(ids)` before END and zeros from there on."""

    def __init__(self, logits, swapped):
        super().__init__()
        self.logits, self.swapped = logits, swapped

    def forward(self, first, second):
        ids = second if self.swapped else first
        live = torch.cumsum((ids == END).int(), 1) == 0
        return self.logits(ids) * live.unsqueeze(-1)


def part(logits, ids=IDS, swapped=False):
    """What a method sees of the network."""
    given = [torch.from_numpy(ids), torch.from_numpy(PLACES[: len(ids), : ids.shape[1]])]
    inputs = tuple(reversed(given)) if swapped else tuple(given)
    graph = trace(Predicting(logits, swapped).eval(), inputs)
    program = structure(graph, partition(graph))
    return Part(program, program[program.entry], (inputs,), (run_functions(program, inputs),))


def both_allowed(ids):
    allowed = torch.stack([ids == ids, ids > 1, ids < 3, ids == 0, ids == 9, ids == 9], -1)
    return allowed.float() * 12 - 6


def next_one(ids):
    return torch.nn.functional.one_hot((ids + 1) % VOCABULARY, VOCABULARY).float() * 9 + 0.3


def test_numbers_far_from_zero_are_signs():
    first, *others = observe(part(both_allowed))
    assert (first.measure, first.certain, len(others)) == ("signs", True, 0)
    assert (first.kinds[over(first, END)] == NOTHING).all()
    assert ending(first) == END
    shown = first.patterns[first.kinds[~over(first, END)]]
    assert (shown[:, 3] == (IDS[~over(first, END)] == 0)).all()


def test_clear_winners_are_decisions():
    (found,) = observe(part(next_one))
    live = ~over(found, END)
    assert (found.measure, found.certain) == ("decisions", False)
    assert (found.kinds[live] == (IDS[live] + 1) % VOCABULARY).all()


def test_one_positive_number_at_a_time_may_be_either():
    assert [p.measure for p in observe(part(lambda ids: next_one(ids) - 5))] == ["decisions", "signs"]


def test_undecided_networks_predict_nothing():
    assert "not decided" in observe(part(lambda ids: both_allowed(ids) / 20))


def test_tokens_and_positions_are_told_apart():
    found = observe(part(both_allowed, swapped=True))[0]
    assert found.places == (1, 0)
    assert (found.tokens == IDS).all()


def test_other_functions_are_left_alone():
    assert observe(part(lambda ids: both_allowed(ids)[..., :3])) == ""


def test_few_sequences_say_nothing():
    assert observe(part(both_allowed, IDS[:20])) == "too few sequences"


def test_the_same_tokens_at_other_positions_are_asked_within_what_was_seen():
    network = part(both_allowed)
    seen = observe(network)[0]
    tokens, positions = shifted(seen, END, 3)
    assert (tokens.shape, positions.shape) == ((3 * COUNT, LENGTH), (3 * COUNT, LENGTH))
    wider = ask(network, seen, tokens, positions, math.inf)
    live = ~over(wider, END)
    assert positions[live].max() <= PLACES[~over(seen, END)].max()
    assert (np.diff(positions, axis=1)[live[:, 1:]] == 1).all()
    assert (wider.kinds == np.repeat(seen.kinds, 3, axis=0)).all()
    assert len(joined([seen, wider]).tokens) == 4 * COUNT


def test_where_time_runs_out_the_first_sequences_have_been_asked(monkeypatch):
    monkeypatch.setattr("pellucid.code.tokens.predicted.NUMBERS_AT_ONCE", 0)
    network = part(both_allowed)
    seen = observe(network)[0]
    tokens, positions = shifted(seen, END, 9)
    early = ask(network, seen, tokens, positions, -math.inf)
    assert len(early.tokens) == len(early.kinds) == FEWEST_AT_ONCE < len(tokens)
    assert (early.tokens == tokens[: len(early.tokens)]).all()
    assert (early.kinds == ask(network, seen, tokens, positions, math.inf).kinds[: len(early.tokens)]).all()


def test_patterns_that_were_never_seen_are_unknown():
    network = part(both_allowed)
    seen = observe(network)[0]
    strange = part(lambda ids: -both_allowed(ids))
    assert (ask(strange, seen, IDS, PLACES, math.inf).kinds[:, 0] == UNKNOWN).all()


def test_tokens_of_one_remainder_are_drawn_anew():
    seen = observe(part(both_allowed))[0]
    several = picked(seen, np.repeat(np.arange(COUNT), 20))
    tokens, positions = redrawn(several, END, (0, 1), (3,))
    moved = tokens != several.tokens
    remainders = [set(np.flatnonzero(row) % 3) for row in moved]
    assert max(map(len, remainders)) == 1
    assert set.union(*remainders) == {0, 1, 2}
    assert set(several.tokens[moved]) == {0, 1} == set(tokens[moved])
    assert positions[~over(several, END)].max() <= PLACES[~over(seen, END)].max()
