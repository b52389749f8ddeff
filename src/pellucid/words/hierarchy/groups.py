"""Groups of the latents of one dictionary: those that are active together, at two levels.

Two latents are linked by the cosine of their activations over a text; of every latent the strongest links are kept. The
graph is split by the layer-corrected spectral split (`pellucid.modules.spectral`; with one layer that is Newman's
modularity) as long as a split beats that of shuffled links, and each part once more by itself. How good a partition is
is its modularity on the links of another text; a random partition of the same sizes has about none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from pellucid.errors import BadInput
from pellucid.modules.corrected import corrected, modularity
from pellucid.modules.spectral import Stop, spectral
from pellucid.modules.unit_flows import UnitBlock
from pellucid.modules.unitgraph import UnitGraph
from pellucid.words.labels.activations import Activations

NOBODY = -1
"""The group of latents that are never active, or never with another."""

_ROWS = 512


@dataclass(frozen=True)
class Grouping:
    """How latents are grouped.

    Attributes:
        neighbours: links that are kept of every latent.
        modules: at most so many; `submodules` of each module.
        smallest: fewest latents of one.
    """

    neighbours: int = 10
    modules: int = 16
    submodules: int = 8
    smallest: int = 8

    def __post_init__(self) -> None:
        if min(self.neighbours, self.modules, self.submodules, self.smallest) < 1:
            raise BadInput(f"grouping: {self} groups nothing; give numbers from 1")


@dataclass(frozen=True, eq=False)
class Groups:
    """The groups of latents at two levels, the finer ones inside the coarser; `NOBODY` is in none.

    A module that does not split has no submodules, and its latents none either.
    """

    modules: Int[np.ndarray, " latents"]
    submodules: Int[np.ndarray, " latents"]


def group_latents(acts: Activations, how: Grouping = Grouping(), seed: int = 0) -> Groups:
    """Groups of latents that are active together.

    Args:
        acts: of all latents of a dictionary over a text.
        how: see there.
        seed: of the shuffles that splits have to beat.
    """
    links = together(acts, how.neighbours)
    modules = _split(links, how.modules, how.smallest, seed)
    submodules, count = np.full(acts.units, NOBODY), 0
    for module in range(int(modules.max()) + 1):
        own = np.flatnonzero(modules == module)
        parts = _split(links[own][:, own].tocsr(), how.submodules, how.smallest, seed)
        if parts.max() > 0:
            submodules[own] = np.where(parts >= 0, parts + count, NOBODY)
            count += int(parts.max()) + 1
    return Groups(modules, submodules)


def held_quality(
    groups: Int[np.ndarray, " latents"], acts: Activations, how: Grouping = Grouping(), seed: int = 0
) -> tuple[float, float]:
    """Modularity of a partition on the links of another text, and that of a random one of the same sizes; NaN without.

    Args:
        acts: of the same latents over a text that they were not grouped on.
    """
    links = together(acts, how.neighbours)
    used = np.flatnonzero((np.asarray(links.sum(1)).ravel() > 0) & (groups >= 0))
    if len(used) < 2 or links[used][:, used].nnz == 0:
        return float("nan"), float("nan")
    alive = used[np.asarray(links[used][:, used].sum(1)).ravel() > 0]
    graph = corrected(links[alive][:, alive].tocsr(), np.zeros(len(alive), dtype=np.int64))
    dealt = np.random.default_rng(seed).permutation(groups[alive])
    return modularity(graph, groups[alive]), modularity(graph, dealt)


def together(acts: Activations, neighbours: int) -> sparse.csr_matrix:
    """The links between latents: cosines of their activations, of each latent the strongest, symmetric."""
    rows = acts.matrix
    lengths = np.sqrt(np.asarray(rows.multiply(rows).sum(1)).ravel())
    rows = (sparse.diags(1 / np.where(lengths > 0, lengths, 1.0)) @ rows).tocsr()
    kept = [_strongest(rows, start, neighbours) for start in range(0, acts.units, _ROWS)]
    links = sparse.vstack(kept).tocsr()
    return links.maximum(links.T).tocsr()


def _strongest(rows: sparse.csr_matrix, start: int, count: int) -> sparse.csr_matrix:
    """The strongest positive links of some rows."""
    block: Float[np.ndarray, "some latents"] = np.asarray((rows[start : start + _ROWS] @ rows.T).todense())
    here = np.arange(len(block))
    block[here, start + here] = 0.0
    count = min(count, block.shape[1])
    best = np.argpartition(-block, count - 1, axis=1)[:, :count]
    values = np.take_along_axis(block, best, axis=1)
    positive = values > 0
    at = np.broadcast_to(here[:, None], best.shape)
    return sparse.csr_matrix((values[positive], (at[positive], best[positive])), block.shape)


def _split(links: sparse.csr_matrix, most: int, smallest: int, seed: int) -> Int[np.ndarray, " latents"]:
    """A label for each latent; all are one group where no split beats the null."""
    linked = np.asarray(links.sum(1)).ravel() > 0
    if linked.sum() < 2:
        return np.where(linked, 0, NOBODY)
    graph = UnitGraph(links, (UnitBlock("latents", "neuron", links.shape[0]),))
    return np.asarray(spectral(graph, Stop(most=most, smallest=smallest), seed).labels)
