"""Programs built by hand, whose report is known beforehand."""

import torch

from pellucid.ir.graph import Block, Node, Ref, ValueType, Weight
from pellucid.ir.notes import Attempt, Notes, Verdict
from pellucid.ir.program import Function, Program, Reading
from pellucid.ir.regions import Region, RegionTree

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>‮desrever‬ &amp; {{ 7*7 }} \ud800 end"


def verdict(part, reading="weights", value=3e-7, passed=True, **changes):
    facts = dict(
        measure="max relative difference",
        unit="",
        interval=(0.0, value),
        inputs=2000,
        kind="sampled",
        control=0.83,
        bar="≤ 1e-4",
    )
    return Verdict(part=part, reading=reading, value=value, passed=passed, **{**facts, **changes})


def linear(name, scope, x, y, out, inp, weights, generator, kind="linear"):
    """A function y = W x + b, its weights added to `weights`."""
    weights[f"{scope}.weight"] = torch.randn(out, inp, generator=generator) / inp**0.5
    weights[f"{scope}.bias"] = 0.1 * torch.randn(out, generator=generator)
    node = Node((y,), "linear", (Ref(x), Weight(f"{scope}.weight"), Weight(f"{scope}.bias")))
    body = Block((x,), (node,), (y,))
    return Function(name, kind, scope, (x,), (y,), (Reading("weights", body, "exact", 32.0 * out * (inp + 1)),))


def mlp():
    """A digit classifier: one part is code, two verdicts failed, one reading has no verdict."""
    generator = torch.Generator().manual_seed(1)
    weights = {}
    first = linear("mlp.first", "first", "pixels", "h0", 48, 64, weights, generator)
    gate = linear("mlp.gate", "gate", "h1", "h2", 48, 48, weights, generator)
    last = linear("mlp.last", "last", "h2", "logits", 10, 48, weights, generator)
    weights["first.weight"][:, :8] = 0.0
    kernel = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])
    weights["first.kernel"] = kernel.reshape(1, 1, 3, 3)
    relu = Function(
        "mlp.relu",
        "activation",
        "relu",
        ("h0",),
        ("h1",),
        (Reading("weights", Block(("h0",), (Node(("h1",), "relu", (Ref("h0"),)),), ("h1",)), "exact", 12.0),),
    )
    first = first.with_reading(
        Reading(
            "code",
            Block(
                ("pixels",),
                (
                    Node(("image",), "reshape", (Ref("pixels"), (-1, 1, 8, 8))),
                    Node(("edges",), "conv2d", (Ref("image"), Weight("first.kernel"), None, (1, 1), (1, 1))),
                    Node(("h0",), "flatten", (Ref("edges"), 1)),
                ),
                ("h0",),
            ),
            "convolution",
            430.0,
            "a 3 × 3 Laplacian, stride 1, padding 1",
        )
    )
    gate = gate.with_reading(
        Reading(
            "code",
            Block(("h1",), (Node(("h2",), "mul", (Ref("h1"), 0.5)),), ("h2",)),
            "affine",
            40.0,
            "halves its input",
            "decision",
            0.01,
        )
    )
    calls = tuple(
        Node(function.outputs, "call", (Ref(function.inputs[0]),), function=function.name)
        for function in (first, relu, gate, last)
    )
    entry = Function(
        "mlp",
        "network",
        "",
        ("pixels",),
        ("logits",),
        (Reading("weights", Block(("pixels",), calls, ("logits",)), "exact", 60.0),),
    )
    values = {
        "pixels": ValueType("float32", ("batch", 64)),
        "h0": ValueType("float32", ("batch", 48)),
        "h1": ValueType("float32", ("batch", 48)),
        "h2": ValueType("float32", ("batch", 48)),
        "logits": ValueType("float32", ("batch", 10)),
    }
    functions = {function.name: function for function in (entry, first, relu, gate, last)}
    notes = Notes(
        trail=(
            Attempt("mlp.first", "low rank", "rank 41 of 48: no shorter"),
            Attempt("mlp.first", "convolution", "kernel 3 × 3 recovered, residual 3e-8"),
            Attempt("mlp.last", "integer weights", "no scale brings them within 1e-3 of integers"),
        ),
        descriptions={"mlp.first": "Finds edges: the second difference of the image."},
        remarks=("The batch axis was kept general; the image size is fixed at 8 × 8.",),
    )
    regions = RegionTree(Region("mlp", "network"), "nesting")
    return Program("mlp", functions, values, weights, "3b1f9c44d2a07e58", "digits classifier", regions, notes)


def mlp_verdicts():
    """Seven verdicts, two failed; none for the code reading of mlp.gate."""
    return (
        verdict("program", value=2.6e-7),
        verdict("mlp.first", "weights", 0.0),
        verdict("mlp.first", "code", 4.1e-5, inputs=400),
        verdict("mlp.relu", value=0.0, kind="proved", inputs=256),
        verdict("mlp.last", value=3.2e-2, passed=False, detail="parts at digit 7: largest difference at input 1,203"),
        verdict(
            "mlp.last",
            "weights",
            0.912,
            passed=False,
            measure="match",
            unit="share",
            bar="≥ 0.99",
            interval=(0.897, 0.925),
            control=0.11,
        ),
        verdict(
            "program", "code", 0.996, measure="match", unit="share", bar="≥ 0.99", interval=(0.99, 1.0), control=0.1
        ),
    )


def transformer(layers=30, width=576, hidden=1536, vocabulary=4096):
    """A tree like that of a small Llama: 7 functions a layer, 2 + 7 * layers in all."""
    generator = torch.Generator().manual_seed(2)
    weights = {"embed.weight": torch.randn(vocabulary, width, generator=generator)}
    hidden_type = ValueType("float32", ("batch", "position", width))
    values = {"ids": ValueType("int64", ("batch", "position")), "x0": hidden_type}
    functions, calls = {}, []
    body = Block(("ids",), (Node(("x0",), "embedding", (Weight("embed.weight"), Ref("ids"))),), ("x0",))
    bits = 32.0 * vocabulary * width
    embed = Function("embed", "embedding", "embed", ("ids",), ("x0",), (Reading("weights", body, "exact", bits),))
    calls.append(Node(("x0",), "call", (Ref("ids"),), function="embed"))
    for i in range(layers):
        parts = _layer(i, width, hidden, weights, generator)
        functions.update({part.name: part for part in parts})
        values.update({name: hidden_type for part in parts for name in (*part.inputs, *part.outputs)})
        calls.append(Node((f"x{i + 1}",), "call", (Ref(f"x{i}"),), function=f"layers.{i}"))
    head = Node(("logits",), "linear", (Ref(f"x{layers}"), Weight("embed.weight"), None))
    entry_body = Block(("ids",), (*calls, head), ("logits",))
    entry = Function("model", "network", "", ("ids",), ("logits",), (Reading("weights", entry_body, "exact", 800.0),))
    values["logits"] = ValueType("float32", ("batch", "position", vocabulary))
    regions = RegionTree(Region("model", "network"), "nesting")
    functions = {"model": entry, "embed": embed, **functions}
    return Program("model", functions, values, weights, "9f" * 16, "SmolLM-like, 30 layers", regions, Notes())


def _layer(i, width, hidden, weights, generator):
    name = f"layers.{i}"

    def part(suffix, kind, x, y, shapes, op="linear"):
        nodes, at = [], x
        for j, (label, shape) in enumerate(shapes.items()):
            weights[f"{name}.{suffix}.{label}"] = torch.randn(*shape, generator=generator) / shape[-1] ** 0.5
            value = y if j == len(shapes) - 1 else f"{y}_{label}"
            nodes.append(Node((value,), op, (Ref(at), Weight(f"{name}.{suffix}.{label}"), None)))
            at = value
        body = Block((x,), tuple(nodes), (y,))
        bits = 32.0 * sum(torch.Size(shape).numel() for shape in shapes.values())
        return Function(f"{name}.{suffix}", kind, name, (x,), (y,), (Reading("weights", body, "exact", bits),))

    x = f"x{i}"
    square = (width, width)
    leaves = (
        part("norm1", "norm", x, f"n{i}", {"scale": (width,)}, "rms_norm"),
        part(
            "attention", "attention", f"n{i}", f"a{i}", {"q": square, "k": (192, width), "v": (192, width), "o": square}
        ),
        part("residual1", "add", f"a{i}", f"r{i}", {"gain": (1,)}),
        part("norm2", "norm", f"r{i}", f"m{i}", {"scale": (width,)}, "rms_norm"),
        part(
            "mlp",
            "mlp",
            f"m{i}",
            f"x{i + 1}",
            {"gate": (hidden, width), "up": (hidden, width), "down": (width, hidden)},
        ),
        part("residual2", "add", f"x{i + 1}", f"y{i}", {"gain": (1,)}),
    )
    calls = tuple(Node(leaf.outputs, "call", (Ref(leaf.inputs[0]),), function=leaf.name) for leaf in leaves)
    body = Block((x,), calls, (f"x{i + 1}",))
    layer = Function(name, "layer", name, (x,), (f"x{i + 1}",), (Reading("weights", body, "exact", 300.0),))
    return (layer, *leaves)


def hostile():
    """Text that must stay text, wherever it is shown."""
    program = mlp()
    long = HOSTILE + "x" * 10_000
    worst = linear(long, "worst", "h0", "h1", 4, 3, dict(program.weights), torch.Generator().manual_seed(3))
    body = Block(("h0",), (Node(("h1",), "relu", (Ref("h0"),), source=HOSTILE),), ("h1",))
    worst = Function(long, HOSTILE, "", ("h0",), ("h1",), (Reading("weights", body, HOSTILE, 1.0, HOSTILE),))
    entry = program["mlp"].readings[0].body
    nodes = tuple(node.with_changes(function=long) if node.function == "mlp.relu" else node for node in entry.nodes)
    whole = Function(
        "mlp",
        "network",
        "",
        ("pixels",),
        ("logits",),
        (Reading("weights", Block(entry.inputs, nodes, entry.outputs), "", 1.0),),
    )
    functions = {name: function for name, function in program.functions.items() if name != "mlp.relu"}
    notes = Notes(
        trail=(Attempt(long, HOSTILE, long),),
        descriptions={long: long},
        remarks=(HOSTILE, long),
    )
    return Program(
        "mlp", {**functions, "mlp": whole, long: worst}, program.values, program.weights, HOSTILE, long, None, notes
    )


def hostile_verdicts():
    """Verdicts whose every text is hostile."""
    program = hostile()
    name = next(name for name in program.functions if "script" in name)
    return (
        verdict(name, passed=False, detail=name, bar=HOSTILE, measure=HOSTILE, unit=HOSTILE, value=float("nan")),
        verdict(HOSTILE, passed=False, detail=HOSTILE),
    )
