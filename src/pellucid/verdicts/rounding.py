"""How much of a difference is rounding: the network's own error in single precision, measured against double.

Two programs that compute the same in another order differ by rounding, and a network may enlarge that (weights of a
thousand, a softmax over logits of a thousand). Where exact readings agree in double precision but differ in single,
what the network itself loses by computing in single precision says whether the difference is a fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from pellucid.errors import CannotRun
from pellucid.ir.interpret import Values, run_functions
from pellucid.ir.program import Program
from pellucid.verdicts.measure import Claim, gap
from pellucid.verdicts.reference import double_precision, widened

ALLOWED = 3.0
"""Two orders of the same sum may each be off by the network's own error, in opposite directions, and a little more."""


def own_rounding(reference: Program, name: str, runs: Iterable[Sequence[Any]]) -> float:
    """The largest relative error of a function's outputs, computed in single precision on what it gets in the network.

    Returns 0 where the function does not run in double precision.
    """
    wide, worst = widened(reference), 0.0

    def watch(called: str, inputs: Values, outputs: Values) -> None:
        nonlocal worst
        if called == name:
            with double_precision():
                exact = run_functions(wide, [_wide(value) for value in inputs], "weights", start=name)
            worst = max(worst, gap([_wide(value) for value in outputs], exact).relative)

    try:
        for values in runs:
            run_functions(reference, values, "weights", watch=watch)
    except CannotRun:
        return 0.0
    return worst if worst < 1.0 else 0.0


def allowing(claim: Claim, own: float) -> Claim:
    """The claim, no stricter than the network's own rounding."""
    return Claim(claim.measure, max(claim.budget, ALLOWED * own))


def _wide(value: Any) -> Any:
    return value.double() if isinstance(value, torch.Tensor) and value.dtype == torch.float32 else value
