"""A planted program that uses every feature of the representation: calls, a loop, three readings, all notes."""

from __future__ import annotations

import pytest
import torch

from pellucid.ir.graph import Block, Node, Ref, ValueType, Weight
from pellucid.ir.notes import Attempt, Notes, Verdict
from pellucid.ir.program import Function, Program, Reading
from pellucid.ir.regions import Region, RegionTree, Unit


def _exact(inputs: tuple[str, ...], outputs: tuple[str, ...], *nodes: Node) -> Reading:
    return Reading("weights", Block(inputs, nodes, outputs), "exact", 12.5)


def _step() -> Node:
    body = Block(
        ("h", "x", "w"),
        (
            Node(("mixed",), "linear", (Ref("x"), Ref("w"))),
            Node(("next",), "add", (Ref("h"), Ref("mixed"))),
            Node(("seen",), "mul", (Ref("next"), 2.0)),
        ),
        ("next", "seen"),
    )
    return Node(
        ("last", "all"), "scan", ((Ref("h0"),), (Ref("xs"),), (Weight("cell.w"),)), (("axis", 1),), body=body,
        scope="cell", source="net.py:7",
    )  # fmt: skip


@pytest.fixture
def program() -> Program:
    """network(xs) = head(cell(xs)): a running sum of W x, doubled, then a masked linear map."""
    generator = torch.Generator().manual_seed(0)
    weights = {
        "cell.w": torch.randn(3, 2, generator=generator),
        "head.w": torch.randn(4, 3, generator=generator),
        "head.mask": torch.tensor([True, False, True, True]),
        "head.ids": torch.tensor([3, 1, 2], dtype=torch.int64),
    }
    cell = Function(
        "cell", "recurrent", "cell.", ("xs",), ("all",),
        (_exact(("xs",), ("all",),
            Node(("batch",), "size", (Ref("xs"), 0)),
            Node(("h0",), "zeros", ((Ref("batch"), 3),)),
            _step()),
         Reading("code", Block(("xs",), (
             Node(("mixed",), "linear", (Ref("xs"), Weight("cell.w"))),
             Node(("total",), "cumsum", (Ref("mixed"), 1)),
             Node(("all",), "mul", (Ref("total"), 2.0)),
         ), ("all",)), "recurrence", 9.0, "running sum", "rounded", 0.0)),
        chosen="code",
    )  # fmt: skip
    head = Function(
        "head", "linear", "head.", ("all",), ("out",),
        (_exact(("all",), ("out",),
            Node(("kept",), "linear", (Ref("all"), Weight("head.w"))),
            Node(("out",), "masked_fill", (Ref("kept"), Weight("head.mask"), float("-inf")))),),
    )  # fmt: skip
    network = Function(
        "network", "network", "", ("xs",), ("out",),
        (_exact(("xs",), ("out",),
            Node(("all",), "call", (Ref("xs"),), function="cell"),
            Node(("out",), "call", (Ref("all"),), function="head")),),
    )  # fmt: skip
    verdict = Verdict("cell", "code", "match", 1.0, "share", (0.9, 1.0), 40, "sampled", float("inf"), True, "1", "ok")
    return Program(
        entry="network",
        functions={function.name: function for function in (network, cell, head)},
        values={
            "xs": ValueType("float32", ("batch", "time", 2)),
            "all": ValueType("float32", ("batch", "time", 3)),
            "kept": ValueType("float32", ("batch", "time", 4)),
            "out": ValueType("float32", ("batch", "time", 4)),
        },
        weights=weights,
        fingerprint="f" * 64,
        source="planted",
        regions=RegionTree(
            Region("network", "network", (), (), (
                Region("cell", "recurrent", ("last",), (Unit("all", 2, (0, 2)),)), Region("head", "linear", ("out",)),
            )),
            "nesting",
        ),
        notes=Notes(
            (verdict,), (Attempt("cell", "recurrence", "kept"),), {"cell": '"sum"\n✓'}, {"code": 0.5}, ("fixed",)
        ),
    )  # fmt: skip


@pytest.fixture
def xs() -> torch.Tensor:
    return torch.randn(5, 7, 2, generator=torch.Generator().manual_seed(1))
