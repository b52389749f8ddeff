"""Sets of modules that one cut severs become regions around them; single modules do not."""

from __future__ import annotations

import numpy as np
import pytest
from modules.planted_graphs import gap, given, mlp, outputs_of
from modules.planted_modules import planted

from pellucid.errors import BadInput
from pellucid.modules.cutclusters import clusters_at, cut_clusters
from pellucid.modules.grouping import relabelled
from pellucid.modules.hierarchy import quotient, severed_sets
from pellucid.modules.regions import region_tree
from pellucid.modules.stability import adjusted_rand
from pellucid.modules.structure import structure
from pellucid.modules.unitgraph import unit_graph


def two_pairs() -> np.ndarray:
    """Modules 0 and 1 belong together, 2 and 3 do."""
    between = np.full((4, 4), 0.5)
    between[0, 1] = between[1, 0] = between[2, 3] = between[3, 2] = 5.0
    np.fill_diagonal(between, 0.0)
    return between


def test_a_cut_through_the_middle_is_a_set():
    assert severed_sets(two_pairs()) in ([frozenset({0, 1})], [frozenset({2, 3})])


def test_cuts_around_single_modules_are_none():
    between = np.ones((5, 5)) - np.eye(5)
    assert severed_sets(between) == []
    assert severed_sets(two_pairs()[:3, :3]) == []
    assert severed_sets(np.zeros((5, 5))) == []


def test_the_quotient_adds_up_what_lies_between():
    graph, truth = planted([6, 6, 4], 3, 0.4)
    between = quotient(graph.adjacency, truth)
    matrix = graph.adjacency.toarray()
    assert between[0, 1] == pytest.approx(matrix[truth == 0][:, truth == 1].sum())
    assert between.diagonal().sum() == 0


def test_regions_are_nested_by_the_cut_tree():
    graph = mlp(hidden=8, second=8)
    units = unit_graph(graph)
    labels = np.full(units.size, -1)
    hidden = units.nodes("neuron")
    labels[hidden] = np.arange(len(hidden)) % 4
    pair = labels // 2
    matrix = units.adjacency.toarray()
    matrix[(pair[:, None] == pair[None]) & (labels[:, None] >= 0) & (labels[None] >= 0)] *= 20
    from dataclasses import replace

    from scipy import sparse

    units = replace(units, adjacency=sparse.csr_matrix(matrix))
    tree = region_tree(units, relabelled(units, labels, "mine"))
    (outer,) = (region for region in tree.root.children if region.children)
    assert len(outer.children) == 2
    assert len(tree.root.children) == 3
    assert outer.name in ("modules_1_2", "modules_3_4")
    inputs = given(graph)
    assert gap(outputs_of(structure(graph, tree), inputs), outputs_of(graph, inputs)) < 1e-5


def test_cut_clusters_of_worlds_apart():
    graph, truth = planted([20, 20], 2, 0.0)
    assert adjusted_rand(cut_clusters(graph).labels, truth) == 1.0
    assert adjusted_rand(cut_clusters(graph, 2).labels, truth) == 1.0


def test_more_alpha_gives_more_clusters_within_those_before():
    graph, _ = planted([12, 12], 2, 0.02)
    before = np.zeros(24, dtype=int)
    for alpha in (0.001, 0.5, 2.0, 100.0):
        found = clusters_at(graph.adjacency, alpha)
        assert all(len(set(before[found == label])) == 1 for label in set(found))
        before = found
    assert len(set(before)) == 24


def test_too_many_clusters():
    graph, _ = planted([3, 3], 2, 0.1)
    with pytest.raises(BadInput, match="7 parts"):
        cut_clusters(graph, 7)
