"""LSRDR projects onto planted blocks of features, and bilinear networks fall apart along them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from modules.planted_graphs import gap, gated, given, graph_of, outputs_of, step, weights_of

from pellucid.errors import BadInput
from pellucid.ir.graph import Graph
from pellucid.modules.bilinear import bilinear_groups, bilinear_layers
from pellucid.modules.lsrdr import feature_clusters, reduction
from pellucid.modules.methods import regions_by
from pellucid.modules.stability import adjusted_rand
from pellucid.modules.structure import structure
from pellucid.modules.unitgraph import unit_graph


def blocks(sizes: list[int], noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric matrices, each with large entries on one group of features."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    matrices = rng.standard_normal((8 * len(sizes), len(labels), len(labels)))
    owner = np.arange(len(matrices)) % len(sizes)
    inside = (labels[None] == owner[:, None])[:, :, None] & (labels[None] == owner[:, None])[:, None]
    return (matrices + matrices.transpose(0, 2, 1)) * np.where(inside, 1.0, noise), labels


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_the_projection_is_onto_a_block(noise: float):
    matrices, labels = blocks([5, 5], noise)
    found = reduction(matrices, 5)
    assert np.allclose(found.projection @ found.projection, found.projection, atol=1e-6)
    assert np.trace(found.projection) == pytest.approx(5, abs=1e-6)
    kept = np.diag(found.projection) > 0.5
    assert adjusted_rand(kept.astype(int), labels) == 1.0
    assert np.abs(np.diag(found.projection) - kept).max() < 0.1


def test_the_ratio_is_that_of_spectral_radii():
    matrices, _ = blocks([3, 3], 0.2, seed=2)
    found = reduction(matrices, 3)

    def radius(one: np.ndarray, other: np.ndarray) -> float:
        whole = sum(np.kron(a, b) for a, b in zip(one, other, strict=True))
        return float(np.abs(np.linalg.eigvals(whole)).max())

    ratio = radius(matrices, found.reduced) / radius(found.reduced, found.reduced) ** 0.5
    assert found.ratio == pytest.approx(ratio, rel=1e-3)
    rng = np.random.default_rng(0)
    for _ in range(20):
        other = found.reduced + 0.1 * np.abs(found.reduced).mean() * rng.standard_normal(found.reduced.shape)
        assert radius(matrices, other) / radius(other, other) ** 0.5 < ratio * (1 + 1e-6)


@pytest.mark.parametrize("sizes", [[5, 5], [7, 4], [4, 4, 4]])
def test_features_in_groups(sizes: list[int]):
    matrices, labels = blocks(sizes, 0.05)
    assert adjusted_rand(feature_clusters(matrices, len(sizes)), labels) == 1.0


def bilinear(noise: float = 0.0) -> Graph:
    """y = D((W x) ⊙ (V x)): even features, units and outputs are one world, odd ones another."""
    weights = weights_of(w=(12, 8), v=(12, 8), d=(6, 12))
    for name, tensor in weights.items():
        same = (torch.arange(len(tensor))[:, None] - torch.arange(tensor.shape[1])[None]) % 2 == 0
        weights[name] = torch.where(same, tensor, noise * tensor)
    nodes = [
        step("a", "linear", "@x", "$w", None),
        step("b", "linear", "@x", "$v", None),
        step("h", "mul", "@a", "@b"),
        step("y", "linear", "@h", "$d", None),
    ]
    return graph_of({"x": (8,)}, nodes, ["y"], weights)


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_a_bilinear_network_in_two(noise: float):
    graph = bilinear(noise)
    units = unit_graph(graph)
    truth = np.concatenate([np.arange(size) % 2 for size in (8, 12, 6)])
    assert adjusted_rand(bilinear_groups(graph, units).labels, truth) == 1.0
    program = structure(graph, regions_by("lsrdr")(graph))
    inputs = given(graph)
    assert gap(outputs_of(program, inputs), outputs_of(graph, inputs)) < 1e-5


def test_the_matrices_of_a_layer_are_what_it_computes():
    graph = bilinear(1.0)
    (layer,) = bilinear_layers(graph)
    (x,) = given(graph, batch=4)
    wanted = np.einsum("ni,oij,nj->no", x.numpy(), layer.matrices(), x.numpy())
    assert np.allclose(wanted, outputs_of(graph, [x])[0].numpy(), atol=1e-3)


def test_what_is_not_bilinear():
    assert bilinear_layers(gated()) == []
    with pytest.raises(BadInput, match="no bilinear layer"):
        regions_by("lsrdr")(gated())
    matrices, _ = blocks([3, 3], 0.0)
    with pytest.raises(BadInput, match="cannot be reduced to 7"):
        reduction(matrices, 7)
    with pytest.raises(BadInput, match="all zero"):
        reduction(matrices * 0, 2)
    with pytest.raises(BadInput, match="into 9 groups"):
        feature_clusters(matrices, 9)
