"""What the parts of a stream of waves compute: forms of code, simplest first.

A part reads waves (u, v) = r·(cos φ, sin φ) from each position. A form makes features of them, which are then written
along directions of the stream. Doubling takes r·(cos φ, sin φ) to r^q·(cos 2φ, sin 2φ): if φ is (α + β)/2, as it is
for the sum of two waves of equal strength, this is a wave of the sum α + β. With q = 1 it is what an MLP of
piecewise-linear units does best (the pizza of Zhong et al. 2023), with q = 2 it is the product formula of the clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pellucid.code.recurrent.writing import Writer
from pellucid.ir.graph import Arg, Ref

SMALLEST = 1e-6
"""Waves shorter than this have no angle."""


@dataclass
class Waves:
    """The waves that a part has read.

    Attributes:
        value: [batch, position, twice], all cosine parts, then all sine parts.
        count: how many waves; those of single tokens at key frequencies stand first.
        keys: how many those are.
        weights: for each head and position how much the head takes of it, [batch, position, head]; None without heads.
    """

    writer: Writer
    value: Ref
    count: int
    keys: int
    weights: Ref | None = None

    def node(self, op: str, *args: Arg, name: str = "") -> Ref:
        """Write a node."""
        return self.writer.node(op, *args, name=name)

    def halves(self, value: Ref, most: int) -> tuple[Ref, Ref]:
        """The cosine and sine parts of the first `most` waves."""
        u = self.node("slice_axis", value, -1, 0, most, name="u")
        v = self.node("slice_axis", value, -1, self.count, self.count + most, name="v")
        return u, v

    def both(self, u: Ref, v: Ref, name: str) -> Ref:
        """Cosine and sine parts in a row."""
        return self.node("concat", (u, v), -1, name=name)


@dataclass(frozen=True)
class Form:
    """From waves to groups of features, each [batch, position or 1, features]; `summary` says what is computed, `heads`
    whether the weights of heads are needed."""

    name: str
    summary: str
    build: Callable[[Waves], tuple[Ref, ...]]
    heads: bool = False


def _doubled(waves: Waves, power: int, most: int) -> Ref:
    u, v = waves.halves(waves.value, most)
    squares = waves.node("add", waves.node("mul", u, u), waves.node("mul", v, v), name="squares")
    cosine = waves.node("sub", waves.node("mul", u, u), waves.node("mul", v, v))
    sine = waves.node("mul", waves.node("mul", 2, u), v)
    if power == 1:
        length = waves.node("maximum", waves.node("sqrt", squares), SMALLEST, name="length")
        cosine, sine = waves.node("div", cosine, length), waves.node("div", sine, length)
    return waves.both(cosine, sine, "doubled")


def _others(waves: Waves) -> tuple[Ref, ...]:
    """The waves that are not doubled."""
    if waves.count == waves.keys:
        return ()
    u = waves.node("slice_axis", waves.value, -1, waves.keys, waves.count)
    v = waves.node("slice_axis", waves.value, -1, waves.count + waves.keys, 2 * waves.count)
    return (waves.both(u, v, "others"),)


def _pizza(waves: Waves) -> tuple[Ref, ...]:
    return (_doubled(waves, 1, waves.keys),)


def _pizza_and_others(waves: Waves) -> tuple[Ref, ...]:
    return _doubled(waves, 1, waves.keys), *_others(waves)


def _pizza_and_waves(waves: Waves) -> tuple[Ref, ...]:
    return _doubled(waves, 1, waves.keys), waves.value


def _clock(waves: Waves) -> tuple[Ref, ...]:
    return (_doubled(waves, 2, waves.keys),)


def _clock_and_others(waves: Waves) -> tuple[Ref, ...]:
    return _doubled(waves, 2, waves.keys), *_others(waves)


def _clock_and_waves(waves: Waves) -> tuple[Ref, ...]:
    return _doubled(waves, 2, waves.keys), waves.value


def _total(waves: Waves) -> tuple[Ref, ...]:
    return (waves.node("total", waves.value, (1,), True, name="total"),)


def _taken(waves: Waves) -> tuple[Ref, ...]:
    if waves.weights is None:
        return ()
    taken = waves.node("einsum", "bph,bpw->bhw", (waves.weights, waves.value), name="taken")
    return (waves.node("unsqueeze", waves.node("flatten", taken, 1, -1), 1),)


def _taken_and_total(waves: Waves) -> tuple[Ref, ...]:
    return (*_taken(waves), *_total(waves)) if waves.weights is not None else ()


_PIZZA = "doubles the angles of waves {keys}, each keeping its length"
_CLOCK = "doubles the angles of waves {keys}, squaring their lengths"
_HEADS = "takes waves {all} from the positions where wave {deciding} is high"

POSITIONWISE = (
    (Form("pizza", _PIZZA, _pizza), Form("clock", _CLOCK, _clock)),
    (
        Form("pizza and others", f"{_PIZZA}; passes on waves {{others}}", _pizza_and_others),
        Form("clock and others", f"{_CLOCK}; passes on waves {{others}}", _clock_and_others),
    ),
    (
        Form("pizza and waves", f"{_PIZZA}; passes on waves {{all}}", _pizza_and_waves),
        Form("clock and waves", f"{_CLOCK}; passes on waves {{all}}", _clock_and_waves),
    ),
)
"""What a part can do at each position by itself; forms of one length stand together."""

MIXING = (
    (Form("total", "adds up waves {all} of all positions", _total),),
    (Form("heads", _HEADS, _taken, heads=True),),
    (Form("heads and total", f"{_HEADS}, and some of all", _taken_and_total, heads=True),),
)
"""What a part can do that moves waves between positions."""
