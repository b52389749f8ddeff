"""All ways to find code, cheapest first."""

from __future__ import annotations

from pellucid.code.black_box import AFFINE, CONSTANT
from pellucid.code.finite import FINITE
from pellucid.code.linear.layers import LOW_RANK, MATRICES, SCALES, UNITS
from pellucid.code.periodic.fourier import WAVES
from pellucid.code.propose import Method
from pellucid.code.recurrent.sequences import STATE
from pellucid.code.together import Together
from pellucid.code.tokens.attention import ATTENTION
from pellucid.code.tokens.token_rules import TOKEN_RULES

METHODS: tuple[Method, ...] = (
    CONSTANT,
    AFFINE,
    FINITE,
    TOKEN_RULES,
    ATTENTION,
    STATE,
    MATRICES,
    LOW_RANK,
    SCALES,
    UNITS,
)

TOGETHER: tuple[Together, ...] = (WAVES,)
"""Ways to read several parts of a network at once, tried after the others."""
