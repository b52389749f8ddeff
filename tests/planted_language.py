"""A small language model as a program, by hand: layers of attention and MLP as functions, with random weights."""

from __future__ import annotations

import torch

from pellucid.ir.graph import Block, Node, Ref, ValueType, Weight
from pellucid.ir.program import Function, Program, Reading
from pellucid.ir.validate import validate

VOCABULARY, WIDTH, HIDDEN, HEADS = 30, 8, 12, 2


def language_program(layers: int = 2, seed: int = 0, first: str = "mul_19") -> Program:
    """logits = table · layers(embedding(ids)); the neurons of the first MLP are the value `first`."""
    generator = torch.Generator().manual_seed(seed)
    stream = ValueType("float32", ("batch", "seq", WIDTH))
    cut = ValueType("float32", ("batch", HEADS, "seq", WIDTH // HEADS))
    values = {"ids": ValueType("int64", ("batch", "seq")), "logits": ValueType("float32", ("batch", "seq", VOCABULARY))}
    weights = {"table": torch.randn(VOCABULARY, WIDTH, generator=generator)}
    functions, nodes = dict[str, Function](), [Node(("x",), "embedding", (Weight("table"), Ref("ids")))]
    values["x"] = stream
    for layer in range(layers):
        attention, mlp = f"layers.{layer}.attn", f"layers.{layer}.mlp"
        hidden = first if layer == 0 else f"mul_{layer + 19}"
        values |= {f"{name}{layer}": stream for name in ("a", "w", "m", "s", "o", "r")}
        values |= {f"{name}{layer}": cut for name in ("q", "k", "v", "z")}
        values |= {name: ValueType("float32", ("batch", "seq", HIDDEN)) for name in (hidden, f"up{layer}")}
        for name, shape in (
            ("q", (WIDTH, WIDTH)),
            ("o", (WIDTH, WIDTH)),
            ("up", (HIDDEN, WIDTH)),
            ("down", (WIDTH, HIDDEN)),
        ):
            weights[f"{name}.{layer}"] = torch.randn(*shape, generator=generator) / WIDTH**0.5
        heads = [Node((f"{n}{layer}",), "split_heads", (Ref(f"a{layer}"), HEADS)) for n in ("q", "k", "v")]
        functions[attention] = _function(
            attention, "attention", f"a{layer}", f"o{layer}", *heads,
            Node((f"z{layer}",), "attention", (Ref(f"q{layer}"), Ref(f"k{layer}"), Ref(f"v{layer}"), None, True, 0.5)),
            Node((f"w{layer}",), "merge_heads", (Ref(f"z{layer}"),)),
            Node((f"o{layer}",), "linear", (Ref(f"w{layer}"), Weight(f"o.{layer}"), None)),
        )  # fmt: skip
        functions[mlp] = _function(
            mlp, "mlp", f"m{layer}", f"r{layer}",
            Node((f"up{layer}",), "linear", (Ref(f"m{layer}"), Weight(f"up.{layer}"), None)),
            Node((hidden,), "relu", (Ref(f"up{layer}"),)),
            Node((f"r{layer}",), "linear", (Ref(hidden), Weight(f"down.{layer}"), None)),
        )  # fmt: skip
        before = nodes[-1].id
        values |= {f"{name}{layer}": stream for name in ("ao", "mo", "t", "y")}
        nodes += [
            Node((f"ao{layer}",), "call", (Ref(before),), function=attention),
            Node((f"t{layer}",), "add", (Ref(before), Ref(f"ao{layer}"))),
            Node((f"mo{layer}",), "call", (Ref(f"t{layer}"),), function=mlp),
            Node((f"y{layer}",), "add", (Ref(f"t{layer}"), Ref(f"mo{layer}"))),
        ]
    nodes.append(Node(("logits",), "linear", (Ref(nodes[-1].id), Weight("table"), None)))
    entry = _function("network", "network", "ids", "logits", *nodes)
    program = Program("network", {"network": entry, **functions}, values, weights, fingerprint=f"planted {seed}")
    validate(program)
    return program


def _function(name: str, kind: str, taken: str, given: str, *nodes: Node) -> Function:
    reading = Reading("weights", Block((taken,), nodes, (given,)), "exact", 1.0)
    return Function(name, kind, name, (taken,), (given,), (reading,))
