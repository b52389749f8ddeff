"""Pseudocode: the ledger first, level by level, equal functions once, names that mean something."""

from __future__ import annotations

import dataclasses

import pytest
from emitters.planted_programs import block, function, layers, linear_weights, mlp, node, program, recurrent

from pellucid.errors import BadInput
from pellucid.ir.graph import Node, Ref
from pellucid.ir.likeness import likeness_of
from pellucid.ir.notes import Notes
from pellucid.ir.printing import function_source, laid_out, listing, program_text


def test_what_is_still_weights_comes_first() -> None:
    made = dataclasses.replace(recurrent(), source="counter.pt2", notes=Notes(remarks=("traced at length 6",)))
    assert made.text(0).splitlines()[:3] == [
        "counter.pt2: 5 parameters",
        "0.0% still weights, 100.0% code, 0.0% words; 0.0% of 2 units still weights",
        "note: traced at length 6",
    ]


def test_exact_network_is_all_weights() -> None:
    assert "100.0% still weights, 0.0% code, 0.0% words; 100.0% of 8 units still weights" in mlp().text()


def test_two_layers_read_as_a_person_writes_them() -> None:
    assert function_source(mlp(), "network") == (
        "def network(x: float32[batch, 4]) -> float32[batch, 4]:\n"
        "    fc1 = relu(linear(x, fc1.weight, fc1.bias))\n"
        "    return linear(fc1, fc2.weight, fc2.bias)\n"
    )


def test_levels_open_down_to_the_depth_asked_for() -> None:
    made = layers()
    opened = [made.text(depth).count("\ndef ") for depth in (0, 1, 2, None)]
    assert opened == [1, 2, 3, 3]


def test_equal_layers_are_shown_once_with_the_names_of_the_others() -> None:
    text = layers(9).text(None)
    assert text.count("\ndef ") == 3
    assert "# the same: blocks.1, blocks.2, blocks.3, blocks.4 … blocks.8 (8)" in text
    assert "    for i in range(9):\n        add_0 = blocks[i](add_0, mask)\n" in text
    assert "# made of 9 × layer" in text
    assert "# reads mlp.up_proj.weight [4, 4]" not in text
    assert "# reads up_proj.weight [4, 4]" in text


def test_a_part_that_differs_is_shown_by_itself() -> None:
    text = layers(5, mixed=True).text(None)
    assert "def blocks.1.mlp(x: float32[batch, 4]) -> float32[batch, 4]:\n    return x * 2.0\n" in text
    assert "# shown as code (by hand), " in text
    assert "# mlp, 16 parameters, 0.0% still weights, " in text
    assert "# the same: blocks.2, blocks.3, blocks.4" in text
    assert "for i in range(2, 5):" in text


def test_start_shows_one_part_and_what_it_calls() -> None:
    text = program_text(layers(), None, start="blocks.2")
    assert [line for line in text.splitlines() if line.startswith("def ")] == [
        "def blocks.2(x: float32[batch, 4], mask: bool[batch, 4]) -> float32[batch, 4]:",
        "def blocks.2.mlp(x: float32[batch, 4]) -> float32[batch, 4]:",
    ]
    with pytest.raises(BadInput, match=r"no function 'blocks\.9'"):
        program_text(layers(), start="blocks.9")


def test_a_reading_can_be_asked_for() -> None:
    assert "step(state, x[:, t])" in function_source(recurrent(), "network", "weights")
    assert "step(" not in function_source(recurrent(), "network")


def test_both_programs_of_a_session_are_told_apart() -> None:
    first, second = mlp(), layers()
    assert function_source(first, "network") != function_source(second, "network") == function_source(second, "network")
    assert "fc1" in function_source(first, "network")


def test_text_is_the_same_each_time() -> None:
    assert len({layers(mixed=True).text(None) for _ in range(3)}) == 1


def test_every_line_knows_its_nodes() -> None:
    made = mlp()
    likeness = likeness_of(made)
    lines = list(laid_out(listing(likeness, likeness.chosen("network", None)).lines))
    assert [nodes for _, nodes in lines] == [("hidden", "relu_1"), ("out",)]


def test_attention_heads_get_their_names_from_what_reads_them() -> None:
    body = block(
        "x", "out",
        node("all_1", "linear", "%x", "@qkv.weight", "@qkv.bias", scope="qkv"),
        node("split_0 split_1 split_2", "split", "%all_1", (4, 4, 4), -1),
        node("view_1", "split_heads", "%split_0", 2),
        node("view_2", "split_heads", "%split_1", 2),
        node("view_3", "split_heads", "%split_2", 2),
        node("mixed_1", "attention", "%view_1", "%view_2", "%view_3", None, True),
        node("out", "merge_heads", "%mixed_1"),
    )  # fmt: skip
    made = program(
        [function("network", body, "network", "")], {"x": "float32 b s 4"}, {"qkv.weight": (12, 4), "qkv.bias": (12,)}
    )
    text = function_source(made, "network")
    assert "    q, k, v = split(linear(x, qkv.weight, qkv.bias), (4, 4, 4), -1)\n    q = split_heads(q, 2)\n" in text
    assert "attention(q, k, v, causal=True)" in text


def test_weights_with_odd_names_are_quoted() -> None:
    body = block("x", "y", node("y", "linear", "%x", "@a b.weight"))
    made = program([function("network", body, "network", "")], {"x": "float32 n 4"}, {"a b.weight": (4, 4)})
    assert "return linear(x, 'a b.weight')" in function_source(made, "network")


def test_a_description_stands_above_its_function() -> None:
    made = mlp().with_notes(descriptions={"network": "adds two numbers"})
    assert "# adds two numbers\ndef network(" in made.text()


def test_units_of_bits() -> None:
    body = block("x", "y", Node(("y",), "relu", (Ref("x"),)))
    for bits, shown in ((12.0, "12 bits"), (1.5e3, "1.5 kbit"), (2e6, "2.0 Mbit"), (3.25e9, "3.2 Gbit")):
        held = function("network", body, "network", "")
        held = dataclasses.replace(held, readings=(dataclasses.replace(held.readings[0], bits=bits),))
        assert f"0 parameters, {shown}" in program([held], {"x": "float32 n"}, {}).text()


def test_linear_weights_helper_matches_the_shapes() -> None:
    assert linear_weights("a") == {"a.weight": (4, 4), "a.bias": (4,)}
