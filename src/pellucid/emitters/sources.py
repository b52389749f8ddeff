"""Source text of primitives, to be copied into an emitted file together with everything that it calls."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable, Mapping
from functools import cache
from types import ModuleType
from typing import Literal

from pellucid.ir import (
    numpy_arrays,
    numpy_axes,
    numpy_layers,
    numpy_selection,
    numpy_words,
    torch_layers,
    torch_ops,
    torch_selection,
    torch_words,
)

Dialect = Literal["numpy", "torch"]

_MODULES: Mapping[Dialect, tuple[ModuleType, ...]] = {
    "numpy": (numpy_arrays, numpy_axes, numpy_layers, numpy_selection, numpy_words),
    "torch": (torch_ops, torch_layers, torch_selection, torch_words),
}


def copied(names: Iterable[str], dialect: Dialect) -> tuple[str, ...]:
    """Sources of the primitives `names` that are functions, and of what they call, in the order of their modules."""
    known = _functions(dialect)
    wanted: set[str] = set()
    waiting = [name for name in names if name in known]
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting += [called for called in names_in(known[name]) if called in known]
    return tuple(source for name, source in known.items() if name in wanted)


def names_in(source: str) -> set[str]:
    """All names that a piece of Python reads."""
    return {
        node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


@cache
def _functions(dialect: Dialect) -> Mapping[str, str]:
    """Functions of the primitives' modules, helpers included, as they stand in the files."""
    texts = [inspect.getsource(module) for module in _MODULES[dialect]]
    return {
        node.name: ast.get_source_segment(text, node) or ""
        for text in texts
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef)
    }
