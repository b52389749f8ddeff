"""The layer-corrected spectral split finds planted parts, and none where there are none."""

from __future__ import annotations

import numpy as np
import pytest
from modules.planted_modules import planted
from scipy import sparse

from pellucid.errors import BadInput
from pellucid.modules.corrected import corrected, modularity
from pellucid.modules.grouping import grouped, relabelled
from pellucid.modules.null import against, shuffled
from pellucid.modules.spectral import Stop, bisected, spectral
from pellucid.modules.stability import adjusted_rand
from pellucid.modules.unit_flows import UnitBlock
from pellucid.modules.unitgraph import UnitGraph


def layer_sums(graph: UnitGraph) -> np.ndarray:
    member = np.eye(len(graph.blocks))[graph.block_of]
    return member.T @ (graph.adjacency @ member)


@pytest.mark.parametrize(("noise", "spread"), [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.3, 0.5)])
def test_two_planted_parts(noise: float, spread: float):
    graph, truth = planted([40, 40, 20], 2, noise, spread=spread)
    found = spectral(graph)
    assert found.count == 2
    assert adjusted_rand(found.labels, truth) == 1.0
    assert found.null is not None
    assert found.null.z > 10


@pytest.mark.parametrize("parts", [3, 4])
def test_more_parts_by_splitting_again(parts: int):
    graph, truth = planted([48, 48, 24], parts, 0.2, seed=1)
    found = spectral(graph)
    assert found.count == parts
    assert adjusted_rand(found.labels, truth) == 1.0
    assert spectral(graph, Stop(parts=2)).count == 2


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_without_parts_nothing_is_split(spread: float):
    split = [spectral(planted([30, 30, 20], 1, 1.0, seed=seed, spread=spread)[0]).count for seed in range(6)]
    assert split == [1] * 6


def test_parts_do_not_follow_layers():
    graph, _ = planted([30, 30, 30], 2, 0.3)
    found = spectral(graph)
    for start, stop in zip(graph.starts, graph.starts[1:], strict=False):
        assert set(found.labels[start:stop]) == {0, 1}


def test_large_graphs_take_the_sparse_way():
    graph, truth = planted([300, 300, 100], 2, 0.5)
    assert adjusted_rand(spectral(graph, Stop(parts=2)).labels, truth) == 1.0


def test_the_expectation_is_that_of_each_pair_of_layers():
    graph, _ = planted([7, 5, 4], 2, 0.3)
    less = corrected(graph.adjacency, graph.block_of)
    dense, matrix = less.dense(), graph.adjacency.toarray()
    block = slice(graph.starts[0], graph.starts[1]), slice(graph.starts[1], graph.starts[2])
    part = matrix[block]
    assert np.allclose(dense[block], part - np.outer(part.sum(1), part.sum(0)) / part.sum())
    x = np.random.default_rng(0).standard_normal(graph.size)
    assert np.allclose(dense @ x, less.times(x))
    sums = np.array([less.sums(number, x) for number in range(3)])
    assert np.allclose(np.concatenate([less.pull(number, x, sums) for number in range(3)]), less.times(x))
    assert less.quality(np.ones(graph.size)) == pytest.approx(0, abs=1e-12)


def test_quality_is_one_for_two_worlds():
    graph, truth = planted([20, 20], 2, 0.0)
    less = corrected(graph.adjacency, graph.block_of)
    assert less.quality(truth * 2.0 - 1) > 0.95
    assert modularity(less, truth) == pytest.approx(less.quality(truth * 2.0 - 1) / 2)


@pytest.mark.parametrize("kept", [1.0, 0.2])
def test_shuffling_keeps_layers_and_strong_units(kept: float):
    graph, _ = planted([40, 30], 2, 0.1, spread=1.0)
    rng = np.random.default_rng(0)
    half = sparse.triu(graph.adjacency, 1).tocoo()
    here = rng.random(half.nnz) < kept
    part = sparse.coo_matrix((half.data[here], (half.row[here], half.col[here])), half.shape)
    graph = UnitGraph((part + part.T).tocsr(), graph.blocks)
    other = shuffled(graph.adjacency, graph.block_of, rng)
    assert abs(other - other.T).max() == 0
    assert other.diagonal().sum() == 0
    sums = layer_sums(UnitGraph(other, graph.blocks))
    assert np.allclose(sums > 0, layer_sums(graph) > 0)
    assert sums.sum() == pytest.approx(layer_sums(graph).sum(), rel=0.2)
    degrees, before = np.asarray(other.sum(1)).ravel(), np.asarray(graph.adjacency.sum(1)).ravel()
    assert np.corrcoef(degrees, before)[0, 1] > (0.9 if kept == 1.0 else 0.7)
    if kept == 1.0:
        assert bisected(other, graph.block_of).quality < 0.7 * bisected(graph.adjacency, graph.block_of).quality


def test_recurrent_layers_have_edges_within():
    rng = np.random.default_rng(0)
    truth = rng.permutation(np.arange(30) % 2)
    weights = np.abs(rng.standard_normal((30, 30))) * np.where(truth[:, None] == truth[None], 1.0, 0.2)
    matrix = np.triu(weights, 1)
    graph = UnitGraph(sparse.csr_matrix(matrix + matrix.T), (UnitBlock("s", "state", 30),))
    found = spectral(graph)
    assert adjusted_rand(found.labels, truth) == 1.0


def test_the_same_graph_gives_the_same_parts():
    graph, _ = planted([40, 40, 20], 3, 0.6)
    one, other = spectral(graph, seed=3), spectral(graph, seed=3)
    assert np.array_equal(one.labels, other.labels)
    assert one.null == other.null


def test_units_without_edges_belong_to_nobody():
    graph, truth = planted([20, 20], 2, 0.1)
    matrix = graph.adjacency.toarray()
    matrix[3] = matrix[:, 3] = 0
    found = spectral(UnitGraph(sparse.csr_matrix(matrix), graph.blocks))
    assert found.labels[3] == -1
    kept = np.arange(40) != 3
    assert adjusted_rand(found.labels[kept], truth[kept]) == 1.0


def test_too_little_to_part():
    lone = UnitGraph(sparse.csr_matrix((1, 1)), (UnitBlock("h", "neuron", 1),))
    with pytest.raises(BadInput, match="1 unit"):
        spectral(lone)
    empty = UnitGraph(sparse.csr_matrix((5, 5)), (UnitBlock("h", "neuron", 5),))
    with pytest.raises(BadInput, match="no edges"):
        spectral(empty)
    graph, _ = planted([4, 4], 2, 0.1)
    with pytest.raises(BadInput, match="null of 5 shuffles"):
        spectral(graph, Stop(shuffles=5))
    with pytest.raises(BadInput, match="cannot be split into 9 parts"):
        spectral(graph, Stop(parts=9))
    with pytest.raises(BadInput, match="null of 3"):
        against(1.0, [0.0, 0.1, 0.2])


def test_partitions_that_are_none():
    graph, _ = planted([4, 4], 2, 0.1)
    with pytest.raises(BadInput, match="empty part"):
        grouped(graph, [np.arange(4), np.arange(0)], "mine")
    with pytest.raises(BadInput, match="unit 3 in two parts"):
        grouped(graph, [np.arange(4), np.arange(3, 6)], "mine")
    with pytest.raises(BadInput, match="unit 8 of a graph of 8"):
        grouped(graph, [np.arange(9)], "mine")
    with pytest.raises(BadInput, match="has no part"):
        relabelled(graph, np.full(8, -1), "mine")
    with pytest.raises(BadInput, match="labels 3 units"):
        relabelled(graph, np.zeros(3, dtype=int), "mine")
