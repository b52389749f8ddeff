"""From blocks to lines: what is folded, what gets a name, which name, and in which order."""

from __future__ import annotations

import pytest
from emitters.planted_programs import block, function, node, program

from pellucid.ir.graph import Block, Node, Ref
from pellucid.ir.printing import function_source


def body_of(
    made: Block, values: dict[str, str] | None = None, weights: dict[str, tuple[int, ...]] | None = None
) -> str:
    """The lines of a block under its `def`."""
    held = program([function("network", made, "network", "")], values or {}, weights or {})
    return "".join(f"{line[4:]}\n" for line in function_source(held, "network").splitlines() if line.startswith("    "))


def test_a_value_used_once_is_folded_and_one_used_twice_gets_a_name() -> None:
    made = block(
        "x y", "out",
        node("add_1", "add", "%x", "%y"), node("mul_1", "mul", "%add_1", 2.0), node("out", "div", "%mul_1", "%y"),
    )  # fmt: skip
    assert body_of(made) == "return (x + y) * 2.0 / y\n"
    made = block("x y", "out", node("add_1", "add", "%x", "%y"), node("out", "mul", "%add_1", "%add_1"))
    assert body_of(made) == "x = x + y\nreturn x * x\n"


def test_dead_nodes_are_left_out() -> None:
    made = block("x", "y", node("dead_1", "exp", "%x"), node("dead_2", "exp", "%dead_1"), node("y", "relu", "%x"))
    assert body_of(made) == "return relu(x)\n"


def test_calls_are_nested_at_most_twice() -> None:
    made = block("x", "c", node("a", "relu", "%x"), node("b", "tanh", "%a"), node("c", "sigmoid", "%b"))
    assert body_of(made).count("\n") == 2


def test_lines_stay_short() -> None:
    weights = {f"{'long' * 8}.{i}.weight": (4, 4) for i in range(3)}
    nodes = [node(f"linear_{i}", "linear", "%x", f"@{name}") for i, name in enumerate(weights)]
    made = block(
        "x", "out", *nodes, node("both", "add", "%linear_0", "%linear_1"), node("out", "add", "%both", "%linear_2")
    )
    lines = body_of(made, weights=weights).splitlines()
    assert max(map(len, lines)) <= 88
    assert len(lines) == 4


def test_the_entry_keeps_the_names_of_its_inputs_and_others_start_with_x() -> None:
    inner = block("embedding_7 add_3", "out_1", node("out_1", "sub", "%embedding_7", "%add_3"))
    outer = block("input pixel_values", "out", node("out", "call", "%input", "%pixel_values", function="part"))
    made = program([function("network", outer, "network", ""), function("part", inner)], {}, {})
    assert "def network(input_, pixel_values):" in function_source(made, "network").replace(" -> unknown", "")
    assert "def part(x, h):" in function_source(made, "part").replace(" -> unknown", "")


def test_a_name_is_used_again_when_its_value_is_used_up() -> None:
    made = block(
        "x0", "out",
        node("linear_1", "linear", "%x0", "@a.weight"), node("relu_1", "relu", "%linear_1"),
        node("linear_2", "linear", "%relu_1", "@b.weight"), node("norm_1", "softmax", "%linear_2", -1),
        node("linear_3", "linear", "%norm_1", "@c.weight"), node("out", "tanh", "%linear_3"),
    )  # fmt: skip
    weights = {f"{name}.weight": (4, 4) for name in "abc"}
    assert body_of(made, weights=weights) == (
        "x = relu(linear(x0, a.weight))\n"
        "probs = softmax(linear(x, b.weight), -1)\n"
        "return tanh(linear(probs, c.weight))\n"
    )


def test_what_waits_and_reads_a_name_is_written_before_the_name_changes() -> None:
    made = block(
        "in_1", "out",
        node("h_1", "mul", "%in_1", 3.0), node("square_1", "mul", "%h_1", "%h_1"),
        node("waits", "relu", "%square_1"), node("next_1", "tanh", "%square_1"),
        node("both_1", "mul", "%next_1", "%next_1"), node("out", "add", "%waits", "%both_1"),
    )  # fmt: skip
    lines = body_of(made).splitlines()
    read = next(i for i, line in enumerate(lines) if "relu(" in line)
    changed = next(i for i, line in enumerate(lines) if "tanh(" in line)
    source, target = lines[read].split("relu(")[1].rstrip(")"), lines[read].split(" = ")[0]
    assert read < changed
    assert lines[changed] == f"{source} = tanh({source})"
    assert target != source


@pytest.mark.parametrize("name", ["class", "print", "match", "_", "1st", "a-b", "weird\u202e", "", "lambda"])
def test_names_are_identifiers_that_hide_nothing(name: str) -> None:
    made = block("x", "out", node("a", "exp", "%x", scope=f"{name}"), node("out", "mul", "%a", "%a"))
    local = body_of(made).split(" = ")[0]
    assert local.isidentifier()
    assert local not in {"class", "print", "match", "_", "lambda", "exp"}


def test_modules_name_what_leaves_them_and_only_that() -> None:
    made = block(
        "x", "out",
        node("pow_1", "mul", "%x", "%x", scope="norm"), node("mean_1", "mean", "%pow_1", (-1,), True, scope="norm"),
        node("mul_1", "mul", "%x", "%mean_1", scope="norm"), node("twice", "add", "%mul_1", "%mul_1"),
        node("out", "sub", "%twice", "%mul_1"),
    )  # fmt: skip
    assert body_of(made) == "norm = x * mean(x * x, axes=(-1,), keep=True)\nreturn norm + norm - norm\n"


def test_projections_lose_their_suffix_and_numbers_are_no_names() -> None:
    made = block(
        "x", "out",
        node("linear_1", "linear", "%x", "@w", scope="q_proj"), node("linear_2", "linear", "%x", "@w", scope="3"),
        node("a", "mul", "%linear_1", "%linear_1"), node("b", "mul", "%linear_2", "%linear_2"),
        node("out", "sub", "%a", "%b"),
    )  # fmt: skip
    assert body_of(made, weights={"w": (4, 4)}) == "q = linear(x, w)\nx = linear(x, w)\nreturn q * q - x * x\n"


def scan(states: str, sequences: str, fixed: str, outputs: str, body: Block, axis: int = 1) -> Node:
    args = tuple(tuple(Ref(name) for name in part.split()) for part in (states, sequences, fixed))
    return Node(tuple(outputs.split()), "scan", args, (("axis", axis),), body=body)


SHAPES = {"x": "float32 batch seq 4", "a": "float32 batch 4", "b": "float32 batch 4"}


def test_states_that_swap_change_at_once() -> None:
    step = block("one two now", "two one", node("unused", "neg", "%now"))
    made = Block(("x", "a", "b"), (scan("a b", "x", "", "p q", step), node("out", "sub", "%p", "%q")), ("out",))
    assert body_of(made, SHAPES) == "for t in range(x.shape[1]):\n    a, b = b, a\nreturn a - b\n"


def test_a_delay_line_shifts_in_an_order_that_loses_nothing() -> None:
    step = block("one two now", "now one two")
    made = Block(("x", "a", "b"), (scan("a b", "x", "", "p q y", step), node("out", "add", "%q", "%y")), ("out",))
    assert body_of(made, SHAPES) == (
        "outputs = []\nfor t in range(x.shape[1]):\n    outputs.append(b)\n    b = a\n    a = x[:, t]\n"
        "return b + stack(outputs, 1)\n"
    )


def test_a_state_keeps_its_start_where_that_is_needed_later() -> None:
    step = block("one now", "next_1", node("next_1", "add", "%one", "%now"))
    made = Block(("x", "a"), (scan("a", "x", "", "p", step), node("out", "sub", "%p", "%a")), ("out",))
    assert body_of(made, SHAPES) == ("one = a\nfor t in range(x.shape[1]):\n    one = one + x[:, t]\nreturn one - a\n")


def test_the_time_axis_and_features_share_a_subscript() -> None:
    step = block(
        "one now", "next_1 next_1", node("part_1", "select", "%now", -1, 2), node("next_1", "add", "%one", "%part_1")
    )
    for axis, text in ((1, "x[:, t, 2]"), (0, "x[t, :, 2]"), (-2, "x[:, t, 2]")):
        made = Block(("x", "a"), (scan("a", "x", "", "p y", step, axis),), ("y",))
        assert text in body_of(made, SHAPES)


def test_nothing_is_folded_into_a_loop() -> None:
    step = block(
        "one now fixed", "next_1", node("scaled", "mul", "%now", "%fixed"), node("next_1", "add", "%one", "%scaled")
    )
    nodes = (node("big", "exp", "%b"), node("long", "exp", "%x"), scan("a", "long", "big", "p", step))
    lines = body_of(Block(("x", "a", "b"), nodes, ("p",)), SHAPES).splitlines()
    assert [line for line in lines if "exp" in line] == lines[:2]


def test_a_sequence_entry_read_often_gets_a_name() -> None:
    step = block(
        "one now", "next_1",
        node("p", "mul", "%now", "%now"), node("r", "mul", "%p", "%now"), node("next_1", "add", "%one", "%r"),
    )  # fmt: skip
    text = body_of(Block(("x", "a"), (scan("a", "x", "", "p", step),), ("p",)), SHAPES)
    assert "    now = x[:, t]\n    a = a + now * now * now\n" in text


def test_runs_start_where_the_numbers_do_and_need_three() -> None:
    inner = [
        function(f"h.{i}", block("y", "z", node("z", "linear", "%y", f"@h.{i}.weight"))) for i in range(2, 7)
    ]  # fmt: skip
    calls = [node(f"v{i + 1}", "call", f"%v{i}", function=f"h.{i}") for i in range(2, 7)]
    weights = {f"h.{i}.weight": (4, 4) for i in range(2, 7)}
    outer = block("v2", "v7", *calls)
    made = program([function("network", outer, "network", ""), *inner], {}, weights)
    assert "    for i in range(2, 7):\n        v2 = h[i](v2)\n    return v2\n" in function_source(made, "network")
    short = program([function("network", block("v2", "v4", *calls[:2]), "network", ""), *inner], {}, weights)
    assert "for" not in function_source(short, "network")


def test_a_result_that_is_needed_twice_ends_a_run() -> None:
    inner = [function(f"h.{i}", block("y", "z", node("z", "linear", "%y", f"@h.{i}.weight"))) for i in range(6)]
    calls = [node(f"v{i + 1}", "call", f"%v{i}", function=f"h.{i}") for i in range(6)]
    outer = block("v0", "out", *calls, node("out", "add", "%v6", "%v3"))
    weights = {f"h.{i}.weight": (4, 4) for i in range(6)}
    text = function_source(program([function("network", outer, "network", ""), *inner], {}, weights), "network")
    assert "for i in range(3):" in text
    assert "for i in range(3, 6):" in text


def test_a_loop_over_one_function_with_the_same_weights_counts_nothing() -> None:
    inner = function("cell", block("y", "z", node("z", "linear", "%y", "@cell.weight")))
    calls = [node(f"v{i + 1}", "call", f"%v{i}", function="cell") for i in range(4)]
    made = program([function("network", block("v0", "v4", *calls), "network", ""), inner], {}, {"cell.weight": (4, 4)})
    assert "    for _ in range(4):\n        v0 = cell(v0)\n" in function_source(made, "network")
