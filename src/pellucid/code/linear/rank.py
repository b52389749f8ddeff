"""Is a matrix the product of two narrow ones? Singular value decomposition, cut at the smallest rank within the budget.

By Eckart and Young no entry of the rest after rank r exceeds the singular value r + 1, so the rank of singular values
above the budget is always enough; bisection below it finds a rank that the budget holds for and that one less breaks.
By the same theorem no product of some rank leaves less than the squares of the other singular values; where that is
more than the budget in every entry, at any rank that saves bits, the eigenvalues of the Gram matrix reject it at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pellucid.code.expressions.bits import FLOAT_BITS, floats_bits, natural_bits, require_finite


@dataclass(frozen=True, eq=False)
class LowRank:
    """`left @ right` in place of a matrix; `residual` is the largest deviation of an entry."""

    left: Float[np.ndarray, "out rank"]
    right: Float[np.ndarray, "rank in"]
    residual: float
    bits: int


def find_low_rank(weight: Float[np.ndarray, "out in"], *, budget: float) -> LowRank | None:
    """The factors of smallest rank whose product is `weight` up to `budget` per entry, or None where they save nothing.

    A budget below the rounding of the matrix itself (its largest singular value times eps times its longer side, the
    usual numerical rank) is raised to that. Factors have the dtype of the matrix and share its singular values evenly.
    Raises `BadInput` on NaN or infinity.
    """
    require_finite("low-rank weight", weight)
    most = (floats_bits(weight) - 1) // (FLOAT_BITS * max(sum(weight.shape), 1))
    if min(weight.shape) == 0 or most == 0:
        return None
    wide = weight.astype(np.float64)
    squares = np.linalg.eigvalsh(wide @ wide.T if len(wide) <= wide.shape[1] else wide.T @ wide)
    allowed = max(budget, float(np.finfo(weight.dtype).eps * max(weight.shape) * np.sqrt(max(squares[-1], 0.0))))
    if squares[: max(len(squares) - most, 0)].sum() > wide.size * allowed**2 + 1e-9 * squares[-1]:
        return None
    left, values, right = np.linalg.svd(wide, full_matrices=False)
    root = np.sqrt(values)
    left, right = (left * root).astype(weight.dtype), (root[:, None] * right).astype(weight.dtype)

    def residual(rank: int) -> float:
        return float(np.abs(weight - left[:, :rank] @ right[:rank]).max())

    low, high = -1, int(np.count_nonzero(values > allowed))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if residual(middle) <= allowed else (middle, high)
    bits = floats_bits(left[:, :high]) + floats_bits(right[:high]) + natural_bits(high)
    if high == 0 or high > most or bits >= floats_bits(weight):
        return None
    return LowRank(left[:, :high], right[:high], residual(high), bits)
