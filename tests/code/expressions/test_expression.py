"""Expressions mean what they print, cost what they say, and survive rewriting."""

from __future__ import annotations

import ast
import math
import operator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.code.expressions.expression import (
    Lookup,
    Name,
    bits,
    call,
    evaluate,
    integral,
    linear,
    names_in,
    negated,
    number,
    replace,
    text,
)

NAMES = ("a", "b", "c")
PYTHON = {
    ast.BitOr: operator.or_, ast.BitXor: operator.xor, ast.BitAnd: operator.and_, ast.Add: operator.add,
    ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Mod: operator.mod, ast.FloorDiv: operator.floordiv,
    ast.Div: operator.truediv, ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt,
    ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge, ast.In: lambda a, b: a in b,
}  # fmt: skip
FUNCTIONS = {"abs": abs, "max": max, "min": min, "isqrt": lambda v: math.isqrt(max(v, 0))}


def as_python(node, env):
    """What Python makes of a printed expression, without running it."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return env[node.id]
    if isinstance(node, ast.UnaryOp):
        return -as_python(node.operand, env)
    if isinstance(node, ast.BinOp):
        return PYTHON[type(node.op)](as_python(node.left, env), as_python(node.right, env))
    if isinstance(node, ast.Compare):
        assert len(node.ops) == 1, "no chained comparison is ever printed"
        return PYTHON[type(node.ops[0])](as_python(node.left, env), as_python(node.comparators[0], env))
    if isinstance(node, ast.Set):
        return {as_python(item, env) for item in node.elts}
    if isinstance(node, ast.Tuple):
        return tuple(as_python(item, env) for item in node.elts)
    if isinstance(node, ast.Subscript):
        return as_python(node.value, env)[as_python(node.slice, env)]
    if isinstance(node, ast.Dict):
        return {as_python(k, env): as_python(v, env) for k, v in zip(node.keys, node.values, strict=True)}
    assert isinstance(node, ast.Call)
    return FUNCTIONS[node.func.id](*(as_python(arg, env) for arg in node.args))


def grown(inner):
    """One more node, as plain data: (kind, constants, parts)."""
    pairs = st.tuples(inner, inner)
    small = st.integers(-3, 3)
    return st.one_of(
        st.tuples(st.just("linear"), st.tuples(small, small, small), pairs),
        st.tuples(st.sampled_from(["eq", "ne", "lt", "le", "gt", "ge", "max", "min", "mul"]), st.just(()), pairs),
        st.tuples(st.sampled_from(["and", "or", "xor"]), st.just(()), st.tuples(inner, inner, inner)),
        st.tuples(st.sampled_from(["mod", "floordiv"]), st.tuples(st.integers(2, 5)), st.tuples(inner)),
        st.tuples(st.sampled_from(["abs", "isqrt", "not"]), st.just(()), st.tuples(inner)),
        st.tuples(st.just("in"), st.just((1, 4)), st.tuples(inner)),
    )


PLANS = st.recursive(st.one_of(st.sampled_from(NAMES), st.integers(-4, 9)), grown, max_leaves=8)


def built(plan):
    """The expression of a plan; the arguments of bit operations are made bits."""
    if not isinstance(plan, tuple):
        return number(plan) if isinstance(plan, int) else Name(plan)
    kind, constants, parts = plan
    args = [built(part) for part in parts]
    if kind == "linear":
        return linear(list(zip(constants, args, strict=False)), constants[2])
    if kind in ("and", "or", "xor", "not"):
        args = [call("mod", arg, number(2)) for arg in args]
    if kind == "not":
        return negated(args[0])
    return call(kind, *args, *map(number, constants))


@settings(max_examples=150, deadline=None)
@given(PLANS, st.lists(st.tuples(*[st.integers(-6, 6)] * 3), min_size=1, max_size=4))
def test_what_is_printed_is_what_is_computed(plan, points):
    expr = built(plan)
    env = {name: np.array([p[i] for p in points]) for i, name in enumerate(NAMES)}
    values = np.broadcast_to(evaluate(expr, env), len(points))
    tree = ast.parse(text(expr), mode="eval").body
    assert values.tolist() == [as_python(tree, dict(zip(NAMES, p, strict=True))) for p in points]


@settings(max_examples=100, deadline=None)
@given(PLANS)
def test_every_part_costs_something_and_integers_stay_integers(plan):
    expr = built(plan)
    assert bits(expr) >= 2
    assert integral(expr)
    assert names_in(expr) <= set(NAMES)
    assert bits(call("abs", expr)) > bits(expr)


def test_look_up_prints_and_costs_its_rows():
    table = Lookup((Name("a"), Name("b")), ((0, 0), (0, 1), (1, 0), (1, 1)), (3, 5, 5, 7))
    env = {"a": np.array([0, 1, 1, 9]), "b": np.array([1, 0, 1, 9])}
    assert evaluate(table, env).tolist() == [5, 5, 7, 3]
    assert as_python(ast.parse(text(table), mode="eval").body, {"a": 1, "b": 0}) == 5
    assert bits(table) == pytest.approx(8 + 8 + 4 * (2 + math.log2(3)))


def test_linear_forms_read_well():
    a, b = Name("a"), Name("b")
    assert text(linear([(-1, a), (1, b)])) == "b - a"
    assert text(linear([(-1, a)], 1)) == "1 - a"
    assert text(linear([(Fraction(3, 2), a), (-1, linear([(1, b)], 2))])) == "3 * a / 2 - (b + 2)"
    assert linear([(0, a)], 5) == number(5)
    assert linear([(1, a)]) == a
    assert not integral(linear([(Fraction(1, 2), a)]))


def test_negated_comparisons_are_comparisons():
    a, b = Name("a"), Name("b")
    assert text(negated(call("eq", a, b))) == "a != b"
    assert text(negated(call("lt", a, b))) == "a >= b"
    assert text(negated(call("mod", a, number(2)))) == "a % 2 == 0"


def test_replace_takes_the_outermost_match():
    a, b = Name("a"), Name("b")
    whole = call("max", linear([(1, a), (1, b)]), a)
    assert text(replace(whole, {linear([(1, a), (1, b)]): Name("t"), a: Name("z")})) == "max(t, z)"


def test_python_integers_do_not_overflow():
    huge = np.array([2**70, -(2**70)], dtype=object)
    square = evaluate(call("mul", Name("a"), Name("a")), {"a": huge})
    assert square.tolist() == [2**140, 2**140]
    assert evaluate(call("isqrt", Name("a")), {"a": huge}).tolist() == [2**35, 0]
