"""Changes in place as new values.

An exported program may hold operations that change a tensor (`relu_`, `out[:, t] = h`). Where nothing else shares that
tensor's memory, such an operation is the same as its twin that makes a new value, and stays for the importer to read
so. Otherwise torch rewrites the program (`run_decompositions`), which costs time and opens some operations up.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram

_WITHOUT_EFFECT = ("aten::detach_",)
"""Operations that torch lists among those that change their argument, but that leave its values alone."""


def changes_in_place(exported: ExportedProgram) -> bool:
    """Whether any operation of the program changes a tensor."""
    return any(_is_mutable(node) for node in exported.graph.nodes)


def shares_memory(exported: ExportedProgram) -> bool:
    """Whether an operation changes a tensor that others may see: an input, a weight, a view or what has views."""
    return any(_is_mutable(node) and not _is_private(node) for node in exported.graph.nodes)


def made_functional(exported: ExportedProgram) -> ExportedProgram:
    """The program with every change in place rewritten by torch."""
    with warnings.catch_warnings():  # torch's own use of what it deprecates
        warnings.simplefilter("ignore", FutureWarning)
        made: ExportedProgram = exported.run_decompositions({})
    return made


def functional_twin(schema: Any) -> str | None:
    """The name, without "aten::", of the operation that makes a new value where this one changes its argument."""
    name = schema.name.rpartition("::")[2]
    if not schema.is_mutable or not name.endswith("_") or name.endswith("__"):
        return None
    packet = getattr(torch.ops.aten, name[:-1], None)
    return name[:-1] if hasattr(packet, schema.overload_name or "default") else None


def _schema(node: fx.Node) -> Any:
    return getattr(node.target, "_schema", None) if node.op == "call_function" else None


def _is_mutable(node: fx.Node) -> bool:
    schema = _schema(node)
    return schema is not None and bool(schema.is_mutable) and schema.name not in _WITHOUT_EFFECT


def _is_private(node: fx.Node) -> bool:
    """Whether the tensor that an operation changes was made by an operation of its own, and has no views."""
    at: Any = node
    while isinstance(at, fx.Node) and _is_mutable(at):
        if functional_twin(_schema(at)) is None or any(_is_view(user) for user in at.users):
            return False
        at = at.args[0]
    schema = _schema(at) if isinstance(at, fx.Node) else None
    return schema is not None and not _is_view(at) and not any(_is_view(user) for user in at.users)


def _is_view(node: fx.Node) -> bool:
    schema = _schema(node)
    return schema is not None and not schema.is_mutable and any(made.alias_info is not None for made in schema.returns)
