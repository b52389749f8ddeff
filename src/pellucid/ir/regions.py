"""Regions: nested groups of nodes and units with a small interface (prose says module; `Module` belongs to torch)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

NO_JOINT = "found no joint"
"""How the origin of a hierarchy ends when modules were looked for in vain; it then is the network's own nesting."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Part of one axis of one value: the neurons, channels or heads `indices` of `value` along `axis`."""

    value: str
    axis: int
    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Region:
    """A named group: the nodes (by id) and units that belong to it and to none of its children, and its children.

    A region that holds `units` asks `structure` to divide the values named there between the regions that share them.
    """

    name: str
    kind: str
    nodes: tuple[str, ...] = ()
    units: tuple[Unit, ...] = ()
    children: tuple[Region, ...] = ()

    def walk(self) -> Iterator[Region]:
        """This region and all below it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True, slots=True)
class RegionTree:
    """The hierarchy of a network; nodes that no region names belong to the root."""

    root: Region
    origin: str
    """Where the hierarchy comes from: "nesting" (the network's own modules), or the method that found it."""

    def walk(self) -> Iterator[Region]:
        """All regions, parents first."""
        yield from self.root.walk()
