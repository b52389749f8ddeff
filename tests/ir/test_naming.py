"""Names are identifiers, short, and the same for equal parts."""

from __future__ import annotations

import keyword

import pytest
from emitters.planted_programs import block, function, node, program, recurrent
from hypothesis import given
from hypothesis import strategies as st

from pellucid.ir.naming import callers_first, distinct, given_name, identifier, last_part, parameter_names, relative


@given(st.text(max_size=60))
def test_identifiers_are_identifiers_or_nothing(text: str) -> None:
    made = identifier(text)
    assert made == "" or (made.isidentifier() and made.isascii() and len(made) <= 40)


@pytest.mark.parametrize(
    ("value", "name"),
    [("add_12", ""), ("relu_1_before", ""), ("view", ""), ("carry_2", "carry"), ("s1", "s1"),
     ("input_ids", "input_ids"),
     ("y_sequence", "y"), ("scaled_dot_product_attention_3", ""), ("hidden_3_last", "hidden")],
)  # fmt: skip
def test_names_of_operations_say_nothing(value: str, name: str) -> None:
    assert given_name(value) == name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("model.layers.3.self_attn.q_proj", "q"),
        ("h.3", ""),
        ("cell@1", "cell"),
        ("ln_1", "ln_1"),
        ("_conv_stem", "conv_stem"),
    ],
)
def test_last_part_of_a_path(path: str, name: str) -> None:
    assert last_part(path) == name


@pytest.mark.parametrize(
    ("path", "base", "below"),
    [("a.b.c", "a", "b.c"), ("a", "a", ""), ("ab.c", "a", None), ("a.b", "", "a.b"), ("", "", "")],
)
def test_relative_paths(path: str, base: str, below: str | None) -> None:
    assert relative(path, base) == below


def test_distinct_counts_from_two() -> None:
    assert [distinct("x", taken) for taken in ((), ("x",), ("x", "x2"))] == ["x", "x2", "x3"]


def test_parameters_are_named_for_what_reads_them() -> None:
    core = block(
        "add_3 mul_1 sin_4 view_5", "out",
        node("q", "rotary", "%add_3", "%mul_1", "%sin_4"), node("out", "attention", "%q", "%q", "%q", "%view_5"),
    )  # fmt: skip
    outer = block("x to_1 to_2 le_1", "out", node("out", "call", "%x", "%to_1", "%to_2", "%le_1", function="core"))
    made = program([function("network", outer, "network", ""), function("core", core)], {"view_5": "bool b 4"}, {})
    names = parameter_names(made)
    assert names["core"] == ("q", "cos", "sin", "mask")
    assert names["network"] == ("x", "to_1", "to_2", "le_1")


def test_states_of_loops_are_called_state() -> None:
    assert parameter_names(recurrent())["step"] == ("state", "x")


def test_reserved_words_are_no_parameters() -> None:
    body = block("input lambda_ class_", "out", node("out", "add", "%input", "%class_"))
    names = parameter_names(program([function("network", body, "network", "")], {}, {}))["network"]
    assert not any(keyword.iskeyword(name) for name in names)
    assert names[0] == "input_"


def test_callers_come_before_what_they_call() -> None:
    leaf = function("leaf", block("x", "y", node("y", "relu", "%x")))
    middle = function("middle", block("x", "y", node("y", "call", "%x", function="leaf")))
    body = block("x", "z", node("y", "call", "%x", function="leaf"), node("z", "call", "%y", function="middle"))
    made = program([function("network", body, "network", ""), leaf, middle], {}, {})
    assert [held.name for held in callers_first(made)] == ["network", "middle", "leaf"]
