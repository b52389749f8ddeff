"""Stand-in until pellucid.ir.printing exists."""

from __future__ import annotations

from pellucid.ir.graph import Arg, Block, Ref, Weight
from pellucid.ir.program import Program


def function_source(program: Program, name: str, kind: str) -> str:
    """One function's reading as text."""
    function = program[name]
    reading = next(r for r in function.readings if r.kind == kind)
    lines = [f"def {name}({', '.join(function.inputs)}):"]
    lines += _lines(reading.body, "    ")
    return "\n".join([*lines, f"    return {', '.join(reading.body.outputs)}"])


def _lines(block: Block, indent: str) -> list[str]:
    made = []
    for node in block.nodes:
        args = ", ".join(_arg(a) for a in node.args)
        made.append(f"{indent}{', '.join(node.outputs)} = {node.function or node.op}({args})")
        if node.body is not None:
            made += _lines(node.body, indent + "    ")
    return made


def _arg(arg: Arg) -> str:
    if isinstance(arg, tuple):
        return "(" + ", ".join(map(_arg, arg)) + ")"
    if isinstance(arg, Ref):
        return arg.name
    return f'W["{arg.name}"]' if isinstance(arg, Weight) else repr(arg)
