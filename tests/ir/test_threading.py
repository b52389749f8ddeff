"""Ids handed down: nothing that is computed changes, and only what lies on the way gets a new input."""

import dataclasses
from pathlib import Path

import pytest
import torch
from planted_language import VOCABULARY, language_program

from pellucid.emitters.files import emit
from pellucid.errors import BadInput
from pellucid.ir.graph import Block, Node, Ref, ValueType
from pellucid.ir.program import Function, Program, Reading
from pellucid.ir.threading import holders, with_ids
from pellucid.ir.validate import validate

IDS = torch.randint(0, VOCABULARY, (3, 7), generator=torch.Generator().manual_seed(0))


def test_nothing_changes_but_the_signatures_on_the_way() -> None:
    program = language_program(layers=3)
    threaded = with_ids(program, ["layers.1.mlp"])
    validate(threaded)
    assert torch.equal(program.run(IDS), threaded.run(IDS))
    assert threaded["layers.1.mlp"].inputs == ("m1", "ids")
    assert threaded["layers.0.mlp"] == program["layers.0.mlp"]
    assert threaded.text().count(", ids)") == program.text().count(", ids)") + 1


def test_twice_is_the_same_as_once() -> None:
    once = with_ids(language_program(), ["layers.0.mlp", "layers.1.attn"])
    assert with_ids(once, ["layers.0.mlp", "layers.1.attn"]) == once
    assert holders(once) == {"network": "ids", "layers.0.mlp": "ids", "layers.1.attn": "ids"}


def test_a_program_with_ids_handed_down_can_be_emitted_and_saved(tmp_path: Path) -> None:
    program = with_ids(language_program(), ["layers.0.mlp"])
    emit(program, tmp_path)
    assert torch.equal(Program.load(tmp_path).run(IDS), program.run(IDS))


def nested() -> Program:
    """network(ids) calls outer(x), which in a loop over positions calls inner(element)."""
    stream, element = ValueType("float32", ("batch", "seq", 4)), ValueType("float32", ("batch", 4))
    inner = Block(("e",), (Node(("doubled",), "add", (Ref("e"), Ref("e"))),), ("doubled",))
    step = Block(
        ("state", "element"),
        (
            Node(("called",), "call", (Ref("element"),), function="inner"),
            Node(("next",), "add", (Ref("state"), Ref("called"))),
        ),
        ("next", "next"),
    )
    outer = Block(
        ("s",),
        (
            Node(("zero",), "select", (Ref("s"), 1, 0)),
            Node(("last", "all"), "scan", ((Ref("zero"),), (Ref("s"),), ()), (("axis", 1),), body=step),
        ),
        ("all",),
    )
    entry = Block(
        ("ids",),
        (Node(("hot",), "one_hot", (Ref("ids"), 4)), Node(("out",), "call", (Ref("hot"),), function="outer")),
        ("out",),
    )
    blocks = {"network": entry, "outer": outer, "inner": inner}
    functions = {
        name: Function(name, "part", "", block.inputs, block.outputs, (Reading("weights", block, "exact", 1.0),))
        for name, block in blocks.items()
    }
    values = {"ids": ValueType("int64", ("batch", "seq")), "s": stream, "all": stream, "out": stream}
    return Program("network", functions, {**values, "e": element, "doubled": element}, {})


def test_ids_are_carried_into_loops() -> None:
    program = nested()
    threaded = with_ids(program, ["inner"])
    validate(threaded)
    assert torch.equal(program.run(IDS % 4), threaded.run(IDS % 4))
    assert threaded["inner"].inputs == ("e", "ids")


def test_an_input_that_is_only_sometimes_the_ids_does_not_count() -> None:
    program = language_program(layers=1)
    entry = program["network"]
    body = entry.readings[0].body
    twice = Node(("other",), "add", (Ref("ids"), 1))
    helper = Function(
        "helper", "part", "", ("h",), ("g",),
        (Reading("weights", Block(("h",), (Node(("g",), "add", (Ref("h"), 1)),), ("g",)), "exact", 1.0),),
    )  # fmt: skip
    calls = (
        Node(("one",), "call", (Ref("ids"),), function="helper"), twice,
        Node(("two",), "call", (Ref("other"),), function="helper"),
    )  # fmt: skip
    body = dataclasses.replace(body, nodes=(*calls, *body.nodes))
    entry = dataclasses.replace(entry, readings=(dataclasses.replace(entry.readings[0], body=body),))
    program = program.with_function(entry).with_function(helper)
    program = dataclasses.replace(
        program, values={**program.values, "h": program.values["ids"], "g": program.values["ids"]}
    )
    threaded = with_ids(program, ["helper"])
    validate(threaded)
    assert threaded["helper"].inputs == ("h", "ids")
    assert torch.equal(program.run(IDS), threaded.run(IDS))


def test_a_network_that_takes_more_than_ids_is_refused() -> None:
    program = language_program()
    values = {**program.values, "ids": ValueType("float32", ("batch", "seq"))}
    with pytest.raises(BadInput, match="token ids"):
        with_ids(dataclasses.replace(program, values=values), ["layers.0.mlp"])
    with pytest.raises(BadInput, match="no function"):
        with_ids(program, ["layers.9.mlp"])
