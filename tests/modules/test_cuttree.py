"""Cut trees against networkx, igraph and the definition: random graphs, ties, parts, planted cuts, bad input."""

from __future__ import annotations

import math
from dataclasses import dataclass

import igraph
import networkx
import numpy as np
import pytest
import scipy.sparse

from pellucid.errors import BadInput
from pellucid.modules.cuttree import cut_tree


def _random(seed):
    """A random symmetric matrix: many ties, zeros and parts; whole or broken weights; layered or not."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 61))
    kept = rng.random((n, n)) < rng.choice([0.03, 0.08, 0.2, 0.5, 1.0])
    kind = seed % 4
    weights = (
        rng.integers(1, 4, (n, n)).astype(float),
        np.exp(2 * rng.normal(size=(n, n))),
        np.round(rng.random((n, n)), 1),
        np.abs(rng.normal(size=(n, n))) ** 2,
    )[kind]
    if seed % 3 == 0:
        layer = np.sort(rng.integers(0, 4, n))
        kept &= layer[:, None] + 1 == layer
    upper = np.triu(np.where(kept, weights, 0.0), 1)
    if not upper.any():
        upper[0, 1] = 1.0
    return upper + upper.T


def _smallest_on_paths(count, edges):
    """The smallest edge between any two nodes of a tree."""
    values = np.full((count, count), np.inf)
    done = [0]
    neighbours = [[] for _ in range(count)]
    for a, b, cut in edges:
        neighbours[a].append((b, cut))
        neighbours[b].append((a, cut))
    for node in done:
        for other, cut in neighbours[node]:
            if other not in done:
                values[other, done] = np.minimum(values[node, done], cut)
                values[done, other] = values[other, done]
                done.append(other)
    return values


def _by_igraph(matrix):
    first, second = np.nonzero(np.triu(matrix))
    graph = igraph.Graph(n=len(matrix), edges=list(zip(first.tolist(), second.tolist(), strict=True)))
    tree = graph.gomory_hu_tree(capacity=matrix[first, second].tolist())
    return _smallest_on_paths(len(matrix), [(*edge.tuple, edge["flow"]) for edge in tree.es])


def _by_networkx(matrix):
    tree = networkx.gomory_hu_tree(networkx.from_numpy_array(matrix), capacity="weight")
    return _smallest_on_paths(len(matrix), [(a, b, data["weight"]) for a, b, data in tree.edges(data=True)])


@pytest.mark.parametrize("block", range(10))
def test_all_pairs_are_those_of_igraph_on_random_graphs(block):
    for seed in range(100 * block, 100 * block + 100):
        matrix = _random(seed)
        tree = cut_tree(scipy.sparse.csr_array(matrix))
        np.testing.assert_allclose(tree.all_pairs(), _by_igraph(matrix), rtol=1e-9, atol=1e-12, err_msg=str(seed))


def test_all_pairs_are_those_of_networkx():
    for seed in range(12):
        matrix = _random(seed)[:20, :20]
        matrix[0, 1] = matrix[1, 0] = 1.0
        tree = cut_tree(networkx.from_numpy_array(matrix))
        np.testing.assert_allclose(tree.all_pairs(), _by_networkx(matrix), rtol=1e-9, atol=1e-12, err_msg=str(seed))


def test_each_edge_is_a_cut_of_the_size_it_says():
    for seed in range(1000, 1150):
        matrix = _random(seed)
        tree = cut_tree(scipy.sparse.csr_array(matrix))
        for node, parent in enumerate(tree.parents):
            if parent >= 0:
                side, rest = (sorted(part) for part in tree.sides(node, int(parent)))
                assert node in side
                assert parent in rest
                assert sorted(side + rest) == list(range(len(matrix)))
                assert matrix[np.ix_(side, rest)].sum() == pytest.approx(tree.cuts[node], rel=1e-12, abs=1e-12)


def test_every_cut_is_accounted_for():
    for seed in range(1150, 1200):
        tree = cut_tree(scipy.sparse.csr_array(_random(seed)))
        assert tree.certified + tree.flows + tree.pendants == len(tree.nodes) - 1


def test_it_says_whether_it_holds_only_degrees():
    seen = set()
    for seed in range(1200, 1300):
        matrix = _random(seed)
        tree = cut_tree(scipy.sparse.csr_array(matrix))
        degree = matrix.sum(1)
        smaller = np.minimum(degree[:, None], degree)
        np.fill_diagonal(smaller, np.inf)
        only = bool(np.allclose(tree.all_pairs(), smaller, rtol=1e-12, atol=1e-12))
        assert tree.only_degrees == only
        assert ("only degrees" in str(tree)) == only
        seen.add(only)
    assert seen == {True, False}


def test_a_dense_network_is_certified_by_its_degrees():
    rng = np.random.default_rng(0)
    sizes, places = (60, 40, 40, 10), np.cumsum([0, 60, 40, 40, 10])
    matrix = np.zeros((150, 150))
    for i in range(3):
        block = np.abs(rng.normal(size=(sizes[i], sizes[i + 1])))
        matrix[places[i] : places[i + 1], places[i + 1] : places[i + 2]] = block
    tree = cut_tree(scipy.sparse.csr_array(matrix + matrix.T))
    assert tree.only_degrees
    assert tree.flows < 15
    assert tree.contractions == 0


def test_two_cliques_with_a_bridge_come_apart_at_the_bridge():
    matrix = np.kron(np.eye(2), np.ones((6, 6))) - np.eye(12)
    matrix[2, 9] = matrix[9, 2] = 0.5
    tree = cut_tree(scipy.sparse.csr_array(matrix))
    assert tree.minimum_cut(0, 11) == 0.5
    assert tree.sides(0, 11) == (frozenset(range(6)), frozenset(range(6, 12)))
    assert tree.minimum_cut(0, 1) == 5.0
    assert not tree.only_degrees


def test_nodes_of_networkx_keep_their_names():
    graph = networkx.Graph([("a", "b", {"weight": 3}), ("b", "c", {"weight": 2}), ("c", "a", {"weight": 4})])
    graph.add_edge("c", "c", weight=7)
    graph.add_node("alone")
    tree = cut_tree(graph)
    assert [tree.minimum_cut("a", "b"), tree.minimum_cut("c", "a"), tree.minimum_cut("alone", "a")] == [5.0, 6.0, 0.0]
    as_graph = tree.networkx()
    assert set(as_graph.nodes) == {"a", "b", "c", "alone"}
    assert networkx.is_tree(as_graph)
    assert sorted(data["weight"] for _, _, data in as_graph.edges(data=True)) == [0.0, 5.0, 6.0]
    with pytest.raises(BadInput, match="not in the tree"):
        tree.minimum_cut("a", 0)


def test_parallel_edges_add_up_and_unweighted_edges_count_one():
    graph = networkx.MultiGraph([(0, 1), (0, 1), (1, 2)])
    tree = cut_tree(graph)
    assert (tree.minimum_cut(0, 1), tree.minimum_cut(0, 2)) == (2.0, 1.0)


def test_a_unit_graph_goes_by_name_and_by_position():
    @dataclass(frozen=True)
    class Units:
        adjacency: scipy.sparse.csr_matrix
        units: tuple[str, ...]

    matrix = scipy.sparse.csr_matrix(np.array([[0, 2.0, 1], [2, 0, 0], [1, 0, 0]]))
    tree = cut_tree(Units(matrix, ("in[0]", "out[0]", "out[1]")))
    assert tree.minimum_cut("in[0]", "out[1]") == tree.minimum_cut(0, 2) == 1.0
    assert tree.sides(1, 2)[1] == frozenset({"out[1]"})


def test_long_paths_and_stars_take_no_flow():
    path = scipy.sparse.diags_array([np.arange(1.0, 3000), np.arange(1.0, 3000)], offsets=[-1, 1])
    tree = cut_tree(path)
    assert (tree.flows, tree.minimum_cut(0, 2999), tree.minimum_cut(1500, 2999)) == (0, 1.0, 1501.0)


def test_whole_numbers_come_out_exactly_and_scale_does_not_matter():
    matrix = scipy.sparse.csr_array(_random(4))
    plain = cut_tree(matrix)
    assert np.array_equal(plain.cuts, np.round(plain.cuts))
    for scale in (2.0**-900, 2.0**900):
        scaled = cut_tree(matrix * scale)
        assert np.array_equal(scaled.parents, plain.parents)
        assert np.array_equal(scaled.cuts, plain.cuts * scale)


def test_the_same_graph_gives_the_same_edges():
    matrix = _random(7)
    twice = [cut_tree(scipy.sparse.csr_array(matrix)), cut_tree(scipy.sparse.coo_matrix(matrix))]
    assert np.array_equal(twice[0].parents, twice[1].parents)
    assert np.array_equal(twice[0].cuts, twice[1].cuts)


def test_the_matrix_stays_as_it_is_and_may_hold_zeros_loops_and_doubles():
    plain = scipy.sparse.csr_array(np.array([[0, 2.0, 0], [2, 0, 3], [0, 3, 0]]))
    doubled = scipy.sparse.csr_array(
        (
            np.array([1.0, 1.0, 9.0, 0.0, 2.0, 3.0, 3.0, 0.0]),
            np.array([1, 1, 0, 2, 0, 2, 1, 0]),
            np.array([0, 4, 6, 8]),
        ),
        shape=(3, 3),
    )
    before = doubled.data.copy()
    assert cut_tree(doubled).minimum_cut(0, 2) == cut_tree(plain).minimum_cut(0, 2) == 2.0
    assert np.array_equal(doubled.data, before)
    assert doubled.nnz == 8


def test_rounding_between_directions_is_levelled_but_not_more():
    tree = cut_tree(scipy.sparse.csr_array(np.array([[0, 0.1 + 0.2], [0.3, 0]])))
    assert tree.minimum_cut(0, 1) == 0.3
    with pytest.raises(BadInput, match="not symmetric"):
        cut_tree(scipy.sparse.csr_array(np.array([[0, 0.3], [0.3001, 0]])))


def _matrix(*rows):
    return scipy.sparse.csr_array(np.array(rows))


@pytest.mark.parametrize(
    ("graph", "cause"),
    [
        (_matrix([0, -1.0], [-1.0, 0]), "negative, NaN or infinite"),
        (_matrix([0, math.nan], [math.nan, 0]), "negative, NaN or infinite"),
        (_matrix([0, math.inf], [math.inf, 0]), "negative, NaN or infinite"),
        (_matrix([-1.0, 1.0], [1.0, 0]), "negative, NaN or infinite"),
        (_matrix([0, 1e308, 1e308], [1e308, 0, 0], [1e308, 0, 0]), "add up to infinity"),
        (_matrix([0.0]), "at least two"),
        (_matrix([0.0, 0.0], [0.0, 0.0]), "no edges"),
        (_matrix([1.0, 0.0], [0.0, 1.0]), "no edges"),
        (_matrix([0, 1.0], [0, 0]), "not symmetric"),
        (_matrix([0, 1.0, 0], [1.0, 0, 0]), "shape"),
        (_matrix([0, 1j], [1j, 0]), "real numbers"),
        (np.eye(2), "scipy sparse matrix"),
        (networkx.DiGraph([(0, 1)]), "directed"),
        (networkx.Graph([(0, 1, {"weight": -1})]), "negative, NaN or infinite"),
        (networkx.MultiGraph([(0, 1, {"weight": -1}), (0, 1, {"weight": 2})]), "negative, NaN or infinite"),
        (networkx.Graph([(0, 1, {"weight": "heavy"})]), "no number"),
        (networkx.Graph(), "at least two"),
    ],
)
def test_bad_graphs_are_told_in_one_line(graph, cause):
    with pytest.raises(BadInput, match=cause) as raised:
        cut_tree(graph)
    assert "\n" not in str(raised.value)


def test_a_node_cannot_be_cut_from_itself_nor_from_what_is_not_there():
    tree = cut_tree(_matrix([0, 1.0], [1.0, 0]))
    for pair in ((0, 0), (0, 2), (-1, 0), (0, "a")):
        with pytest.raises(BadInput, match="node"):
            tree.minimum_cut(*pair)
