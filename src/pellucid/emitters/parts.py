"""Which functions of a program become one `def`, in what order, and what each is called.

1. Variants (a function, its reading, the readings inside) are collected from the whole down: as chosen, as the network
computes them, then other readings. 2. Variants of equal digest share a `def` (`pellucid.ir.likeness`). 3. It is named
for what its functions have in common, "_weights" where it is the exact reading of a part that is shown as code.
"""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pellucid.ir.graph import Weight, calls_made, leaves
from pellucid.ir.likeness import Likeness, Variant, path_of_weights
from pellucid.ir.naming import all_nodes, distinct, identifier, relative
from pellucid.ir.notes import ReadingKind
from pellucid.ir.primitives import TORCH
from pellucid.ir.program import Program

OWN = frozenset(
    ("w", "weights", "Weights", "tensors", "run", "main", "part", "call", "np", "torch", "F", "Tensor", "Array", "Any",
     "Callable", "Sequence", "Path", "argparse", "functools", "sys", "annotations", "DIALECT", "ENTRY", "INPUTS",
     "OUTPUTS", "FUNCTIONS", "RUNS")
)  # fmt: skip
"""Names that program.py uses itself."""

_TAKEN = OWN | frozenset(TORCH) | frozenset(keyword.kwlist) | frozenset(keyword.softkwlist) | frozenset(dir(builtins))


@dataclass(frozen=True)
class Part:
    """One `def`: its name, the variants that it computes (the first is printed), and whether it is given weights."""

    name: str
    section: str
    variants: tuple[Variant, ...]
    takes_weights: bool


@dataclass(frozen=True)
class Plan:
    """All parts in the order of the file, and which of them computes a variant."""

    parts: tuple[Part, ...]
    by_digest: Mapping[str, Part]
    likeness: Likeness

    def part(self, variant: Variant) -> Part:
        """The part that computes `variant`."""
        return self.by_digest[self.likeness.digest(variant)]


CHOSEN, EXACT, OTHER = "chosen", "weights", "other"


def plan(likeness: Likeness) -> Plan:
    """The parts of a program."""
    groups: dict[str, list[Variant]] = {}
    sections: dict[str, str] = {}
    for section, variant in _variants(likeness):
        digest = likeness.digest(variant)
        sections.setdefault(digest, section)
        if variant not in groups.setdefault(digest, []):
            groups[digest].append(variant)
    needs: dict[Variant, bool] = {}
    parts: dict[str, Part] = {}
    order = sorted(groups, key=lambda digest: (CHOSEN, EXACT, OTHER).index(sections[digest]))
    for digest in order:
        variants = groups[digest]
        raised = any(likeness.program[v.function].chosen != "weights" for v in variants) or _inside(parts, variants)
        suffix = "" if sections[digest] == CHOSEN else f"_{variants[0].kind}" if raised else ""
        name = distinct(_name(likeness.program, variants) + suffix, [part.name for part in parts.values()])
        parts[digest] = Part(name, sections[digest], tuple(variants), _takes_weights(likeness, variants[0], needs))
    return Plan(tuple(parts.values()), parts, likeness)


def _inside(parts: Mapping[str, Part], variants: Iterable[Variant]) -> bool:
    """Whether an earlier part computes one of the same functions."""
    functions = {variant.function for variant in variants}
    return any(functions & {variant.function for variant in part.variants} for part in parts.values())


def _variants(likeness: Likeness) -> Iterator[tuple[str, Variant]]:
    program = likeness.program
    for variant in _below(likeness, likeness.chosen(program.entry, None)):
        yield CHOSEN, variant
    for variant in _below(likeness, likeness.chosen(program.entry, "weights")):
        yield EXACT, variant
    for name, function in program.functions.items():
        for variant in _below(likeness, Variant(name, "weights", "weights")):
            yield EXACT, variant
        for reading in function.readings[1:]:
            for variant in _below(likeness, Variant(name, reading.kind, None)):
                yield OTHER, variant
    for kind in kinds_of(program):
        for variant in _below(likeness, likeness.chosen(program.entry, kind)):
            yield OTHER, variant


def kinds_of(program: Program) -> list[ReadingKind]:
    """The kinds of reading that a program has, `weights` first."""
    kinds: tuple[ReadingKind, ...] = ("weights", "code", "words")
    held = {reading.kind for function in program.functions.values() for reading in function.readings}
    return [kind for kind in kinds if kind in held]


def _below(likeness: Likeness, variant: Variant) -> Iterator[Variant]:
    """A variant and all that it calls, callers first, each once."""
    seen: set[Variant] = set()
    waiting = [variant]
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        yield one
        waiting += [likeness.chosen(name, one.inner) for name in reversed(calls_made(likeness.body(one)))]


def _name(program: Program, variants: Iterable[Variant]) -> str:
    """The last part of the functions' names where it is the same, else what kind of part they are."""
    functions = [program[variant.function] for variant in variants]
    lasts = {identifier(re.sub(r"_\d+$", "", function.name.split("@")[0].rpartition(".")[2])) for function in functions}
    kinds = [identifier(function.kind) for function in functions]
    for name in (lasts.pop() if len(lasts) == 1 else "", kinds[0]):
        if name and name not in _TAKEN:
            return str(name)
    return f"{kinds[0] or 'function'}_part"


def _takes_weights(likeness: Likeness, variant: Variant, known: dict[Variant, bool]) -> bool:
    """Whether a variant reads weights below its function's scope, itself or through what it calls."""
    if variant not in known:
        function, body = likeness.program[variant.function], likeness.body(variant)
        reads = {leaf.name for node in all_nodes(body) for leaf in leaves(node) if isinstance(leaf, Weight)}
        known[variant] = any(relative(name, function.scope) for name in reads) or any(
            _takes_weights(likeness, likeness.chosen(name, variant.inner), known)
            and path_of_weights(function, likeness.program[name])[0]
            for name in calls_made(body)
        )
    return known[variant]
