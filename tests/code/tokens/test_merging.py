import numpy as np
import torch

from pellucid.code.recurrent.writing import Writer
from pellucid.code.tokens.merging import STAY, merge_states
from pellucid.code.tokens.moves import tracked, write_state
from pellucid.ir.graph import Block, Ref
from pellucid.ir.interpret import Scope, run_block

BEGIN, UP, DOWN = 9, 3, 5


def balanced(rng, count, length, most):
    """Words of UP and DOWN after BEGIN whose depth stays from 0 to `most`, and the depths."""
    words, depths = np.full((count, length), BEGIN), np.zeros((count, length), dtype=int)
    for t in range(1, length):
        depth = depths[:, t - 1]
        up = np.where(depth == 0, True, np.where(depth == most, False, rng.random(count) < 0.5))
        words[:, t], depths[:, t] = np.where(up, UP, DOWN), depth + np.where(up, 1, -1)
    return words, depths


def test_a_bounded_depth_is_found_and_written_as_a_depth():
    words, depths = balanced(np.random.default_rng(0), 60, 30, 3)
    kinds = np.array([0, 1, 1, 2])  # depths 1 and 2 allow the same
    machine = merge_states(words, kinds[depths])
    assert (machine.states, machine.tokens) == (4, (UP, DOWN, BEGIN))
    assert machine.next[3, 0] == STAY
    other, at = balanced(np.random.default_rng(1), 200, 90, 3)
    assert (machine.out[machine.walk(other)] == kinds[at]).all()
    moves = tracked(machine, np.array([[True, False], [True, True], [False, True]]))
    assert moves.name == "depth"
    writer = Writer(taken={"tokens"})
    state = write_state(writer, moves, Ref("tokens"))
    block = Block(("tokens",), tuple(writer.nodes), (state.name,))
    (states,) = run_block(block, [torch.from_numpy(other)], Scope({}, lambda name, values: values))
    assert (states.numpy() == at).all()


def test_turns_are_written_as_a_phase():
    words = np.tile(np.array([7] + [2] * 29), (4, 1))
    machine = merge_states(words, (np.arange(30) % 3)[None].repeat(4, 0))
    moves = tracked(machine, np.eye(3, dtype=bool))
    assert (machine.states, moves.name) == (3, "phase")


def test_a_token_that_sets_the_state_is_a_case():
    rng = np.random.default_rng(0)
    words = rng.integers(0, 3, (50, 20))
    last = np.zeros((50, 20), dtype=int)
    for t in range(20):
        last[:, t] = np.where(words[:, t] == 2, last[:, t - 1] if t else 0, words[:, t])
    machine = merge_states(words, last)
    moves = tracked(machine, np.array([[True], [False]]))
    assert (machine.states, moves.name) == (2, "state")
    assert moves.bits < 80


def test_contradictions_and_counting_have_no_small_machine():
    words = np.array([[0, 1, 0], [0, 1, 0]])
    assert "different outputs" in merge_states(words, np.array([[0, 1, 0], [0, 1, 1]]))
    coins = np.random.default_rng(0).integers(0, 2, (200, 60))
    ahead = (coins.cumsum(1) * 2 > np.arange(1, 61)).astype(int)
    assert "more than 12 states" in merge_states(coins, ahead, limit=12)


def test_words_end_where_nothing_is_known():
    words, classes = np.array([[0, 1, 4, 4], [0, 0, 1, 4]]), np.array([[0, 1, -1, -1], [0, 0, 1, -1]])
    machine = merge_states(words, classes)
    assert machine.tokens == (0, 1)
