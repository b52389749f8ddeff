"""The tensors that functions read, each measured and drawn once, within one budget of bytes for all pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Shaped

from pellucid.ir.graph import weights_read
from pellucid.ir.program import Program
from pellucid.reports.pictures import Picture, draw, side_for
from pellucid.reports.spread import BINS, Spread, measure_spread

PICTURE_BYTES = 2_000_000
_WIDTH, _HEIGHT = 240, 56


@dataclass(frozen=True)
class TensorView:
    """A tensor as its readers' pages show it; only the page of `home` holds its pictures.

    Attributes:
        readers: the functions that read it, `home` first.
        outline: the histogram as the path of a drawing of 240 x 56 pixels, "" where there is none.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int
    home: str
    readers: tuple[str, ...]
    pictures: tuple[Picture, ...]
    spread: Spread | None
    outline: str


def view_tensors(program: Program, order: tuple[str, ...], budget: int = PICTURE_BYTES) -> dict[str, TensorView]:
    """All tensors that functions read, by name; `order` says which of several readers comes first."""
    readers: dict[str, list[str]] = {}
    for function in order:
        for reading in program[function].readings:
            for weight in weights_read(reading.body):
                if function not in readers.setdefault(weight, []):
                    readers[weight].append(function)
    side = side_for((tuple(program.weights[name].shape) for name in readers), budget)
    return {name: _view(name, program.weights[name], tuple(found), side) for name, found in readers.items()}


def _view(name: str, tensor: Shaped[torch.Tensor, "..."], readers: tuple[str, ...], side: int) -> TensorView:
    spread = measure_spread(tensor)
    return TensorView(
        name=name,
        dtype=str(tensor.dtype).removeprefix("torch."),
        shape=tuple(tensor.shape),
        size=tensor.numel(),
        home=readers[0],
        readers=readers,
        pictures=draw(tensor, side) if tensor.numel() > 1 else (),
        spread=spread,
        outline=_outline(spread.histogram) if spread is not None and spread.size > 16 else "",
    )


def _outline(histogram: tuple[int, ...]) -> str:
    top = max(max(histogram), 1)
    step = _WIDTH / BINS
    heights = [_HEIGHT - round(_HEIGHT * amount / top, 1) for amount in histogram]
    return f"M0 {_HEIGHT}" + "".join(f"V{height:g}h{step:g}" for height in heights) + f"V{_HEIGHT}z"


def broken_by_function(tensors: Mapping[str, TensorView]) -> dict[str, int]:
    """How many values that are not finite each function reads first."""
    found: dict[str, int] = {}
    for view in tensors.values():
        if view.spread is not None and view.spread.broken:
            found[view.home] = found.get(view.home, 0) + view.spread.broken
    return found
