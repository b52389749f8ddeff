"""The linear steps between units, kept apart until rows that read through them are known.

A chain of maps takes the entries of a block of units to the entries of a value. A reader multiplies its rows through
the chain from the outside in, so that no product larger than rows times entries is ever made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float, Int

Rows: TypeAlias = Float[torch.Tensor, "rows made"]
"""Rows over the entries that a map makes."""

Read: TypeAlias = Float[torch.Tensor, "rows given"]
"""The same rows over the entries that it is given."""


@dataclass(frozen=True, eq=False)
class Dense:
    """y = weight x, or weightᵀ x where `turned`; the weight is the network's own tensor, not a copy."""

    weight: Float[torch.Tensor, "out entries"]
    turned: bool = False

    def before(self, rows: Rows) -> Read:
        """rows · weight."""
        weight = self.weight.to(rows.dtype)
        return rows @ (weight.T if self.turned else weight)


@dataclass(frozen=True, eq=False)
class Scale:
    """y = gain ⊙ x: a norm's gains, a factor, a sign."""

    gain: Float[torch.Tensor, " entries"] | float

    def before(self, rows: Rows) -> Read:
        """Rows with every column scaled."""
        return rows * (self.gain.to(rows.dtype) if isinstance(self.gain, torch.Tensor) else self.gain)


@dataclass(frozen=True)
class Centre:
    """y = x less its mean: what layer norm does before it scales."""

    def before(self, rows: Rows) -> Read:
        """Rows less their mean over columns."""
        return rows - rows.mean(1, keepdim=True)


@dataclass(frozen=True, eq=False)
class Take:
    """y = x[positions], out of `size` entries; positions may repeat."""

    positions: Int[torch.Tensor, " taken"]
    size: int

    def before(self, rows: Rows) -> Read:
        """Columns put back to where they were taken from, and added there."""
        return rows.new_zeros(rows.shape[0], self.size).index_add_(1, self.positions, rows)


@dataclass(frozen=True)
class Place:
    """y is zero but for x in the entries from `start` on; x has `size` entries."""

    start: int
    size: int

    def before(self, rows: Rows) -> Read:
        """The columns where x stands."""
        return rows[:, self.start : self.start + self.size]


@dataclass(frozen=True)
class Positions:
    """Each of the `size` entries of x stands in y at `outer` times `inner` positions, as channels in a flattened image.

    The positions hold different values of one unit: rows that read them read the unit with the root of the sum of
    their squares. `inner` is -1 where the network leaves it open; the rows tell.
    """

    outer: int
    size: int
    inner: int

    def before(self, rows: Rows) -> Read:
        """The norm over the positions of each entry."""
        return rows.reshape(rows.shape[0], self.outer, self.size, self.inner).square().sum((1, 3)).sqrt()


@dataclass(frozen=True, eq=False)
class Average:
    """y[k] is the mean of the entries of x whose group is k."""

    group: Int[torch.Tensor, " entries"]

    def before(self, rows: Rows) -> Read:
        """The column of its group, over the size of the group, for each entry."""
        counts = torch.bincount(self.group, minlength=rows.shape[1]).to(rows.dtype)
        return (rows / counts)[:, self.group]


Map: TypeAlias = Dense | Scale | Centre | Take | Place | Positions | Average
Chain: TypeAlias = tuple[Map, ...]


def through(rows: Rows, chain: Sequence[Map]) -> Read:
    """Rows multiplied by a chain, outermost map first."""
    for step in chain:
        rows = step.before(rows)
    return rows


def rows_through(chain: Sequence[Map], start: int, stop: int, entries: int) -> Read:
    """Rows `start` to `stop` of a chain that makes `entries` entries, as one matrix."""
    first = chain[0] if chain else None
    if isinstance(first, Dense):
        weight = (first.weight.T if first.turned else first.weight)[start:stop]
        return through(weight.float(), chain[1:])
    rows = torch.zeros(stop - start, entries)
    rows[torch.arange(stop - start), torch.arange(start, stop)] = 1.0
    return through(rows, chain)


def is_diagonal(chain: Sequence[Map]) -> bool:
    """Whether a chain keeps every entry in its place."""
    return all(isinstance(step, Scale) for step in chain)
