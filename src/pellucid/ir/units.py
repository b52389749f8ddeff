"""Sites and units: which numbers inside a program can bear a name.

A `Site` is a value inside a function whose last axis holds units; a `Unit` is one place on it. Values inside a body
have the tracer's names (`mul_19`): a site keeps that name to find the value by, and a word for the reader ("hidden").
Sites are told apart by what the program does with the value, not by names: the neurons of an MLP are what its last
matrix reads, the heads of an attention what its output matrix reads, cut into as many parts as were merged.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from pellucid.errors import BadInput
from pellucid.ir.graph import Arg, Node, Ref, ValueType
from pellucid.ir.program import Function, Program

PROJECTIONS = ("linear", "affine")
"""Operations that apply a matrix to the last axis of their first argument."""

DICTIONARY = "dictionary"
"""The kind of functions whose output holds latents."""

_UNIT = re.compile(r"(?P<function>.+):(?P<value>[^:\[\]]+)\[(?P<index>\d+)\]")


@dataclass(frozen=True, order=True)
class Site:
    """A value inside a function whose last axis holds units.

    Attributes:
        function: name of the function, `value` of the value in its exact body (or of its signature).
        size: how many neighbouring elements of the axis make one unit: 1, or the width of a head. The activation of a
            unit of several elements is their Euclidean norm.
        units: how many units the axis holds.
        shown: what readers call the value.
    """

    function: str
    value: str
    size: int = 1
    units: int = field(default=0, compare=False)
    shown: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.function}:{self.shown or self.value}"

    def __getitem__(self, index: int) -> Unit:
        """One unit. Raises BadInput when the site has no such index."""
        if not 0 <= index < self.units:
            raise BadInput(f"unit {self}[{index}]: the site has {self.units} units; use 0 to {self.units - 1}")
        return Unit(self, index)


@dataclass(frozen=True, order=True)
class Unit:
    """One place on the last axis of a site."""

    site: Site
    index: int

    def __str__(self) -> str:
        return f"{self.site}[{self.index}]"


def sites(program: Program, kind: str, pattern: str = "*") -> tuple[Site, ...]:
    """The sites of a kind, in the order in which the program holds its functions.

    Args:
        kind: "mlp" (hidden neurons), "heads", "latents" (of dictionaries), "inputs" or "outputs" (of any function).
        pattern: shell wildcards over the name of the function or of the site ("*.3.mlp", "*:hidden").

    Raises:
        BadInput: there is no such kind, or nothing matches.
    """
    if kind not in KINDS:
        raise BadInput(f"units of kind {kind!r} are not known; use one of {', '.join(KINDS)}")
    every = [site for function in program.functions.values() for site in KINDS[kind](program, function)]
    if not every:
        raise BadInput(f"no units match: the program has no {kind}; it has functions of kind {_kinds(program)}")
    found = tuple(s for s in every if fnmatchcase(s.function, pattern) or fnmatchcase(str(s), pattern))
    if not found:
        example = ", ".join(str(site) for site in every[:3])
        raise BadInput(f"no units match {pattern!r}; there are, for example, {example}")
    return found


def parse_unit(program: Program, text: str) -> Unit:
    """The unit that `str(unit)` names; the tracer's own name of a value is understood, too.

    Raises:
        BadInput: it is not of the form function:value[index], or the program has no such function, value or index.
    """
    parts = _UNIT.fullmatch(text.strip())
    if parts is None:
        raise BadInput(
            f"unit {text!r} is not of the form function:value[index]; write, for example, {_example(program)}"
        )
    return parse_site(program, f"{parts['function']}:{parts['value']}")[int(parts["index"])]


def parse_site(program: Program, text: str) -> Site:
    """The site that `str(site)` names; the tracer's own name of a value is understood, too.

    Raises:
        BadInput: it is not of the form function:value, or the program has no such function or value.
    """
    name, _, wanted = text.strip().rpartition(":")
    if not name:
        raise BadInput(f"site {text!r} is not of the form function:value; write, for example, {_example(program)}")
    function = program[name]
    known = [site for of in KINDS.values() for site in of(program, function)]
    for site in known:
        if wanted == site.shown:
            return site
    if wanted in _values(function):
        unnamed = _site(program, function, wanted, "")
        if unnamed is not None:
            return unnamed
    shown = ", ".join(dict.fromkeys(site.shown for site in known))
    raise BadInput(f"site {text!r}: {name} has no value {wanted!r} with units; it has {shown or 'none'}")


# ---- the kinds


def _neurons(program: Program, function: Function) -> Iterator[Site]:
    if function.kind != "mlp":
        return
    read = _read_last(function)
    site = _site(program, function, read, "hidden") if read is not None else None
    if site is not None:
        yield site


def _heads(program: Program, function: Function) -> Iterator[Site]:
    if function.kind != "attention":
        return
    made = {name: node for node in function.reading("weights").body.nodes for name in node.outputs}
    read = _read_last(function)
    merge = made.get(read) if read is not None else None
    if read is None or merge is None or merge.op != "merge_heads" or not isinstance(merge.args[0], Ref):
        return
    axes = program.values.get(merge.args[0].name, ValueType("")).axes
    size = axes[-1] if len(axes) == 4 else None
    site = _site(program, function, read, "heads", size) if isinstance(size, int) else None
    if site is not None:
        yield site


def _latents(program: Program, function: Function) -> Iterator[Site]:
    if function.kind == DICTIONARY:
        site = _site(program, function, function.outputs[0], "latents")
        if site is not None:
            yield site


def _inputs(program: Program, function: Function) -> Iterator[Site]:
    return _signature(program, function, function.inputs, "input")


def _outputs(program: Program, function: Function) -> Iterator[Site]:
    return _signature(program, function, function.outputs, "output")


KINDS: Mapping[str, Callable[[Program, Function], Iterator[Site]]] = {
    "mlp": _neurons, "heads": _heads, "latents": _latents, "inputs": _inputs, "outputs": _outputs,
}  # fmt: skip
"""What `sites` can be asked for, and how the sites of one function are found."""


def _signature(program: Program, function: Function, names: tuple[str, ...], word: str) -> Iterator[Site]:
    found = [name for name in names if _site(program, function, name, "") is not None]
    for place, name in enumerate(found):
        site = _site(program, function, name, word if len(found) == 1 else f"{word}_{place}")
        assert site is not None
        yield site


def _read_last(function: Function) -> str | None:
    """The value that the last matrix of a function's exact body reads."""
    for node in reversed(function.reading("weights").body.nodes):
        if node.op in PROJECTIONS:
            return _name(node.args[0])
    return None


def _name(arg: Arg) -> str | None:
    return arg.name if isinstance(arg, Ref) else None


def _site(program: Program, function: Function, value: str, shown: str, size: int = 1) -> Site | None:
    """The site of a value, None unless it holds real numbers of every sample along a last axis of known size."""
    kind = program.values.get(value, ValueType(""))
    if not kind.dtype.startswith(("float", "bfloat")) or len(kind.axes) < 2 or kind.axes[0] == 1:
        return None
    width = kind.axes[-1]
    return Site(function.name, value, size, width // size, shown) if isinstance(width, int) else None


def _values(function: Function) -> tuple[str, ...]:
    nodes: tuple[Node, ...] = function.reading("weights").body.nodes
    return (*function.inputs, *itertools.chain.from_iterable(node.outputs for node in nodes))


def _kinds(program: Program) -> str:
    return ", ".join(dict.fromkeys(function.kind for function in program.functions.values()))


def _example(program: Program) -> str:
    every = (site for of in KINDS.values() for function in program.functions.values() for site in of(program, function))
    return str(Unit(next(every, Site("model.layers.3.mlp", "hidden")), 17))
