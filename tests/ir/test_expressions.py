"""Operators with the fewest brackets that keep their meaning, subscripts, calls without defaults, long lines."""

from __future__ import annotations

import ast

import pytest
from emitters.planted_programs import node

from pellucid.errors import CannotRun, InvalidProgram
from pellucid.ir.expressions import WIDTH, Expr, broken, listed, literal, name, operation
from pellucid.ir.graph import Arg, Ref, Weight
from pellucid.ir.primitives import PREFIXES


def build(tree: object) -> Expr:
    """An expression from nested tuples ("add", a, b), names and numbers."""
    if isinstance(tree, tuple):
        parts = [build(part) for part in tree[1:]]
        return operation(node("made", tree[0], *([0] * len(parts))), parts, {})
    return name(tree) if isinstance(tree, str) else literal(tree)


BINARY = ("or", "xor", "and", "shift_left", "add", "sub", "mul", "floordiv", "mod", "pow", "eq", "lt")
LEFT = [(outer, (inner, "a", "b"), "c") for outer in BINARY for inner in BINARY]
RIGHT = [(outer, "a", (inner, "b", "c")) for outer in BINARY for inner in BINARY]
PREFIXED = [
    tree
    for outer in BINARY
    for prefix in PREFIXES
    for tree in (
        (prefix, (outer, "a", "b")),
        (outer, (prefix, "a"), "b"),
        (outer, "a", (prefix, "b")),
        (outer, -2, "b"),
    )
]


@pytest.mark.parametrize("tree", [*LEFT, *RIGHT, *PREFIXED], ids=str)
def test_brackets_keep_the_meaning(tree: tuple[object, ...]) -> None:
    assert tree_of(ast.parse(build(tree).text, mode="eval").body) == tree


NODES = {
    ast.BitOr: "or", ast.BitXor: "xor", ast.BitAnd: "and", ast.LShift: "shift_left", ast.Add: "add", ast.Sub: "sub",
    ast.Mult: "mul", ast.FloorDiv: "floordiv", ast.Mod: "mod", ast.Pow: "pow", ast.Eq: "eq", ast.Lt: "lt",
    ast.USub: "neg", ast.Invert: "invert",
}  # fmt: skip


def tree_of(parsed: ast.expr) -> object:
    """The nested tuples that an expression was printed from."""
    match parsed:
        case ast.BinOp(left, op, right) | ast.Compare(left, [op], [right]):
            return NODES[type(op)], tree_of(left), tree_of(right)
        case ast.UnaryOp(ast.USub(), ast.Constant(number)):
            return -number
        case ast.UnaryOp(op, operand):
            return NODES[type(op)], tree_of(operand)
        case ast.Name(identifier):
            return identifier
        case ast.Constant(number):
            return number
    raise AssertionError(ast.dump(parsed))


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        (("add", ("add", "a", "b"), "c"), "a + b + c"),
        (("add", "a", ("add", "b", "c")), "a + (b + c)"),
        (("mul", ("add", "a", 1), "b"), "(a + 1) * b"),
        (("pow", "x", 2), "x**2"),
        (("pow", ("neg", "x"), 2), "(-x) ** 2"),
        (("neg", ("pow", "x", 2)), "-x**2"),
        (("and", ("lt", "a", "b"), ("lt", "b", "c")), "(a < b) & (b < c)"),
        (("sub", "a", -1), "a - -1"),
    ],
    ids=str,
)
def test_operators_as_a_person_writes_them(tree: tuple[object, ...], text: str) -> None:
    assert build(tree).text == text


def shown(op: str, *args: Arg, rank: int | None = None, **options: Arg) -> str:
    def part(arg: Arg) -> Expr:
        if isinstance(arg, tuple):
            return listed([part(item) for item in arg])
        if isinstance(arg, Ref):
            return name(arg.name)
        return Expr(f'w["{arg.name}"]') if isinstance(arg, Weight) else literal(arg)

    made = node("made", op, **options)
    return operation(
        made.with_changes(args=args),
        [part(arg) for arg in args],
        {key: part(arg) for key, arg in options.items()},
        rank,
    ).text


X = Ref("x")


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("size", X, 1), "x.shape[1]"),
        (("select", X, 0, 3), "x[3]"),
        (("select", X, 1, Ref("t")), "x[:, t]"),
        (("select", X, -1, 0), "x[..., 0]"),
        (("select", X, -2, -1), "x[..., -1, :]"),
        (("slice_axis", X, -1, 3), "x[..., 3:]"),
        (("slice_axis", X, 2, None, -1), "x[:, :, :-1]"),
        (("slice_axis", X, 1, 0, 2**63 - 1, 2), "x[:, 0::2]"),
        (("index", X, (Ref("i"), None, Ref("j"))), "x[i, :, j]"),
        (("stack", (X,), -1), "x[..., None]"),
        (("matmul", X, Weight("m")), 'x @ w["m"]'),
    ],
    ids=str,
)
def test_subscripts(args: tuple[Arg, ...], text: str) -> None:
    assert shown(*args) == text  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("linear", X, Weight("w"), None), 'linear(x, w["w"])'),
        (("linear", X, Weight("w"), Weight("b")), 'linear(x, w["w"], w["b"])'),
        (("conv2d", X, Weight("w"), None, (1, 1), (1, 1), (1, 1), 1), 'conv2d(x, w["w"], None, padding=(1, 1))'),
        (("attention", X, X, X, Ref("mask"), False, 0.125), "attention(x, x, x, mask, scale=0.125)"),
        (("attention", X, X, X, None, True), "attention(x, x, x, causal=True)"),
        (("total", X, (1,), False), "total(x, axes=(1,))"),
        (("gelu", X, "tanh"), 'gelu(x, approximate="tanh")'),
        (("gelu", X, "none"), "gelu(x)"),
        (("arange", 0, Ref("n"), 1, "int64"), "arange(0, n)"),
        (("zeros", (Ref("n"), 4), "float32"), "zeros((n, 4))"),
        (("masked_fill", X, Ref("m"), float("-inf")), 'masked_fill(x, m, float("-inf"))'),
        (("clip", X, None, 6.0), "clip(x, high=6.0)"),
    ],
    ids=str,
)
def test_calls_leave_defaults_out(args: tuple[Arg, ...], text: str) -> None:
    assert shown(*args) == text  # type: ignore[arg-type]


def test_subscripts_of_subscripts_become_one_where_axes_are_known() -> None:
    step = operation(node("a", "select", "%x", 1, 0), [name("x"), literal(1), name("t")], {})
    for axis, text in ((0, "x[3, t]"), (1, "x[:, t, 3]"), (-1, "x[:, t, 3]")):
        made = node("b", "select", "%a", axis, 3)
        assert operation(made, [step, literal(axis), literal(3)], {}, rank=2).text == text
    unknown = operation(node("b", "select", "%a", -1, 3), [step, literal(-1), literal(3)], {})
    assert unknown.text == "x[:, t][..., 3]"


def test_a_range_of_a_range_stays_two() -> None:
    first = operation(node("a", "slice_axis", "%x", 1, 2), [name("x"), literal(1), literal(2)], {})
    second = operation(node("b", "slice_axis", "%a", 1, 3), [first, literal(1), literal(3)], {})
    assert second.text == "x[:, 2:][:, 3:]"
    other = operation(node("b", "slice_axis", "%a", 0, 3), [first, literal(0), literal(3)], {})
    assert other.text == "x[3:, 2:]"


def test_opaque_operations_are_named_in_full_and_checked() -> None:
    assert shown("aten.erfinv.default", X) == "torch.ops.aten.erfinv.default(x)"
    assert shown("aten.sum.dim_IntList", X, (1,), dtype="float64").endswith("(x, (1,), dtype=torch.float64)")
    with pytest.raises(CannotRun):
        shown("aten.relu_.default", X)
    with pytest.raises(InvalidProgram):
        operation(node("made", "aten.erfinv.default"), [name("x")], {"a=1, b": literal(1)})


def test_numbers_and_strings_are_exact() -> None:
    assert [literal(v).text for v in (0.1, 1e-5, -0.0, True, None, float("nan"))] == [
        "0.1", "1e-05", "-0.0", "True", "None", 'float("nan")',
    ]  # fmt: skip
    assert literal("it's").text == '"it\'s"'
    assert ast.literal_eval(literal('a"b\\\n').text) == 'a"b\\\n'


LONG = [
    "x = concat((" + ", ".join(f"value_{i}" for i in range(40)) + "), -1)",
    "outputs, hidden = recurrent(" + ", ".join(f'w["weight_number_{i}_of_the_network"]' for i in range(9)) + ")",
    "return " + " + ".join(f"{i}.5 * x{i}" for i in range(30)),
    "y = lookup((" + ", ".join(f"({i}, {i + 1})" for i in range(60)) + "), (a, b))",
    'z = f("a, (b" * 3, ' + ", ".join(f'"),{i}("' for i in range(40)) + ")",
    "return f(g(h(" + ", ".join(f"argument_{i}" for i in range(30)) + ")))",
]


@pytest.mark.parametrize("text", LONG)
def test_long_lines_are_broken_and_mean_the_same(text: str) -> None:
    lines = broken(text, 4)
    assert len(lines) > 1
    assert max(map(len, lines)) <= WIDTH
    whole = "def f():\n" + "\n".join(lines)
    assert ast.dump(ast.parse(whole)) == ast.dump(ast.parse(f"def f():\n    {text}"))


def test_short_lines_stay() -> None:
    assert broken("x = 1", 4) == ["    x = 1"]
