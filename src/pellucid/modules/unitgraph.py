"""The unit graph: a network as a weighted undirected graph over its units.

An edge between two units is the norm of the linear map from what one writes to what the other reads: |w| for two
neurons of neighbouring layers, and through a residual stream ‖W_read · gains · W_write‖, so that the stream's own axes,
which depend on a basis, are no nodes. Pairs of blocks are worked out one after another; of large networks only the
strongest edges of each pair are kept, so that the whole is never in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse

from pellucid.errors import BadInput
from pellucid.ir.graph import Graph
from pellucid.modules.activity import Activity, Samples, measured
from pellucid.modules.linear_maps import rows_through
from pellucid.modules.survey import CLUSTERS, UnitPlan, unit_plan
from pellucid.modules.unit_flows import Reading, UnitBlock

WEIGHTINGS = ("absolute", "squared", "activation", "gradient")
"""How edges are weighted: |w|; w²; |w| times how far the writer varies; that, times how far the output follows the
reader."""

COMPLETE = 4_000_000
"""Up to this many possible edges all are kept."""

_CHUNK = 1 << 24


@dataclass(frozen=True, eq=False)
class UnitGraph:
    """A weighted undirected graph over the units of a network.

    Attributes:
        adjacency: symmetric, non-negative, without loops; nodes are the units of the blocks, block after block.
        blocks: what the nodes are.
        weighting: how edges are weighted.
        complete: whether every non-zero edge is there; else only the strongest of each pair of blocks.
    """

    adjacency: sparse.csr_matrix = field(repr=False)
    blocks: tuple[UnitBlock, ...]
    weighting: str = "absolute"
    complete: bool = True

    def __post_init__(self) -> None:
        matrix = self.adjacency
        if not sparse.issparse(matrix) or matrix.shape != (self.size, self.size):
            raise BadInput(f"the adjacency of {self.size} units is a sparse matrix of {self.size} rows and columns")
        if not np.isfinite(matrix.data).all() or (matrix.data < 0).any():
            wrong = "NaN or Inf" if not np.isfinite(matrix.data).all() else "negative"
            raise BadInput(f"a unit graph has {wrong} weights; edges are sizes: take |w| or w² of finite weights")
        if abs(matrix - matrix.T).max() > 0 or matrix.diagonal().any():
            raise BadInput("a unit graph is undirected and without loops: its matrix is symmetric, its diagonal zero")

    @property
    def size(self) -> int:
        """How many units."""
        return sum(block.size for block in self.blocks)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """The first node of each block, and the number of nodes."""
        return (0, *(int(stop) for stop in np.cumsum([block.size for block in self.blocks])))

    @cached_property
    def units(self) -> tuple[str, ...]:
        """The name of each node: "block[index]"."""
        return tuple(f"{block.name}[{i}]" for block in self.blocks for i in range(block.size))

    @cached_property
    def block_of(self) -> Int[np.ndarray, " units"]:
        """The number of each node's block."""
        return np.repeat(np.arange(len(self.blocks)), [block.size for block in self.blocks])

    def nodes(self, *kinds: str) -> Int[np.ndarray, " chosen"]:
        """The nodes of some kinds."""
        return np.flatnonzero(np.isin([block.kind for block in self.blocks], kinds)[self.block_of])


def unit_graph(
    graph: Graph,
    weighting: str = "absolute",
    *,
    samples: Samples | None = None,
    strongest: float | None = None,
    clusters: int = CLUSTERS,
) -> UnitGraph:
    """The unit graph of a network.

    Args:
        graph: the traced network.
        weighting: "absolute", "squared", "activation" or "gradient"; the last two are measured on `samples`.
        samples: inputs of the graph, one sequence of tensors a call.
        strongest: edges kept for each unit of the larger block of a pair; None: all, where there are at most
            `COMPLETE`, else one.
        clusters: units that stand for a larger vocabulary.

    Raises:
        BadInput: an unknown weighting, no samples for one that is measured, nothing to partition, or NaN in weights.
    """
    if weighting not in WEIGHTINGS:
        raise BadInput(f"unknown weighting {weighting!r}; take one of {', '.join(WEIGHTINGS)}")
    plan = unit_plan(graph, clusters)
    if not any(block.kind not in ("input", "token", "output") for block in plan.blocks):
        raise BadInput("the network has no hidden units that its outputs depend on; there is nothing to partition")
    if weighting in ("activation", "gradient") and not samples:
        raise BadInput(f"the weighting {weighting!r} is measured; give samples, or take 'absolute' or 'squared'")
    if strongest is None and _possible(plan) > COMPLETE:
        strongest = 1.0
    activity = measured(graph, plan, samples, weighting == "gradient") if samples and weighting[0] in "ag" else None
    if weighting == "absolute":
        activity = None
    matrix = _assembled(plan, weighting, activity, strongest)
    return UnitGraph(matrix, plan.blocks, weighting, strongest is None)


def _possible(plan: UnitPlan) -> int:
    """How many edges there could be."""
    pairs = {
        (term.block, block)
        for block, readings in enumerate(plan.readings)
        for reading in readings
        for term in reading.flow.terms
    }
    return sum(plan.blocks[a].size * plan.blocks[b].size for a, b in pairs)


@dataclass
class _Edges:
    """Edges found so far, as lists of arrays."""

    rows: list[np.ndarray] = field(default_factory=list)
    columns: list[np.ndarray] = field(default_factory=list)
    values: list[np.ndarray] = field(default_factory=list)

    def add(self, rows: np.ndarray, columns: np.ndarray, values: np.ndarray) -> None:
        self.rows.append(rows)
        self.columns.append(columns)
        self.values.append(values)

    def matrix(self, size: int) -> sparse.csr_matrix:
        rows, columns = np.concatenate(self.rows), np.concatenate(self.columns)
        values = np.concatenate(self.values)
        kept = (rows != columns) & (values != 0)
        half = sparse.coo_matrix((values[kept], (rows[kept], columns[kept])), (size, size)).tocsr()
        whole = (half + half.T).tocsr()
        whole.sort_indices()
        return whole


def _assembled(plan: UnitPlan, weighting: str, activity: Activity | None, strongest: float | None) -> sparse.csr_matrix:
    starts = np.concatenate(([0], np.cumsum([block.size for block in plan.blocks])))
    edges = _Edges()
    reads = np.zeros(int(starts[-1]))  # the strongest edge that each unit reads
    for reader in range(len(plan.blocks)):
        for writer, squares in _squares(plan, reader, activity):
            values = squares if weighting == "squared" else np.sqrt(squares)
            own = slice(int(starts[reader]), int(starts[reader + 1]))
            reads[own] = np.maximum(reads[own], values.max(1))
            rows, columns = _strongest(values, strongest)
            edges.add(rows + starts[reader], columns + starts[writer], values[rows, columns])
    for pattern, head in plan.couplings:
        nodes = np.arange(plan.blocks[head].size)
        # no weight lies between a pattern and its head: the edge is as strong as the strongest that the pattern reads
        edges.add(nodes + starts[pattern], nodes + starts[head], reads[starts[pattern] : starts[pattern + 1]])
    if not edges.values or not any(values.any() for values in edges.values):
        raise BadInput("the unit graph has no edges: every weight between units is zero; train the network first")
    return edges.matrix(int(starts[-1]))


def _strongest(values: np.ndarray, strongest: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the entries to keep, in order."""
    count = values.size if strongest is None else max(1, round(strongest * max(values.shape)))
    if count >= values.size:
        rows, columns = np.nonzero(values)
        return rows, columns
    flat = values.reshape(-1)
    chosen = np.sort(np.argpartition(flat, flat.size - count)[flat.size - count :])
    rows, columns = np.unravel_index(chosen, values.shape)
    return np.asarray(rows), np.asarray(columns)


def _squares(
    plan: UnitPlan, reader: int, activity: Activity | None
) -> Iterator[tuple[int, Float[np.ndarray, "readers writers"]]]:
    """The squared norms between the units of a block and those of each block that it reads."""
    writers = sorted({term.block for reading in plan.readings[reader] for term in reading.flow.terms})
    for writer in writers:
        total = np.zeros((plan.blocks[reader].size, plan.blocks[writer].size))
        for reading in plan.readings[reader]:
            _add_squares(total, plan, reader, writer, reading, activity)
        if not np.isfinite(total).all():
            names = plan.blocks[writer].name, plan.blocks[reader].name
            raise BadInput(f"weights between {names[0]!r} and {names[1]!r} are NaN or Inf; take an earlier checkpoint")
        yield writer, total


def _add_squares(
    total: Float[np.ndarray, "readers writers"],
    plan: UnitPlan,
    reader: int,
    writer: int,
    reading: Reading,
    activity: Activity | None,
) -> None:
    """Add the squares of one reading, some units at a time."""
    terms = [term for term in reading.flow.terms if term.block == writer]
    if not terms:
        return
    block, source = plan.blocks[reader], plan.blocks[writer]
    entries = reading.flow.entries
    each = entries // block.size
    step = max(1, _CHUNK // max(1, each * max(entries, source.size * source.width)))
    for start in range(0, block.size, step):
        stop = min(block.size, start + step)
        rows = sum_of([rows_through(term.chain, start * each, stop * each, entries) for term in terms])
        if activity is not None:
            rows = rows * activity.written[writer][None, :]
            rows = rows * activity.followed(reading)[start * each : stop * each, None]
        grouped = rows.reshape(stop - start, each, source.size, source.width)
        total[start:stop] += grouped.square().sum((1, 3), dtype=torch.float64).numpy()


def sum_of(parts: Sequence[Float[torch.Tensor, "rows entries"]]) -> Float[torch.Tensor, "rows entries"]:
    """The sum of at least one matrix."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
