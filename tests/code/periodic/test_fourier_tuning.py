"""Readings that hold one by one but not together are tuned until both hold, and stay readings of their parts."""

from __future__ import annotations

import dataclasses
import re
import time

import pytest
import torch
from planted_waves import Adder, pairs

from pellucid.code.periodic import fourier_tuning
from pellucid.code.periodic.fourier import propose_waves
from pellucid.code.periodic.fourier_draft import Try, running
from pellucid.code.periodic.fourier_tuning import agreed
from pellucid.code.periodic.waves import grid_of
from pellucid.ir.interpret import run_functions
from pellucid.lift.trace import trace
from pellucid.modules.partition import partition
from pellucid.modules.structure import structure

STEPS = 20
"""Between two looks: less than for networks that were trained, because checked types make each dear."""

NOISE = 0.1
"""Of directions, as a share of their size: enough for some wrong pairs together, not for any alone."""


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch):
    monkeypatch.setattr(fourier_tuning, "STEPS", STEPS)


@pytest.fixture(scope="module")
def grid():
    graph = trace(Adder().eval(), (pairs(),))
    return grid_of(structure(graph, partition(graph)), [[pairs()]])


@pytest.fixture(scope="module")
def noisy(grid):
    """Readings of a planted adder, each a little off."""
    found = propose_waves(grid.program, [[pairs()]], 60.0)
    return {name: Try(moved(candidate), 0, 1.0, "what it does") for name, candidate in found.items()}


def moved(candidate):
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, value in candidate.weights.items():
        weights[name] = value
        if not value.is_floating_point():
            most = torch.iinfo(value.dtype).max
            noise = NOISE * value.float().std() * torch.randn(value.shape, generator=generator)
            weights[name] = (value.float() + noise).round().clamp(-most, most).to(value.dtype)
    return dataclasses.replace(candidate, weights=weights)


def wrong(grid, found):
    """On how many pairs the network decides differently with all, and with each."""
    tried = {name: running(one.reading.body, dict(one.weights)) for name, one in found.items()}
    return grid.wrong(tried), [grid.wrong({name: one}) for name, one in tried.items()]


def test_what_holds_alone_is_made_to_hold_together(grid, noisy):
    together, alone = wrong(grid, {name: one.candidate for name, one in noisy.items()})
    assert together > 0
    assert not any(alone)
    before = {name: {k: v.clone() for k, v in one.candidate.weights.items()} for name, one in noisy.items()}
    found = agreed(grid, noisy, time.monotonic() + 60)
    assert wrong(grid, found) == (0, [0] * len(noisy))
    for name, candidate in found.items():
        given = noisy[name].candidate
        assert candidate.reading.bits == given.reading.bits
        assert all(value.dtype == given.weights[label].dtype for label, value in candidate.weights.items())
        assert all(torch.equal(value, before[name][label]) for label, value in given.weights.items())
        assert told(candidate) > 98


def told(candidate):
    """The percentage in the summary."""
    found = re.fullmatch(
        r"what it does \(([0-9.]+)% of what the part writes, tuned with the other parts\)", candidate.reading.summary
    )
    return float(found.group(1))


def outputs_missed(grid, found):
    """How far the outputs are off with all in place, as a mean square."""
    instead = {name: running(one.reading.body, dict(one.weights)) for name, one in found.items()}
    (outputs,) = run_functions(grid.program, [grid.tokens], "weights", replace=instead)
    return float((outputs - torch.from_numpy(grid.outputs)).square().mean())


def test_tuning_without_faith_tells_less_of_the_parts_and_of_the_outputs(grid, noisy, monkeypatch):
    faithful = agreed(grid, noisy, time.monotonic() + 60)
    monkeypatch.setattr(fourier_tuning, "FAITHFUL", 0.0)
    without = agreed(grid, noisy, time.monotonic() + 60)
    assert sum(map(told, without.values())) < sum(map(told, faithful.values()))
    assert outputs_missed(grid, without) > outputs_missed(grid, faithful)


def test_a_reason_where_time_or_steps_do_not_suffice(grid, noisy, monkeypatch):
    assert "budget was used up" in agreed(grid, noisy, time.monotonic() - 1)
    monkeypatch.setattr(fourier_tuning, "LOOKS", 1)
    assert f"{STEPS} steps" in agreed(grid, noisy, time.monotonic() + 60)
