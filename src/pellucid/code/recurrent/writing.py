"""From step programs to the intermediate representation: loops over the steps of a sequence, in whole numbers.

Each assignment becomes a few primitives on arrays with one entry per sample; the loop is a `scan`. Truth values are the
numbers 0 and 1, as in `expressions.expression`. A program with fractions computes in float64, others in int64.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from pellucid.code.expressions.expression import COMPARISONS, Call, Expr, Linear, Lookup, Name, Number, integral
from pellucid.code.recurrent.steps import StepProgram
from pellucid.errors import InvalidProgram
from pellucid.ir.graph import Arg, Block, Node, Ref

SPOKEN = {"and": "both", "or": "either", "not": "opposite"}
"""Names of values for operations that are words of Python."""

LARGEST_TABLE = 4096
"""Cells of a look-up table once it is spread over the ranges of its keys."""


@dataclass
class Writer:
    """Nodes written so far.

    Attributes:
        dtype: element type of truth values, "int64" or "float64".
        prefix: put before every name.
        nodes: in order.
        known: the values that the names in expressions stand for.
        taken: names that no new value may have.
    """

    dtype: str = "int64"
    prefix: str = ""
    nodes: list[Node] = field(default_factory=list)
    known: dict[str, Arg] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)

    def fresh(self, name: str) -> str:
        """A value name: `name`, or `name_2`, … if that is taken."""
        options = itertools.chain([name], (f"{name}_{i}" for i in itertools.count(2)))
        chosen = next(option for option in options if f"{self.prefix}{option}" not in self.taken)
        self.taken.add(f"{self.prefix}{chosen}")
        return f"{self.prefix}{chosen}"

    def node(self, op: str, *args: Arg, name: str = "", exactly: str = "") -> Ref:
        """Append a node and return its value, called `name` or like it, or `exactly` so."""
        made = exactly or self.fresh(name or SPOKEN.get(op, op))
        self.nodes.append(Node((made,), op, args))
        return Ref(made)

    def write(self, expr: Expr, name: str = "") -> Arg:
        """The value of an expression: a literal, or a reference to the node that computes it."""
        if isinstance(expr, Number):
            return _plain(expr.value)
        if isinstance(expr, Name):
            return self.known[expr.name]
        if isinstance(expr, Linear):
            return self._linear(expr, name)
        return self._lookup(expr, name) if isinstance(expr, Lookup) else self._call(expr, name)

    def array(self, expr: Expr, name: str = "") -> Ref:
        """The value of an expression as an array with one entry per sample, even if it is a literal."""
        return _as_value(self, self.write(expr, name), name or "constant")

    def _linear(self, expr: Linear, name: str) -> Arg:
        pieces = sorted(expr.terms, key=lambda term: term[0] < 0)
        total: Arg = None
        for position, (factor, term) in enumerate(pieces):
            last = name if position == len(pieces) - 1 and not expr.constant else ""
            value = self.write(term)
            size = abs(factor) if total is not None else factor
            scaled = (
                value if size == 1 else self.node("neg", value) if size == -1 else self.node("mul", _plain(size), value)
            )
            op = "sub" if factor < 0 else "add"
            total = scaled if total is None else self.node(op, total, scaled, name=last)
        if expr.constant:
            total = self.node("sub" if expr.constant < 0 else "add", total, _plain(abs(expr.constant)), name=name)
        return total

    def _call(self, expr: Call, name: str) -> Arg:
        args = [self.write(arg) for arg in expr.args]
        if expr.op == "in":
            found = self._chain("or", [self.node("eq", args[0], member) for member in args[1:]])
            return self.node("cast", found, self.dtype, name=name)
        if expr.op in COMPARISONS:
            return self.node("cast", self.node(expr.op, *args), self.dtype, name=name)
        if expr.op in ("max", "min"):
            return self._chain({"max": "maximum", "min": "minimum"}[expr.op], args, name)
        if expr.op == "abs":
            return self.node("absolute", *args, name=name)
        if expr.op == "isqrt":
            root = self.node("sqrt", self.node("cast", args[0], "float64"))
            return self.node("cast", self.node("floor", root), self.dtype, name=name)
        if expr.op == "argmax":
            return self._argmax(args, name)
        return self._chain(expr.op, args, name)

    def _chain(self, op: str, args: Sequence[Arg], name: str = "") -> Arg:
        total = args[0]
        for position, arg in enumerate(args[1:], start=1):
            total = self.node(op, total, arg, name=name if position == len(args) - 1 else "")
        return total

    def _argmax(self, args: Sequence[Arg], name: str) -> Arg:
        best, index = args[0], self.node("mul", args[0], 0)
        for position, arg in enumerate(args[1:], start=1):
            index = self.node("where", self.node("gt", arg, best), position, index, name=name)
            best = self.node("maximum", best, arg)
        return index

    def _lookup(self, expr: Lookup, name: str) -> Arg:
        columns = list(zip(*expr.keys, strict=True))
        lows = [min(column) for column in columns]
        sizes = [max(column) - low + 1 for column, low in zip(columns, lows, strict=True)]
        cells = 1
        for size in sizes:
            cells *= size
        if cells > LARGEST_TABLE:
            raise InvalidProgram(f"a look-up table over ranges {sizes} has {cells} cells; at most {LARGEST_TABLE}")
        entries = dict(zip(expr.keys, expr.values, strict=True))
        table = _nested(entries, lows, sizes, (), expr.values[0])
        places = tuple(
            self.node("sub" if low > 0 else "add", self.write(arg), abs(low)) if low else self.write(arg)
            for arg, low in zip(expr.args, lows, strict=True)
        )
        return self.node("lookup", table, places, name=name)


def _nested(
    entries: dict[tuple[int, ...], int], lows: Sequence[int], sizes: Sequence[int], at: tuple[int, ...], default: int
) -> Arg:
    if len(at) == len(lows):
        return entries.get(at, default)
    low = lows[len(at)]
    return tuple(_nested(entries, lows, sizes, (*at, low + i), default) for i in range(sizes[len(at)]))


def _plain(value: Fraction) -> int | float:
    return int(value) if value.denominator == 1 else float(value)


def is_whole(program: StepProgram) -> bool:
    """Whether every number that the program computes is an integer."""
    whole = all(integral(value) for step in program.body for value in step.values)
    return whole and all(value.denominator == 1 for _, value in program.state)


def block_of(program: StepProgram, source: str, target: str) -> Block:
    """The program over sequences: `source` [batch, time, channels] to `target` [batch, time, outputs], float32.

    Raises:
        InvalidProgram: a look-up table is too large to be written out.
    """
    dtype = "int64" if is_whole(program) else "float64"
    writer = Writer(dtype, "", taken={source, target})
    steps = writer.node("cast", Ref(source), dtype, name="steps")
    samples = writer.node("size", Ref(source), 0, name="samples")
    starts = tuple(
        writer.node("full", (samples,), _plain(value), dtype, name=f"{name}_start") for name, value in program.state
    )
    body, states = _body(program, writer.taken, dtype)
    last = tuple(writer.fresh(f"{name}_last") for name in states)
    sequence = writer.fresh("outputs")
    writer.nodes.append(Node((*last, sequence), "scan", (starts, (steps,), ()), (("axis", 1),), body=body))
    writer.nodes.append(Node((target,), "cast", (Ref(sequence), "float32")))
    return Block((source,), tuple(writer.nodes), (target,))


def _body(program: StepProgram, taken: set[str], dtype: str) -> tuple[Block, tuple[str, ...]]:
    """What happens at each step: from the state and the step [batch, channels] to the new state and the outputs."""
    writer = Writer(dtype, "", taken=set(taken))
    states = tuple(name for name, _ in program.state)
    inputs = tuple(writer.fresh(name) for name in states)
    writer.known.update({name: Ref(value) for name, value in zip(states, inputs, strict=True)})
    step = writer.fresh("step")
    for position, name in enumerate(program.inputs):
        writer.known[name] = writer.node("select", Ref(step), -1, position, name=name)
    unset = Counter(target for assignment in program.body for target in assignment.targets)
    together = None
    for assignment in program.body:
        pairs = list(zip(assignment.targets, assignment.values, strict=True))
        values = [writer.write(value, target) for target, value in pairs]
        writer.known.update(zip(assignment.targets, values, strict=True))
        unset.subtract(assignment.targets)
        if together is None and not any(unset[name] for name in program.outputs):
            outputs = [_as_value(writer, writer.known[name], name) for name in program.outputs]
            together = writer.node("stack", tuple(outputs), -1, name="output")
    if together is None:
        raise InvalidProgram(f"a step program sets none of its outputs {', '.join(program.outputs)}")
    after = tuple(_as_value(writer, writer.known[name], name).name for name in states)
    return Block((*inputs, step), tuple(writer.nodes), (*after, together.name)), states


def _as_value(writer: Writer, arg: Arg, name: str) -> Ref:
    """A literal as an array with one entry per sample."""
    if isinstance(arg, Ref):
        return arg
    any_input = next(value for value in writer.known.values() if isinstance(value, Ref))
    return writer.node("add", writer.node("mul", any_input, 0), arg, name=name)
