"""What the primitives are called and how they are written.

Arithmetic, comparison and bit operations are Python operators, the same for torch, numpy and plain numbers; all others
are functions of `torch_ops`, `torch_layers`, `torch_selection`, `torch_words` and `numpy_ops`. What nobody recognised
keeps its name in torch ("aten.…") and runs there.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import torch

from pellucid.errors import CannotRun
from pellucid.ir import torch_layers, torch_ops, torch_selection, torch_words

OPERATORS: Mapping[str, tuple[str, int, Callable[..., Any]]] = {
    "or": ("|", 1, operator.or_),
    "xor": ("^", 2, operator.xor),
    "and": ("&", 3, operator.and_),
    "eq": ("==", 0, operator.eq),
    "ne": ("!=", 0, operator.ne),
    "lt": ("<", 0, operator.lt),
    "le": ("<=", 0, operator.le),
    "gt": (">", 0, operator.gt),
    "ge": (">=", 0, operator.ge),
    "shift_left": ("<<", 4, operator.lshift),
    "shift_right": (">>", 4, operator.rshift),
    "add": ("+", 5, operator.add),
    "sub": ("-", 5, operator.sub),
    "mul": ("*", 6, operator.mul),
    "div": ("/", 6, operator.truediv),
    "floordiv": ("//", 6, operator.floordiv),
    "mod": ("%", 6, operator.mod),
    "pow": ("**", 8, operator.pow),
}
"""Binary operators: symbol, precedence (higher binds tighter), meaning."""

PREFIXES: Mapping[str, tuple[str, int, Callable[..., Any]]] = {
    "neg": ("-", 7, operator.neg),
    "invert": ("~", 7, operator.invert),
}
"""Unary operators: symbol, precedence, meaning."""

STRUCTURAL = ("call", "scan")


def functions_of(module: ModuleType) -> dict[str, Callable[..., Any]]:
    """The primitives that a module of them defines, by name."""
    members = inspect.getmembers(module, inspect.isfunction)
    return {name: function for name, function in members if function.__module__ == module.__name__ and name[0] != "_"}


TORCH: Mapping[str, Callable[..., Any]] = {
    **{name: meaning for name, (_, _, meaning) in {**OPERATORS, **PREFIXES}.items()},
    **functions_of(torch_ops),
    **functions_of(torch_layers),
    **functions_of(torch_selection),
    **functions_of(torch_words),
}
"""How each primitive runs in torch."""

_UNSAFE = ("from_file", "_print", "_assert", "manual_seed", "set_", "data", "requires_grad")


def opaque(name: str) -> Callable[..., Any]:
    """The torch operation "aten.NAME.OVERLOAD", if it only computes.

    Raises:
        CannotRun: there is no such operation, it changes its arguments, or it touches more than tensors.
    """
    parts = name.split(".")
    if len(parts) != 3 or parts[0] != "aten" or not all(part.isidentifier() for part in parts[1:]):
        raise CannotRun(f"operation {name!r} is not of the form aten.NAME.OVERLOAD; the program is damaged")
    packet = getattr(torch.ops.aten, parts[1], None)
    overload = getattr(packet, parts[2], None)
    if not isinstance(overload, torch._ops.OpOverload):
        raise CannotRun(f"torch {torch.__version__} has no operation {name!r}; install the torch that exported it")
    if overload._schema.is_mutable or any(parts[1].startswith(word) for word in _UNSAFE):
        raise CannotRun(f"operation {name!r} has side effects; pellucid runs only operations that compute")
    return overload


def implementation(op: str) -> Callable[..., Any]:
    """How `op` runs in torch. Raises CannotRun for a name that is neither a primitive nor safe."""
    return TORCH[op] if op in TORCH else opaque(op)
