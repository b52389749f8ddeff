from collections import Counter

import numpy as np
import pytest
import torch

from pellucid.code.tokens.rules import alphabet_of, measured, only_needed, quantities

rng = np.random.default_rng(0)
TOKENS = np.concatenate(
    [np.full((20, 1), 8), rng.integers(0, 3, (20, 12)), np.full((20, 1), 9), rng.integers(0, 3, (20, 6))], 1
)
POSITIONS = rng.integers(0, 5, (20, 1)) + np.arange(TOKENS.shape[1])


@pytest.fixture(scope="module")
def values():
    found = quantities(alphabet_of(TOKENS, np.ones(TOKENS.shape, dtype=bool)), True)
    names = [*found.numbers, *found.tokens, *found.weighed]
    given = {"tokens": torch.from_numpy(TOKENS), "positions": torch.from_numpy(POSITIONS)}
    return measured(found.writer.nodes, names, given)


def places():
    return [(b, t) for b in range(len(TOKENS)) for t in range(TOKENS.shape[1])]


def test_special_tokens_are_told_from_plain_ones():
    alphabet = alphabet_of(TOKENS, np.ones(TOKENS.shape, dtype=bool))
    assert (alphabet.special, alphabet.inside, alphabet.plain) == ((8, 9), (9,), (0, 1, 2))


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("after_first_same", lambda x, t: x[(x[:t] == x[t]).argmax() + 1] if t else x[1]),
        ("after_last_same", lambda x, t: x[max([j for j in range(t) if x[j] == x[t]], default=0) + 1]),
        ("before_first_occurrence", lambda x, t: x[max(list(x).index(x[t]) - 1, 0)]),
        ("next_larger", lambda x, t: min([v for v in x[: t + 1] if v > x[t]], default=10)),
        ("next_smaller", lambda x, t: max([v for v in x[: t + 1] if v < x[t]], default=-1)),
        ("smallest_so_far", lambda x, t: min(x[: t + 1])),
        ("previous", lambda x, t: x[t - 1] if t else -1),
        ("commonest_so_far", lambda x, t: min(Counter(x[: t + 1]).items(), key=lambda item: (-item[1], item[0]))[0]),
        ("count1", lambda x, t: (x[: t + 1] == 1).sum()),
        ("count2_every3", lambda x, t: (x[t::-3] == 2).sum()),
        ("more2_than0", lambda x, t: (x[: t + 1] == 2).sum() - (x[: t + 1] == 0).sum()),
        ("more1_than0_here", lambda x, t: int(x[t] == 1) - int(x[t] == 0)),
        (
            "more1_than0_every3_from2",
            lambda x, t: sum(int(x[j] == 1) - int(x[j] == 0) for j in range(t + 1) if (t - j) % 3 == 2),
        ),
        (
            "more2_than0_every2_by_distance",
            lambda x, t: sum((t - j) * (int(x[j] == 2) - int(x[j] == 0)) for j in range(t, -1, -2)),
        ),
        ("seen9", lambda x, t: (x[: t + 1] == 9).sum()),
        ("steps_since9", lambda x, t: max(0, t - 13)),
        ("step_mod4", lambda x, t: t % 4),
    ],
)
def test_quantities_are_what_their_names_say(values, name, rule):
    assert [values[name][b, t] for b, t in places()] == [rule(TOKENS[b], t) for b, t in places()]


def test_places_in_position_ids(values):
    assert (values["position"] == POSITIONS).all()
    assert (values["start_mod3"] == POSITIONS[:, :1] % 3).all()
    assert (values["position_mod4"] == POSITIONS % 4).all()


def test_only_what_is_needed_stays():
    found = quantities(alphabet_of(TOKENS, np.ones(TOKENS.shape, dtype=bool)), False)
    kept = only_needed(found.writer.nodes, ["step_mod2"])
    assert [node.op for node in kept] == ["size", "arange", "mod"]
