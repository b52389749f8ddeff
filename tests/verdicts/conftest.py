"""Programs that several of these tests use."""

import pytest
import torch


@pytest.fixture
def program_with_loop():
    """A running sum of W x as a loop, with a start that names no element type."""
    from pellucid.ir.graph import Block, Node, Ref, ValueType, Weight
    from pellucid.ir.program import Function, Program, Reading

    body = Block(
        ("h", "x", "w"),
        (Node(("mixed",), "linear", (Ref("x"), Ref("w"))), Node(("next",), "add", (Ref("h"), Ref("mixed")))),
        ("next", "next"),
    )
    nodes = (
        Node(("batch",), "size", (Ref("xs"), 0)),
        Node(("h0",), "zeros", ((Ref("batch"), 3),)),
        Node(("last", "all"), "scan", ((Ref("h0"),), (Ref("xs"),), (Weight("w"),)), (("axis", 1),), body=body),
    )
    reading = Reading("weights", Block(("xs",), nodes, ("all",)), "exact", 1.0)
    function = Function("network", "network", "", ("xs",), ("all",), (reading,))
    values = {"xs": ValueType("float32", ("batch", "seq", 2)), "all": ValueType("float32", ("batch", "seq", 3))}
    return Program("network", {"network": function}, values, {"w": torch.rand(3, 2)})
