"""Programs made of regions: they equal the graph, whatever the regions, and their calls never go round in a circle."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given as sampled
from hypothesis import settings
from hypothesis import strategies as st
from modules.planted_graphs import gap, given, graph_of, mlp, outputs_of, step, weights_of

from pellucid.errors import BadInput, InvalidProgram
from pellucid.ir.graph import Block, Graph, Node, Ref, ValueType, Weight, calls_made
from pellucid.ir.interpret import run_functions, run_graph
from pellucid.ir.regions import Region, RegionTree, Unit
from pellucid.modules.structure import structure

UNARY = ("relu", "tanh", "neg", "exp")
BINARY = ("add", "mul", "sub", "maximum")


def tree_of(*regions: Region, nodes: tuple[str, ...] = ()) -> RegionTree:
    return RegionTree(Region("network", "network", nodes, children=regions), "test")


def random_graph(rng: random.Random, size: int) -> Graph:
    """A network of `size` steps that read anything made before, some of them of two results; several outputs."""
    values, nodes = ["x", "z"], []
    for i in range(size):
        kind = rng.choice(("linear", "unary", "binary", "split", "softmax"))
        one, other = rng.choice(values), rng.choice(values)
        if kind == "linear":
            nodes.append(step(f"v{i}", "linear", f"@{one}", f"$w{rng.randint(0, 2)}", rng.choice(["$b", None])))
        elif kind == "unary":
            nodes.append(step(f"v{i}", "tanh" if rng.random() < 0.7 else rng.choice(UNARY), f"@{one}"))
        elif kind == "binary":
            nodes.append(step(f"v{i}", rng.choice(BINARY), f"@{one}", f"@{other}"))
        elif kind == "softmax":
            nodes.append(step(f"v{i}", "softmax", f"@{one}", -1))
        else:
            halves = step(f"l{i}", "split", f"@{one}", (2, 2), 1).with_changes(outputs=(f"l{i}", f"r{i}"))
            nodes += [halves, step(f"v{i}", "concat", (f"@r{i}", f"@l{i}"), 1)]
        values.append(f"v{i}")
    outputs = list(dict.fromkeys(rng.choice(values[2:]) for _ in range(rng.randint(1, 3))))
    weights = {name: tensor * 0.5 for name, tensor in weights_of(w0=(4, 4), w1=(4, 4), w2=(4, 4), b=(4,)).items()}
    return graph_of({"x": (4,), "z": (4,)}, nodes, outputs, weights)


def random_tree(rng: random.Random, graph: Graph) -> RegionTree:
    """Nodes dealt out to regions without regard to what they read, some regions inside others."""
    names = [f"r{i}" for i in range(rng.randint(1, 5))]
    dealt: dict[str, list[str]] = {name: [] for name in names}
    for node in graph.block.nodes:
        owner = rng.choice([*names, None])
        if owner is not None:
            dealt[owner].append(node.id)
    regions: list[Region] = []
    for name in names:
        inside = tuple(regions.pop() for _ in range(rng.randint(0, min(2, len(regions)))))
        if dealt[name] or inside:
            regions.append(Region(name, "module", tuple(dealt[name]), children=inside))
    return tree_of(*regions)


@settings(max_examples=40, deadline=None, derandomize=True)
@sampled(st.integers(0, 2**32 - 1))
def test_any_regions_of_any_network(seed: int):
    rng = random.Random(seed)
    graph = random_graph(rng, rng.randint(2, 14))
    program = structure(graph, random_tree(rng, graph))
    inputs = given(graph)
    assert gap(outputs_of(program, inputs), outputs_of(graph, inputs)) < 1e-6


def test_a_region_that_would_wait_for_itself_is_cut():
    graph = mlp()
    program = structure(graph, tree_of(Region("A", "module", ("a", "b", "y")), Region("B", "module", ("h", "g"))))
    assert [*program.functions] == ["network", "A", "B", "A_2", "B_2", "A_3"]
    assert calls_made(program["network"].reading().body) == ("A", "B", "A_2", "B_2", "A_3")
    assert gap(run_functions(program, given(graph)), run_graph(graph, given(graph))) < 1e-6


def test_a_region_is_one_call_where_that_is_possible():
    """Two branches that do not need each other are one function although their nodes alternate."""
    nodes = [step("a", "relu", "@x"), step("b", "tanh", "@x"), step("c", "neg", "@a"), step("d", "exp", "@b")]
    graph = graph_of({"x": (3,)}, [*nodes, step("y", "add", "@c", "@d")], ["y"], {})
    program = structure(graph, tree_of(Region("A", "module", ("a", "c")), Region("B", "module", ("b", "d"))))
    assert [*program.functions] == ["network", "A", "B"]
    assert program["A"].inputs == ("x",)
    assert program["A"].outputs == ("c",)


def test_signatures_scopes_and_kinds():
    program = structure(mlp(), tree_of(Region("first", "layer", ("a", "h")), Region("rest", "mlp", ("b", "g", "y"))))
    assert program.entry == "network"
    assert (program["first"].inputs, program["first"].outputs) == (("x",), ("h",))
    assert (program["first"].kind, program["first"].scope) == ("layer", "a")
    assert program["rest"].scope == ""
    assert program["rest"].reading().kind == "weights"
    assert program["rest"].reading().bits > program["first"].reading().bits


def test_callers_come_before_what_they_call():
    inner = Region("inner", "module", ("h",))
    program = structure(mlp(), tree_of(Region("outer", "module", ("a", "b"), children=(inner,))))
    assert [*program.functions] == ["network", "outer", "inner"]


def test_what_nobody_reads_is_no_function():
    graph = mlp()
    extra = [step("dead", "exp", "@h"), step("deader", "neg", "@dead")]
    block = Block(graph.block.inputs, (*graph.block.nodes, *extra), graph.block.outputs)
    more = {"dead": graph.values["h"], "deader": graph.values["h"]}
    program = structure(
        graph.with_changes(block=block, values={**graph.values, **more}),
        tree_of(Region("A", "module", ("dead", "deader"))),
    )
    assert [*program.functions] == ["network"]


def sized() -> Graph:
    """The mean over positions written with sizes: total / (seq * 2), in two steps."""
    nodes = (
        Node(("n",), "size", (Ref("x"), 1)),
        Node(("twice",), "mul", (Ref("n"), 2)),
        Node(("h",), "tanh", (Ref("x"),)),
        Node(("s",), "total", (Ref("h"), (1,), True)),
        Node(("m",), "div", (Ref("s"), Ref("twice"))),
        Node(("e",), "sub", (Ref("h"), Ref("m"))),
        Node(("k",), "div", (Ref("e"), Ref("twice"))),
    )
    wide, one = ValueType("float32", ("batch", "seq", 3)), ValueType("float32", ("batch", 1, 3))
    number = ValueType("int")
    values = {"x": wide, "n": number, "twice": number, "h": wide, "s": one, "m": one, "e": wide, "k": wide}
    return Graph(Block(("x",), nodes, ("k",)), values, {})


def test_numbers_are_worked_out_where_they_are_needed():
    graph = sized()
    program = structure(graph, tree_of(Region("A", "module", ("h", "s")), Region("B", "module", ("e", "k"))))
    assert program["B"].inputs == ("h", "m")
    assert [node.op for node in program["B"].reading().body.nodes][:2] == ["size", "mul"]
    assert not any(node.op == "size" for node in program["A"].reading().body.nodes)
    for length in (4, 7):
        x = torch.randn(2, length, 3)
        assert gap(run_functions(program, [x]), run_graph(graph, [x])) < 1e-6


def test_a_number_that_no_input_tells_is_passed_on():
    graph = sized()
    program = structure(graph, tree_of(Region("B", "module", ("m",))))
    assert program["B"].inputs == ("s", "twice")
    x = torch.randn(2, 5, 3)
    assert gap(run_functions(program, [x]), run_graph(graph, [x])) < 1e-6


def looped() -> Graph:
    """h = tanh(W x_t + h), the states stacked and passed through a relu."""
    body = Block(
        ("h_before", "x_t", "w2"),
        (
            Node(("wx",), "linear", (Ref("x_t"), Weight("w"), None)),
            Node(("sum",), "add", (Ref("wx"), Ref("h_before"))),
            Node(("scaled",), "mul", (Ref("sum"), Ref("w2"))),
            Node(("h",), "tanh", (Ref("scaled"),)),
        ),
        ("h", "h"),
    )
    nodes = (
        Node(("n",), "size", (Ref("x"), 0)),
        Node(("h0",), "zeros", ((Ref("n"), 3),)),
        Node(("factor",), "exp", (Ref("h0"),)),
        Node(("last", "all"), "scan", ((Ref("h0"),), (Ref("x"),), (Ref("factor"),)), (("axis", 1),), body=body),
        Node(("y",), "relu", (Ref("all"),)),
    )
    state, wide = ValueType("float32", ("batch", 3)), ValueType("float32", ("batch", "seq", 3))
    inside = {name: state for name in ("h_before", "x_t", "w2", "wx", "sum", "scaled", "h", "last", "h0", "factor")}
    values = {**inside, "x": wide, "all": wide, "y": wide, "n": ValueType("int")}
    return Graph(Block(("x",), nodes, ("y", "last")), values, weights_of(w=(3, 3)))


@pytest.mark.parametrize(
    "regions",
    [
        (Region("cell", "step", ("wx", "sum", "scaled", "h")),),
        (Region("A", "module", ("wx", "scaled")), Region("B", "module", ("sum", "h"))),
        (Region("A", "module", ("h0", "wx", "y")), Region("B", "module", ("sum", "h", "factor"))),
        (Region("all", "module", ("n", "h0", "factor", "last")),),
        (Region("all", "module", ("h0", "last"), children=(Region("cell", "step", ("wx", "sum")),)),),
    ],
)
def test_regions_inside_and_around_a_loop(regions):
    graph = looped()
    program = structure(graph, tree_of(*regions))
    for length in (1, 4):
        x = torch.randn(2, length, 3)
        assert gap(run_functions(program, [x]), run_graph(graph, [x])) < 1e-6


def test_a_step_is_a_function_of_states_and_elements():
    program = structure(looped(), tree_of(Region("cell", "step", ("wx", "sum", "scaled", "h"))))
    assert program["cell"].inputs == ("x_t", "h_before", "w2")
    assert program["cell"].outputs == ("h",)
    (scan,) = (node for node in program["network"].reading().body.nodes if node.op == "scan")
    assert [node.op for node in scan.body.nodes] == ["call"]


def test_remarks_and_regions_are_kept():
    graph, tree = mlp().with_changes(remarks=("a remark",)), tree_of(Region("A", "module", ("a",)))
    program = structure(graph, tree)
    assert program.notes.remarks == ("a remark",)
    assert program.regions == tree


def test_a_region_of_unknown_nodes():
    with pytest.raises(BadInput, match="'A' names 'nothing'"):
        structure(mlp(), tree_of(Region("A", "module", ("a", "nothing"))))


def test_a_node_in_two_regions():
    with pytest.raises(BadInput, match="'A' and 'B' both claim node 'h'"):
        structure(mlp(), tree_of(Region("A", "module", ("a", "h")), Region("B", "module", ("h",))))


def test_an_empty_region():
    inner = Region("nothing", "module")
    with pytest.raises(BadInput, match="'nothing' is empty"):
        structure(mlp(), tree_of(Region("A", "module", ("a",), children=(inner,))))
    with pytest.raises(BadInput, match="'nobody' is empty"):
        structure(mlp(), tree_of(Region("nobody", "module", units=(Unit("h", 1, ()),))))


def test_regions_of_one_name():
    with pytest.raises(InvalidProgram, match="2 regions are called 'A'"):
        structure(mlp(), tree_of(Region("A", "module", ("a",)), Region("A", "module", ("h",))))
