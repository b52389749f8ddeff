import dataclasses

import pytest

from pellucid.errors import InvalidProgram
from pellucid.ir.graph import Block, Node, Ref, ValueType, Weight
from pellucid.ir.program import Function, Reading
from pellucid.ir.regions import Region, RegionTree
from pellucid.ir.validate import (
    BLOCK_RULES,
    FUNCTION_RULES,
    NODE_RULES,
    PROGRAM_RULES,
    READING_RULES,
    problems,
    validate,
)  # fmt: skip


def _function(program, name, **changes):
    return program.with_function(dataclasses.replace(program[name], **changes))


def _body(program, name, change, position=0):
    readings = list(program[name].readings)
    readings[position] = dataclasses.replace(readings[position], body=change(readings[position].body))
    return _function(program, name, readings=tuple(readings))


def _node(program, name, position, **changes):
    def change(body):
        nodes = list(body.nodes)
        nodes[position] = nodes[position].with_changes(**changes)
        return dataclasses.replace(body, nodes=tuple(nodes))

    return _body(program, name, change)


def _scan(program, **changes):
    node = program["cell"].readings[0].body.nodes[2]
    return _node(program, "cell", 2, body=dataclasses.replace(node.body, **changes))


def _chain(program, length):
    """Each function calls the next one ten times: ten to the power of `length` calls in all."""
    for i in range(length):
        callee = f"f{i + 1}" if i + 1 < length else "head"
        calls = tuple(Node((f"v{k}",), "call", (Ref("all"),), function=callee) for k in range(10))
        reading = Reading("weights", Block(("all",), calls, ("v9",)), "exact", 1.0)
        program = program.with_function(Function(f"f{i}", "part", "", ("all",), ("v9",), (reading,)))
    return program


BROKEN = {
    "the entry 'none'": lambda p: dataclasses.replace(p, entry="none"),
    "input 'xs' of the program has no type": lambda p: dataclasses.replace(p, values={}),
    "kept under the name": lambda p: dataclasses.replace(p, functions={**p.functions, "other": p["head"]}),
    "function name 'a b'": lambda p: p.with_function(dataclasses.replace(p["head"], name="a b")),
    "weight name": lambda p: dataclasses.replace(p, weights={**p.weights, "a\nb": p.weights["head.w"]}),
    "unknown type 'float33'": lambda p: dataclasses.replace(p, values={**p.values, "v": ValueType("float33", ())}),
    "neither a size nor a symbol": lambda p: dataclasses.replace(p, values={**p.values, "v": ValueType("bool", (-1,))}),
    "2 regions are called 'network'": lambda p: dataclasses.replace(
        p, regions=RegionTree(Region("network", "n", children=(Region("network", "n"),)), "nesting")
    ),
    "region name": lambda p: dataclasses.replace(p, regions=RegionTree(Region("<b>", "n"), "nesting")),
    "calls itself": lambda p: _node(p, "head", 0, op="call", args=(Ref("all"),), function="network"),
    "one run would reach": lambda p: _chain(p, 8),
    "its kind is not one line": lambda p: _function(p, "head", kind="a\nb"),
    "its summary of code": lambda p: _function(
        p, "cell", readings=(p["cell"].readings[0], dataclasses.replace(p["cell"].readings[1], summary="\x1b[2J"))
    ),
    "input 'all' is repeated": lambda p: _function(p, "head", inputs=("all", "all")),
    "it has no output": lambda p: _function(p, "head", outputs=()),
    "do not start with 'weights'": lambda p: _function(p, "cell", readings=p["cell"].readings[::-1]),
    "two readings of one kind": lambda p: _function(p, "head", readings=p["head"].readings * 2),
    "has chosen the reading 'words'": lambda p: _function(p, "head", chosen="words"),
    "takes (), the function takes (xs)": lambda p: _body(p, "cell", lambda b: dataclasses.replace(b, inputs=()), 1),
    "gives (mixed), the function gives (all)": lambda p: _body(
        p, "cell", lambda b: dataclasses.replace(b, outputs=("mixed",)), 1
    ),
    "its budget is nan": lambda p: _function(
        p, "cell", readings=(p["cell"].readings[0], dataclasses.replace(p["cell"].readings[1], budget=float("nan")))
    ),
    "value name 'a b'": lambda p: _node(p, "head", 0, outputs=("a b",)),
    "value name 'class'": lambda p: _node(p, "head", 0, outputs=("class",)),
    "value 'all' is defined 2 times": lambda p: _node(p, "head", 0, outputs=("all",)),
    "reads 'late' before it is defined": lambda p: _node(p, "head", 0, args=(Ref("late"), Weight("head.w"))),
    "output 'out' is never defined": lambda p: _body(p, "head", lambda b: dataclasses.replace(b, nodes=b.nodes[:1])),
    "it defines no value": lambda p: _node(p, "head", 0, outputs=()),
    "reads the weight 'gone'": lambda p: _node(p, "head", 0, args=(Ref("all"), Weight("gone"))),
    "more than 64 bits": lambda p: _node(p, "head", 0, op="mul", args=(Ref("all"), -(2**64))),
    "a string is not one line": lambda p: _node(p, "head", 0, op="einsum", args=("a\nb", (Ref("all"),))),
    "its origin": lambda p: _node(p, "head", 0, source="a\nb"),
    "is not of the form aten": lambda p: _node(p, "head", 0, op="lin"),
    "has side effects": lambda p: _node(p, "head", 0, op="aten.relu_.default"),
    "has no operation 'aten.relu.nothing'": lambda p: _node(p, "head", 0, op="aten.relu.nothing"),
    "unknown operation": lambda p: _node(p, "head", 0, op="aten.__class__.mro"),
    "do not fit the operation": lambda p: _node(p, "head", 0, args=(Ref("all"),)),
    "element type 'load' is unknown": lambda p: _node(p, "head", 0, op="cast", args=(Ref("all"), "load")),
    "recurrent cell 'load' is unknown": lambda p: _node(
        p, "head", 0, op="recurrent", args=("load", Ref("all"), (), (), 1, False, True)
    ),
    "only calls name a function": lambda p: _node(p, "head", 0, function="cell"),
    "calls 'gone'": lambda p: _node(p, "network", 0, function="gone"),
    "passes 2 arguments, 'cell' takes 1": lambda p: _node(p, "network", 0, args=(Ref("xs"), 1)),
    "takes 2 results, 'cell' gives 1": lambda p: _node(p, "network", 0, outputs=("all", "more")),
    "a scan has a body and three tuples": lambda p: _node(p, "cell", 2, args=((), ())),
    "a scan needs a sequence": lambda p: _node(p, "cell", 2, args=((Ref("h0"),), (), (1, 2))),
    "its body takes 3 values, it is given 2": lambda p: _node(p, "cell", 2, args=((Ref("h0"),), (Ref("xs"),), ())),
    "its body gives 1 values": lambda p: _scan(p, outputs=("next",)),
    "its only option is the axis": lambda p: _node(p, "cell", 2, kwargs=(("axis", "1"),)),
    "node 'last' (scan): node ('mixed',) reads 'gone'": lambda p: _scan(
        p, nodes=(Node(("mixed",), "neg", (Ref("gone"),)), *p["cell"].readings[0].body.nodes[2].body.nodes[1:])
    ),
}


def test_a_valid_program_has_no_problems(program):
    assert problems(program) == ()
    validate(program)


@pytest.mark.parametrize("message", BROKEN)
def test_each_broken_rule_is_named(program, message):
    broken = BROKEN[message](program)
    found = problems(broken)
    assert any(message in problem for problem in found), found
    assert all("\n" not in problem for problem in found)
    with pytest.raises(InvalidProgram):
        validate(broken)


def test_the_table_says_what_each_rule_is():
    for rules in (PROGRAM_RULES, FUNCTION_RULES, READING_RULES, BLOCK_RULES, NODE_RULES):
        assert all(title and callable(rule) for title, rule in rules)
    assert len(BROKEN) >= sum(map(len, (PROGRAM_RULES, FUNCTION_RULES, READING_RULES, BLOCK_RULES, NODE_RULES)))
