"""The primitives in numpy, twins of those in torch (`torch_ops` and others): programs of them need no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pellucid.ir import numpy_arrays, numpy_axes, numpy_layers, numpy_selection, numpy_words
from pellucid.ir.primitives import OPERATORS, PREFIXES, functions_of

NUMPY: Mapping[str, Callable[..., Any]] = {
    **{name: meaning for name, (_, _, meaning) in {**OPERATORS, **PREFIXES}.items()},
    **functions_of(numpy_arrays),
    **functions_of(numpy_axes),
    **functions_of(numpy_layers),
    **functions_of(numpy_selection),
    **functions_of(numpy_words),
}
"""How each primitive runs in numpy."""
