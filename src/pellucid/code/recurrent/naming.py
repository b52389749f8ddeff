"""Names for state variables, from what their update says that they hold.

A variable that adds the input is a total, one that keeps the larger is the highest so far, one that flips is a parity,
and so on; each rule looks at the start value, too. What no rule knows keeps its number, and so do variables of which
several would get the same name: a name that fits several says nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction

from pellucid.code.expressions.expression import COMPARISONS, Call, Expr, Linear, Name, Number, names_in, replace
from pellucid.code.recurrent.steps import Assign, StepProgram

_PLAIN = re.compile(r"s\d*")
_CLEARER = {"total": "running_total", "ones": "ones_so_far"}
"""Names that are those of operations, too, so that a printer would not keep them."""


def with_names(program: StepProgram) -> StepProgram:
    """The same program with state variables `s`, `s1`, … called by what they hold, where that is plain."""
    updates, starts = _updates(program), dict(program.state)
    plain = [name for name in starts if _PLAIN.fullmatch(name) and name in updates]
    found = {name: _held(name, updates[name], starts[name], program.inputs) for name in plain}
    totals = {name for name, held in found.items() if held in ("running_total", "balance")}
    for name in plain:
        if not found[name] and not starts[name] and _adds_one_of(name, updates[name], totals):
            found[name] = "sum_of_totals"
    found |= {name: clearer for name, clearer in _CLEARER.items() if name in starts}
    times = Counter(found.values())
    used = {target for step in program.body for target in step.targets} | set(program.inputs) | set(starts)
    chosen = {name: held for name, held in found.items() if held and times[held] == 1 and held not in used}
    return _renamed(program, chosen)


def _updates(program: StepProgram) -> dict[str, Expr]:
    """The new value of each state variable that is set once, with what was computed for the step put in."""
    state = {name for name, _ in program.state}
    known: dict[Expr, Expr] = {}
    found: dict[str, Expr] = {}
    times = Counter(target for step in program.body for target in step.targets)
    for step in program.body:
        values = [replace(value, known) for value in step.values]
        for target, value in zip(step.targets, values, strict=True):
            if target in state:
                found[target] = value
            else:
                known[Name(target)] = value
    return {name: value for name, value in found.items() if times[name] == 1}


def _held(name: str, update: Expr, start: Fraction, inputs: tuple[str, ...]) -> str:
    """What a variable holds, or nothing."""
    own = Name(name)
    if isinstance(update, Linear):
        return _summed(own, update, inputs) if not start else ""
    if not isinstance(update, Call) or name not in names_in(update):
        return ""
    others = [arg for arg in update.args if arg != own]
    read = set().union(*map(names_in, others)) if others else set()
    if update.op in ("max", "min") and own in update.args and read <= set(inputs):
        return "highest" if update.op == "max" else "lowest"
    if update.op == "xor" and own in update.args and read <= set(inputs):
        return "parity" if not start else ""
    if update.op == "mod" and isinstance(update.args[1], Number) and names_in(update) <= {name, *inputs}:
        return "residue"
    several = len(names_in(update) & set(inputs)) > 1
    return "carry" if update.op in ("ge", "floordiv") and several and not start else ""


def _summed(own: Name, update: Linear, inputs: tuple[str, ...]) -> str:
    factors = {term: factor for factor, term in update.terms}
    mine = factors.pop(own, Fraction(0))
    if mine == -1 and not factors and update.constant == 1:
        return "odd"
    if mine != 1 or any(own.name in names_in(term) for term in factors):
        return ""
    if not factors:
        return "position" if update.constant == 1 else ""
    terms = set(factors)
    if terms <= {Name(name) for name in inputs}:
        same = not update.constant and set(factors.values()) == {Fraction(1)}
        return "running_total" if same else "balance"
    truths = all(isinstance(term, Call) and term.op in COMPARISONS for term in terms)
    return "counted" if truths and set(factors.values()) == {Fraction(1)} and not update.constant else ""


def _adds_one_of(name: str, update: Expr, totals: set[str]) -> bool:
    """Whether a variable adds one of the totals at each step."""
    if not isinstance(update, Linear) or update.constant:
        return False
    return dict((term, factor) for factor, term in update.terms) in [{Name(name): 1, Name(t): 1} for t in totals]


def _renamed(program: StepProgram, chosen: dict[str, str]) -> StepProgram:
    mapping: dict[Expr, Expr] = {Name(old): Name(new) for old, new in chosen.items()}
    body = tuple(
        Assign(tuple(chosen.get(t, t) for t in step.targets), tuple(replace(v, mapping) for v in step.values))
        for step in program.body
    )
    state = tuple((chosen.get(name, name), start) for name, start in program.state)
    return StepProgram(program.inputs, program.outputs, state, body)
