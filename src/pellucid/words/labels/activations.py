"""Activations of many units, kept only where they are not zero."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from pellucid.errors import BadInput


@dataclass(frozen=True)
class Activations:
    """What units do at the positions of a text, windows laid end to end; zero wherever nothing is said.

    Attributes:
        start: where the entries of each unit begin, and the end.
        places: the position of each entry, ascending within a unit.
        values: the activation of each entry.
        positions: how many positions there are.
    """

    start: Int[np.ndarray, " bounds"]
    places: Int[np.ndarray, " entries"]
    values: Float[np.ndarray, " entries"]
    positions: int

    @property
    def units(self) -> int:
        """How many units there are."""
        return len(self.start) - 1

    def of(self, unit: int) -> Float[np.ndarray, " positions"]:
        """One unit at every position."""
        dense = np.zeros(self.positions)
        some = slice(self.start[unit], self.start[unit + 1])
        dense[self.places[some]] = self.values[some]
        return dense

    @property
    def matrix(self) -> sparse.csr_matrix:
        """Units by positions."""
        return sparse.csr_matrix((self.values, self.places, self.start), (self.units, self.positions))

    def some(self, units: slice) -> Activations:
        """Some neighbouring units, without gaps."""
        first, last, _ = units.indices(self.units)
        start = self.start[first : last + 1]
        own = slice(start[0], start[-1])
        return Activations(start - start[0], self.places[own], self.values[own], self.positions)

    def without_first(self, context: int) -> Activations:
        """The same at all positions of windows of a length but the first."""
        kept = self.places % context != 0
        before = np.concatenate([[0], np.cumsum(kept)])
        places = self.places[kept].astype(np.int64)
        return Activations(
            before[self.start].astype(np.int64), (places - places // context - 1).astype(np.int32), self.values[kept],
            self.positions - self.positions // context,
        )  # fmt: skip


def activations_of(dense: Float[np.ndarray, "positions units"]) -> Activations:
    """Activations from a table. Raises BadInput when some are not finite."""
    if not np.isfinite(dense).all():
        raise BadInput("activations: some are not finite; capture them again in single precision")
    units, places = np.nonzero(dense.T)
    return _sorted(places, units, dense[places, units], len(dense), dense.shape[1])


def activations_of_top(
    units: Int[np.ndarray, "positions k"], values: Float[np.ndarray, "positions k"], count: int
) -> Activations:
    """Activations of `count` units from the few that are active at each position.

    Raises:
        BadInput: shapes differ, a unit is out of range or active twice at a position, or a value is not finite.
    """
    if units.shape != values.shape:
        raise BadInput(f"activations: {units.shape} units do not fit {values.shape} values; give one value for each")
    places = np.repeat(np.arange(len(units)), units.shape[1])
    return activations_of_entries(places, units.ravel(), values.ravel(), len(units), count)


def activations_of_entries(
    places: Int[np.ndarray, " entries"],
    units: Int[np.ndarray, " entries"],
    values: Float[np.ndarray, " entries"],
    positions: int,
    count: int,
) -> Activations:
    """Activations of `count` units from single entries in any order; zeros are dropped.

    Raises:
        BadInput: lengths differ, a unit or position is out of range or an entry stands twice, or a value is not finite.
    """
    fits = len(places) == len(units) == len(values)
    for numbers, end in ((places, positions), (units, count)):
        fits = fits and (len(numbers) == 0 or 0 <= numbers.min() <= numbers.max() < end)
    if not fits:
        raise BadInput(
            f"activations: entries outside of {count} units at {positions} positions; check how they are laid"
        )
    if not np.isfinite(values).all():
        raise BadInput("activations: some are not finite; capture them again in single precision")
    kept = values != 0
    found = _sorted(places[kept], units[kept], values[kept], positions, count)
    of = np.repeat(np.arange(count), np.diff(found.start))
    if ((np.diff(found.places) == 0) & (np.diff(of) == 0)).any():
        raise BadInput("activations: a unit stands twice at one position; name it once")
    return found


def _sorted(
    places: Int[np.ndarray, " entries"],
    units: Int[np.ndarray, " entries"],
    values: Float[np.ndarray, " entries"],
    positions: int,
    count: int,
) -> Activations:
    order = np.lexsort((places, units))
    start = np.concatenate([[0], np.cumsum(np.bincount(units, minlength=count))]).astype(np.int64)
    return Activations(start, places[order].astype(np.int32), values[order].astype(np.float64), positions)
