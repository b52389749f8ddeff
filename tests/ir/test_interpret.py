import numpy as np
import pytest
import torch

from pellucid.errors import BadInput, CannotRun
from pellucid.ir.graph import Block, Graph, Node, Ref, ValueType, Weight
from pellucid.ir.interpret import Scope, bind, run_block, run_functions, run_graph


def _expected(program, xs):
    total = torch.cumsum(xs @ program.weights["cell.w"].T, 1) * 2
    return (total @ program.weights["head.w"].T).masked_fill(program.weights["head.mask"], float("-inf"))


def test_a_program_computes_what_is_planted_by_either_reading(program, xs):
    for reading in ("weights", "code", None):
        torch.testing.assert_close(program.run(xs, reading=reading), _expected(program, xs))
    torch.testing.assert_close(program(xs=xs), _expected(program, xs))


def test_a_loop_gives_last_states_and_stacked_sequences():
    body = Block(("a", "b", "x", "c"), (
        Node(("a2",), "add", (Ref("a"), Ref("x"))),
        Node(("b2",), "mul", (Ref("b"), Ref("c"))),
    ), ("a2", "b2", "a2"))  # fmt: skip
    node = Node(
        ("a_end", "b_end", "sums"), "scan", ((Ref("a0"), Ref("b0")), (Ref("xs"),), (2,)), (("axis", 0),), body=body
    )
    block = Block(("a0", "b0", "xs"), (node,), ("a_end", "b_end", "sums"))
    one = torch.tensor(1.0)
    last, product, sums = run_block(block, [one, one, torch.tensor([1.0, 2.0, 3.0])], Scope({}, lambda n, v: v))
    assert (float(last), float(product)) == (7.0, 8.0)
    assert sums.tolist() == [2.0, 4.0, 7.0]


def test_functions_can_be_watched_callees_first(program, xs):
    seen = []
    run_functions(program, [xs], "weights", watch=lambda name, ins, outs: seen.append((name, len(ins), len(outs))))
    assert seen == [("cell", 1, 1), ("head", 1, 1), ("network", 1, 1)]


def test_values_inside_a_function_can_be_watched(program, xs):
    seen = {}
    run_functions(program, [xs], "weights", watch_values={"cell": seen.__setitem__})
    assert next(iter(seen)) == "xs"
    torch.testing.assert_close(seen["all"], torch.cumsum(xs @ program.weights["cell.w"].T, 1) * 2)
    assert "out" not in seen


def test_a_replacement_takes_the_functions_place(program, xs):
    (out,) = run_functions(program, [xs], replace={"cell": lambda values: [torch.zeros(5, 7, 3)]})
    assert float(out[~torch.isinf(out)].abs().max()) == 0.0
    (same,) = run_functions(
        program, [xs], replace={"cell": lambda values: run_functions(program, values, "weights", start="cell")}
    )
    torch.testing.assert_close(same, _expected(program, xs))


def test_any_function_can_be_the_start(program, xs):
    (found,) = run_functions(program, [xs], start="cell")
    torch.testing.assert_close(found, torch.cumsum(xs @ program.weights["cell.w"].T, 1) * 2)


def test_no_gradients_are_recorded(program, xs):
    program.weights["cell.w"].requires_grad_(True)
    assert not program(xs).requires_grad


def test_values_are_let_go_after_their_last_use():
    import weakref

    alive = []

    def probe(name, values):
        alive.append([ref() is not None for ref in refs])
        return [values[0] * 1]

    refs = []

    def watch(name, value):
        refs.append(weakref.ref(value))

    nodes = (
        Node(("a",), "neg", (Ref("x"),)),
        Node(("b",), "neg", (Ref("a"),)),
        Node(("c",), "call", (Ref("b"),), function="probe"),
        Node(("d",), "call", (Ref("c"),), function="probe"),
    )
    run_block(Block(("x",), nodes, ("d",)), [torch.ones(3)], Scope({}, probe, watch))
    assert alive[0] == [False, True], "a is dead once b is made"
    assert alive[1] == [False, False, True], "b is dead once c is made"


def test_operations_of_several_results_and_opaque_ones():
    nodes = (
        Node(("left", "right"), "split", (Ref("x"), (1, 2), 0)),
        Node(("joined",), "concat", ((Ref("right"), Ref("left")), 0)),
        Node(("y",), "aten.square.default", (Ref("joined"),)),
    )
    graph = Graph(Block(("x",), nodes, ("y",)), {"x": ValueType("float32", (3,))}, {})
    seen = []
    (y,) = run_graph(graph, [torch.tensor([1.0, 2.0, 3.0])], lambda name, value: seen.append(name))
    assert y.tolist() == [4.0, 9.0, 1.0]
    assert seen == ["left", "right", "joined", "y"]


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (
            Node(("y",), "linear", (Ref("x"), Weight("w")), source="net.py:3"),
            r"linear computing 'y' \(net\.py:3\)",
        ),
        (Node(("y",), "call", (Ref("x"),), function="f"), "a graph calls no functions"),
        (Node(("y",), "aten.add_.Tensor", (Ref("x"), Ref("x"))), "side effects"),
    ],
)
def test_what_fails_is_named_in_one_line(node, message):
    graph = Graph(Block(("x",), (node,), ("y",)), {}, {"w": torch.ones(5, 5)})
    with pytest.raises(CannotRun, match=message) as caught:
        run_graph(graph, [torch.ones(3)])
    assert "\n" not in str(caught.value)


def test_an_empty_sequence_is_refused(program):
    with pytest.raises(CannotRun, match="length 0"):
        program.run(torch.zeros(2, 0, 2), reading="weights")


def test_a_block_wants_all_its_inputs():
    with pytest.raises(CannotRun, match="2 inputs was given 1"):
        run_block(Block(("a", "b"), (), ("a",)), [1], Scope({}, lambda n, v: v))


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "needs the argument xs"),
        ((torch.zeros(1, 1, 2), 3), {}, "it was given 2 positional"),
        ((), {"ys": 1}, "it was given ys"),
        (("text",), {}, "is a str"),
        ((torch.zeros(1, 1, 2, dtype=torch.int64),), {}, "is int64; the network takes float32"),
        ((torch.zeros(1, 1, 3),), {}, r"has shape \[1, 1, 3\]"),
        ((torch.zeros(1, 2),), {}, "has shape"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(program, args, kwargs, message):
    with pytest.raises(BadInput, match=message):
        bind(program, args, kwargs)


def test_arguments_are_brought_to_the_networks_types(program):
    (bound,) = bind(program, [np.ones((1, 2, 2))], {})
    assert bound.dtype == torch.float32
