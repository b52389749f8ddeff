"""Programs built by hand from blocks, and how an emitted one is run in a fresh process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from pellucid.ir.bits import block_bits
from pellucid.ir.graph import Arg, Block, Node, Ref, ValueType, Weight
from pellucid.ir.notes import ReadingKind
from pellucid.ir.program import Function, Program, Reading


def node(outputs: str, op: str, *args: Arg, scope: str = "", function: str = "", **kwargs: Arg) -> Node:
    """`outputs = op(*args)`, outputs separated by spaces; "%name" is a value and "@name" a weight."""
    names = tuple(outputs.split())
    return Node(names, op, tuple(map(arg, args)), tuple(kwargs.items()), function=function, scope=scope)


def arg(value: Arg) -> Arg:
    if isinstance(value, tuple):
        return tuple(map(arg, value))
    if isinstance(value, str) and value[:1] in ("%", "@"):
        return Ref(value[1:]) if value[0] == "%" else Weight(value[1:])
    return value


def block(inputs: str, outputs: str, *nodes: Node) -> Block:
    return Block(tuple(inputs.split()), nodes, tuple(outputs.split()))


def function(
    name: str, exact: Block, kind: str = "layer", scope: str | None = None, code: Block | None = None
) -> Function:
    readings = [Reading("weights", exact, "exact", 1000.0)]
    if code is not None:
        readings.append(Reading("code", code, "by hand", block_bits(code, {}), "what was planted"))
    chosen: ReadingKind = "weights" if code is None else "code"
    return Function(name, kind, name if scope is None else scope, exact.inputs, exact.outputs, tuple(readings), chosen)


def program(
    functions: Sequence[Function], values: Mapping[str, str], weights: Mapping[str, tuple[int, ...]]
) -> Program:
    """The first function is the entry; values as "float32 batch 4", weights by shape."""
    generator = torch.Generator().manual_seed(len(weights))
    types = {}
    for name, text in values.items():
        dtype, *axes = text.split()
        types[name] = ValueType(dtype, tuple(int(axis) if axis.isdigit() else axis for axis in axes))
    tensors = {name: torch.randn(shape, generator=generator) / 2 for name, shape in weights.items()}
    return Program(functions[0].name, {f.name: f for f in functions}, types, tensors, source="planted")


def linear_weights(*names: str, wide: int = 4) -> dict[str, tuple[int, ...]]:
    return {f"{name}.{part}": (wide, wide)[: 1 + (part == "weight")] for name in names for part in ("weight", "bias")}


def mlp() -> Program:
    """Two layers without functions of their own."""
    body = block(
        "x", "out",
        node("hidden", "linear", "%x", "@fc1.weight", "@fc1.bias", scope="fc1"),
        node("relu_1", "relu", "%hidden", scope="act"),
        node("out", "linear", "%relu_1", "@fc2.weight", "@fc2.bias", scope="fc2"),
    )  # fmt: skip
    entry = function("network", body, "network", "")
    return program([entry], {"x": "float32 batch 4", "out": "float32 batch 4"}, linear_weights("fc1", "fc2"))


def recurrent_step(state: str = "relu_1_before", element: str = "select_1") -> Block:
    return block(
        f"{state} {element}", "relu_1 y_1",
        node("cat_1", "concat", (f"%{state}", f"%{element}"), -1),
        node("linear_1", "linear", "%cat_1", "@cell.weight", "@cell.bias", scope="cell"),
        node("relu_1", "relu", "%linear_1"),
        node("y_1", "linear", "%relu_1", "@read.weight", "@read.bias", scope="read"),
    )  # fmt: skip


def recurrent() -> Program:
    """A loop over time that calls a step; as code, a running sum in whole numbers."""
    call = node("relu_1 y_1", "call", "%relu_1_before", "%select_1", function="step", scope="step")
    scan = Node(
        ("last", "y_sequence"), "scan", ((Ref("zeros"),), (Ref("x"),), ()), (("axis", 1),),
        body=Block(("relu_1_before", "select_1"), (call,), ("relu_1", "y_1")),
    )  # fmt: skip
    size, zeros = node("size_1", "size", "%x", 0), node("zeros", "zeros", ("%size_1", 1))
    exact = Block(("x",), (size, zeros, scan), ("y_sequence",))
    total = Node(
        ("total_last", "total_sequence"), "scan", ((Ref("start"),), (Ref("whole"),), ()), (("axis", 1),),
        body=block("total_before digit", "carry carry", node("carry", "add", "%total_before", "%digit")),
    )  # fmt: skip
    code = Block(
        ("x",),
        (
            node("whole", "cast", "%x", "int64"), size, node("start", "zeros", ("%size_1", 1), "int64"), total,
            node("y_sequence", "cast", "%total_sequence", "float32"),
        ),
        ("y_sequence",),
    )  # fmt: skip
    kinds = {"x": "float32 batch seq 1", "y_sequence": "float32 batch seq 1", "relu_1_before": "float32 batch 1"}
    kinds |= {"select_1": "float32 batch 1", "relu_1": "float32 batch 1", "y_1": "float32 batch 1"}
    weights = {"cell.weight": (1, 2), "cell.bias": (1,), "read.weight": (1, 1), "read.bias": (1,)}
    step = function("step", recurrent_step(), "step", "")
    return program([function("network", exact, "network", "", code), step], kinds, weights)


def layers(count: int = 4, mixed: bool = False) -> Program:
    """Equal layers, each with a part of its own; `mixed` gives the part of the second a code reading."""
    functions, weights, calls = [], {}, []
    for i in range(count):
        scope = f"blocks.{i}"
        inner = block(
            f"norm_{i}", f"up_{i}",
            node(f"lin_{i}", "linear", f"%norm_{i}", f"@{scope}.mlp.up_proj.weight", scope=f"{scope}.mlp.up_proj"),
            node(f"up_{i}", "tanh", f"%lin_{i}", scope=f"{scope}.mlp"),
        )  # fmt: skip
        code = block(f"norm_{i}", f"up_{i}", node(f"up_{i}", "mul", f"%norm_{i}", 2.0))
        outer = block(
            f"add_{i} mask", f"add_{i + 1}",
            node(f"norm_{i}", "mul", f"%add_{i}", f"@{scope}.gain", scope=f"{scope}.norm"),
            node(f"up_{i}", "call", f"%norm_{i}", function=f"{scope}.mlp", scope=f"{scope}.mlp"),
            node(f"masked_{i}", "where", "%mask", f"%up_{i}", f"%add_{i}"),
            node(f"add_{i + 1}", "add", f"%add_{i}", f"%masked_{i}"),
        )  # fmt: skip
        functions += [
            function(scope, outer),
            function(f"{scope}.mlp", inner, "mlp", code=code if mixed and i == 1 else None),
        ]
        weights |= {f"{scope}.gain": (4,), f"{scope}.mlp.up_proj.weight": (4, 4)}
        calls.append(node(f"add_{i + 1}", "call", f"%add_{i}", "%mask", function=scope, scope=scope))
    body = block(
        "add_0", f"add_{count}", node("mask", "gt", "%add_0", 0.0), *calls,
    )  # fmt: skip
    kinds = {name: "float32 batch 4" for i in range(count + 1) for name in (f"add_{i}", f"norm_{i}", f"up_{i}")}
    return program([function("network", body, "network", ""), *functions], {**kinds, "mask": "bool batch 4"}, weights)


FORBID = "import sys\nsys.modules['pellucid'] = None\n"


def run_file(
    directory: Path, inputs: Mapping[str, np.ndarray], *options: str, without: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """The outputs of program.py, run from the command line in an isolated process that has no pellucid."""
    np.savez(directory / "inputs.npz", **inputs)
    arguments = ["program.py", str(directory / "inputs.npz"), str(directory / "outputs.npz"), *options]
    forbidden = "".join(f"sys.modules[{name!r}] = None\n" for name in without)
    script = f"{FORBID}{forbidden}sys.argv = {arguments!r}\nimport runpy\n"
    script += f"runpy.run_path({str(directory / 'program.py')!r}, run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", script], cwd="/", capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    with np.load(directory / "outputs.npz") as found:
        return dict(found)
