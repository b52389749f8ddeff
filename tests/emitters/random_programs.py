"""Random programs that exercise naming, folding and loops: every value is [batch, 4] or [batch, seq, 4].

Names of values collide with primitives, with each other up to numbers, and with what the printer likes to use. Found by
mutating the printer: a wrong reuse of a name, a wrong order of states or a wrong loop variable changes some output.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import torch

from pellucid.ir.graph import Arg, Block, Node, Ref, ValueType, Weight, map_arg, rename_refs
from pellucid.ir.notes import ReadingKind
from pellucid.ir.program import Function, Program, Reading

WIDE = 4
AXES: dict[int, tuple[int | str, ...]] = {2: ("batch", WIDE), 3: ("batch", "seq", WIDE)}
WORDS = ("x", "h", "state", "mask", "carry", "cos", "add", "linear", "relu_before", "outputs", "t", "i")
SCOPES = ("", ".fc_proj", ".q_proj", ".act", ".norm@1", ".0", ".lin.3")


@dataclass
class _Maker:
    rng: random.Random
    values: dict[str, ValueType] = field(default_factory=dict)
    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    functions: dict[str, Function] = field(default_factory=dict)

    def value(self, rank: int) -> str:
        name = f"{self.rng.choice(WORDS)}{self.rng.choice(('_', ''))}{len(self.values)}"
        self.values[name] = ValueType("float32", AXES[rank])
        return name

    def rank(self, value: str) -> int:
        return len(self.values[value].axes)

    def weight(self, scope: str, *shape: int) -> Weight:
        name = f"{scope}.w{len(self.weights)}".lstrip(".")
        generator = torch.Generator().manual_seed(len(self.weights))
        self.weights[name] = torch.randn(shape, generator=generator) / 2
        return Weight(name)


@dataclass
class _BlockMaker:
    maker: _Maker
    scope: str
    callable: list[str]
    known: list[str]
    nodes: list[Node] = field(default_factory=list)

    def pick(self, rank: int | None = None) -> str | None:
        fit = [value for value in self.known if rank is None or self.maker.rank(value) == rank]
        return self.maker.rng.choice(fit[-6:] if self.maker.rng.random() < 0.7 else fit) if fit else None

    def add(self, op: str, args: tuple[Arg, ...], *ranks: int, **more: object) -> None:
        outputs = tuple(self.maker.value(rank) for rank in ranks)
        scope = self.scope + self.maker.rng.choice(SCOPES)
        self.nodes.append(Node(outputs, op, args, scope=scope.lstrip("."), **more))  # type: ignore[arg-type]
        self.known += outputs

    def step(self, depth: int) -> None:
        """One random node, if what it needs is there."""
        rng, first = self.maker.rng, self.pick()
        kinds = ("binary", "unary", "linear", "select", "resize", "split", "call", "scan")
        if first is None:
            return
        rank = self.maker.rank(first)
        match rng.choices(kinds, (30, 15, 15, 8, 6, 4, 12, 10 if depth else 0))[0]:
            case "binary":
                other: Arg = Ref(self.pick(rank) or first) if rng.random() < 0.8 else rng.choice((2, -1.5, 0.5))
                self.add(rng.choice(("add", "sub", "mul", "maximum")), (Ref(first), other), rank)
            case "unary":
                self.add(rng.choice(("relu", "tanh", "neg", "sigmoid")), (Ref(first),), rank)
            case "linear":
                bias = self.maker.weight(self.scope, WIDE) if rng.random() < 0.5 else None
                self.add("linear", (Ref(first), self.maker.weight(self.scope, WIDE, WIDE), bias), rank)
            case "select" if rank == 3:
                self.add("select", (Ref(first), rng.choice((1, -2)), rng.choice((0, -1))), 2)
            case "resize":
                size = f"size_{len(self.maker.values)}"
                self.maker.values[size] = ValueType("int")
                self.nodes.append(Node((size,), "size", (Ref(first), 0), scope=self.scope))
                self.add("reshape", (Ref(first), (Ref(size), *(-1, WIDE)[3 - rank :])), rank)
                if rng.random() < 0.3:
                    self.add("mul", (Ref(self.pick(rank) or first), Ref(size)), rank)
            case "split" if rank == 3:
                self.add("split", (Ref(first), (2, 2), -1), 3, 3)
                halves = [self.known.pop() for _ in range(2)]
                self.maker.values.update(dict.fromkeys(halves, ValueType("float32", ("batch", "seq", 2))))
                self.add("concat", (tuple(map(Ref, halves)), -1), 3)
            case "call" if self.callable:
                self.call(rng.choice(self.callable))
            case "scan":
                self.scan(depth)

    def call(self, name: str) -> None:
        function = self.maker.functions[name]
        picked = [self.pick(self.maker.rank(value)) for value in function.inputs]
        if None not in picked:
            ranks = [self.maker.rank(value) for value in function.outputs]
            self.add("call", tuple(Ref(value) for value in picked if value), *ranks, function=name)

    def scan(self, depth: int) -> None:
        rng, sequence, state = self.maker.rng, self.pick(3), self.pick(2)
        if sequence is None:
            return
        states = [self.pick(2) or state for _ in range(rng.randint(0, 3) if state else 0)]
        sequences = [self.pick(3) for _ in range(rng.randint(1, 2))]
        fixed = [self.pick() for _ in range(rng.randint(0, 2))]
        inputs = [self.maker.value(2) for _ in (*states, *sequences)]
        inputs += [self.maker.value(self.maker.rank(value or "")) for value in fixed]
        inner = _BlockMaker(self.maker, self.scope, self.callable if rng.random() < 0.7 else [], list(inputs))
        for _ in range(rng.randint(1, 6)):
            inner.step(depth - 1)
        made = max(rng.randint(0, 2), 1 - len(states))
        results = tuple(inner.pick(2) or inputs[0] for _ in range(len(states) + made))
        body = Block(tuple(inputs), tuple(inner.nodes), results)
        args = tuple(tuple(Ref(value) for value in part if value) for part in (states, sequences, fixed))
        self.add("scan", args, *[2] * len(states), *[3] * made, kwargs=(("axis", 1),), body=body)


def _block(maker: _Maker, scope: str, inputs: list[str], size: int, callable_: list[str], depth: int) -> Block:
    writer = _BlockMaker(maker, scope, callable_, list(inputs))
    while len(writer.nodes) < size:
        writer.step(depth)
    made = [value for value in writer.known if value not in inputs]
    outputs = maker.rng.sample(made[-4:], maker.rng.randint(1, min(2, len(made[-4:]))))
    return Block(tuple(inputs), tuple(writer.nodes), tuple(outputs))


def _function(
    maker: _Maker, name: str, scope: str, ranks: list[int], size: int, callable_: list[str], depth: int
) -> None:
    inputs = [maker.value(rank) for rank in ranks]
    exact = _block(maker, scope, inputs, size, callable_, depth)
    readings = [Reading("weights", exact, "exact", 1.0)]
    code = _block(maker, scope, inputs, 3, [], 0)
    fits = [maker.rank(v) for v in code.outputs] == [maker.rank(v) for v in exact.outputs]
    if fits and maker.rng.random() < 0.5:
        names = dict(zip(code.outputs, exact.outputs, strict=True))
        nodes = [
            rename_refs(n, names).with_changes(outputs=tuple(names.get(v, v) for v in n.outputs)) for n in code.nodes
        ]
        readings.append(Reading("code", Block(exact.inputs, tuple(nodes), exact.outputs), "planted", 1.0))
    chosen: ReadingKind = readings[-1].kind if maker.rng.random() < 0.7 else "weights"
    maker.functions[name] = Function(name, "layer", scope, exact.inputs, exact.outputs, tuple(readings), chosen)


def _copied(maker: _Maker, first: Function, name: str) -> None:
    """A function like `first` under another name, with values and weights of its own."""
    names: dict[str, str] = {}

    def value(old: str) -> str:
        if old not in names:
            names[old] = f"{old}_{len(maker.values)}"
            maker.values[names[old]] = maker.values[old]
        return names[old]

    def leaf(arg: Arg) -> Arg:
        if isinstance(arg, Weight) and arg.name.startswith(f"{first.name}."):
            copy = name + arg.name[len(first.name) :]
            maker.weights.setdefault(copy, maker.weights[arg.name].flip(0))
            return Weight(copy)
        return Ref(value(arg.name)) if isinstance(arg, Ref) else arg

    def block(old: Block) -> Block:
        nodes = [
            node.with_changes(
                outputs=tuple(map(value, node.outputs)),
                args=tuple(map_arg(leaf, arg) for arg in node.args),
                body=None if node.body is None else block(node.body),
                scope=node.scope.replace(first.name, name),
            )
            for node in old.nodes
        ]
        return Block(tuple(map(value, old.inputs)), tuple(nodes), tuple(map(value, old.outputs)))

    readings = tuple(Reading(r.kind, block(r.body), r.method, r.bits) for r in first.readings)
    chosen = first.chosen if maker.rng.random() < 0.8 else "weights"
    body = readings[0].body
    maker.functions[name] = Function(name, first.kind, name, body.inputs, body.outputs, readings, chosen)


def random_program(seed: int) -> Program:
    """A program of a few functions, sometimes with a tower of equal ones; the same for the same seed."""
    maker = _Maker(random.Random(seed))
    rng, parts, tower = maker.rng, [], []
    for i in range(rng.randint(0, 2)):
        name = f"net.part_{i}"
        ranks = [rng.choice((2, 3)) for _ in range(rng.randint(1, 3))]
        _function(maker, name, rng.choice((name, "")), ranks, rng.randint(1, 8), list(parts), 1)
        parts.append(name)
    if rng.random() < 0.6:
        _function(
            maker, "net.layers.0", "net.layers.0", [3, *rng.choice(([], [2], [3]))], rng.randint(1, 6), list(parts), 1
        )
        first = maker.functions["net.layers.0"]
        if len(first.outputs) == 1 and maker.rank(first.outputs[0]) == 3:
            tower = [f"net.layers.{i}" for i in range(rng.randint(2, 5))]
            for name in tower[1:]:
                _copied(maker, first, name)
            tower = tower[rng.choice((0, 1)) :]
    inputs = [maker.value(3), maker.value(2)]
    body = _block(maker, "", inputs, rng.randint(3, 12), parts, 2)
    if tower:
        made = [value for node in body.nodes for value in node.outputs if maker.values[value].axes in AXES.values()]
        writer = _BlockMaker(maker, "", [], [*inputs, *made])
        others = [Ref(writer.pick(maker.rank(v)) or "") for v in maker.functions[tower[0]].inputs[1:]]
        value = writer.pick(3) or inputs[0]
        for name in tower:
            writer.add("call", (Ref(value), *others), 3, function=name)
            value = writer.known[-1]
        body = Block(body.inputs, (*body.nodes, *writer.nodes), (*body.outputs, value))
    exact = (Reading("weights", body, "exact", 1.0),)
    entry = Function("network", "network", "", body.inputs, body.outputs, exact)
    functions = {name: maker.functions[name] for name in reversed(maker.functions)}
    return Program("network", {"network": entry, **functions}, maker.values, maker.weights)
