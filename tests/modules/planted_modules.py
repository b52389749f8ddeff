"""Unit graphs and networks with modules in them that are known."""

from __future__ import annotations

import numpy as np
import torch
from modules.planted_graphs import graph_of, step
from scipy import sparse

from pellucid.ir.graph import Graph
from pellucid.modules.unit_flows import UnitBlock
from pellucid.modules.unitgraph import UnitGraph


def planted(
    sizes: list[int], parts: int, noise: float, seed: int = 0, spread: float = 0.0
) -> tuple[UnitGraph, np.ndarray]:
    """Layers with weights |N(0, 1)| inside parts, `noise` times that between them; units with scales of their own."""
    rng = np.random.default_rng(seed)
    labels = [rng.permutation(np.arange(size) % parts) for size in sizes]
    scales = [np.exp(spread * rng.standard_normal(size)) for size in sizes]
    starts = np.concatenate(([0], np.cumsum(sizes)))
    matrix = np.zeros((starts[-1], starts[-1]))
    for i in range(len(sizes) - 1):
        same = labels[i][:, None] == labels[i + 1][None]
        weights = np.abs(rng.standard_normal(same.shape)) * np.where(same, 1.0, noise)
        matrix[starts[i] : starts[i + 1], starts[i + 1] : starts[i + 2]] = weights * np.outer(scales[i], scales[i + 1])
    blocks = tuple(UnitBlock(f"h{i}", "neuron", size, 1, f"h{i}", 1, True) for i, size in enumerate(sizes))
    return UnitGraph(sparse.csr_matrix(matrix + matrix.T), blocks), np.concatenate(labels)


def two_worlds(noise: float = 0.0, seed: int = 0) -> tuple[Graph, np.ndarray]:
    """x[6] -> h[8] -> g[8] -> y[4], the even units one network, the odd ones another, `noise` between them."""
    generator = torch.Generator().manual_seed(seed)
    sizes = {"a": (8, 6), "b": (8, 8), "c": (4, 8)}
    weights = {}
    for name, (rows, columns) in sizes.items():
        same = (torch.arange(rows)[:, None] - torch.arange(columns)[None]) % 2 == 0
        drawn = torch.randn(rows, columns, generator=generator)
        weights[f"{name}.weight"] = torch.where(same, drawn.sign() * (0.3 + drawn.abs()), noise * drawn)
        weights[f"{name}.bias"] = torch.randn(rows, generator=generator)
    nodes = [
        step("a", "linear", "@x", "$a.weight", "$a.bias"),
        step("h", "relu", "@a"),
        step("b", "linear", "@h", "$b.weight", "$b.bias"),
        step("g", "tanh", "@b"),
        step("y", "linear", "@g", "$c.weight", "$c.bias"),
    ]
    truth = np.concatenate([np.arange(size) % 2 for size in (6, 8, 8, 4)])
    return graph_of({"x": (6,)}, nodes, ["y"], weights), truth
