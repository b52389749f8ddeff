import math

import torch
from torch import nn

import pellucid
from pellucid.ir.notes import PARAMETERS
from pellucid.ir.regions import NO_JOINT
from pellucid.modules.methods import regions_by
from pellucid.modules.partition import partition
from pellucid.modules.unitgraph import unit_graph
from pellucid.modules.worth import grouping_of, worth


def two_worlds():
    """Two networks side by side that share nothing: 8 inputs, 12 hidden units and 4 outputs each."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 8))
    with torch.no_grad():
        for layer in (net[0], net[2]):
            rows, columns = (size // 2 for size in layer.weight.shape)
            layer.weight[:rows, columns:] = 0
            layer.weight[rows:, :columns] = 0
    x = torch.randn(200, 16)
    return pellucid.trace(net, (x[:2],)), x


def test_two_worlds_share_nothing_and_random_modules_much():
    graph, x = two_worlds()
    tree = regions_by("spectral", parts=2)(graph)
    found = {one.measure.split(":")[0]: one for one in worth(graph, tree, [x])}
    assert found["modules"].value == 2
    for measure in ("weight between modules", "activation between modules", "n-cut"):
        assert found[measure].value == 0, measure
        assert found[measure].random > 0.2, measure
    cut = found["outputs' variance lost when modules are cut apart"]
    assert cut.value < 1e-9 < 0.1 < cut.random
    assert found["specialisation"].value > 0.95 > 0.5 > found["specialisation"].random
    assert found["specialisation above random modules"].value > 4


def test_the_groups_are_those_that_the_regions_claim():
    graph, _ = two_worlds()
    units = unit_graph(graph)
    labels = grouping_of(units, regions_by("spectral", parts=2)(graph)).labels
    assert [len(set(part.tolist())) for part in (labels[:8], labels[8:16], labels[16:28], labels[28:40])] == [1] * 4
    assert labels[0] == labels[16] != labels[8] == labels[28]


def test_the_networks_own_nesting_has_no_measures():
    graph, x = two_worlds()
    assert worth(graph, partition(graph), [x]) == ()


def test_where_no_joint_was_found_the_best_split_in_two_is_measured():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 8))
    x = torch.randn(200, 16)
    graph = pellucid.trace(net, (x[:2],))
    tree = regions_by("spectral")(graph)
    assert tree.origin.endswith(NO_JOINT)
    found = {one.measure: one for one in worth(graph, tree, [x])}
    assert found["modules"].value == 1
    assert found[PARAMETERS].value == 16 * 24 + 24 + 24 * 8 + 8
    assert 0.25 < found["weight between modules"].value < 0.5


def test_measures_without_random_are_nan():
    graph, x = two_worlds()
    assert math.isnan(worth(graph, regions_by("spectral", parts=2)(graph), [x])[0].random)
