"""All ways to find code, cheapest first."""

from __future__ import annotations

from pellucid.code.black_box import AFFINE, CONSTANT
from pellucid.code.finite import FINITE
from pellucid.code.layers import MATRICES, SCALES, UNITS
from pellucid.code.propose import Method

METHODS: tuple[Method, ...] = (
    CONSTANT,
    AFFINE,
    FINITE,
    MATRICES,
    SCALES,
    UNITS,
)
