"""All measures of a partition in one report, beside random modules and shuffled weights."""

from __future__ import annotations

import pytest
import torch
from modules.planted_graphs import given, outputs_of
from modules.planted_modules import two_worlds

from pellucid.modules.measures import measure
from pellucid.modules.methods import group_units
from pellucid.modules.unitgraph import UnitGraph, unit_graph


def halves(graph: UnitGraph, seed: int):
    return group_units(graph, "n-cut", parts=2, seed=seed)


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_modules_beside_random_ones(noise: float):
    graph, _ = two_worlds(noise)
    values = given(graph, batch=80)
    (wanted,) = outputs_of(graph, values)
    classes = torch.arange(80) % 2

    def loss(outputs):
        wrong = (outputs[0] - wanted).square()
        return torch.where(classes == 0, wrong[:, ::2].sum(1), wrong[:, 1::2].sum(1))

    report = measure(graph, unit_graph(graph), halves, values, loss, classes)
    found, random = report.found, report.random
    assert found.interface.crossing < 0.1 < 0.3 < random.interface.crossing
    assert found.bits < 0.2 * random.bits
    assert found.severed.before == 0
    assert found.severed.after < 0.1 * random.severed.after
    assert (found.severed.after < 1e-9) == (noise == 0)
    assert min(report.stable) == 1.0
    assert report.null.z > 5
    assert found.specialisation is not None
    assert found.specialisation.score.z > 3
    assert len(report.lines()) == 7
    assert report.lines()[0].startswith("weight between modules: ")
