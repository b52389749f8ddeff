"""Planted networks over tokens: bounded depth, copying, counting; and networks that nothing may be claimed of."""

import numpy as np
import pytest
import torch
from network_planted import code, read
from torch import nn

from pellucid.code.tokens.token_rules import TOKEN_RULES
from pellucid.emitters.files import emit
from pellucid.ir.validate import validate

LENGTH, COUNT = 24, 90


class Planted(nn.Module):
    """Exact answers from `answer`, with a table of weights that moves them a little."""

    def __init__(self, vocabulary, answer, end, wobble=0.05):
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(64, vocabulary)
        self.answer, self.end, self.wobble = answer, end, wobble

    def forward(self, ids, positions):
        live = torch.cumsum((ids == self.end).int(), 1) == 0
        logits = self.answer(ids) * 8 + self.wobble * self.table(positions)
        return logits * live.unsqueeze(-1)


def positions(ids):
    return torch.from_numpy(np.random.default_rng(1).integers(0, 20, (len(ids), 1)) + np.arange(ids.shape[1]))


def allowed_depths(ids):
    depth = torch.cumsum((ids == 0).int() - (ids == 1).int(), 1)
    never = torch.zeros_like(depth, dtype=torch.bool)
    return torch.stack([depth < 2, depth > 0, never, depth == 0, never], -1).float() - 0.5


def nested(seed=0):
    """Words over 0 (up) and 1 (down) of depth at most 2 after 2, then 3 (end), then 4."""
    rng, rows = np.random.default_rng(seed), []
    for _ in range(COUNT):
        word, depth = [2], 0
        while not (depth == 0 and (len(word) > LENGTH - 4 or (len(word) > 2 and rng.random() < 0.1))):
            up = depth == 0 or (depth == 1 and len(word) < LENGTH - 5 and rng.random() < 0.5)
            word.append(0 if up else 1)
            depth += 1 if up else -1
        rows.append([*word, 3, *[4] * (LENGTH - len(word) - 1)])
    return torch.tensor(rows)


def test_a_bounded_depth_is_read_as_signs():
    ids = nested()
    network = Planted(5, allowed_depths, 3)
    program = read(network, (ids, positions(ids)), (TOKEN_RULES,))
    reading = code(program)
    assert (reading.method, reading.measure, reading.budget) == ("state: depth", "signs", pytest.approx(0.1))
    validate(program)
    other = nested(5)
    with torch.no_grad():
        wanted, found = network(other, positions(other)), program(other, positions(other))
    assert torch.equal(wanted.sign(), found.sign())


def copied(ids):
    """The token after the earlier one that equals the current one; 11 after the last."""
    earlier = torch.tril(torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool), -1)
    same = (ids.unsqueeze(2) == ids.unsqueeze(1)) & earlier
    after = torch.gather(ids, 1, same.int().argmax(-1) + 1)
    after = torch.where(after == 21, 22, after)
    asked = torch.cumsum((ids == 21).int(), 1) > 0
    return torch.nn.functional.one_hot(after, 24).float() * asked.unsqueeze(-1)


def sequences_to_copy(seed=0):
    rng, rows = np.random.default_rng(seed), []
    for _ in range(COUNT):
        word = rng.permutation(20)[: rng.integers(3, 11)].tolist()
        row = [20, *word, 21, *word, 22]
        rows.append([*row, *[23] * (LENGTH - len(row))])
    return torch.tensor(rows)


class Scored(Planted):
    """Zeros before the separator, too."""

    def forward(self, ids, positions):
        return super().forward(ids, positions) * (torch.cumsum((ids == 21).int(), 1) > 0).unsqueeze(-1)


def test_copying_is_read_as_decisions_and_emitted(tmp_path):
    ids = sequences_to_copy()
    network = Scored(24, copied, 22)
    program = read(network, (ids, positions(ids)), (TOKEN_RULES,))
    reading = code(program)
    assert reading.measure == "decisions"
    assert any(node.op == "gather" for node in reading.body.nodes)
    emit(program, tmp_path)
    (tmp_path / "weights.safetensors").unlink()
    other = sequences_to_copy(3)
    given = dict(zip(program[program.entry].inputs, (other, positions(other)), strict=True))
    with torch.no_grad():
        wanted = network(other, positions(other))
    assert torch.equal(program(**given).argmax(-1), wanted.argmax(-1))


def commoner(ids):
    ones, zeros = (torch.cumsum((ids == token).int(), 1) for token in (1, 0))
    asked = torch.cumsum((ids == 21).int(), 1) > 0
    answer = torch.where(ids == 21, torch.where(ones > zeros, 1, 0), 22)
    return torch.nn.functional.one_hot(answer, 24).float() * asked.unsqueeze(-1)


def test_counting_is_no_machine_but_a_comparison():
    rng, rows = np.random.default_rng(0), []
    for _ in range(COUNT):
        word = rng.integers(0, 2, 2 * rng.integers(1, 10) + 1).tolist()
        row = [20, *word, 21, int(2 * sum(word) > len(word)), 22]
        rows.append([*row, *[23] * (LENGTH - len(row))])
    ids = torch.tensor(rows)
    program = read(Scored(24, commoner, 22), (ids, positions(ids)), (TOKEN_RULES,))
    assert code(program).method.endswith("decisions")


def unevenly(ids):
    """1 where the places before the separator say so, those at odd distances a quarter as much, and against it."""
    ones = (ids == 1).long() - (ids == 0).long()
    distance = torch.arange(ids.shape[1])[:, None] - torch.arange(ids.shape[1])
    weights = torch.where(distance % 2 == 0, 4, -1) * (distance >= 0)
    asked = torch.cumsum((ids == 21).int(), 1) > 0
    answer = torch.where(ids == 21, torch.where(ones @ weights.T > 0, 1, 0), 22)
    return torch.nn.functional.one_hot(answer, 24).float() * asked.unsqueeze(-1)


def words_to_weigh(seed=0):
    rng, rows = np.random.default_rng(seed), []
    for _ in range(COUNT):
        row = [20, *rng.integers(0, 2, rng.integers(5, 20)).tolist(), 21, 0, 22]
        rows.append([*row, *[23] * (LENGTH - len(row))])
    return torch.tensor(rows)


def test_places_that_count_unevenly_are_read_as_votes_and_emitted(tmp_path):
    ids = words_to_weigh()
    network = Scored(24, unevenly, 22)
    program = read(network, (ids, positions(ids)), (TOKEN_RULES,))
    assert "by votes" in code(program).method
    emit(program, tmp_path)
    (tmp_path / "weights.safetensors").unlink()
    assert "100 * " in (tmp_path / "program.py").read_text()
    other = words_to_weigh(3)
    given = dict(zip(program[program.entry].inputs, (other, positions(other)), strict=True))
    with torch.no_grad():
        wanted = network(other, positions(other)).argmax(-1)
    assert (program(**given).argmax(-1) == wanted).all(1).float().mean() > 0.95
    assert (torch.where(ids == 21, commoner(ids).argmax(-1) != network(ids, positions(ids)).argmax(-1), False)).any()


@pytest.mark.parametrize(
    ("answer", "wobble", "why"),
    [
        (lambda ids: torch.zeros(*ids.shape, 5), 0.3, "not decided"),
        (lambda ids: torch.tensor([0.5, 0.5, -0.5, -0.5, -0.5]).expand(*ids.shape, 5), 0.05, "one answer alone"),
    ],
)
def test_nothing_is_claimed_where_nothing_was_learned(answer, wobble, why):
    ids = nested()
    program = read(Planted(5, answer, 3, wobble), (ids, positions(ids)), (TOKEN_RULES,))
    assert program[program.entry].chosen == "weights"
    assert why in program.notes.trail[0].outcome
