"""Tokens in clusters: k-means (Lloyd 1982) over the rows of an embedding, so that a vocabulary becomes a few units.

Rows are compared by direction. The first centres are rows spread evenly over the table, so that nothing is drawn.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int

STEPS = 10


def token_clusters(table: Float[torch.Tensor, "tokens features"], count: int) -> Int[torch.Tensor, " tokens"]:
    """The cluster of each row of a table, numbered from 0 without gaps; each row its own where `count` allows."""
    rows = len(table)
    if rows <= count:
        return torch.arange(rows)
    directions = torch.nn.functional.normalize(table.detach().float(), dim=1)
    centres = directions[torch.linspace(0, rows - 1, count).long()]
    labels = torch.zeros(rows, dtype=torch.int64)
    for _ in range(STEPS):
        nearest = (directions @ centres.T).argmax(1)
        if torch.equal(nearest, labels):
            break
        labels = nearest
        sums = torch.zeros(count, directions.shape[1]).index_add_(0, labels, directions)
        empty = torch.bincount(labels, minlength=count) == 0
        centres = torch.where(empty[:, None], centres, torch.nn.functional.normalize(sums, dim=1))
    _, group = torch.unique(labels, return_inverse=True)
    return torch.as_tensor(group)


def mean_rows(
    table: Float[torch.Tensor, "tokens features"], labels: Int[torch.Tensor, " tokens"]
) -> Float[torch.Tensor, "clusters features"]:
    """The mean row of each cluster."""
    count = int(labels.max()) + 1
    sums = torch.zeros(count, table.shape[1]).index_add_(0, labels, table.detach().float())
    return sums / torch.bincount(labels, minlength=count)[:, None]
