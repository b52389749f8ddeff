"""Which functions share a def, in which section it stands, what it is called."""

from __future__ import annotations

from emitters.planted_programs import block, function, layers, node, program, recurrent

from pellucid.emitters.parts import CHOSEN, EXACT, OTHER, Plan, plan
from pellucid.ir.likeness import Variant, likeness_of
from pellucid.ir.program import Program


def planned(made: Program) -> Plan:
    return plan(likeness_of(made))


def shown(found: Plan) -> list[tuple[str, str, int]]:
    return [(part.name, part.section, len(part.variants)) for part in found.parts]


def test_equal_layers_share_one_def_in_all_their_readings() -> None:
    assert [(name, section) for name, section, _ in shown(planned(layers(3)))] == [
        ("network", CHOSEN),
        ("layer", CHOSEN),
        ("mlp", CHOSEN),
    ]


def test_exact_readings_of_what_is_code_come_after_and_say_so() -> None:
    made = recurrent()
    assert [part.name for part in planned(made).parts] == ["network", "network_weights", "step"]
    assert [part.takes_weights for part in planned(made).parts] == [False, True, True]


def test_a_reading_that_is_not_chosen_stands_last() -> None:
    made = recurrent()
    code = made["network"].readings[1]
    made = made.with_function(made["network"].with_reading(code, choose=False).with_reading(code, choose=False))
    held = made["network"]
    exact = Program(
        "network",
        {**made.functions, "network": type(held)(**{**vars(held), "chosen": "weights"})},
        made.values,
        made.weights,
    )
    assert [(part.name, part.section) for part in planned(exact).parts] == [
        ("network", CHOSEN),
        ("step", CHOSEN),
        ("network_code", OTHER),
    ]


def test_a_caller_of_code_differs_from_its_exact_self() -> None:
    made = layers(3, mixed=True)
    found = planned(made)
    chosen, exact = Variant("blocks.1", "weights", None), Variant("blocks.1", "weights", "weights")
    assert found.part(chosen) is not found.part(exact)
    assert found.part(Variant("blocks.0", "weights", None)) is found.part(exact)
    assert found.part(exact).section == CHOSEN
    assert found.part(Variant("network", "weights", "weights")).section == EXACT


def test_names_are_what_functions_have_in_common() -> None:
    body = block("x", "y", node("y", "relu", "%x"))
    named = [function(name, body, kind) for name, kind in (("a.norm_1", "norm"), ("b.norm_2", "norm"))]
    other = block("x", "y", node("y", "tanh", "%x"))
    named += [function(name, other, kind) for name, kind in (("relu", "relu"), ("max", "class"), ("print", "class"))]
    third = block("x", "y", node("y", "sigmoid", "%x"))
    named += [function("h.0", third, "layer"), function("h.1", third, "layer")]
    calls = [node(f"v{i + 1}", "call", f"%v{i}", function=held.name) for i, held in enumerate(named)]
    made = program([function("network", block("v0", f"v{len(named)}", *calls), "network", ""), *named], {}, {})
    assert [part.name for part in planned(made).parts] == ["network", "norm", "relu_part", "layer"]


def test_a_function_takes_weights_if_it_or_what_it_calls_reads_some() -> None:
    free = function("a.free", block("x", "y", node("y", "relu", "%x")))
    reads = function("a.reads", block("x", "y", node("y", "linear", "%x", "@a.reads.weight")))
    outer = function(
        "a", block("x", "z", node("y", "call", "%x", function="a.free"), node("z", "call", "%y", function="a.reads"))
    )
    elsewhere = function("b", block("x", "y", node("y", "linear", "%x", "@a.reads.weight")))
    calls = [node("p", "call", "%x", function="a"), node("q", "call", "%p", function="b")]
    made = program(
        [function("network", block("x", "q", *calls), "network", "c"), outer, free, reads, elsewhere],
        {},
        {"a.reads.weight": (4, 4)},
    )
    assert {part.name: part.takes_weights for part in planned(made).parts} == {
        "network": False, "a": True, "free": False, "reads": True, "b": False,
    }  # fmt: skip
