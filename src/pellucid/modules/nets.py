"""Undirected graphs with whole-number capacities, in flat arrays: sorted, paired, contracted, freed of loose ends.

Node `i` owns the arcs `starts[i]:starts[i + 1]`, sorted by `heads`. Each edge is two arcs of equal capacity, and
`twins` leads from each to the other.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int32, Int64

from pellucid.modules.compiled import compiled

SOUND, NOT_SYMMETRIC, BAD_WEIGHT, NO_EDGES, TOO_LARGE = range(5)
ROUNDING = 1e-12


class Net(NamedTuple):
    """An undirected graph with whole-number capacities."""

    starts: Int64[np.ndarray, "nodes+1"]
    heads: Int32[np.ndarray, "arcs"]
    caps: Int64[np.ndarray, "arcs"]
    twins: Int32[np.ndarray, "arcs"]


@compiled
def paired(starts: Int64[np.ndarray, "nodes+1"], heads: Int32[np.ndarray, "arcs"]) -> Int32[np.ndarray, "arcs"]:
    """The twin of each arc, or -1 from the first arc on whose twin is not in its place. Rows must be sorted.

    The arcs into a node come by in the order of its row when rows are read one after another.
    """
    twins = np.full(len(heads), -1, np.int32)
    cursor = starts[:-1].copy()
    for node in range(len(starts) - 1):
        for arc in range(starts[node], starts[node + 1]):
            head = heads[arc]
            twin = cursor[head]
            if twin == starts[head + 1] or heads[twin] != node:
                return twins
            twins[arc] = twin
            cursor[head] = twin + 1
    return twins


@compiled
def _fault(weights: Float64[np.ndarray, "given"]) -> int:
    """Whether all weights are sizes, and one of them is positive."""
    least, most, none = np.inf, -np.inf, False
    for weight in weights:
        least = min(least, weight)
        most = max(most, weight)
        none |= weight != weight
    if none or least < 0.0 or most == np.inf:
        return BAD_WEIGHT
    return SOUND


@compiled
def _without_idle(
    starts: Int64[np.ndarray, "nodes+1"], heads: Int32[np.ndarray, "given"], weights: Float64[np.ndarray, "given"]
) -> tuple[Int64[np.ndarray, "nodes+1"], Int32[np.ndarray, "arcs"], Float64[np.ndarray, "arcs"]]:
    """The arcs of positive weight between different nodes."""
    idle = 0
    for node in range(len(starts) - 1):
        for arc in range(starts[node], starts[node + 1]):
            idle += weights[arc] == 0.0 or heads[arc] == node
    if idle == 0:
        return starts, heads, weights
    kept_starts = np.zeros(len(starts), np.int64)
    kept_heads = np.empty(len(heads) - idle, np.int32)
    kept_weights = np.empty(len(heads) - idle, np.float64)
    used = 0
    for node in range(len(starts) - 1):
        for arc in range(starts[node], starts[node + 1]):
            if weights[arc] > 0.0 and heads[arc] != node:
                kept_heads[used], kept_weights[used] = heads[arc], weights[arc]
                used += 1
        kept_starts[node + 1] = used
    return kept_starts, kept_heads, kept_weights


@compiled
def _largest(starts: Int64[np.ndarray, "nodes+1"], weights: Float64[np.ndarray, "arcs"]) -> float:
    """The largest sum of weights at a node."""
    largest = 0.0
    for node in range(len(starts) - 1):
        largest = max(largest, weights[starts[node] : starts[node + 1]].sum())
    return largest


@compiled
def _leveled(
    weights: Float64[np.ndarray, "arcs"], twins: Int32[np.ndarray, "arcs"], power: int
) -> tuple[int, Int64[np.ndarray, "arcs"]]:
    """NOT_SYMMETRIC or SOUND; the smaller weight of each arc and its twin, times a power of two, as a whole number."""
    first, second = 2.0 ** (power // 2), 2.0 ** (power - power // 2)
    caps = np.empty(len(weights), np.int64)
    for arc in range(len(weights)):
        twin = twins[arc]
        if twin < 0:
            return NOT_SYMMETRIC, caps
        if twin < arc:
            caps[arc] = caps[twin]
        elif abs(weights[arc] - weights[twin]) > ROUNDING * weights[arc]:
            return NOT_SYMMETRIC, caps
        else:
            caps[arc] = np.int64(np.rint(min(weights[arc], weights[twin]) * first * second))
    return SOUND, caps


@compiled
def scaled(
    starts: Int64[np.ndarray, "nodes+1"], heads: Int32[np.ndarray, "given"], weights: Float64[np.ndarray, "given"]
) -> tuple[int, int, Net]:
    """A fault or SOUND, the power of two that weights were multiplied by, and the net.

    The power is such that the sums of capacities fit into 62 bits: weights are rounded to 2⁻⁶¹ of the largest such sum.
    Both directions of an edge get the smaller of their weights, which may differ by rounding. Rows must be sorted.
    """
    fault, power = _fault(weights), 0
    caps, twins = np.zeros(0, np.int64), np.zeros(0, np.int32)
    if fault == SOUND:
        starts, heads, weights = _without_idle(starts, heads, weights)
        largest = _largest(starts, weights)
        fault = NO_EDGES if largest == 0.0 else TOO_LARGE if largest == np.inf else SOUND
    if fault == SOUND:
        power = 61 - math.frexp(largest)[1]
        twins = paired(starts, heads)
        fault, caps = _leveled(weights, twins, power)
    return fault, power, Net(starts, heads, caps, twins)


@compiled
def degrees(net: Net) -> Int64[np.ndarray, "nodes"]:
    """The sum of the capacities at each node."""
    sums = np.zeros(len(net.starts) - 1, np.int64)
    for node in range(len(sums)):
        sums[node] = net.caps[net.starts[node] : net.starts[node + 1]].sum()
    return sums


@compiled
def _bucketed(keys: Int64[np.ndarray, "arcs"], count: int) -> Int64[np.ndarray, "arcs"]:
    """The stable order of `keys`, which are below `count`."""
    starts = np.zeros(count + 1, np.int64)
    for key in keys:
        starts[key + 1] += 1
    for key in range(count):
        starts[key + 1] += starts[key]
    order = np.empty(len(keys), np.int64)
    for place in range(len(keys)):
        key = keys[place]
        order[starts[key]] = place
        starts[key] += 1
    return order


@compiled
def assembled(
    tails: Int64[np.ndarray, "given"], heads: Int64[np.ndarray, "given"], caps: Int64[np.ndarray, "given"], count: int
) -> Net:
    """A net of `count` nodes from arcs in any order, each edge given both ways; parallel arcs become one."""
    by_head = _bucketed(heads, count)
    order = by_head[_bucketed(tails[by_head], count)]
    starts = np.zeros(count + 1, np.int64)
    merged_heads = np.empty(len(order), np.int32)
    merged_caps = np.empty(len(order), np.int64)
    used = 0
    last = np.int64(-1)
    for place in order:
        tail, head = tails[place], heads[place]
        if last == tail and merged_heads[used - 1] == head:
            merged_caps[used - 1] += caps[place]
            continue
        last = tail
        merged_heads[used] = head
        merged_caps[used] = caps[place]
        starts[tail + 1] = used + 1
        used += 1
    for node in range(count):
        starts[node + 1] = max(starts[node + 1], starts[node])
    final = merged_heads[:used].copy()
    return Net(starts, final, merged_caps[:used].copy(), paired(starts, final))


@compiled
def contracted(net: Net, inside: Int64[np.ndarray, "inside"], places: Int64[np.ndarray, "nodes"], count: int) -> Net:
    """The net of the nodes `inside`, each at its place below `count`, and of all others as one, at place `count`.

    Nodes that share a place are one. `places` is read for the nodes inside, and -1 for all others.
    """
    room = 0
    for node in inside:
        room += net.starts[node + 1] - net.starts[node]
    arcs = np.empty((3, 2 * room), np.int64)
    tails, heads, caps = arcs[0], arcs[1], arcs[2]
    used = 0
    for node in inside:
        tail = places[node]
        for arc in range(net.starts[node], net.starts[node + 1]):
            head = places[net.heads[arc]]
            if head == tail:
                continue
            tails[used], heads[used], caps[used] = tail, head if head >= 0 else count, net.caps[arc]
            used += 1
            if head < 0:
                tails[used], heads[used], caps[used] = count, tail, net.caps[arc]
                used += 1
    return assembled(tails[:used], heads[:used], caps[:used], count + 1)


@compiled
def pendants(net: Net) -> Int64[np.ndarray, "nodes"]:
    """For each node the arc on which it hangs once what hangs on it is gone, or -1 in the core.

    Nodes with a single neighbour are taken off until none is left: what remains has no loose ends.
    """
    count = len(net.starts) - 1
    hangs = np.full(count, -1, np.int64)
    left = net.starts[1:] - net.starts[:-1]
    queue = np.empty(count, np.int64)
    filled = 0
    for node in range(count):
        if left[node] == 1:
            queue[filled] = node
            filled += 1
    for turn in range(count):
        if turn == filled:
            break
        node = queue[turn]
        if left[node] != 1:
            continue
        for arc in range(net.starts[node], net.starts[node + 1]):
            head = net.heads[arc]
            if hangs[head] < 0:
                hangs[node] = arc
                left[node] = 0
                left[head] -= 1
                if left[head] == 1:
                    queue[filled] = head
                    filled += 1
                break
    return hangs


@compiled
def core(net: Net, kept: Int64[np.ndarray, "kept"]) -> Net:
    """The net among the nodes `kept` (ascending), renumbered."""
    places = np.full(len(net.starts) - 1, -1, np.int64)
    starts = np.zeros(len(kept) + 1, np.int64)
    for place in range(len(kept)):
        places[kept[place]] = place
    heads = np.empty(len(net.heads), np.int32)
    caps = np.empty(len(net.heads), np.int64)
    used = 0
    for place in range(len(kept)):
        for arc in range(net.starts[kept[place]], net.starts[kept[place] + 1]):
            head = places[net.heads[arc]]
            if head >= 0:
                heads[used], caps[used] = head, net.caps[arc]
                used += 1
        starts[place + 1] = used
    final = heads[:used].copy()
    return Net(starts, final, caps[:used].copy(), paired(starts, final))
