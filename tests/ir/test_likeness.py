"""Equal digests mean equal text, and any difference that shows in the text changes the digest."""

from __future__ import annotations

import pytest
from emitters.planted_programs import block, function, layers, node, program
from emitters.random_programs import random_program

from pellucid.ir.graph import Block
from pellucid.ir.likeness import Likeness, likeness_of
from pellucid.ir.naming import parameter_names
from pellucid.ir.printing import function_source
from pellucid.ir.program import Program


def digests(made: Program) -> dict[str, str]:
    likeness = Likeness(made, parameter_names(made))
    return {name: likeness.digest(likeness.chosen(name, None)) for name in made.functions}


def test_layers_are_alike_and_their_parts_are_not() -> None:
    found = digests(layers(3))
    assert found["blocks.0"] == found["blocks.1"] == found["blocks.2"] != found["blocks.0.mlp"]


def test_a_part_with_code_changes_its_callers() -> None:
    found = digests(layers(3, mixed=True))
    assert found["blocks.0"] == found["blocks.2"] != found["blocks.1"]


def pair(first: Block, second: Block, kinds: dict[str, str] | None = None) -> bool:
    """Whether two functions of these bodies are alike."""
    parts = [function("h.0", first), function("h.1", second)]
    calls = [node("p", "call", *(f"%{v}" for v in ("x", "y")[: len(first.inputs)]), function="h.0")]
    calls.append(node("q", "call", *(f"%{v}" for v in ("x", "y")[: len(second.inputs)]), function="h.1"))
    body = block("x y", "q p", *calls)
    weights = {f"h.{i}.{name}": (4, 4) for i in range(2) for name in ("w", "v")} | {"shared": (4, 4)}
    found = digests(program([function("network", body, "network", ""), *parts], kinds or {}, weights))
    return found["h.0"] == found["h.1"]


SAME = block("a_1 b_1", "add_1", node("add_1", "linear", "%a_1", "@h.0.w", scope="h.0.fc"))


@pytest.mark.parametrize(
    ("other", "alike"),
    [
        (block("a_2 b_2", "add_7", node("add_7", "linear", "%a_2", "@h.1.w", scope="h.1.fc")), True),
        (block("a_2 b_2", "add_7", node("add_7", "linear", "%b_2", "@h.1.w", scope="h.1.fc")), False),
        (block("a_2 b_2", "add_7", node("add_7", "linear", "%a_2", "@h.1.v", scope="h.1.fc")), False),
        (block("a_2 b_2", "add_7", node("add_7", "linear", "%a_2", "@h.0.w", scope="h.1.fc")), False),
        (block("a_2 b_2", "add_7", node("add_7", "linear", "%a_2", "@h.1.w", scope="h.1.out")), False),
        (block("a_2 b_2", "add_7", node("add_7", "linear", "%a_2", "@h.1.w", None, scope="h.1.fc")), False),
        (block("a_2 b_2", "total_7", node("total_7", "linear", "%a_2", "@h.1.w", scope="h.1.fc")), True),
        (block("a_2 b_2", "sums_7", node("sums_7", "linear", "%a_2", "@h.1.w", scope="h.1.fc")), False),
    ],
)
def test_what_counts_as_alike(other: Block, alike: bool) -> None:
    assert pair(SAME, other) is alike


def test_what_the_network_calls_its_input_makes_no_difference() -> None:
    """The first layer is given the network's own input, the others what came before."""
    bodies = [
        block("pixels", "add_1", node("add_1", "relu", "%pixels")),
        block("add_1", "add_2", node("add_2", "relu", "%add_1")),
    ]
    assert pair(*bodies)


@pytest.mark.parametrize("values", [(1, True), (1, 1.0), (0.0, -0.0), (2, 3)])
def test_literals_differ_by_type_and_sign(values: tuple[object, object]) -> None:
    first, second = (block("a", "c", node("c", "mul", "%a", value)) for value in values)
    assert not pair(first, second)


@pytest.mark.parametrize("seed", range(10))
def test_equal_digests_give_equal_text(seed: int) -> None:
    made = random_program(seed)
    by_digest: dict[str, set[str]] = {}
    for name, digest in digests(made).items():
        body = function_source(made, name).partition(":\n")[2].replace(f"{name}.", "")
        by_digest.setdefault(digest, set()).add(body)
    assert all(len(texts) == 1 for texts in by_digest.values())


def test_digests_are_kept_for_the_program_asked_for_last() -> None:
    first, second = layers(2), layers(3)
    assert likeness_of(first) is likeness_of(first)
    kept = likeness_of(first)
    likeness_of(second)
    assert likeness_of(first) is not kept
