"""Constants and affine formulas as methods of the search: fitted to what goes in and out, checked on other inputs.

An exact formula (to rounding) is sought first; for the network as a whole also one that stays within one percent of
its largest output, which then is its budget, and is said. Such a formula has to be of simple numbers: with arbitrary
ones a percent is soon reached, by a network that nobody trained, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch
from jaxtyping import Float

from pellucid.code.expressions.affine import AffineFormula, Number, find_affine, find_constant
from pellucid.code.expressions.expression import Name, linear
from pellucid.code.propose import Candidate, Method, Part
from pellucid.code.recurrent.writing import Writer
from pellucid.code.samples import Samples, begin, constant_block, finish, samples_of
from pellucid.errors import BadInput
from pellucid.ir.bits import code_bits
from pellucid.ir.graph import Block, Ref
from pellucid.ir.program import Reading

MOST_INPUTS = 16
"""Formulas are sought for functions of up to so many numbers."""

MOST_OUTPUTS = 16
"""A function's outputs are read up to so many at each place."""

EXACT, NEAR = 1e-4, 1e-2
"""Budgets of readings; formulas are fitted to a fifth of them."""

_TIGHT = 0.2
_DECIMAL = (2, 4, 5, 10)


def propose_constant(part: Part, seconds: float) -> Candidate | str:
    """The numbers that the function gives whatever comes in."""
    outputs = _numbers_out(part)
    if (
        outputs is None
        or not np.isfinite(outputs).all()
        or np.ptp(outputs, axis=0).max() > _TIGHT * EXACT * np.abs(outputs).max()
    ):
        return ""
    budget = _TIGHT * EXACT * float(np.abs(outputs).max())
    found = [find_constant(column, budget=budget) for column in outputs.T]
    values = [_plain(formula.constant) for formula in found if formula is not None]
    if len(values) < len(found):
        return "too few samples to call it a constant"
    body = constant_block(part, values[:1] if len(set(values)) == 1 else values)
    if body is None:
        return "a constant, but its sizes cannot be read from the inputs"
    return Candidate(Reading("code", body, "constant", code_bits(body), "a constant", budget=EXACT))


def _numbers_out(part: Part) -> Float[np.ndarray, "rows last"] | None:
    """The rows of a function's only output, if they are short."""
    if len(part.function.outputs) != 1 or not part.outputs:
        return None
    kind = part.program.values.get(part.function.outputs[0])
    values = [value for (value,) in part.outputs]
    if kind is None or not kind.axes or "float" not in kind.dtype:
        return None
    last = kind.axes[-1] if isinstance(kind.axes[-1], int) else 1
    if last > MOST_OUTPUTS or not all(isinstance(value, torch.Tensor) and value.numel() for value in values):
        return None
    rows: Float[np.ndarray, "rows last"] = torch.cat([v.detach().double().reshape(-1, last) for v in values]).numpy()
    return rows


def propose_affine(part: Part, seconds: float) -> Candidate | str:
    """Each output as a constant and a few inputs times simple numbers."""
    tried = False
    for budget in (EXACT, NEAR) if part.whole else (EXACT,):
        for samples in samples_of(part, MOST_INPUTS, MOST_OUTPUTS):
            tried = True
            try:
                found = _formulas(samples, budget)
            except BadInput as error:
                return str(error)
            if budget == NEAR and not all(map(_simple, found)):
                continue
            if any(formula.terms for formula in found):
                return _affine_reading(part, samples, found, budget)
    return "no affine formula of few terms" if tried else ""


def _formulas(samples: Samples, budget: float) -> list[AffineFormula]:
    """A formula for every output, none where one has none."""
    allowed = _TIGHT * budget * float(np.abs(samples.outputs).max(initial=0.0))
    found: list[AffineFormula] = []
    for column in samples.outputs.T:
        formula = find_affine(samples.inputs, column, budget=allowed)
        if formula is None:
            return []
        found.append(formula)
    return found


def _affine_reading(part: Part, samples: Samples, found: Sequence[AffineFormula], budget: float) -> Candidate:
    used = sorted({term.input for formula in found for term in formula.terms})
    writer = begin(part, samples, used or [0], samples.dtypes[-1])
    outputs = [_write(writer, samples, formula, f"{part.function.outputs[0]}_{i}") for i, formula in enumerate(found)]
    body: Block = finish(part, samples, writer, outputs)
    off = max(formula.deviation for formula in found) / max(float(np.abs(samples.outputs).max()), 1e-30)
    summary = f"{len(found)} affine formula{'s' * (len(found) != 1)}"
    if budget > EXACT:
        summary += f", off by at most {off:.2g} of the largest output on the inputs seen"
    return Candidate(Reading("code", body, "affine", code_bits(body), summary, budget=budget))


def _simple(formula: AffineFormula) -> bool:
    return all(isinstance(number, Fraction) for number in (formula.constant, *(t.coefficient for t in formula.terms)))


def _write(writer: Writer, samples: Samples, formula: AffineFormula, name: str) -> Ref:
    """The formula, in whole numbers over a common denominator where its fractions are no short decimals."""
    numbers = [formula.constant, *(term.coefficient for term in formula.terms)]
    fractions = [number for number in numbers if isinstance(number, Fraction)]
    below = int(np.lcm.reduce([f.denominator for f in fractions])) if len(fractions) == len(numbers) else 1
    below = 1 if below in _DECIMAL else below
    exact = [number * below if isinstance(number, Fraction) else Fraction(number) for number in numbers]
    terms = [(exact[i], Name(samples.labels[term.input])) for i, term in enumerate(formula.terms, start=1)]
    value = writer.array(linear(terms, exact[0]), name if below == 1 else "")
    return writer.node("div", value, below, name=name) if below != 1 else value


def _plain(number: Number) -> int | float:
    return int(number) if isinstance(number, Fraction) and number.denominator == 1 else float(number)


CONSTANT = Method("constant", propose_constant)
AFFINE = Method("affine", propose_affine)
