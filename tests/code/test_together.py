"""Readings of parts beside a reading of the whole."""

from __future__ import annotations

import dataclasses

import pytest
from network_planted import read
from planted_waves import Adder, pairs

from pellucid.code.periodic.fourier import WAVES, propose_waves
from pellucid.code.together import Together, find_together


@pytest.fixture(scope="module")
def program():
    return read(Adder(), pairs())


def way(change):
    """The readings of waves, changed."""
    return Together("waves", lambda program, calls, seconds: change(propose_waves(program, calls, seconds)))


def test_whole_stays_chosen_where_a_part_is_not_read(program):
    found = find_together(program, [[pairs()]], (way(lambda parts: dict(list(parts.items())[1:])),))
    assert found[found.entry].chosen == program[program.entry].chosen == "code"
    assert found["readout"].chosen == "code"
    assert not found.notes.remarks


def test_longer_readings_are_held_back(program):
    def longer(parts):
        name = "readout"
        reading = dataclasses.replace(parts[name].reading, bits=1e9)
        return {**parts, name: dataclasses.replace(parts[name], reading=reading)}

    found = find_together(program, [[pairs()]], (way(longer),))
    assert found["readout"].chosen == "weights"
    assert any("held back" in attempt.outcome for attempt in found.notes.trail)
    assert found[found.entry].chosen == "code"


def test_readings_that_hold_only_alone_stand_beside_the_weights(program):
    def apart(parts):
        return {**parts, "mlp_0": dataclasses.replace(parts["mlp_0"], against="it holds alone only")}

    found = find_together(program, [[pairs()]], (way(apart),))
    assert found["mlp_0"].chosen == "weights"
    assert found["mlp_0"].reading("code").method == "waves"
    assert found["readout"].chosen == found[found.entry].chosen == "code"
    assert any("kept beside the weights: it holds alone only" in attempt.outcome for attempt in found.notes.trail)


def test_reasons_are_on_the_trail_and_silence_is_not(program):
    ways = (Together("one", lambda *_: "because"), Together("other", lambda *_: ""))
    added = find_together(program, [[pairs()]], ways).notes.trail[len(program.notes.trail) :]
    assert [(attempt.method, attempt.outcome) for attempt in added] == [("one", "because")]


def test_without_time_nothing_is_tried(program):
    found = find_together(program, [[pairs()]], (WAVES,), budget=0.0)
    assert "not tried" in found.notes.trail[-1].outcome
    assert found.functions == program.functions


def test_program_is_as_before_without_ways(program):
    assert find_together(program, [[pairs()]], ()) == program
    assert WAVES.name == "waves"
