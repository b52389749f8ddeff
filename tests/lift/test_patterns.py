"""The language of patterns, and the rewriting that uses it."""

from __future__ import annotations

import pytest
import torch
from lifted import gap, run

from pellucid.ir.graph import Block, Graph, Node, Ref, ValueType, Weight
from pellucid.lift.patterns import New, P, Rule, matches, rewrite, share_repeats, without_copies

KIND = ValueType("float32", (2, 3))


def graph_of(*nodes: Node, outputs: tuple[str, ...], inputs: tuple[str, ...] = ("x", "y")) -> Graph:
    names = [*inputs, *(name for node in nodes for name in node.outputs)]
    return Graph(Block(inputs, nodes, outputs), dict.fromkeys(names, KIND), {"w": torch.ones(3), "m": torch.ones(2, 3)})


def node(name: str, op: str, *args: object, scope: str = "") -> Node:
    return Node(
        (name,), op, tuple(Ref(arg[1:]) if isinstance(arg, str) and arg[0] == "@" else arg for arg in args), scope=scope
    )


MAKERS = {"p": node("p", "mul", "@x", 2.0), "s": node("s", "add", "@p", "@y"), "d": node("d", "sub", "@p", "@y")}


@pytest.mark.parametrize(
    ("pattern", "value", "bound"),
    [
        ("?a", "x", {"?a": Ref("x")}),
        (P("mul", "?a", 2.0), "p", {"?a": Ref("x")}),
        (P("mul", 2, "?a"), "p", {"?a": Ref("x")}),
        (P("add", "?b", P("mul", "?a", "?k")), "s", {"?a": Ref("x"), "?b": Ref("y"), "?k": 2.0}),
        (P("sub", P("mul", "?a", "?k"), "?b"), "d", {"?a": Ref("x"), "?b": Ref("y"), "?k": 2.0}),
        (P("mul", "?a", 3.0), "p", None),
        (P("mul", "?a", "?a"), "p", None),
        (P("mul", "?a"), "p", None),
        (P("sub", "?b", P("mul", "?a", "?k")), "d", None),
        (P("add", "?a", "?b"), "x", None),
        (P("add", P("add", "?a", "?b"), "?c"), "s", None),
    ],
)
def test_matches(pattern, value, bound):
    found: dict = {}
    assert matches(pattern, Ref(value), MAKERS, found) == (bound is not None)
    if bound is not None:
        assert found == bound


def test_a_failed_match_binds_nothing():
    found: dict = {"?c": 1}
    assert not matches(P("add", P("mul", "?a", 2.0), P("mul", "?b", 2.0)), Ref("s"), MAKERS, found)
    assert found == {"?c": 1}


def test_truth_values_are_no_numbers():
    makers = {"f": node("f", "flag", True), "n": node("n", "flag", 1)}
    assert not matches(P("flag", 1), Ref("f"), makers, {})
    assert not matches(P("flag", True), Ref("n"), makers, {})
    assert matches(P("flag", 1.0), Ref("n"), makers, {})


def test_tuples_match_part_by_part():
    makers = {"c": node("c", "concat", (Ref("p"), Ref("x")), -1), "p": MAKERS["p"]}
    found: dict = {}
    assert matches(P("concat", (P("mul", "?a", "?k"), "?a"), -1), Ref("c"), makers, found)
    assert found == {"?a": Ref("x"), "?k": 2.0}
    assert not matches(P("concat", ("?a",), -1), Ref("c"), makers, {})


SQUARE = Rule("square", P("mul", "?a", "?a"), lambda m: ("pow", (m.bound["?a"], 2)))
DOUBLE = Rule("double", P("add", "?a", "?a"), lambda m: ("mul", (m.bound["?a"], 2.0)))


def test_rewrite_replaces_the_root_and_drops_what_nothing_reads():
    graph = graph_of(node("a", "add", "@x", "@x"), node("b", "mul", "@a", "@a"), outputs=("b",))
    changed = rewrite(graph, [Rule("both", P("mul", P("add", "?a", "?a"), "?b"), lambda m: ("neg", (m.bound["?a"],)))])
    assert changed.block.nodes == (node("b", "neg", "@x"),)


def test_rewrite_keeps_what_others_read():
    graph = graph_of(node("a", "add", "@x", "@x"), node("b", "mul", "@a", "@a"), outputs=("b", "a"))
    changed = rewrite(graph, [SQUARE])
    assert [found.op for found in changed.block.nodes] == ["add", "pow"]


def test_rules_work_on_what_other_rules_made_until_none_matches():
    graph = graph_of(node("a", "add", "@x", "@x"), node("b", "add", "@a", "@a"), outputs=("b",))
    quadruple = Rule("quadruple", P("mul", P("mul", "?a", 2.0), 2.0), lambda m: ("mul", (m.bound["?a"], 4.0)))
    assert rewrite(graph, [quadruple, DOUBLE]).block.nodes == (node("b", "mul", "@x", 4.0),)


def test_a_rule_that_declines_leaves_the_node_and_lets_others_try():
    never = Rule("never", P("add", "?a", "?b"), lambda m: None)
    graph = graph_of(node("a", "add", "@x", "@x"), outputs=("a",))
    assert rewrite(graph, [never]).block == graph.block
    assert rewrite(graph, [never, DOUBLE]).block.nodes[0].op == "mul"


def test_a_rule_may_make_a_value():
    kind = ValueType("bool", (2, 3))
    rule = Rule("made", P("neg", "?a"), lambda m: ("where", (New("gt", (m.bound["?a"], 0), kind), -1.0, 1.0)))
    graph = graph_of(node("a", "neg", "@x"), node("a_gt", "exp", "@x"), outputs=("a", "a_gt"))
    changed = rewrite(graph, [rule])
    made = changed.block.nodes[0]
    assert (made.op, made.args, changed.values[made.id]) == ("gt", (Ref("x"), 0), kind)
    assert made.id not in graph.values
    assert changed.block.nodes[1].args[0] == Ref(made.id)


def test_a_match_knows_types():
    seen = []
    rule = Rule("look", P("add", "?a", "?w"), lambda m: seen.append(m) or None)
    rewrite(graph_of(node("a", "add", "@x", Weight("w")), outputs=("a",)), [rule])
    (match,) = seen
    assert (match.axes("?a"), match.axes("?w"), match.made()) == ((2, 3), (3,), (2, 3))
    assert (match.dtype("?w"), match.is_weight("?w", 1), match.is_weight("?w", 2), match.is_weight("?a", 2)) == (
        "float32", True, False, False,
    )  # fmt: skip


# ---- copies and repeats


def test_copies_fall_away():
    block = Block(
        ("x", "y"),
        (node("a", "same", "@x"), node("b", "neg", "@a"), node("c", "same", "@b"), node("d", "exp", "@c")),
        ("d",),
    )
    assert without_copies(block).nodes == (node("b", "neg", "@x"), node("d", "exp", "@b"))


def test_a_copy_that_is_an_output_stands_for_its_source():
    block = Block(("x", "y"), (node("b", "neg", "@x"), node("c", "same", "@b")), ("c",))
    assert without_copies(block) == Block(("x", "y"), (node("b", "neg", "@x"),), ("b",))


def test_outputs_stay_distinct_and_made():
    graph = graph_of(node("a", "same", "@x"), node("b", "neg", "@x"), node("c", "same", "@b"), outputs=("a", "b", "c"))
    clean = without_copies(graph.block)
    assert len(set(clean.outputs)) == 3
    assert not set(clean.outputs) & {"x", "y"}
    x = torch.randn(2, 3)
    assert gap(run(graph.with_changes(block=clean), [x, x]), [x, -x, -x]) == 0.0


def test_equal_computations_are_done_once():
    block = Block(
        ("x", "y"),
        (node("a", "neg", "@x"), node("b", "neg", "@x"), node("c", "add", "@a", "@b"), node("d", "neg", "@y")),
        ("c", "d"),
    )
    assert share_repeats(block).nodes == (node("a", "neg", "@x"), node("c", "add", "@a", "@a"), node("d", "neg", "@y"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (node("a", "add", "@x", 1), node("b", "add", "@x", True)),
        (node("a", "add", "@x", 1), node("b", "add", "@x", 1.0)),
        (node("a", "neg", "@x", scope="left"), node("b", "neg", "@x", scope="right")),
        (node("a", "sum", (Ref("x"),)), node("b", "sum", "@x")),
    ],
)
def test_what_only_looks_equal_is_done_twice(one, other):
    block = Block(("x", "y"), (one, other, node("c", "add", "@a", "@b")), ("c",))
    assert share_repeats(block) == block


def test_an_output_is_never_shared_away():
    block = Block(("x", "y"), (node("a", "neg", "@x"), node("b", "neg", "@x")), ("a", "b"))
    assert share_repeats(block) == block
