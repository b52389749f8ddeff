"""A value cut along one axis."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Division:
    """A value cut along an axis: `parts` are the positions in each part, `owners` the regions (None: unclaimed)."""

    axis: int
    owners: tuple[str | None, ...]
    parts: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        """Length of the axis."""
        return sum(len(part) for part in self.parts)

    def along(self, axis: int) -> Division:
        """The same division of another value, along its axis `axis`."""
        return replace(self, axis=axis)
