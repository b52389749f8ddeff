"""Largest flows from a node into a set of nodes, by blocking flows (Dinic 1970) that stay near the node.

The set is one sink: what a node can send straight into it is one number, `reach`. A flow looks only at what it needs,
and afterwards only what it changed is put back, so that a thousand small flows in a large net are cheap. While a flow
runs, the capacities of the net are what its arcs can still carry. They are whole numbers: a flow ends, and what it says
is exact.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64

from pellucid.modules.compiled import compiled
from pellucid.modules.nets import Net

FAR = 1 << 60


class Field(NamedTuple):
    """A net, the set that flows run into, and room to work in. All flows of a net share it."""

    net: Net
    joined: Bool[np.ndarray, "nodes"]
    """The set."""
    reach: Int64[np.ndarray, "nodes"]
    """Capacity from each node straight into the set."""
    spent: Int64[np.ndarray, "nodes"]
    """How much of `reach` is used."""
    depth: Int64[np.ndarray, "nodes"]
    """Steps from the source; -1 where not seen, FAR in the set."""
    cursor: Int64[np.ndarray, "nodes"]
    """The next arc to try."""
    queue: Int64[np.ndarray, "nodes"]
    path: Int64[np.ndarray, "nodes"]
    dirty: Bool[np.ndarray, "arcs"]
    """Whether something was sent along an arc or its twin."""
    touched: Int64[np.ndarray, "arcs"]
    """The arcs along which something was sent."""
    filled: Int64[np.ndarray, "2"]
    """How much of `queue` and of `touched` is in use."""


@compiled
def field(net: Net) -> Field:
    """A field with an empty set."""
    nodes, arcs = len(net.starts) - 1, len(net.heads)
    return Field(
        net,
        np.zeros(nodes, np.bool_),
        np.zeros(nodes, np.int64),
        np.zeros(nodes, np.int64),
        np.full(nodes, -1, np.int64),
        np.empty(nodes, np.int64),
        np.empty(nodes, np.int64),
        np.empty(nodes, np.int64),
        np.zeros(arcs, np.bool_),
        np.empty(arcs, np.int64),
        np.zeros(2, np.int64),
    )


@compiled
def join(field: Field, node: int) -> None:
    """Take a node into the set."""
    net = field.net
    field.joined[node] = True
    field.depth[node] = FAR
    for arc in range(net.starts[node], net.starts[node + 1]):
        field.reach[net.heads[arc]] += net.caps[arc]


@compiled
def fits(field: Field, node: int) -> bool:
    """Whether all that a node can send gets into the set in two steps at most, each neighbour passing on its part."""
    net = field.net
    for arc in range(net.starts[node], net.starts[node + 1]):
        head = net.heads[arc]
        if not field.joined[head] and net.caps[arc] > field.reach[head]:
            return False
    return True


@compiled
def _push(field: Field, arc: int, amount: int) -> None:
    """Send `amount` more along an arc. A variable for the net would make numba count references in the inner loop."""
    twin = field.net.twins[arc]
    if not field.dirty[arc]:
        field.dirty[arc] = field.dirty[twin] = True
        field.touched[field.filled[1]] = arc
        field.filled[1] += 1
    field.net.caps[arc] -= amount
    field.net.caps[twin] += amount


@compiled
def _two_steps(field: Field, source: int) -> int:
    """Send what goes from the source through one neighbour each; returns how much that is."""
    net = field.net
    total = 0
    for arc in range(net.starts[source], net.starts[source + 1]):
        head = net.heads[arc]
        amount = min(net.caps[arc], field.reach[head])
        if field.joined[head] or amount == 0:
            continue
        _push(field, arc, amount)
        field.spent[head] = amount
        total += amount
    return total


@compiled
def _layered(field: Field, source: int) -> int:
    """Find each node's depth, down to the first at which the set can be reached; returns it, or -1 if there is none.

    Stops where more than what is left to send could get into the set. `queue` then holds the nodes seen, the source
    first.
    """
    net, queue, depth = field.net, field.queue, field.depth
    depth[source] = 0
    field.cursor[source] = net.starts[source]
    queue[0] = source
    filled, turn, bottom = 1, 0, -1
    left = 0
    for arc in range(net.starts[source], net.starts[source + 1]):
        left += 0 if field.joined[net.heads[arc]] else net.caps[arc]
    while turn < filled:
        node = queue[turn]
        turn += 1
        if depth[node] == bottom or left < 0:
            break
        for arc in range(net.starts[node], net.starts[node + 1]):
            head = net.heads[arc]
            if depth[head] >= 0 or net.caps[arc] == 0:
                continue
            depth[head] = depth[node] + 1
            field.cursor[head] = net.starts[head]
            queue[filled] = head
            filled += 1
            if field.spent[head] < field.reach[head]:
                bottom = depth[head]
                left -= field.reach[head] - field.spent[head]
    field.filled[0] = filled
    return bottom


@compiled
def _blocked(field: Field, source: int, bottom: int) -> int:
    """Send as much as goes down the layers to the bottom and from there into the set; returns how much that is."""
    net, path, depth = field.net, field.path, field.depth
    total, node, steps = 0, source, 0
    while True:
        if steps == bottom and field.spent[node] < field.reach[node]:
            amount = field.reach[node] - field.spent[node]
            for step in range(steps):
                amount = min(amount, net.caps[path[step]])
            field.spent[node] += amount
            total += amount
            for step in range(steps):
                _push(field, path[step], amount)
            full = steps
            for step in range(steps - 1, -1, -1):
                if net.caps[path[step]] == 0:
                    full = step
            if full < steps:
                node = net.heads[net.twins[path[full]]]
                steps = full
            continue
        arc = field.cursor[node]
        if steps < bottom and arc < net.starts[node + 1]:
            head = net.heads[arc]
            if net.caps[arc] > 0 and depth[head] == steps + 1:
                path[steps] = arc
                steps += 1
                node = head
            else:
                field.cursor[node] += 1
            continue
        if steps == 0:
            return total
        steps -= 1
        node = net.heads[net.twins[path[steps]]]
        field.cursor[node] += 1


@compiled
def flow(field: Field, source: int) -> tuple[int, Int64[np.ndarray, "side"]]:
    """The largest flow from a node outside the set into it, and the smallest side of the source of such a cut.

    The field is left as it was: an arc and its twin had the same capacity, and their sum stays.
    """
    net = field.net
    total = field.reach[source] + _two_steps(field, source)
    field.spent[source] = field.reach[source]
    while True:
        bottom = _layered(field, source)
        seen = field.queue[: field.filled[0]].copy()
        if bottom >= 0:
            total += _blocked(field, source, bottom)
        for node in seen:
            field.depth[node] = -1
        if bottom < 0:
            break
    field.spent[source] = 0
    for arc in field.touched[: field.filled[1]]:
        twin = net.twins[arc]
        net.caps[arc] = net.caps[twin] = (net.caps[arc] + net.caps[twin]) // 2
        field.dirty[arc] = field.dirty[twin] = False
        field.spent[net.heads[arc]] = field.spent[net.heads[twin]] = 0
    field.filled[1] = 0
    return total, seen
