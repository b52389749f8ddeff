"""The pair of arrays that readings of whole layers take and give back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pellucid.code.expressions.bits import floats_bits


@dataclass(frozen=True, eq=False)
class Layer:
    """weight @ x + bias."""

    weight: Float[np.ndarray, "out in"]
    bias: Float[np.ndarray, "out"]

    @property
    def bits(self) -> int:
        """Description length as plain floats."""
        return floats_bits(self.weight) + floats_bits(self.bias)
