"""The 62 tasks on integer sequences: what each step holds, what is to be put out, and which shapes of net are tried.

A task is a step function on arrays with one entry per sequence. Ranges: digits and residues as the name says, bits
where the task speaks of bits or symbols, small integers of both signs otherwise.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

Column = Int64[np.ndarray, " batch"]
Whole = Int64[np.ndarray, "batch time channels"]
State = list[Column]
Step = Callable[..., tuple[State, tuple[Column, ...]]]

SMALL = (-5, 5)
BIT = (0, 1)


@dataclass(frozen=True)
class Shapes:
    """Nets that are tried: hidden sizes and widths of the layers inside, which are mixed; depths of the two MLPs."""

    hidden: tuple[int, ...]
    depths: tuple[int, int] = (1, 1)
    widths: tuple[int, ...] = (1,)


@dataclass(frozen=True)
class Task:
    """A function from integer sequences to integer sequences.

    Attributes:
        name: unique, a file name.
        channels: lowest and highest value of each input channel.
        step: (state, *channels) -> (state, outputs).
        start: state before the first step.
        shapes: the nets that are tried.
    """

    name: str
    channels: tuple[tuple[int, int], ...]
    step: Step
    start: tuple[int, ...]
    shapes: Shapes

    def draw(self, rng: np.random.Generator, count: int, length: int) -> Whole:
        """Random sequences, each channel uniformly and on its own."""
        return np.stack([rng.integers(low, high + 1, (count, length)) for low, high in self.channels], -1)

    def answer(self, x: Whole) -> Whole:
        """The outputs at every step."""
        state: State = [np.full(len(x), value, dtype=np.int64) for value in self.start]
        y = []
        for t in range(x.shape[1]):
            state, out = self.step(state, *x[:, t].T)
            y.append(np.stack(out, -1))
        return np.stack(y, 1).astype(np.int64)


def _pointwise(function: Callable[..., Column]) -> Step:
    return lambda s, *x: (s, (function(*x) * 1,))


def _kept(function: Callable[..., Column]) -> Step:
    """One state variable, which is the output, too."""

    def step(s: State, *x: Column) -> tuple[State, tuple[Column, ...]]:
        value = function(s[0], *x) * 1
        return [value], (value,)

    return step


def _window(function: Callable[[Sequence[Column]], Column], lags: int) -> Step:
    """A function of this input and of those `lags` steps back, the latest first."""

    def step(s: State, x: Column) -> tuple[State, tuple[Column, ...]]:
        return [x, *s][:lags], (function([x, *s]) * 1,)

    return step


def _adder(base: int) -> Step:
    return lambda s, a, b: ([(a + b + s[0]) // base], ((a + b + s[0]) % base,))


def _quotient(divisor: int) -> Step:
    return lambda s, x: ([(2 * s[0] + x) % divisor], ((2 * s[0] + x) // divisor,))


def _alternate(past: Sequence[Column]) -> Column:
    return np.logical_and.reduce([(a + b == 1) & (b >= 0) for a, b in itertools.pairwise(past)])


def _palindrome(s: State, x: Column) -> tuple[State, tuple[Column, ...]]:
    forwards, backwards, place = 2 * s[0] + x, s[1] + x * s[2], 2 * s[2]
    return [forwards, backwards, place], ((forwards == backwards) * 1,)


def _balanced(s: State, x: Column) -> tuple[State, tuple[Column, ...]]:
    depth = s[0] + 2 * x - 1
    lowest = np.minimum(s[1], depth)
    return [depth, lowest], (((depth == 0) & (lowest >= 0)) * 1,)


def _most_frequent(s: State, x: Column) -> tuple[State, tuple[Column, ...]]:
    counts = [count + (x == symbol) for symbol, count in enumerate(s)]
    return counts, (np.argmax(np.stack(counts), 0),)


def _moving(force: Callable[..., Column]) -> Step:
    """Velocity, then position; the force depends on (input, position)."""

    def step(s: State, x: Column) -> tuple[State, tuple[Column, ...]]:
        velocity = s[1] + force(x, s[0])
        return [s[0] + velocity, velocity], (s[0] + velocity,)

    return step


def _magnetic(s: State, a: Column, b: Column) -> tuple[State, tuple[Column, ...]]:
    """The field turns the velocity by a quarter at each step; the inputs push."""
    u, v = a - s[3], b + s[2]
    return [s[0] + u, s[1] + v, u, v], (s[0] + u, s[1] + v)


def _dither(s: State, x: Column) -> tuple[State, tuple[Column, ...]]:
    """Error diffusion of a brightness in quarters."""
    bright = s[0] + x >= 2
    return [s[0] + x - 4 * bright], (bright * 1,)


def _is_square(x: Column) -> Column:
    return np.isin(x, np.arange(10) ** 2)


SMALLER = Shapes((1, 2, 3), (2, 2), (16, 32))
LARGER = Shapes((2, 3, 4), (2, 2), (32,))
LARGEST = Shapes((3, 4, 6), (2, 2), (32,))
FINITE = Shapes((1, 2, 3), (2, 2), (8, 16, 32))


def _register(lags: int) -> Shapes:
    return Shapes((lags + 1, lags + 2), (1, 2), (8, 16, 32))


def _of_digits() -> list[Task]:
    adders = [
        Task(f"add_base_{b}", ((0, b - 1), (0, b - 1)), _adder(b), (0,), Shapes((2, 3, 4), (2, 2), (16, 32)))
        for b in range(2, 8)
    ]
    sums = [
        Task(f"sum_mod_{m}", ((0, m - 1),), _kept(lambda s, x, m=m: (s + x) % m), (0,), FINITE if m < 6 else LARGER)
        for m in range(3, 9)
    ]
    divisions = [Task(f"divide_by_{d}", (BIT,), _quotient(d), (0,), SMALLER if d < 5 else LARGEST) for d in (3, 5, 7)]
    return [*adders, *sums, *divisions]


def _of_numbers() -> list[Task]:
    back = [
        Task(f"back_{k}", (SMALL,), _window(lambda w, k=k: w[k], k), (0,) * k, Shapes((k + 1, k + 2)))
        for k in range(1, 6)
    ]
    sums = [
        Task(f"sum_last_{k}", (SMALL,), _window(lambda w, k=k: sum(w[:k]), k - 1), (0,) * (k - 1), Shapes((k, k + 1)))
        for k in range(2, 8)
    ]
    return [
        Task("identity", (SMALL,), _pointwise(lambda x: x), (), Shapes((1,))),
        *back,
        Task("sum", (SMALL,), _kept(lambda s, x: s + x), (0,), Shapes((1, 2))),
        *sums,
        Task("difference", (SMALL,), _window(lambda w: w[0] - w[1], 1), (0,), Shapes((2,))),
        Task("abs", (SMALL,), _pointwise(np.abs), (), Shapes((1,), (1, 2), (2, 4))),
        Task("abs_difference", (SMALL,), _window(lambda w: np.abs(w[0] - w[1]), 1), (0,), Shapes((2,), (1, 2), (2, 4))),
        Task("difference_of_abs", (SMALL,), _window(lambda w: np.abs(w[0]) - np.abs(w[1]), 1), (0,),
             Shapes((2, 3), (1, 2), (4, 8))),
        Task("even", (SMALL,), _pointwise(lambda x: x % 2 == 0), (), Shapes((1, 2), (1, 2), (8, 16))),
        Task("evens_so_far", (SMALL,), _kept(lambda s, x: s + (x % 2 == 0)), (0,), Shapes((1, 2), (3, 1), (16, 24))),
        Task("square", (SMALL,), _pointwise(_is_square), (), Shapes((1, 2), (1, 2), (8, 16))),
        Task("maximum", (SMALL,), _kept(np.maximum), (-99,), Shapes((1, 2), (2, 1), (4, 8))),
        Task("minimum", (SMALL,), _kept(np.minimum), (99,), Shapes((1, 2), (2, 1), (4, 8))),
        Task("previous_equals", (SMALL,), _window(lambda w: w[0] == w[1], 1), (-99,), Shapes((2, 3), (1, 2), (8, 16))),
        Task("free_body", ((-3, 3),), _moving(lambda x, s: x), (0, 0), Shapes((2, 3))),
        Task("gravity", ((-3, 3),), _moving(lambda x, s: x - 1), (0, 0), Shapes((2, 3))),
        Task("spring", ((-3, 3),), _moving(lambda x, s: x - s), (0, 0), Shapes((2, 3))),
        Task("magnetic", ((-3, 3), (-3, 3)), _magnetic, (0, 0, 0, 0), Shapes((4, 5))),
        Task("dither", ((0, 4),), _dither, (0,), Shapes((2, 3, 4), (2, 2), (16, 32))),
    ]  # fmt: skip


def _of_bits() -> list[Task]:
    parities = [
        Task(
            f"parity_last_{k}", (BIT,), _window(lambda w, k=k: sum(w[:k]) % 2, k - 1), (0,) * (k - 1), _register(k - 1)
        )
        for k in range(2, 5)
    ]
    frequent = [
        Task(f"most_frequent_{k}", ((0, k - 1),), _most_frequent, (0,) * k,
             Shapes((1, 2) if k == 2 else (k - 1, k), (2, 2 if k == 2 else 3), (16,) if k == 2 else (32,)))
        for k in range(2, 5)
    ]  # fmt: skip
    return [
        Task("shift_right", (BIT,), _window(lambda w: w[1], 1), (0,), Shapes((2, 3))),
        Task("and", (BIT, BIT), _pointwise(np.bitwise_and), (), Shapes((1,), (1, 2), (2, 4))),
        Task("or", (BIT, BIT), _pointwise(np.bitwise_or), (), Shapes((1,), (1, 2), (2, 4))),
        Task("xor", (BIT, BIT), _pointwise(np.bitwise_xor), (), Shapes((1,), (1, 2), (4, 8))),
        Task("not", (BIT,), _pointwise(lambda x: 1 - x), (), Shapes((1,))),
        Task("dot_mod_2", (BIT, BIT), _kept(lambda s, a, b: s ^ (a & b)), (0,), Shapes((1, 2), (2, 1), (8, 16))),
        *parities,
        Task("parity", (BIT,), _kept(lambda s, x: s ^ x), (0,), Shapes((1, 2), (2, 1), (4, 8))),
        Task("parity_of_zeros", (BIT,), _kept(lambda s, x: s ^ (1 - x)), (0,), Shapes((1, 2), (2, 1), (4, 8))),
        Task("parity_of_position", (BIT,), _kept(lambda s, x: 1 - s), (0,), Shapes((1, 2))),
        Task("alternate_3", (BIT,), _window(lambda w: _alternate(w[:3]), 2), (-1, -1), _register(2)),
        Task("alternate_4", (BIT,), _window(lambda w: _alternate(w[:4]), 3), (-1, -1, -1), _register(3)),
        Task("palindrome", (BIT,), _palindrome, (0, 0, 1), Shapes((4, 5), (2, 2), (32,))),
        Task("balanced", (BIT,), _balanced, (0, 0), Shapes((2, 3), (2, 2), (16, 32))),
        *frequent,
    ]


TASKS = {task.name: task for task in (*_of_numbers(), *_of_bits(), *_of_digits())}
