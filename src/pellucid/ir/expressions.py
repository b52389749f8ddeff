"""Nodes as Python expressions, with the fewest brackets, and long lines broken as a person would."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch

from pellucid.errors import InvalidProgram
from pellucid.ir.graph import Node
from pellucid.ir.primitives import OPERATORS, PREFIXES, TORCH, opaque

ATOM = 10
"""Precedence of names, calls and subscripts."""

WIDTH = 100
"""Characters after which a line is broken."""

_ENDS = frozenset({str(2**62), str(2**63 - 1)})
"""What torch.export writes for a range without end."""


@dataclass(frozen=True)
class Expr:
    """A piece of Python.

    Attributes:
        text: the code.
        level: precedence of its outermost operator (see `primitives.OPERATORS`), ATOM if it has none.
        reads: local names it mentions.
        depth: how many calls are nested in it.
        nodes: ids of the nodes it computes.
        plain: whether it is a literal.
        base, subscripts: what is subscripted and by what, axis by axis, if it is a subscript of known axes.
    """

    text: str
    level: int = ATOM
    reads: frozenset[str] = frozenset()
    depth: int = 0
    nodes: tuple[str, ...] = ()
    plain: bool = False
    base: str = ""
    subscripts: tuple[str, ...] = ()


def name(text: str) -> Expr:
    """A local name."""
    return Expr(text, reads=frozenset({text}))


def joined(text: str, level: int, parts: Sequence[Expr], node: Node | None = None, call: int = 0) -> Expr:
    """An expression of `text` made from `parts`."""
    return Expr(
        text,
        level,
        frozenset().union(*(part.reads for part in parts)),
        max((part.depth for part in parts), default=0) + call,
        tuple(dict.fromkeys(i for part in parts for i in part.nodes)) + ((node.id,) if node is not None else ()),
    )


def literal(value: object) -> Expr:
    """A plain number, string, truth value or None."""
    if isinstance(value, float) and not math.isfinite(value):
        return Expr(f'float("{value}")', plain=True)
    if isinstance(value, str) and repr(value) == f"'{value}'" and '"' not in value:
        return Expr(f'"{value}"', plain=True)
    negative = isinstance(value, int | float) and value < 0
    return Expr(repr(value), PREFIXES["neg"][1] if negative else ATOM, plain=True)


def listed(items: Sequence[Expr]) -> Expr:
    """A tuple."""
    text = f"({', '.join(item.text for item in items)}{',' * (len(items) == 1)})"
    return replace(joined(text, ATOM, items), plain=all(item.plain for item in items))


def bracketed(part: Expr, lowest: int) -> str:
    """The text of `part`, in brackets if it binds less tightly than `lowest`."""
    return part.text if part.level >= lowest else f"({part.text})"


def operation(node: Node, args: Sequence[Expr | None], options: Mapping[str, Expr], rank: int | None = None) -> Expr:
    """A primitive applied to its arguments: an operator, a subscript or a call; an argument None is Python's None.

    `rank` is the number of axes of the first argument, if it is known.
    """
    parts = [arg if arg is not None else Expr("None") for arg in args]
    if node.op in OPERATORS:
        return _binary(node, parts)
    if node.op in PREFIXES:
        symbol, level, _ = PREFIXES[node.op]
        return joined(symbol + bracketed(parts[0], level), level, parts, node)
    if node.op == "matmul" and not options:
        return _infix("@", OPERATORS["mul"][1], parts, node)
    if not options and (found := _subscript(node, parts, rank)) is not None:
        whole = joined(found.text, ATOM, parts, node)
        return replace(whole, base=found.base, subscripts=found.subscripts)
    if node.op in TORCH:
        return call(node.op, _without_defaults(node, parts, options), [*parts, *options.values()], node)
    return _opaque(node, parts, options)


def _opaque(node: Node, parts: Sequence[Expr], options: Mapping[str, Expr]) -> Expr:
    """An operation that only torch has, called by its full name."""
    opaque(node.op)
    texts = [part.text for part in parts]
    for key, part in options.items():
        value = node.option(key)
        if not key.isidentifier():
            raise InvalidProgram(
                f"operation {node.op!r} has an option {key!r}, which is no name; the program is damaged"
            )
        if key == "dtype" and isinstance(getattr(torch, str(value), None), torch.dtype):
            texts.append(f"dtype=torch.{value}")
        else:
            texts.append(f"{key}={part.text}")
    return call(f"torch.ops.{node.op}", texts, [*parts, *options.values()], node)


def call(function: str, args: Sequence[str], parts: Sequence[Expr], node: Node) -> Expr:
    """A function applied to arguments; `parts` are those they were made from."""
    return joined(f"{function}({', '.join(args)})", ATOM, parts, node, call=1)


def _binary(node: Node, parts: Sequence[Expr]) -> Expr:
    symbol, level, _ = OPERATORS[node.op]
    if node.op == "pow":
        left, right = bracketed(parts[0], level + 1), bracketed(parts[1], level - 1)
        return joined(f"{left}**{right}" if _short(left, right) else f"{left} ** {right}", level, parts, node)
    return _infix(symbol, level, parts, node)


def _short(*texts: str) -> bool:
    return all(text.isidentifier() or text.isdigit() for text in texts)


def _infix(symbol: str, level: int, parts: Sequence[Expr], node: Node) -> Expr:
    left = bracketed(parts[0], level if level else level + 1)
    return joined(f"{left} {symbol} {bracketed(parts[1], level + 1)}", level, parts, node)


def _subscript(node: Node, parts: Sequence[Expr], rank: int | None) -> Expr | None:
    """The node as a subscript, if it can be one."""
    whole = bracketed(parts[0], ATOM)
    if node.op == "size":
        return Expr(f"{whole}.shape[{parts[1].text}]")
    if node.op == "index":
        return Expr(f"{whole}[{', '.join(':' if item == 'None' else item for item in _items(parts[1].text[1:-1]))}]")
    if node.op == "stack" and isinstance(node.args[0], tuple) and len(node.args[0]) == 1 and node.args[1] == -1:
        only = parts[0].text[1:-2]
        return Expr(f"({only})[..., None]" if " " in only else f"{only}[..., None]")
    if node.op not in ("select", "slice_axis") or type(node.args[1]) is not int:
        return None
    axis = node.args[1] if rank is None or node.args[1] >= 0 else node.args[1] + rank
    if not -3 <= axis <= 4:
        return None
    return _along(parts[0], axis, parts[2].text if node.op == "select" else _range(parts[2:]))


def _range(bounds: Sequence[Expr]) -> str:
    texts = ["" if b.text == "None" or b.text in _ENDS else b.text for b in bounds]
    start, stop, step = (*texts, *("", "", "1")[len(texts) :])
    return f"{start}:{stop}{'' if step == '1' else f':{step}'}"


def _along(whole: Expr, axis: int, item: str) -> Expr:
    """`whole` with a subscript of one axis, all others whole; joins a subscript that `whole` already has."""
    if axis < 0:
        return Expr(f"{bracketed(whole, ATOM)}[..., {item}{', :' * (-axis - 1)}]")
    kept = [place for place, text in enumerate(whole.subscripts) if ":" in text]
    place = kept[axis] if axis < len(kept) else len(whole.subscripts) + axis - len(kept)
    before = list(whole.subscripts) + [":"] * (place + 1 - len(whole.subscripts))
    if not whole.base or before[place] != ":":
        before, place, base = [":"] * (axis + 1), axis, bracketed(whole, ATOM)
    else:
        base = whole.base
    before[place] = item
    return Expr(f"{base}[{', '.join(before)}]", base=base, subscripts=tuple(before))


def at_step(sequence: Expr, axis: int, rank: int | None, t: str) -> Expr:
    """One entry of a sequence along its time axis."""
    axis = axis if rank is None or axis >= 0 else axis + rank
    if not -3 <= axis <= 4:
        return replace(
            sequence, text=f"{bracketed(sequence, ATOM)}.swapaxes(0, {axis})[{t}]", reads=sequence.reads | {t}
        )
    found = _along(sequence, axis, t)
    return replace(found, reads=sequence.reads | {t}, depth=sequence.depth, nodes=sequence.nodes)


@functools.cache
def _signature(op: str) -> inspect.Signature:
    return inspect.signature(TORCH[op])


def _without_defaults(node: Node, parts: Sequence[Expr], options: Mapping[str, Expr]) -> list[str]:
    """Arguments as a person would pass them: defaults left out, what follows a gap and plain settings by name."""
    parameters = list(_signature(node.op).parameters.values())
    given = {parameter.name: part for parameter, part in zip(parameters, parts, strict=False)} | dict(options)
    texts: list[str] = []
    named = False
    for parameter in parameters:
        part = given.get(parameter.name)
        optional = parameter.default is not inspect.Parameter.empty
        if part is None or (optional and part.text == literal(parameter.default).text):
            named = True
            continue
        named = named or (part.plain and (optional or part.text in ("True", "False")))
        texts.append(f"{parameter.name}={part.text}" if named else part.text)
    return texts


# ---- long lines


def broken(text: str, indent: int, width: int = WIDTH) -> list[str]:
    """A line of code in as many lines as it needs, broken at the commas of its last long bracket, or at operators."""
    line = " " * indent + text
    if len(line) <= width:
        return [line]
    pairs = [pair for pair in _brackets(text) if pair[1] - pair[0] > 1]
    if not pairs:
        return _at_operators(text, indent) or [line]
    start, stop = max(pairs, key=lambda pair: (pair[1] - pair[0], pair[0]))
    items = list(_items(text[start + 1 : stop]))
    together = text[start + 1 : stop]
    if len(items) == 1 and not together.rstrip().endswith(","):
        inner = broken(items[0], indent + 4, width)
    elif indent + 4 + len(together) <= width:
        inner = [" " * (indent + 4) + together]
    else:
        inner = _packed(items, indent + 4, width)
    return [" " * indent + text[: start + 1], *inner, *broken(text[stop:], indent, width)]


def _at_operators(text: str, indent: int) -> list[str]:
    """`target = a + b` with its right side in brackets, one term a line; [] if there is nothing to break."""
    head = next((head for head in ("return ", f"{text.partition(' = ')[0]} = ") if text.startswith(head)), "")
    places = [
        at for at, sign in _code(text) if sign in "+-|&^" and at > len(head) and text[at - 1 : at + 2] == f" {sign} "
    ]
    if not head or not places:
        return []
    bounds = [len(head), *places, len(text)]
    terms = [text[start:stop].strip() for start, stop in pairwise(bounds)]
    return [" " * indent + f"{head}(", *(" " * (indent + 4) + term for term in terms), " " * indent + ")"]


def _packed(items: Sequence[str], indent: int, width: int) -> list[str]:
    """Items, as many to a line as fit; those that fill more than a line are broken themselves."""
    lines: list[str] = []
    room = False
    for item in items:
        if indent + len(item) + 1 > width:
            lines += broken(f"{item},", indent, width)
            room = False
        elif room and len(lines[-1]) + len(item) + 2 <= width:
            lines[-1] += f" {item},"
        else:
            lines.append(" " * indent + f"{item},")
            room = True
    return lines


def _brackets(text: str) -> Iterator[tuple[int, int]]:
    """Positions of the outermost brackets and of their ends; those inside strings do not count."""
    depth, start = 0, 0
    for position, sign in _code(text):
        if sign in "([{":
            start = position if not depth else start
            depth += 1
        elif sign in ")]}":
            depth -= 1
            if not depth:
                yield start, position


def _items(text: str) -> Iterator[str]:
    """The parts of `text` between its outermost commas."""
    depth, start = 0, 0
    for position, sign in _code(text):
        depth += (sign in "([{") - (sign in ")]}")
        if sign == "," and not depth:
            yield text[start:position].strip()
            start = position + 1
    if text[start:].strip():
        yield text[start:].strip()


def _code(text: str) -> Iterator[tuple[int, str]]:
    """The characters of `text` outside string literals."""
    quote, skip = "", False
    for position, sign in enumerate(text):
        if skip:
            skip = False
        elif quote:
            skip = sign == "\\"
            quote = "" if sign == quote else quote
        elif sign in "'\"":
            quote = sign
        else:
            yield position, sign
