"""Where numpy and torch disagree about element types, the emitted program says which it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from emitters.planted_programs import block, function, node, program
from emitters.test_python import check_everything

from pellucid.emitters.promotion import with_casts
from pellucid.ir.graph import Node, Ref, ValueType
from pellucid.ir.program import Program

OPERANDS = {"i": "int64 batch 4", "f": "float32 batch 4", "b": "bool batch 4", "s": "int32 batch 4"}


def whole(op: str, left: object, right: object, *more: Node) -> Program:
    """A program of one operation on its inputs, and what follows."""
    inputs = " ".join(dict.fromkeys(part[1:] for part in (left, right) if isinstance(part, str)))
    last = more[-1].id if more else "made"
    body = block(inputs, last, node("made", op, left, right), *more)  # type: ignore[arg-type]
    return program([function("network", body, "network", "")], OPERANDS, {})


MEETINGS = [
    ("mul", "%i", "%f"), ("mul", "%f", "%i"), ("add", "%i", 0.5), ("sub", 2, "%i"), ("div", "%i", 3),
    ("div", "%i", "%s"), ("div", 1, "%i"), ("add", "%b", "%i"), ("mul", "%b", "%f"), ("add", "%b", 1),
    ("mul", "%b", 0.5), ("mod", "%i", 2.5), ("pow", "%i", 2), ("pow", "%f", 2), ("floordiv", "%i", 2),
    ("add", "%i", "%s"), ("maximum", "%i", 0.5), ("div", "%f", 3),
]  # fmt: skip


@pytest.mark.parametrize(("op", "left", "right"), MEETINGS, ids=str)
def test_types_and_values_are_those_of_torch(op: str, left: object, right: object, tmp_path: Path) -> None:
    check_everything(whole(op, left, right), tmp_path, "numpy")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (node("a", "add", "%i", 1), node("out", "mul", "%a", "%f")),
        (node("a", "gt", "%i", 1), node("out", "mul", "%a", 0.5)),
        (node("a", "size", "%i", 0), node("out", "div", "%i", "%a")),
        (node("a", "argmax", "%f", 1, True), node("out", "mul", "%a", "%f")),
        (node("a", "total", "%b", (1,), True), node("out", "mul", "%a", "%f")),
        (node("a", "cumsum", "%b", 1), node("out", "div", "%a", 2)),
        (node("a", "lookup", (3, 1, 2), ("%b",)), node("out", "mul", "%a", 0.5)),
        (node("a", "lookup", (0.5, 1.0), ("%b",)), node("out", "mul", "%a", "%i")),
        (node("a", "where", "%b", "%i", 1), node("out", "mul", "%a", "%f")),
        (node("a", "exp", "%i"), node("out", "mul", "%a", "%i")),
        (node("a", "cast", "%f", "int64"), node("out", "mul", "%a", 0.25)),
        (node("a", "stack", ("%i", "%i"), -1), node("out", "mul", "%a", 0.5)),
    ],
    ids=lambda made: made.op,
)
def test_types_are_followed_through_values_that_nobody_typed(first: Node, second: Node, tmp_path: Path) -> None:
    body = block("i f b", "out", first, second)
    held = function("network", block("i f b", "out", node("out", "mul", "%f", "%f")), "network", "", code=body)
    check_everything(program([held], OPERANDS, {}), tmp_path, "numpy")


def test_types_are_followed_into_loops(tmp_path: Path) -> None:
    step = block("count now", "next_1 y", node("next_1", "add", "%count", 1), node("y", "mul", "%next_1", "%now"))
    start = node("start", "zeros", (3,), "int64")
    scan = Node(("last", "ys"), "scan", ((Ref("start"),), (Ref("f"),), ()), (("axis", 1),), body=step)
    body = block("f", "ys", start, scan)
    held = function("network", block("f", "ys", node("ys", "mul", "%f", "%f")), "network", "", code=body)
    check_everything(program([held], OPERANDS, {}), tmp_path, "numpy")


def test_nothing_is_cast_without_need() -> None:
    body = block("f i", "out", node("a", "mul", "%f", 2.0), node("b", "add", "%i", 1), node("out", "gt", "%a", "%b"))
    types = {"f": ValueType("float32", (4,)), "i": ValueType("int64", (4,))}
    assert with_casts(body, types, {}) == body


def test_a_name_of_the_network_means_nothing_inside_code(tmp_path: Path) -> None:
    """`f` is a real input of the network; in the code of a part it is a whole number."""
    code = block(
        "i", "out", node("f", "add", "%i", 1), node("g", "add", "%i", "%f"), node("out", "cast", "%g", "int64")
    )
    inner = function("part", block("i", "out", node("out", "mul", "%i", 2)), code=code)
    outer = block("f i", "out", node("out", "call", "%i", function="part"))
    made = program([function("network", outer, "network", ""), inner], OPERANDS, {})
    assert "cast(x" not in check_everything(made, tmp_path, "numpy").split("# The primitives")[0].replace(
        "return cast(", ""
    )


def test_weights_have_types_too() -> None:
    body = block("f", "out", node("out", "mul", "%f", "@table"))
    casts = with_casts(body, {"f": ValueType("float32", (4,))}, {"table": torch.zeros(4, dtype=torch.int64)})
    assert [n.op for n in casts.nodes] == ["cast", "mul"]
