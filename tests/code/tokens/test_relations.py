"""What queries select is read as a rule over the fewest variables at the key and at the query."""

from __future__ import annotations

import time

import numpy as np
import pytest

from pellucid.code.expressions.expression import Name, linear
from pellucid.code.tokens.relations import Rule, find_rule

PAIRS = 20_000


def pairs(seed=0):
    rng = np.random.default_rng(seed)
    length = rng.integers(1, 9, PAIRS)
    keys = {"tokens": rng.integers(0, 6, PAIRS), "indices": rng.integers(0, 9, PAIRS) % length}
    queries = {"tokens": rng.integers(0, 6, PAIRS), "indices": rng.integers(0, 9, PAIRS) % length, "length": length}
    same = keys["indices"] == queries["indices"]
    keys["tokens"] = np.where(same, queries["tokens"], keys["tokens"])
    return keys, queries


RULES = {
    "same token": lambda k, q: k["tokens"] == q["tokens"],
    "previous": lambda k, q: k["indices"] == q["indices"] - 1,
    "earlier": lambda k, q: k["indices"] <= q["indices"],
    "last": lambda k, q: k["indices"] == q["length"] - 1,
    "mirrored": lambda k, q: k["indices"] == q["length"] - 1 - q["indices"],
    "one token": lambda k, q: k["tokens"] == 3,
    "some tokens": lambda k, q: np.isin(k["tokens"], [0, 2, 5]),
    "sorted": lambda k, q: k["tokens"] * 100 + k["indices"] < q["tokens"] * 100 + q["indices"],
    "by a property": lambda k, q: (k["tokens"] // 2) * 100 + k["indices"] < (q["tokens"] // 2) * 100 + q["indices"],
    "swapped": lambda k, q: k["indices"] == np.where(q["indices"] % 2 == 0, q["indices"] + 1, q["indices"] - 1),
    "earlier, same token": lambda k, q: (k["tokens"] == q["tokens"]) & (k["indices"] < q["indices"]),
    "every": lambda k, q: k["tokens"] >= 0,
}


@pytest.mark.parametrize("name", RULES)
def test_planted_rules_are_found_and_hold_on_others(name):
    keys, queries = pairs()
    rule = find_rule(RULES[name](keys, queries), keys, queries, time.monotonic() + 20.0)
    assert rule is not None
    fresh = pairs(seed=1)
    assert (rule.selected(*fresh) == RULES[name](*fresh)).all()


def test_rules_say_what_a_person_would():
    keys, queries = pairs()
    deadline = time.monotonic() + 20.0
    previous = find_rule(RULES["previous"](keys, queries), keys, queries, deadline)
    assert previous == Rule("eq", Name("indices"), linear([(1, Name("indices"))], -1))
    assert find_rule(RULES["same token"](keys, queries), keys, queries, deadline) == Rule(
        "eq", Name("tokens"), Name("tokens")
    )


def test_noise_is_no_rule():
    keys, queries = pairs()
    noise = np.random.default_rng(5).random(PAIRS) < 0.3
    assert find_rule(noise, keys, queries, time.monotonic() + 10.0) is None
