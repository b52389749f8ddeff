"""What dictionaries are trained on: what functions take and give at every position of a corpus but the first.

Half precision, in memory or in files that are mapped: 300,000 positions of 288 values take 170 MB a side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int

from pellucid.data.corpus import Corpus
from pellucid.errors import BadInput
from pellucid.fanout import HERE, Fan
from pellucid.ir.interpret import Values, run_functions
from pellucid.ir.program import Program

Side = Float[np.ndarray, "_ _"]
_Found: TypeAlias = dict[str, tuple[Side, Side]]
LARGEST = 65_504.0
"""Half precision ends here."""


@dataclass(frozen=True)
class Pairs:
    """Inputs and outputs of a function, one position a row (an autoencoder's are both the outputs)."""

    inputs: Side
    outputs: Side

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.outputs) or len(self.inputs) == 0:
            raise BadInput(f"pairs: {len(self.inputs)} inputs and {len(self.outputs)} outputs; give equally many, some")

    def __len__(self) -> int:
        return len(self.inputs)

    def rows(self, chosen: Int[np.ndarray, " chosen"] | slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Some positions as float32 tensors."""
        return _tensor(self.inputs[chosen]), _tensor(self.outputs[chosen])

    def autoencoded(self) -> Pairs:
        """The outputs on both sides."""
        return Pairs(self.outputs, self.outputs)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over shapes and a thousand rows, in hex."""
        digest = hashlib.sha256(repr((self.inputs.shape, self.outputs.shape, str(self.inputs.dtype))).encode())
        some = np.linspace(0, len(self) - 1, min(len(self), 1000)).astype(np.int64)
        for side in (self.inputs, self.outputs):
            digest.update(np.ascontiguousarray(side[some]).tobytes())
        return digest.hexdigest()


def capture_pairs(
    program: Program,
    functions: Sequence[str],
    corpus: Corpus,
    directory: Path | None = None,
    windows: int = 8,
    fan: Fan = HERE,
) -> Mapping[str, Pairs]:
    """Inputs and outputs of functions over a corpus, in the order of its positions, without the first of each window.

    Args:
        functions: names of functions of one input and one output, both float of [batch, position, width].
        directory: where the arrays are kept; None keeps them in memory.
        windows: how many windows run at a time.
        fan: what they run on.

    Raises:
        BadInput: no such function, one of another signature, or values that half precision cannot hold.
    """
    wanted = {name: signature(program, name) for name in functions}
    kept = len(corpus) * (corpus.ids.shape[1] - 1)
    sides = {name: [_new(directory, name, side, (kept, w)) for side, w in enumerate(ws)] for name, ws in wanted.items()}
    start = 0
    for found in fan(_pairs_of, (program, tuple(wanted)), corpus.batches(windows)):
        for name, both in found.items():
            for side, values in zip(sides[name], both, strict=True):
                side[start : start + len(values)] = values
        start += windows * (corpus.ids.shape[1] - 1)
    return {name: Pairs(*both) for name, both in sides.items()}


def _pairs_of(shared: tuple[Program, tuple[str, ...]], ids: Int[torch.Tensor, "windows context"]) -> _Found:
    """Both sides of functions on some windows."""
    program, names = shared
    found: dict[str, tuple[Side, Side]] = {}

    def watch(name: str, given: Values, made: Values) -> None:
        if name in names:
            found[name] = (_half(name, given[0][:, 1:]), _half(name, made[0][:, 1:]))

    run_functions(program, [ids], watch=watch)
    return found


def signature(program: Program, name: str) -> tuple[int, int]:
    """How many values a function takes and gives at a position.

    Raises:
        BadInput: it takes or gives something else than one array [batch, position, width].
    """
    function = program[name]
    kinds = [program.values.get(value) for value in (*function.inputs, *function.outputs)]
    widths = [kind.axes[-1] for kind in kinds if kind is not None and kind.dtype == "float32" and len(kind.axes) == 3]
    if len(function.inputs) != 1 or len(function.outputs) != 1 or len(widths) != 2:
        raise BadInput(
            f"function {name!r} does not map one float32[batch, position, width] to another; use an MLP, for example"
        )
    if not all(isinstance(width, int) for width in widths):
        raise BadInput(f"function {name!r} has a width that is not fixed; trace the network again without that")
    return int(widths[0]), int(widths[1])


def _new(directory: Path | None, name: str, side: int, shape: tuple[int, int]) -> Side:
    if directory is None:
        return np.empty(shape, np.float16)
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / f"{name.replace('/', '_')}.{('inputs', 'outputs')[side]}.npy"
    return np.lib.format.open_memmap(file, mode="w+", dtype=np.float16, shape=shape)


def _half(name: str, values: Float[torch.Tensor, "batch position width"]) -> Side:
    flat = values.reshape(-1, values.shape[-1])
    top = float(flat.abs().max())
    if not top < LARGEST:
        raise BadInput(f"function {name!r}: a value of {top:g} beyond half precision; leave this function out")
    return flat.to(torch.float16).numpy()


def _tensor(side: Side) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(side, dtype=np.float32))
