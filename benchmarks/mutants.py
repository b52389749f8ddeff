"""Single faults in an emitted program: one edit of its source, or one change of a weight.

Edits are made at places of the syntax tree, in the bytes of the file, so that everything else stays as it was printed.
The command line (`main` and what calls it) and annotations are left alone: they compute nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Shaped

Tensor = Shaped[torch.Tensor, "..."]

SWAPPED = {
    ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "*", ast.Mod: "//", ast.Pow: "*",
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==", ast.And: "or", ast.Or: "and",
    ast.BitAnd: "|", ast.BitOr: "&", ast.BitXor: "|",
}  # fmt: skip
"""What an operator is replaced by."""


@dataclass(frozen=True)
class Edit:
    """Bytes `start` to `stop` of the source replaced by `text`."""

    kind: str
    start: int
    stop: int
    text: str


class Source:
    """A program's text and every single edit of it, by kind."""

    def __init__(self, text: str) -> None:
        self.bytes = text.encode()
        self.tree = ast.parse(text)
        lines = self.bytes.splitlines(keepends=True)
        self.starts = np.concatenate([[0], np.cumsum([len(line) for line in lines])]).tolist()
        skipped: list[ast.AST] = [node for node in self.tree.body if isinstance(node, ast.If)]
        skipped += [node for node in self.tree.body if isinstance(node, ast.FunctionDef) and node.name == "main"]
        for node in ast.walk(self.tree):
            notes = (getattr(node, name, None) for name in ("annotation", "returns"))
            skipped += [note for note in notes if isinstance(note, ast.AST)]
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                skipped.append(node)
        self.skipped = {id(inner) for node in skipped for inner in ast.walk(node)}

    def edited(self, edit: Edit) -> str:
        """The text with one edit made."""
        return (self.bytes[: edit.start] + edit.text.encode() + self.bytes[edit.stop :]).decode()

    def told(self, edit: Edit) -> str:
        """An edit in words, with its line."""
        line = self.bytes[: edit.start].count(b"\n") + 1
        return f"line {line}: {self.bytes[edit.start : edit.stop].decode()!r} → {edit.text!r}"

    @cached_property
    def edits(self) -> Mapping[str, Sequence[Edit]]:
        """All edits after which the text still parses, by kind."""
        found: dict[str, list[Edit]] = {}
        for edit in self._all():
            if edit.text.encode() != self.bytes[edit.start : edit.stop] and self._parses(edit):
                found.setdefault(edit.kind, []).append(edit)
        return found

    def _parses(self, edit: Edit) -> bool:
        try:
            ast.parse(self.edited(edit))
        except SyntaxError:
            return False
        return True

    def _all(self) -> Iterator[Edit]:
        for function in ast.walk(self.tree):
            if isinstance(function, ast.FunctionDef) and id(function) not in self.skipped:
                yield from self._names(function)
        for node in ast.walk(self.tree):
            if id(node) not in self.skipped:
                for rule in _RULES:
                    yield from rule(self, node)

    def place(self, node: ast.AST) -> tuple[int, int]:
        """First byte of a node, and the one after it."""
        return (
            self.starts[node.lineno - 1] + node.col_offset,  # type: ignore[attr-defined]
            self.starts[node.end_lineno - 1] + node.end_col_offset,  # type: ignore[attr-defined]
        )

    def text(self, node: ast.AST) -> str:
        """The source of a node."""
        start, stop = self.place(node)
        return self.bytes[start:stop].decode()

    def replaced(self, kind: str, node: ast.AST, text: str) -> Edit:
        """A node replaced."""
        return Edit(kind, *self.place(node), text)

    def exchanged(self, kind: str, one: ast.AST, other: ast.AST) -> Edit:
        """Two nodes in each other's place."""
        (start, end), (begin, stop) = self.place(one), self.place(other)
        return Edit(kind, start, stop, self.text(other) + self.bytes[end:begin].decode() + self.text(one))

    @cached_property
    def functions(self) -> Mapping[str, int]:
        """Functions of the file by name, and how many arguments they take."""
        return {n.name: len(n.args.args) for n in ast.walk(self.tree) if isinstance(n, ast.FunctionDef)}

    @cached_property
    def keys(self) -> Sequence[str]:
        """Names by which weights are read."""
        subscripts = (n.slice for n in ast.walk(self.tree) if isinstance(n, ast.Subscript))
        return sorted({n.value for n in subscripts if isinstance(n, ast.Constant) and isinstance(n.value, str)})

    def _names(self, function: ast.FunctionDef) -> Iterator[Edit]:
        """A value read instead of another of the same function."""
        inner = [n for n in ast.walk(function) if isinstance(n, ast.Name) and id(n) not in self.skipped]
        own = sorted({n.id for n in inner if isinstance(n.ctx, ast.Store)} | {a.arg for a in function.args.args})
        for name in inner:
            if isinstance(name.ctx, ast.Load) and name.id in own:
                yield from (self.replaced("value", name, other) for other in own if other != name.id)


Rule = Callable[[Source, ast.AST], Iterator[Edit]]


def _operators(source: Source, node: ast.AST) -> Iterator[Edit]:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Invert | ast.Not):
        yield source.replaced("sign", node, source.text(node.operand))
        return
    if isinstance(node, ast.BinOp):
        parts, op = (node.left, node.right), node.op
    elif isinstance(node, ast.Compare):
        parts, op = (node.left, node.comparators[0]), node.ops[0]  # type: ignore[assignment]
    elif isinstance(node, ast.BoolOp):
        parts, op = (node.values[0], node.values[1]), node.op  # type: ignore[assignment]
    else:
        return
    if type(op) not in SWAPPED:
        return
    start, stop = source.place(parts[0])[1], source.place(parts[1])[0]
    between = source.bytes[start:stop].decode()
    symbol = between.strip("() \n")
    if symbol and "#" not in between:
        kind = "sign" if isinstance(op, ast.Add | ast.Sub) else "operator"
        yield Edit(kind, start, stop, between.replace(symbol, SWAPPED[type(op)]))


def _literals(source: Source, node: ast.AST) -> Iterator[Edit]:
    if not isinstance(node, ast.Constant) or isinstance(node.value, str | bytes):
        return
    value = node.value
    if isinstance(value, bool):
        yield source.replaced("literal", node, repr(not value))
    elif isinstance(value, int):
        yield from (source.replaced("literal", node, repr(value + step)) for step in (-1, 1))
    elif isinstance(value, float):
        yield from (source.replaced("literal", node, repr(value * (1 + 10.0**-k))) for k in (1, 3, 6))


def _calls(source: Source, node: ast.AST) -> Iterator[Edit]:
    if not isinstance(node, ast.Call):
        return
    if isinstance(node.func, ast.Name) and node.func.id in source.functions:
        count = source.functions[node.func.id]
        alike = [name for name, n in source.functions.items() if n == count and name not in (node.func.id, "main")]
        yield from (source.replaced("call", node.func, name) for name in alike)
    for one, other in zip(node.args, node.args[1:], strict=False):
        yield source.exchanged("argument", one, other)
    if node.args:
        yield source.replaced("call dropped", node, source.text(node.args[0]))


def _terms(source: Source, node: ast.AST) -> Iterator[Edit]:
    if isinstance(node, ast.BinOp):
        yield from (source.replaced("term dropped", node, f"({source.text(p)})") for p in (node.left, node.right))


def _statements(source: Source, node: ast.AST) -> Iterator[Edit]:
    if isinstance(node, ast.Assign | ast.AugAssign | ast.Expr) and node.col_offset:
        yield source.replaced("line dropped", node, "pass")


def _rows(source: Source, node: ast.AST) -> Iterator[Edit]:
    if isinstance(node, ast.Tuple | ast.List) and isinstance(node.ctx, ast.Load):
        yield from (source.exchanged("table row", a, b) for a, b in zip(node.elts, node.elts[1:], strict=False))
    if isinstance(node, ast.Dict):
        yield from (source.exchanged("table row", a, b) for a, b in zip(node.values, node.values[1:], strict=False))


def _weights(source: Source, node: ast.AST) -> Iterator[Edit]:
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and node.slice.value in source.keys:
        others = (key for key in source.keys if key != node.slice.value)
        yield from (source.replaced("weight exchanged", node.slice, repr(key)) for key in others)


_RULES: Sequence[Rule] = (_operators, _literals, _calls, _terms, _statements, _rows, _weights)


# ---- weights

CHANGES: Mapping[str, Callable[[float], float]] = {
    "last bit": lambda x: float(np.nextafter(np.float32(x), np.float32(np.inf))),
    "× (1 + 1e-6)": lambda x: x * (1 + 1e-6),
    "× (1 + 1e-3)": lambda x: x * (1 + 1e-3),
    "+ 0.1": lambda x: x + 0.1,
    "sign": lambda x: -x,
    "zero": lambda x: 0.0,
}


def changed_weight(weights: Mapping[str, Tensor], rng: np.random.Generator) -> tuple[str, dict[str, Tensor]] | None:
    """One entry of one tensor changed, and how; None where the draw changes nothing."""
    names = sorted(name for name, tensor in weights.items() if tensor.is_floating_point() and tensor.numel())
    if not names:
        return None
    name, how = str(rng.choice(names)), str(rng.choice(sorted(CHANGES)))
    tensor = weights[name].clone()
    at = int(rng.integers(tensor.numel()))
    flat = tensor.reshape(-1)
    before = float(flat[at])
    flat[at] = CHANGES[how](before)
    if float(flat[at]) == before:
        return None
    return f"{name}[{at}] {how}: {before:.9g} → {float(flat[at]):.9g}", {**weights, name: flat.reshape(tensor.shape)}
