import math

import pytest
import torch
from hand_printer import Speaker, decompiled

from pellucid.ir.graph import Block, Node, Ref, ValueType, Weight
from pellucid.ir.program import Function, Program, Reading
from pellucid.verdicts.ledger import _loss, loss_shares, measured_ledger


def _two_parts(first: str, second: str, factor: float = 2.0) -> Program:
    """out = 3 a + 1 b, where part_a gives 3 a and part_b gives b; each by weights, or by code that multiplies anew."""

    def part(name: str, given: str, out: str, exact: float, chosen: str) -> Function:
        readings = [
            Reading(
                "weights",
                Block((given,), (Node((out,), "mul", (Ref(given), Weight(f"{name}.w"))),), (out,)),
                "exact",
                9.0,
            )
        ]
        if chosen == "code":
            readings.append(
                Reading("code", Block((given,), (Node((out,), "mul", (Ref(given), exact)),), (out,)), "planted", 3.0)
            )
        return Function(name, "part", name, (given,), (out,), tuple(readings), chosen)

    nodes = (
        Node(("left",), "call", (Ref("a"),), function="part_a"),
        Node(("right",), "call", (Ref("b"),), function="part_b"),
        Node(("out",), "add", (Ref("left"), Ref("right"))),
    )
    whole = Function(
        "net",
        "network",
        "",
        ("a", "b"),
        ("out",),
        (Reading("weights", Block(("a", "b"), nodes, ("out",)), "exact", 1.0),),
    )
    kinds = {name: ValueType("float32", ("batch",)) for name in ("a", "b", "left", "right", "out")}
    parts = [whole, part("part_a", "a", "left", factor, first), part("part_b", "b", "right", 1.0, second)]
    weights = {"part_a.w": torch.tensor([3.0]), "part_b.w": torch.tensor([1.0])}
    return Program("net", {f.name: f for f in parts}, kinds, weights)


@pytest.fixture
def runs():
    a = torch.tensor([-1.0, 1.0, -1.0, 1.0])
    b = torch.tensor([-1.0, -1.0, 1.0, 1.0])
    return [[a, b]]


def test_nothing_is_run_where_all_is_weights(runs):
    program = _two_parts("weights", "weights")
    assert loss_shares(program, []) == {"weights": 1.0, "code": 0.0, "words": 0.0}


def test_the_share_of_each_kind_is_what_it_recovers(runs):
    """Variances 9 and 1: ablating both loses 10, the exact code of part_a alone recovers 9, the weights of part_b 1."""
    shares = loss_shares(_two_parts("code", "weights", factor=3.0), runs)
    assert shares == {"code": pytest.approx(0.9), "weights": pytest.approx(0.1), "words": 0.0}


def test_a_reading_that_is_off_recovers_less(runs):
    """Half of part_a: its error 1.5² = 2.25 stays."""
    shares = loss_shares(_two_parts("code", "weights", factor=1.5), runs)
    assert shares["code"] == pytest.approx((10 - 1 - 2.25) / 10)


def test_a_harmful_reading_has_no_negative_share(runs):
    assert loss_shares(_two_parts("code", "code", factor=-30.0), runs)["code"] == 0.0


def test_all_in_code_recovers_everything(runs):
    assert loss_shares(_two_parts("code", "code", factor=3.0), runs) == {"weights": 0.0, "code": 1.0, "words": 0.0}


def test_shares_are_stored_in_the_notes(runs):
    program = measured_ledger(_two_parts("code", "code", factor=3.0), runs)
    assert program.ledger.share("code", by="loss") == 1.0


def test_language_models_are_measured_by_cross_entropy():
    ids = torch.tensor([[0, 1, 2]])
    logits = torch.zeros(1, 3, 4)
    assert _loss(ids, logits, logits) == pytest.approx(math.log(4))
    assert _loss(torch.zeros(1, 3), logits, logits + 2) == pytest.approx(4.0)


def test_means_are_over_samples_and_positions_of_any_length():
    program = decompiled(Speaker().eval(), torch.randint(0, 11, (3, 9)))
    function = program["second.mlp.linear_2"]
    body = function.readings[0].body
    program = program.with_function(function.with_reading(Reading("code", body, "copied", 1.0)))
    generator = torch.Generator().manual_seed(0)
    runs = [[torch.randint(0, 11, (2, length), generator=generator)] for length in (5, 9)]
    shares = loss_shares(program, runs)
    assert 0.0 <= shares["code"] <= 1.0
    assert 0.0 <= shares["weights"] <= 1.0
