"""What a value would like to be called, before `pellucid.ir.statements` makes it unique."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pellucid.ir.graph import Node, Ref, refs
from pellucid.ir.naming import (
    GENERIC,
    NOUNS,
    RESERVED,
    RESHAPING,
    given_name,
    kind_of_value,
    last_part,
    purpose,
    relative,
)
from pellucid.ir.primitives import TORCH

if TYPE_CHECKING:
    from pellucid.ir.statements import Writer

_MIXING = frozenset({"matmul", "einsum"})
_SAME_THING = RESHAPING | frozenset(
    ("relu", "leaky_relu", "elu", "gelu", "silu", "softplus", "hardswish", "hardsigmoid", "tanh", "sigmoid", "clip",
     "exp", "log", "sqrt", "rsqrt", "reciprocal", "absolute", "sign", "floor", "ceil", "round_half_even", "erf",
     "flatten", "merge_heads", "pad", "flip", "tril", "triu", "masked_fill", "neg", "invert")
)  # fmt: skip
"""Operations whose result can take the name of their first argument."""


def stem_of(writer: Writer, node: Node, position: int) -> str:
    """What output `position` of a node would be called if it had the choice."""
    value = node.outputs[position]
    if node.op in ("size", "arange"):
        return _axis_name(writer, node) if node.op == "size" else NOUNS["arange"]
    inherited = _inherited(writer, node, value)
    if node.op in _SAME_THING and inherited and not (node.op == "cast" and given_name(value)):
        return inherited
    called = re.sub(r"_\d+$", "", node.function)
    wish = last_part(called) if node.op == "call" else _module_name(writer, node, value)
    wish = "" if wish in TORCH or len(node.outputs) > 1 else wish
    asked = purpose(value, lambda one: writer.readers.get(one, []), lambda user: writer.style.callee(user).inputs)
    wish = wish or ("" if asked == "mask" and given_name(value) else asked)
    if not wish and node.op == "call" and len(node.outputs) > 1:
        wish = writer.style.callee(node).outputs[position]
    wish = wish or given_name(value)
    if wish and wish not in writer.banned:
        return wish
    if node.op in ("recurrent", "recurrent_cell"):
        return ("outputs", "hidden", "memory")[position + (node.op == "recurrent_cell")]
    return NOUNS.get(node.op) or inherited or generic_name(writer, value)


def generic_name(writer: Writer, value: str) -> str:
    """The name of a value of which only the kind of element is known."""
    return GENERIC[kind_of_value(writer.place.types.get(value))][0]


def _axis_name(writer: Writer, node: Node) -> str:
    source, axis = node.args[0], node.args[1]
    kind = writer.place.types.get(source.name) if isinstance(source, Ref) else None
    axes = kind.axes if kind is not None else ()
    symbol = axes[axis] if isinstance(axis, int) and -len(axes) <= axis < len(axes) else None
    named = isinstance(symbol, str) and symbol.isidentifier() and symbol not in RESERVED
    return str(symbol) if named else NOUNS["size"]


def _module_name(writer: Writer, node: Node, value: str) -> str:
    """The module that a value comes out of, if it lies below the function."""
    below = relative(node.scope, writer.place.function)
    below = relative(node.scope, writer.place.scope) if below is None else below
    inside = {reader.scope for reader in writer.readers.get(value, [])} == {node.scope}
    return last_part(below) if below and (value in writer.block.outputs or not inside) else ""


def _inherited(writer: Writer, node: Node, value: str) -> str:
    """The name of an operand of the same kind that this node uses up, if the result can take its place."""
    if node.op in _MIXING:
        return ""
    kind = kind_of_value(writer.place.types.get(value))
    operands = refs(node)[:1] if node.op in _SAME_THING else refs(node)
    for operand in operands:
        if writer.left[operand] > 1:
            continue
        if node.op != "cast" and kind_of_value(writer.place.types.get(operand)) != kind:
            continue
        local = writer.env[operand].text
        if operand in writer.waiting:
            if node.op in _SAME_THING:
                return writer.waiting[operand]
        elif local.isidentifier() and local not in writer.kept:
            return local
    return ""
