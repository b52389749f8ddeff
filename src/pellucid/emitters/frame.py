"""What stands around the parts in an emitted file: imports, loading of weights, tables, the command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pellucid.emitters.sources import Dialect, names_in

ARRAYS: Mapping[Dialect, str] = {"numpy": "numpy arrays", "torch": "torch tensors"}

IMPORTS: Mapping[str, str] = {
    "argparse": "import argparse",
    "functools": "import functools",
    "json": "import json",
    "sys": "import sys",
    "Callable": "from collections.abc import Callable",
    "Sequence": "from collections.abc import Sequence",
    "Path": "from pathlib import Path",
    "Any": "from typing import Any",
    "np": "import numpy as np",
    "torch": "import torch",
    "F": "import torch.nn.functional as F",
    "Tensor": "from torch import Tensor",
}
"""Name to the import that brings it, in the order of the file."""

_WEIGHTS = '''\
class Weights:
    """weights.safetensors as a part sees it: w["up_proj.weight"] is its own, w.at("mlp") what the part "mlp" sees."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix

    def at(self, *path: object) -> Weights:
        return Weights(self.prefix + "".join(f"{{name}}." for name in path))

    def __getitem__(self, name: str) -> {array}:
        return tensors()[self.prefix + name]


@functools.cache
def tensors() -> dict[str, {array}]:
    """All weights; the file is opened when the first is read."""
    {found}


weights = Weights()'''

_FOUND = """\
from safetensors.{module} import load_file

    return load_file(Path(__file__).with_name("weights.safetensors"))"""

_FOUND_IN_ORDER = """\
from safetensors import safe_open
    from safetensors.torch import load_file

    path = Path(__file__).with_name("weights.safetensors")
    found = load_file(path)
    with safe_open(path, "pt") as file:
        orders = json.loads(file.metadata()["memory_order"])
    for name, order in orders.items():  # axes from the slowest in memory to the fastest: products round by it
        back = sorted(range(len(order)), key=order.__getitem__)
        found[name] = found[name].permute(order).contiguous().permute(back)
    return found"""

_PART = '''\
def part(function: Callable[..., Any], path: str | None = None) -> Callable[..., tuple[Any, ...]]:
    """A function as the tables hold it: given its part of the weights, from its inputs to a tuple of its outputs."""

    def call(*inputs: Any) -> tuple[Any, ...]:
        with {context}:
            outputs = function(*inputs) if path is None else function(weights.at(path) if path else weights, *inputs)
        return outputs if isinstance(outputs, tuple) else (outputs,)

    return call'''

_PART_WITHOUT_WEIGHTS = '''\
def part(function: Callable[..., Any]) -> Callable[..., tuple[Any, ...]]:
    """A function as the tables hold it: from its inputs to a tuple of its outputs."""

    def call(*inputs: Any) -> tuple[Any, ...]:
        with {context}:
            outputs = function(*inputs)
        return outputs if isinstance(outputs, tuple) else (outputs,)

    return call'''

_RUN = '''\
def run(*inputs: Any, reading: str | None = None) -> Any:
    """The output of the whole (a tuple if there are several) for {arrays}, in the order of INPUTS.

    reading: {readings}; None for the chosen ones.
    """
    outputs = RUNS[reading](*inputs)
    return outputs[0] if len(outputs) == 1 else outputs


def main() -> int:
    """Read the inputs from one .npz file and write the outputs to another."""
    parser = argparse.ArgumentParser(description="Run this program on the arrays of an .npz file.")
    wanted = ", ".join(f"{{name}} ({{kind}})" for name, kind in INPUTS.items())
    parser.add_argument("inputs", help=f".npz file with {{wanted}}")
    parser.add_argument("outputs", help=".npz file to write")
    parser.add_argument("--reading", choices=[reading for reading in RUNS if reading], help="as chosen if left out")
    options = parser.parse_args()
    with np.load(options.inputs) as given:
        missing = [name for name in INPUTS if name not in given]
        if missing:
            print(f"{{options.inputs}} has no array {{missing[0]}}; it needs {{wanted}}", file=sys.stderr)
            return 2
        inputs = [{read} for name, kind in INPUTS.items()]
    results = RUNS[options.reading](*inputs)
    with open(options.outputs, "wb") as file:
        np.savez(file, **{{name: {write} for name, result in zip(OUTPUTS, results)}})
    return 0


if __name__ == "__main__":
    sys.exit(main())'''

_ARRAY: Mapping[Dialect, str] = {"numpy": "Array", "torch": "Tensor"}
_CONTEXT: Mapping[Dialect, str] = {"numpy": 'np.errstate(all="ignore")', "torch": "torch.no_grad()"}
_READ: Mapping[Dialect, str] = {
    "numpy": 'given[name].astype(kind.partition("[")[0])',
    "torch": 'torch.from_numpy(given[name]).to(getattr(torch, kind.partition("[")[0]))',
}
_WRITE: Mapping[Dialect, str] = {
    "numpy": "result",
    "torch": "(result.float() if result.dtype == torch.bfloat16 else result).numpy()",
}


def imports(code: str) -> list[str]:
    """The imports that a piece of Python needs: the standard library's, then the others."""
    used = names_in(code)
    lines = [line for name, line in IMPORTS.items() if name in used]
    others = [line for line in lines if "numpy" in line or "torch" in line]
    standard = [line for line in lines if line not in others]
    if {"Callable", "Sequence"} <= used:
        standard.remove(IMPORTS["Callable"])
        standard[standard.index(IMPORTS["Sequence"])] = "from collections.abc import Callable, Sequence"
    return [*standard, "", *others] if standard and others else [*standard, *others]


def loading(dialect: Dialect, reordered: bool) -> str:
    """The class that sees weights, and the function that loads them.

    reordered: whether some lie in memory in another order than that of their axes, and torch is to lay them so.
    """
    found = _FOUND_IN_ORDER if reordered and dialect == "torch" else _FOUND.format(module=dialect)
    return _WEIGHTS.format(array=_ARRAY[dialect], found=found)


def calling(dialect: Dialect, with_weights: bool) -> str:
    """The function that makes entries of the tables."""
    return (_PART if with_weights else _PART_WITHOUT_WEIGHTS).format(context=_CONTEXT[dialect])


def running(dialect: Dialect, readings: Iterable[str]) -> str:
    """The functions that run the whole, from Python and from the command line."""
    said = {"weights": '"weights" as the network computes it', "code": '"code" by code wherever there is any'}
    texts = ", ".join(said.get(reading, f'"{reading}" by {reading} wherever there are any') for reading in readings)
    return _RUN.format(arrays=ARRAYS[dialect], readings=texts, read=_READ[dialect], write=_WRITE[dialect])
