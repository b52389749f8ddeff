import dataclasses

import pytest
import reports_planted as planted
from hypothesis import given
from hypothesis import strategies as st

from pellucid.ir.graph import Block, Node, Ref
from pellucid.reports.findings import failures, missing, opaque_operations, strips
from pellucid.reports.tree import lay_out

PROGRAM = planted.mlp()
CELLS = lay_out(PROGRAM)


def titles(verdicts, program=PROGRAM):
    return [finding.title for finding in missing(program, verdicts, CELLS)]


def test_each_failed_verdict_is_a_finding_with_its_cause():
    found = failures(planted.mlp_verdicts())
    assert [finding.parts for finding in found] == [("mlp.last",), ("mlp.last",)]
    assert "0.0320" in found[0].title
    assert "needed ≤ 1e-4" in found[0].title
    assert "control 0.830" in found[0].title
    assert "digit 7" in found[0].cause


def test_a_verdict_without_control_says_so():
    (finding,) = failures([planted.verdict("mlp", control=float("nan"), passed=False)])
    assert "(control none)" in finding.title


def test_a_reading_that_runs_without_a_verdict_is_incomplete():
    (finding,) = missing(PROGRAM, planted.mlp_verdicts(), CELLS)
    assert finding.parts == ("mlp.gate",)
    assert titles([*planted.mlp_verdicts(), planted.verdict("mlp.gate", "code")]) == []


def test_missing_verdicts_are_named():
    assert titles([]) == ["Nothing was verified"]
    assert "The whole program was not verified" in titles([planted.verdict("mlp.relu")])
    assert "1 judged part not in this program" in titles([*planted.mlp_verdicts(), planted.verdict("elsewhere")])


def test_operations_nobody_recognised_are_listed_once():
    body = Block(
        ("h0",), (Node(("a",), "aten.cumprod.default", (Ref("h0"), 1)), Node(("h1",), "relu", (Ref("a"),))), ("h1",)
    )
    relu = PROGRAM["mlp.relu"]
    changed = dataclasses.replace(relu, readings=(dataclasses.replace(relu.readings[0], body=body),))
    assert opaque_operations(PROGRAM) == ()
    assert opaque_operations(PROGRAM.with_function(changed)) == ("aten.cumprod.default",)


def test_a_strip_shows_values_and_controls_of_one_measure():
    first, second = strips(planted.mlp_verdicts())
    assert (first.measure, first.total, first.failed, first.proved, first.logarithmic) == (
        "max relative difference",
        5,
        1,
        1,
        True,
    )
    assert [point.passed for point in first.points] == [True, True, True, False]
    assert first.points[0].place == 0.0
    assert max(point.place for point in first.points) < min(point.place for point in first.control_points)
    assert (second.measure, second.unit, second.logarithmic) == ("match", "share", False)
    assert second.points[-1].place == pytest.approx(0.996)


@given(st.lists(st.tuples(st.floats(), st.floats()), min_size=1, max_size=20))
def test_points_and_ticks_stay_on_the_axis(pairs):
    (strip,) = strips([planted.verdict("mlp", value=value, control=control) for value, control in pairs])
    places = [point.place for point in (*strip.points, *strip.control_points)] + [place for place, _ in strip.ticks]
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in places)
