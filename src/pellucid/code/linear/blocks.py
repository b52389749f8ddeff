"""Is a matrix block-diagonal up to the order of its rows and columns? Unused inputs and constant outputs fall out.

Rows and columns are the two sides of a bipartite graph with an edge for each entry above the tolerance; its connected
components (`scipy.sparse.csgraph`, linear time) are the blocks. A row or column without an edge belongs to no block.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pellucid.code.expressions.bits import floats_bits, index_bits, require_finite


@dataclass(frozen=True, eq=False)
class Block:
    """One block: `weight` is the matrix at these rows and columns, both ascending."""

    rows: Int[np.ndarray, "block_out"]
    columns: Int[np.ndarray, "block_in"]
    weight: Float[np.ndarray, "block_out block_in"]


@dataclass(frozen=True, eq=False)
class BlockDiagonal:
    """A matrix as blocks, ordered by their first row. `zero_rows` are outputs that read no input, `zero_columns` inputs
    that reach no output. `residual` is the largest entry that was taken for zero.
    """

    shape: tuple[int, int]
    blocks: tuple[Block, ...]
    zero_rows: Int[np.ndarray, "zero_out"]
    zero_columns: Int[np.ndarray, "zero_in"]
    residual: float
    bits: int


def find_blocks(weight: Float[np.ndarray, "out in"], *, tolerance: float) -> BlockDiagonal | None:
    """The finest block-diagonal form of `weight`, entries up to `tolerance` taken for zero.

    None where there is one block only, without zero rows or columns, or where naming the block of each row and column
    costs more bits than the zeros save. Raises `BadInput` on NaN or infinity.
    """
    require_finite("block weight", weight)
    used = np.abs(weight) > tolerance
    rows, columns = np.nonzero(used)
    outputs, inputs = weight.shape
    edges = coo_array((np.ones(rows.size), (rows, columns + outputs)), shape=(outputs + inputs,) * 2)
    labels = connected_components(edges, directed=False)[1] if outputs + inputs else np.zeros(0, np.int64)
    members = [np.flatnonzero(labels == label) for label in dict.fromkeys(labels[rows].tolist())]
    blocks = tuple(_block(weight, ids[ids < outputs], ids[ids >= outputs] - outputs) for ids in members)
    bits = sum(floats_bits(block.weight) for block in blocks) + (outputs + inputs) * index_bits(len(blocks) + 1)
    if bits >= floats_bits(weight):
        return None
    return BlockDiagonal(
        shape=(outputs, inputs),
        blocks=blocks,
        zero_rows=np.flatnonzero(~used.any(axis=1)),
        zero_columns=np.flatnonzero(~used.any(axis=0)),
        residual=float(np.abs(np.where(used, 0, weight)).max()),
        bits=bits,
    )


def matrix_of(found: BlockDiagonal) -> Float[np.ndarray, "out in"]:
    """The matrix that the blocks stand for, zero elsewhere."""
    dtype = np.result_type(*(block.weight for block in found.blocks)) if found.blocks else np.float64
    matrix = np.zeros(found.shape, dtype)
    for block in found.blocks:
        matrix[np.ix_(block.rows, block.columns)] = block.weight
    return matrix


def _block(
    weight: Float[np.ndarray, "out in"], rows: Int[np.ndarray, "block_out"], columns: Int[np.ndarray, "block_in"]
) -> Block:
    return Block(rows, columns, weight[np.ix_(rows, columns)])
