"""How two sets of values are compared: largest relative difference, share of equal decisions, intervals.

A difference is relative to the largest magnitude of the same output over all inputs. Magnitudes from 1e30 on (masks)
and infinities have to agree themselves and set no scale; numbers that are no floats have to be equal, and element types
and shapes the same.
Shares carry the 95% interval of Wilson (1927), over samples, because positions within a sample are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool, Float64, Int64, Shaped

from pellucid.ir.program import Measure

Values: TypeAlias = Sequence[Any]
Tensor = Shaped[torch.Tensor, "..."]

HUGE = 1e30
INFINITE = float("inf")

BY_SAMPLE: tuple[Measure, ...] = ("decisions", "signs")
"""A sample counts as one: it agrees throughout or not at all."""


@dataclass(frozen=True)
class OutputGap:
    """How far one output is off: the largest difference and magnitude, and the smallest of the samples' differences."""

    difference: float = 0.0
    scale: float = 0.0
    least: float = INFINITE

    @property
    def relative(self) -> float:
        """The largest difference relative to the largest magnitude."""
        return _ratio(self.difference, self.scale)


@dataclass(frozen=True)
class Gap:
    """How far values are off, over some samples. `bitwise` when every bit agreed."""

    outputs: tuple[OutputGap, ...] = ()
    samples: int = 0
    bitwise: bool = True

    @property
    def relative(self) -> float:
        """The largest relative difference of any output."""
        return max((output.relative for output in self.outputs), default=0.0)

    @property
    def interval(self) -> tuple[float, float]:
        """The relative difference of the best and of the worst sample."""
        least = min((_ratio(output.least, output.scale) for output in self.outputs), default=0.0)
        return min(least, self.relative), self.relative

    def merged(self, other: Gap) -> Gap:
        """Both together."""
        if not self.outputs or not other.outputs:
            return other if not self.outputs else self
        outputs = tuple(
            OutputGap(max(a.difference, b.difference), max(a.scale, b.scale), min(a.least, b.least))
            for a, b in zip(self.outputs, other.outputs, strict=True)
        )
        return Gap(outputs, self.samples + other.samples, self.bitwise and other.bitwise)


def _ratio(difference: float, scale: float) -> float:
    if difference == 0.0 or math.isinf(difference):
        return difference
    return difference / scale if scale > 0.0 else INFINITE


def gap(found: Values, wanted: Values) -> Gap:
    """How far `found` is from `wanted`, output by output."""
    if len(found) != len(wanted):
        return Gap(tuple(OutputGap(INFINITE) for _ in wanted) or (OutputGap(INFINITE),), 1, False)
    pairs = [(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(found, wanted, strict=True)]
    samples = max((b.shape[0] for _, b in pairs if b.ndim), default=1)
    same = [same_bits(a, b) for a, b in pairs]
    return Gap(tuple(_output_gap(a, b, s) for (a, b), s in zip(pairs, same, strict=True)), samples, all(same))


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal in type, shape and every bit."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    first, second = (x.detach().contiguous().reshape(-1).view(torch.uint8) for x in (a, b))
    return torch.equal(first, second)


def _output_gap(a: Tensor, b: Tensor, same: bool) -> OutputGap:
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return OutputGap(INFINITE, 0.0, INFINITE)
    if not b.is_floating_point():
        equal = bool((a == b).all())
        return OutputGap(0.0 if equal else INFINITE, 1.0, 0.0 if equal else INFINITE)
    if b.numel() == 0:
        return OutputGap(0.0, 0.0, 0.0)
    ordinary = b.abs() < HUGE
    scale = float(torch.where(ordinary, b.abs(), 0.0).max())
    if same:
        return OutputGap(0.0, scale, 0.0)
    by_sample = _differences(a.double(), b.double(), ordinary).reshape(b.shape[0] if b.ndim else 1, -1).amax(1)
    return OutputGap(float(by_sample.max()), scale, float(by_sample.min()))


def _differences(
    a: Float64[torch.Tensor, "*s"], b: Float64[torch.Tensor, "*s"], ordinary: Bool[torch.Tensor, "*s"]
) -> Float64[torch.Tensor, "*s"]:
    away = (a - b).abs()
    agrees = (a == b) | (a.isnan() & b.isnan()) | (b.isfinite() & (away <= 1e-6 * b.abs()))
    outside = torch.where(agrees, 0.0, INFINITE)
    return torch.where(ordinary, away.nan_to_num(nan=INFINITE, posinf=INFINITE), outside)


# ---- decisions


@dataclass(frozen=True)
class Share:
    """How many positions agree; `place` is the earliest that does not, `example` tells what was found there."""

    agreed: int = 0
    positions: int = 0
    samples: int = 0
    place: tuple[int, ...] = ()
    example: str = ""

    @property
    def value(self) -> float:
        """The share of positions that agree."""
        return self.agreed / self.positions if self.positions else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval, over samples."""
        return wilson(self.value, self.samples)

    def merged(self, other: Share) -> Share:
        """Both together."""
        agreed, positions = self.agreed + other.agreed, self.positions + other.positions
        first = self if self.example else other
        return Share(agreed, positions, self.samples + other.samples, first.place, first.example)


def share(found: Values, wanted: Values, measure: Measure) -> Share:
    """Where the first outputs agree.

    Once rounded ("rounded"), in the index of the largest ("decision"), in that index at every position of a sample
    ("decisions"), in the signs of all numbers of a sample ("signs").
    """
    a, b = torch.as_tensor(found[0]), torch.as_tensor(wanted[0])
    samples = b.shape[0] if b.ndim else 1
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        example = f"{a.dtype}{list(a.shape)} instead of {b.dtype}{list(b.shape)}".replace("torch.", "")
        return Share(0, max(1, b.numel()), samples, (), example)
    a, b = a.double(), b.double()
    if measure in ("decision", "decisions"):
        a, b = a.argmax(-1), b.argmax(-1)
    if measure == "signs":
        a, b = a.sign(), b.sign()
    equal = (a.round() == b.round()) & ~a.isnan() if measure == "rounded" else a == b
    count, agreed = equal.numel(), int(equal.sum())
    if measure in BY_SAMPLE:
        count, agreed = samples, int(equal.reshape(samples, -1).all(1).sum())
    if bool(equal.all()):
        return Share(count, count, samples)
    place = _earliest((~equal).nonzero())
    example = f"{located(place)}: network {float(b[place]):.6g}, program {float(a[place]):.6g}"
    return Share(agreed, count, samples, place, example)


def _earliest(places: Int64[torch.Tensor, "n axes"]) -> tuple[int, ...]:
    """The place that comes first along the second axis (time), so that all before it is equal in every sample."""
    first = int(places[:, 1].argmin()) if places.shape[1] > 1 else 0
    return tuple(int(i) for i in places[first])


def located(place: Sequence[int]) -> str:
    """A place in words: the sample, then the position in it."""
    position = f", position {', '.join(str(i) for i in place[1:])}" if len(place) > 1 else ""
    return f"sample {place[0] if place else 0}{position}"


def wilson(value: float, samples: int) -> tuple[float, float]:
    """The 95% interval of a share measured on `samples` independent samples.

    >>> tuple(round(x, 3) for x in wilson(1.0, 100))
    (0.963, 1.0)
    """
    if samples == 0:
        return 0.0, 1.0
    z = 1.959963984540054
    centre = value + z * z / (2 * samples)
    spread = z * math.sqrt(value * (1 - value) / samples + z * z / (4 * samples * samples))
    scale = 1 + z * z / samples
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


# ---- any measure


@dataclass(frozen=True)
class Claim:
    """What a reading has to keep: a measure, and how much may be lost."""

    measure: Measure
    budget: float

    def score(self, found: Values, wanted: Values) -> Gap | Share:
        """How `found` does beside `wanted`."""
        return gap(found, wanted) if self.measure == "difference" else share(found, wanted, self.measure)

    def met(self, score: Gap | Share) -> bool:
        """Whether that is within the budget."""
        return score.relative <= self.budget if isinstance(score, Gap) else score.value >= 1.0 - self.budget

    @property
    def bar(self) -> str:
        """The budget in words."""
        return f"at most {self.budget:g}" if self.measure == "difference" else f"at least {1.0 - self.budget:g}"

    @property
    def title(self) -> str:
        """The measure in words."""
        titles = {
            "difference": "max relative difference",
            "rounded": "match after rounding",
            "decision": "same decision",
            "decisions": "same decision at every position",
            "signs": "same signs throughout",
        }
        return titles[self.measure]

    @property
    def unit(self) -> str:
        """What the value is a part of."""
        if self.measure == "difference":
            return "of the largest output"
        return "of samples" if self.measure in BY_SAMPLE else "of positions"


def value_of(score: Gap | Share) -> float:
    """The number that a verdict states."""
    return score.relative if isinstance(score, Gap) else score.value


def together(first: Gap | Share | None, second: Gap | Share) -> Gap | Share:
    """Two scores of the same claim as one."""
    if isinstance(first, Gap) and isinstance(second, Gap):
        return first.merged(second)
    return first.merged(second) if isinstance(first, Share) and isinstance(second, Share) else second
