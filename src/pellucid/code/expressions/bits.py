"""Description lengths in bits, shared by the code readings, so that "shorter" means the same everywhere.

A float costs 32 bits; a natural number its Elias gamma code (Elias 1975, "Universal codeword sets and
representations of the integers"); a signed integer is first folded to 0, -1, 1, -2, 2 ... ; an index one of `count`
costs ceil(log2(count)).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, Int

from pellucid.errors import BadInput

FLOAT_BITS = 32


def natural_bits(number: int) -> int:
    """Bits of the Elias gamma code of a natural number; zero is coded as one, n as n + 1."""
    return 2 * (number + 1).bit_length() - 1


def naturals_bits(numbers: Iterable[int]) -> int:
    """Bits of several natural numbers, one after the other."""
    return sum(natural_bits(number) for number in numbers)


def integers_bits(numbers: Int[np.ndarray, "..."]) -> int:
    """Bits of an array of signed integers, each folded to a natural number and gamma coded."""
    folded = 2 * np.abs(numbers.astype(np.float64)) - (numbers < 0) + 1
    return int((2 * np.floor(np.log2(folded)) + 1).sum())


def index_bits(count: int) -> int:
    """Bits that single out one of `count` things."""
    return max(count - 1, 0).bit_length()


def floats_bits(numbers: np.ndarray) -> int:
    """Bits of an array written out as 32-bit floats."""
    return FLOAT_BITS * int(numbers.size)


def matrix_bits(matrix: Float[np.ndarray, "out in"], budget: float = 0.0) -> int:
    """Bits of a matrix as plain weights: dense, or as a list of its entries above `budget`, whichever is shorter."""
    entries = int(np.count_nonzero(np.abs(matrix) > budget))
    return min(floats_bits(matrix), entries * (FLOAT_BITS + index_bits(int(matrix.size))))


def require_finite(name: str, values: np.ndarray) -> None:
    """Raise `BadInput` when an array holds NaN or infinity: no reading can be checked against such numbers."""
    if not np.isfinite(values).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise BadInput(f"{name}: NaN or infinite at {list(where)}; leave this part as weights or repair the model")
