"""The Gomory–Hu tree of a net: one minimum cut for each of its n - 1 edges, most of them without a flow.

After Gomory & Hu (1961). A piece is the net with the far sides of earlier cuts contracted to one node each, its stubs.
Within a piece, one node is the root, and the others follow in descending order of what is known to bound their cut from
the root: the degree, or the cut of a group that hangs together by more than half of its weight. Each time, T is the set
of nodes whose cut from the root is known, and is at least the bound of the next node v (larger, if that is not its
degree).

1. *Certificate.* If each neighbour of v is in T, or can pass to T all that v sends it, then deg(v) flows from v into T.
   A cut of v from the root either leaves T whole, and then costs deg(v), or parts the root from some member of T, and
   then costs at least deg(v), too. So the cut around v alone is a smallest one. O(deg v).
2. *Flow.* Otherwise the largest flow from v into T is, by the same argument, the smallest cut of v from the root. It is
   local, since most of the net is in T before long. The smallest side of v of that size is a piece of its own, in which
   the rest is a stub; its nodes join T together, as one node of that degree would. For one root, such smallest sides
   are nested or apart.

A piece in which each node is settled is a star, each edge of which stands for the cut that was found: the tree is
cut-equivalent, not only flow-equivalent. Nodes that hang on the rest by a single edge are taken off first. Capacities
are whole numbers, so that all comparisons are exact; the same net gives the same edges.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int32, Int64

from pellucid.modules.compiled import compiled, kept
from pellucid.modules.flows import Field, field, fits, flow, join
from pellucid.modules.nets import SOUND, Net, assembled, contracted, core, degrees, pendants, scaled

Starts = Int64[np.ndarray, "nodes+1"]
Heads = Int32[np.ndarray, "given"]
Given = Float64[np.ndarray, "given"]
Nodes = Int64[np.ndarray, " nodes"]
Grown = tuple[int, int, Nodes, Nodes, Nodes, Int64[np.ndarray, "4"], bool]

CERTIFIED, FLOWS, PENDANTS, SIDES = range(4)


class Tree(NamedTuple):
    """The edges of the tree found so far, and what they cost."""

    ends: Int64[np.ndarray, "edges 2"]
    cuts: Int64[np.ndarray, "edges"]
    used: Int64[np.ndarray, "1"]
    counts: Int64[np.ndarray, "4"]
    """By CERTIFIED, FLOWS, PENDANTS, SIDES."""


class Piece(NamedTuple):
    """A net, and what its nodes are: a node of the whole, or ~(2 · edge + end) for the stub at that end of an edge."""

    net: Net
    names: Int64[np.ndarray, "nodes"]


class Sides(NamedTuple):
    """The sides cut off in a piece, numbered from 1."""

    outer: Int64[np.ndarray, "nodes"]
    """The latest side that holds a node, or 0."""
    edges: Int64[np.ndarray, "nodes"]
    """The edge of each side in the tree."""
    places: Int64[np.ndarray, "nodes"]
    """Room to work in: the place of a node among the items of a side, else -1."""
    stubs: Int64[np.ndarray, "nodes"]
    """Room to work in: the place of a side among the items of another, else -1."""


@compiled
def _added(tree: Tree, first: int, second: int, cut: int) -> int:
    """Add an edge to the tree; returns its number."""
    edge = int(tree.used[0])
    tree.ends[edge, 0], tree.ends[edge, 1], tree.cuts[edge] = first, second, cut
    tree.used[0] += 1
    return edge


@compiled
def _hang(tree: Tree, names: Int64[np.ndarray, "names"], node: int) -> None:
    """Let the stubs among `names` be at `node`."""
    for name in names:
        if name < 0:
            tree.ends[~name // 2, ~name % 2] = node


@compiled
def _heaviest(names: Int64[np.ndarray, "nodes"], bounds: Int64[np.ndarray, "nodes"]) -> int:
    """The first node of the largest bound that is no stub."""
    best = -1
    for node in range(len(names)):
        if names[node] >= 0 and (best < 0 or bounds[node] > bounds[best]):
            best = node
    return best


@compiled
def _bounds(net: Net, degree: Int64[np.ndarray, "nodes"], root: int) -> Int64[np.ndarray, "nodes"]:
    """For each node the size of some cut from the root, or from any node if that is -1.

    In ascending order of degree, a group that sends more than half of what leaves it to one later node joins the group
    of that node.
    """
    bounds = degree.copy()
    order = np.argsort(degree, kind="mergesort")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    if root >= 0:
        rank[root] = len(order)
    leader = np.full(len(order), -1, np.int64)
    for node in order:
        best = -1
        for arc in range(net.starts[node], net.starts[node + 1]):
            strong = 2 * net.caps[arc] > bounds[node] and rank[net.heads[arc]] > rank[node]
            if strong and (best < 0 or net.caps[arc] > net.caps[best]):
                best = arc
        if best >= 0:
            leader[node] = net.heads[best]
            bounds[leader[node]] += bounds[node] - 2 * net.caps[best]
    for node in order[::-1]:
        if leader[node] >= 0 and leader[node] != root:
            bounds[node] = min(bounds[node], bounds[leader[node]])
    return bounds


@compiled
def _items(piece: Piece, side: Int64[np.ndarray, "side"], sides: Sides) -> Int64[np.ndarray, "items"]:
    """Set the places of the items of a side, nodes or sides cut off before; returns their names, and room for one."""
    names = np.empty(len(side) + 1, np.int64)
    count = 0
    for node in side:
        inner = sides.outer[node]
        if inner > 0 and sides.stubs[inner] >= 0:
            sides.places[node] = sides.stubs[inner]
            continue
        sides.places[node] = sides.stubs[inner] = count
        names[count] = piece.names[node] if inner == 0 else ~(2 * sides.edges[inner] + 1)
        count += 1
    return names[: count + 1]


@compiled
def _cut_off(
    piece: Piece,
    degree: Int64[np.ndarray, "nodes"],
    side: Int64[np.ndarray, "side"],
    sides: Sides,
    tree: Tree,
    pieces: list[Piece],
) -> None:
    """Make a side a piece, with all that is outside as one stub; a side of one or two nodes is settled at once.

    Its edge is the last of the tree.
    """
    names = _items(piece, side, sides)
    names[-1] = ~(2 * (tree.used[0] - 1))
    nodes = np.sum(names >= 0)
    if nodes == 1:
        _hang(tree, names, names.max())
    elif nodes == 2 and len(names) == 3:
        low, high = (side[0], side[1]) if degree[side[0]] < degree[side[1]] else (side[1], side[0])
        _hang(tree, names, piece.names[high])
        _added(tree, piece.names[low], piece.names[high], degree[low])
        tree.counts[CERTIFIED] += 1
    else:
        pieces.append(Piece(contracted(piece.net, side, sides.places, len(names) - 1), names))
    for node in side:
        sides.places[node] = -1
        sides.stubs[sides.outer[node]] = -1


@compiled
def _join_side(ground: Field, side: Int64[np.ndarray, "side"]) -> None:
    """Take a whole side into the set."""
    for node in side:
        if not ground.joined[node]:
            join(ground, node)


@compiled
def _divided(piece: Piece, tree: Tree, pieces: list[Piece]) -> None:
    """Settle the nodes of a piece: as leaves of its root, or in sides, which are added to `pieces`."""
    names, count = piece.names, len(piece.names)
    degree = degrees(piece.net)
    bounds = _bounds(piece.net, degree, -1)
    root = _heaviest(names, bounds)
    if np.any(bounds < degree):
        bounds = _bounds(piece.net, degree, root)
    ground = field(piece.net)
    join(ground, root)
    room = np.full((4, count), -1, np.int64)
    sides = Sides(room[0], room[1], room[2], room[3])
    sides.outer[:] = 0
    members = [names[:0]]
    waiting = [(0, 0)]
    for node in np.argsort(-2 * bounds - (bounds < degree), kind="mergesort"):
        bound = bounds[node]
        while waiting[0][0] < 0 and -waiting[0][0] >= bound + (bound < degree[node]):
            _join_side(ground, members[heapq.heappop(waiting)[1]])
        if ground.joined[node] or sides.outer[node] > 0:
            continue
        if bound == degree[node] and fits(ground, node):
            join(ground, node)
            if names[node] >= 0:
                _added(tree, names[node], names[root], bound)
                tree.counts[CERTIFIED] += 1
            continue
        if names[node] < 0:
            continue
        cut, side = flow(ground, node)
        edge = _added(tree, names[node], names[root], cut)
        tree.counts[FLOWS] += 1
        if len(side) == 1:
            join(ground, node)
            continue
        side.sort()
        _cut_off(piece, degree, side, sides, tree, pieces)
        tree.counts[SIDES] += 1
        sides.edges[len(members)] = edge
        sides.outer[side] = len(members)
        heapq.heappush(waiting, (-cut, len(members)))
        members.append(side)
    _hang(tree, names[sides.outer == 0], names[root])


@compiled
def gomory_hu(net: Net) -> Tree:
    """The tree of a net of at least one node.

    An edge's cut is between what is left of the tree on either side of it.
    """
    count = len(net.starts) - 1
    ends = np.full((count - 1, 2), -1, np.int64)
    tree = Tree(ends, np.zeros(count - 1, np.int64), np.zeros(1, np.int64), np.zeros(4, np.int64))
    hangs = pendants(net)
    kept = np.flatnonzero(hangs < 0)
    for node in range(count):
        if hangs[node] >= 0:
            _added(tree, node, net.heads[hangs[node]], net.caps[hangs[node]])
    tree.counts[PENDANTS] = count - len(kept)
    pieces = [Piece(core(net, kept) if len(kept) < count else net, kept)]
    while len(pieces) > 0:
        _divided(pieces.pop(), tree, pieces)
    return tree


@compiled
def rooted(
    tree: Tree, count: int, root: int
) -> tuple[Int64[np.ndarray, "nodes"], Int64[np.ndarray, "nodes"], Int64[np.ndarray, "nodes"]]:
    """For each node the next one on the way to the root (or -1), the cut between them (or 0), the steps to the root."""
    both = np.concatenate((tree.ends, tree.ends[:, ::-1]))
    net = assembled(both[:, 0].copy(), both[:, 1].copy(), np.concatenate((tree.cuts, tree.cuts)), count)
    parents, cuts, depths = np.full(count, -1, np.int64), np.zeros(count, np.int64), np.zeros(count, np.int64)
    queue = np.empty(count, np.int64)
    queue[0] = root
    filled = 1
    for turn in range(count):
        node = queue[turn]
        for arc in range(net.starts[node], net.starts[node + 1]):
            head = net.heads[arc]
            if head != parents[node]:
                parents[head], cuts[head], depths[head] = node, net.caps[arc], depths[node] + 1
                queue[filled] = head
                filled += 1
    return parents, cuts, depths


@compiled
def _all_degrees(
    parents: Int64[np.ndarray, "nodes"],
    cuts: Int64[np.ndarray, "nodes"],
    depths: Int64[np.ndarray, "nodes"],
    degree: Int64[np.ndarray, "nodes"],
) -> bool:
    """Whether each node's cut from the root, a node of the largest degree, is as large as its degree."""
    least = cuts.copy()
    for node in np.argsort(depths, kind="mergesort"):
        if depths[node] > 1:
            least[node] = min(least[node], least[parents[node]])
        if depths[node] > 0 and least[node] < degree[node]:
            return False
    return True


def grower(sources: str) -> Callable[[Starts, Heads, Given], Grown]:
    """The compiled way from weights by rows to a rooted tree. It is kept for as long as the `sources` are the same."""

    def grown(starts: Starts, heads: Heads, weights: Given) -> Grown:
        """A fault; the power of two in the cuts; parents, cuts and depths; counts; whether it holds only degrees."""
        _ = sources
        fault, power, net = scaled(starts, heads, weights)
        counts = np.zeros(4, np.int64)
        parents, cuts, depths = counts[:0], counts[:0], counts[:0]
        only_degrees = False
        if fault == SOUND:
            tree = gomory_hu(net)
            counts = tree.counts
            degree = degrees(net)
            parents, cuts, depths = rooted(tree, len(degree), _heaviest(degree, degree))
            only_degrees = _all_degrees(parents, cuts, depths, degree)
        return fault, power, parents, cuts, depths, counts, only_degrees

    return kept(grown)
