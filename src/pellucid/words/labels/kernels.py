"""The growing of one tree per unit, in native code: best first, with exact optimal-subset splits.

For squared error the best split of categories into two sets is a cut of the categories sorted by their mean (Fisher
1958; Breiman et al. 1984), so each slot is tried by one sort. What a person has to read is only one of the two sets,
the *listed* one. It is then thinned: a category stays listed while that lowers the squared error by more than the price
of a category, at most `cap` of them. Named clusters are added one by one, each the best with those before it.

Activations are sparse: sums go over the positions where a unit is active, and counts over the positions that are
listed, those of the rest being what is left.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int8, Int32, Int64

from pellucid.words.labels.native import native

Categories = Int64[np.ndarray, " chosen"]


class Field(NamedTuple):
    """What trees are grown over; categories are numbered through over the slots.

    Attributes:
        codes: the category of each slot at each position; -1 for what is too rare to be listed.
        first: the first category of each slot, and the end.
        by_name: whether a slot is split by clusters.
        cluster_start: where the members of each cluster begin, and the end.
        cluster_members: categories, counted from the first of the slot.
        inverse_start: where the positions of each category begin, and the end.
        inverse: the positions.
        counts: how often each category stands at positions grown on.
        held: whether a position is held out for pruning.
    """

    codes: Int32[np.ndarray, "slots positions"]
    first: Int64[np.ndarray, " slot_bounds"]
    by_name: Bool[np.ndarray, " slots"]
    cluster_start: Int64[np.ndarray, " cluster_bounds"]
    cluster_members: Int64[np.ndarray, " members"]
    inverse_start: Int64[np.ndarray, " category_bounds"]
    inverse: Int32[np.ndarray, " places"]
    counts: Int32[np.ndarray, " categories"]
    held: Bool[np.ndarray, " positions"]


class Limits(NamedTuple):
    """How far trees grow, see `Growth`."""

    leaves: int
    smallest: int
    penalty: float
    cap: int
    named_cap: int


class Trees(NamedTuple):
    """One tree a row: split k takes positions of leaf `node[k]` with a listed category and makes leaf k + 1 of them.

    Attributes:
        node: the leaf that is split.
        slot: the slot it is split by.
        size: how many categories, or clusters, are listed.
        sets: which.
        kept: whether the split is there, and survived pruning.
        values: the mean of each leaf over all positions.
    """

    node: Int64[np.ndarray, "units splits"]
    slot: Int64[np.ndarray, "units splits"]
    size: Int64[np.ndarray, "units splits"]
    sets: Int64[np.ndarray, "units splits cap"]
    kept: Bool[np.ndarray, "units splits"]
    values: Float64[np.ndarray, "units leaves"]


class Work(NamedTuple):
    """What one growing needs room for.

    Attributes:
        counts: how often each category stands at positions of each leaf.
        sums: of activations, by category; zero between uses, as `seen` and `listed` are.
        seen: categories that `sums` goes over.
        listed: categories of the set that is split by.
        leaf_of: the leaf of each position.
        stats: by leaf: count, sum, sum of squares at positions grown on, then at those held out.
        before: the same of the leaf that each split divides.
        found: by leaf, its best split: net gain, slot, size.
        sets: by leaf, the set of that split, and a second row to try others in.
    """

    counts: Int32[np.ndarray, "leaves categories"]
    sums: Float64[np.ndarray, " categories"]
    seen: Bool[np.ndarray, " categories"]
    listed: Bool[np.ndarray, " categories"]
    leaf_of: Int8[np.ndarray, " positions"]
    stats: Float64[np.ndarray, "leaves 6"]
    before: Float64[np.ndarray, "leaves 6"]
    found: Float64[np.ndarray, "leaves 3"]
    sets: Int64[np.ndarray, "leaves 2 cap"]


# ---- one set


@native
def split_gain(n: float, s: float, listed_n: float, listed_s: float) -> float:
    """By how much the squared error falls when n positions of sum s are split in listed ones and the rest."""
    if listed_n <= 0 or listed_n >= n:
        return 0.0
    rest = s - listed_s
    return listed_s * listed_s / listed_n + rest * rest / (n - listed_n) - s * s / n


@native
def _best_cut(
    order: Categories,
    counts: Int32[np.ndarray, " categories"],
    sums: Float64[np.ndarray, " categories"],
    n: float,
    s: float,
) -> tuple[float, float, float]:
    """The cut of categories in the given order that gains most: (gain, count above, sum above)."""
    best, best_n, best_s = 0.0, 0.0, 0.0
    listed_n, listed_s = 0.0, 0.0
    for c in order:
        listed_n += counts[c]
        listed_s += sums[c]
        gain = split_gain(n, s, listed_n, listed_s)
        if gain > best:
            best, best_n, best_s = gain, listed_n, listed_s
    return best, best_n, best_s


@native
def _least(worth: Float64[np.ndarray, " candidates"], most: int) -> float:
    """The worth of the last of at most so many candidates when the best are taken; 0 where all above 0 can be."""
    good = worth[worth > 0]
    return float(np.partition(good, len(good) - most)[len(good) - most]) if len(good) > most else 0.0


@native
def _thinned(
    candidates: Categories,
    counts: Int32[np.ndarray, " categories"],
    sums: Float64[np.ndarray, " categories"],
    n: float,
    s: float,
    listed_n: float,
    listed_s: float,
    price: float,
    chosen: Categories,
) -> tuple[float, int]:
    """List the categories worth their price, as many as `chosen` holds: (net gain, size).

    `listed_n` and `listed_s` are count and sum of the side to be listed before it is thinned.
    """
    size, net = 0, 0.0
    for _ in range(3):
        if listed_n <= 0 or listed_n >= n:
            return 0.0, 0
        inside, outside = listed_s / listed_n, (s - listed_s) / (n - listed_n)
        worth = np.empty(len(candidates))
        for i, c in enumerate(candidates):
            worth[i] = (inside - outside) * (2 * sums[c] - counts[c] * (inside + outside)) - price
        least = _least(worth, len(chosen))
        size, listed_n, listed_s = 0, 0.0, 0.0
        for equal in (False, True):
            for i, c in enumerate(candidates):
                if size < len(chosen) and (worth[i] == least if equal else worth[i] > least):
                    chosen[size] = c
                    listed_n += counts[c]
                    listed_s += sums[c]
                    size += 1
            if least == 0.0:
                break
        net = split_gain(n, s, listed_n, listed_s) - price * size
    return net, size


@native
def _free_split(
    touched: Categories,
    first: int,
    last: int,
    counts: Int32[np.ndarray, " categories"],
    sums: Float64[np.ndarray, " categories"],
    n: float,
    s: float,
    smallest: int,
    price: float,
    best: float,
    chosen: Categories,
) -> tuple[float, int]:
    """The best split of one slot (categories first to last) by a free set of high or low means: (net gain, size).

    A slot that could not gain more than `best` before thinning is passed over.
    """
    kept = touched[counts[touched] >= smallest]
    order = kept[np.argsort(-sums[kept] / counts[kept], kind="mergesort")]
    gain, cut_n, cut_s = _best_cut(order, counts, sums, n, s)
    if gain - price <= best:
        return 0.0, 0
    net, size = _thinned(kept, counts, sums, n, s, cut_n, cut_s, price, chosen)
    every = first + np.flatnonzero(counts[first:last] >= smallest)
    low = np.empty_like(chosen)
    low_net, low_size = _thinned(every, counts, sums, n, s, n - cut_n, s - cut_s, price, low)
    if low_net > net:
        chosen[:low_size] = low[:low_size]
        return low_net, low_size
    return net, size


@native
def _named_split(
    first: int,
    field: Field,
    counts: Int32[np.ndarray, " categories"],
    sums: Float64[np.ndarray, " categories"],
    listed: Bool[np.ndarray, " categories"],
    n: float,
    s: float,
    price: float,
    chosen: Categories,
) -> tuple[float, int]:
    """The best split of a token slot by a union of named clusters, as many as `chosen` holds: (net gain, size)."""
    start, members = field.cluster_start, field.cluster_members
    net, listed_n, listed_s = 0.0, 0.0, 0.0
    size = 0
    while size < len(chosen):
        best, best_n, best_s, best_net = -1, 0.0, 0.0, net
        for k in range(len(start) - 1):
            more_n, more_s = listed_n, listed_s
            for c in members[start[k] : start[k + 1]]:
                if not listed[first + c]:
                    more_n += counts[first + c]
                    more_s += sums[first + c]
            tried = split_gain(n, s, more_n, more_s) - price * (size + 1)
            if tried > best_net:
                best, best_n, best_s, best_net = k, more_n, more_s, tried
        if best < 0:
            break
        chosen[size] = best
        size += 1
        listed_n, listed_s, net = best_n, best_s, best_net
        listed[first + members[start[best] : start[best + 1]]] = True
    for k in chosen[:size]:
        listed[first + members[start[k] : start[k + 1]]] = False
    return net, size


# ---- one leaf


@native
def _find_split(
    leaf: int,
    places: Int64[np.ndarray, " active"],
    values: Float64[np.ndarray, " active"],
    field: Field,
    limits: Limits,
    price: float,
    work: Work,
) -> None:
    """Find the best split of a leaf over all slots; `places` are where the unit is active in it, of those grown on."""
    n, s = work.stats[leaf, 0], work.stats[leaf, 1]
    counts, sums, seen = work.counts[leaf], work.sums, work.seen
    work.found[leaf] = 0.0
    touched = np.empty(len(places), np.int64)
    for slot in range(len(field.codes)):
        k = 0
        for i, place in enumerate(places):
            c = field.codes[slot, place]
            if c >= 0:
                if not seen[c]:
                    seen[c] = True
                    touched[k] = c
                    k += 1
                sums[c] += values[i]
        first, end = field.first[slot], field.first[slot + 1]
        trial = work.sets[leaf, 1]
        if field.by_name[slot]:
            trial = trial[: limits.named_cap]
            net, size = _named_split(first, field, counts, sums, work.listed, n, s, price, trial)
        else:
            best = work.found[leaf, 0]
            net, size = _free_split(touched[:k], first, end, counts, sums, n, s, limits.smallest, price, best, trial)
        sums[touched[:k]] = 0.0
        seen[touched[:k]] = False
        if net > work.found[leaf, 0]:
            work.found[leaf, 0], work.found[leaf, 1], work.found[leaf, 2] = net, slot, size
            work.sets[leaf, 0, :size] = trial[:size]


@native
def _weigh(
    leaf: int, places: Int32[np.ndarray, " active"], values: Float64[np.ndarray, " active"], field: Field, work: Work
) -> None:
    """Sum up the unit over the positions of a leaf, in both parts."""
    work.stats[leaf, 1:3] = 0.0
    work.stats[leaf, 4:6] = 0.0
    for i, place in enumerate(places):
        if work.leaf_of[place] == leaf:
            part = 3 if field.held[place] else 0
            work.stats[leaf, part + 1] += values[i]
            work.stats[leaf, part + 2] += values[i] * values[i]


@native
def _move(leaf: int, made: int, slot: int, size: int, field: Field, work: Work) -> None:
    """Give the positions of a leaf that its set lists to a leaf that is made, with their counts."""
    first = field.first[slot]
    for c in work.sets[leaf, 0, :size]:
        if field.by_name[slot]:
            work.listed[first + field.cluster_members[field.cluster_start[c] : field.cluster_start[c + 1]]] = True
        else:
            work.listed[c] = True
    work.counts[made] = 0
    work.stats[made] = 0.0
    for c in range(first, field.first[slot + 1]):
        if not work.listed[c]:
            continue
        work.listed[c] = False
        for place in field.inverse[field.inverse_start[c] : field.inverse_start[c + 1]]:
            if work.leaf_of[place] != leaf:
                continue
            work.leaf_of[place] = made
            part = 3 if field.held[place] else 0
            work.stats[leaf, part] -= 1
            work.stats[made, part] += 1
            if part == 0:
                for other in range(len(field.codes)):
                    d = field.codes[other, place]
                    if d >= 0:
                        work.counts[leaf, d] -= 1
                        work.counts[made, d] += 1


# ---- one tree


@native
def _held_error(stats: Float64[np.ndarray, " 6"]) -> float:
    """Squared error at held-out positions of a leaf that says the mean of those grown on."""
    mean = stats[1] / max(stats[0], 1.0)
    return float(stats[5] - 2 * mean * stats[4] + stats[3] * mean * mean)


@native
def _prune(node: Int64[np.ndarray, " splits"], kept: Bool[np.ndarray, " splits"], splits: int, work: Work) -> None:
    """Keep the splits that lower the held-out error; where none below a split does enough, all go, and leaves merge."""
    error = np.zeros(splits + 1)
    for leaf in range(splits + 1):
        error[leaf] = _held_error(work.stats[leaf])
    kept[:splits] = True
    for k in range(splits - 1, -1, -1):
        below = error[node[k]] + error[k + 1]
        whole = _held_error(work.before[k])
        error[node[k]] = min(below, whole)
        if whole <= below:
            inside = np.zeros(splits + 1, np.bool_)
            inside[node[k]] = True
            for j in range(k, splits):
                if inside[node[j]]:
                    kept[j] = False
                    inside[j + 1] = True
    for k in range(splits - 1, -1, -1):
        if not kept[k]:
            work.stats[node[k]] += work.stats[k + 1]


@native
def _grow_one(
    unit: int,
    places: Int32[np.ndarray, " active"],
    values: Float64[np.ndarray, " active"],
    field: Field,
    limits: Limits,
    work: Work,
    trees: Trees,
) -> int:
    """Grow the tree of one unit and say how many splits it has; `work` is left at its leaves."""
    held = field.held.sum()
    work.leaf_of[:] = 0
    work.counts[0] = field.counts
    work.stats[:] = 0.0
    work.stats[0, 0], work.stats[0, 3] = len(field.held) - held, held
    splits, price, best = 0, 0.0, 0
    while True:
        for leaf in (best, splits):
            _weigh(leaf, places, values, field, work)
            if splits == 0:
                price = limits.penalty * _variance(work.stats[0])
            own = np.zeros(len(places), np.bool_)
            for i, place in enumerate(places):
                own[i] = work.leaf_of[place] == leaf and not field.held[place]
            _find_split(leaf, places[own].astype(np.int64), values[own], field, limits, price, work)
        best = int(np.argmax(work.found[: splits + 1, 0]))
        if work.found[best, 0] <= 0 or splits + 1 == limits.leaves:
            return splits
        slot, size = int(work.found[best, 1]), int(work.found[best, 2])
        trees.node[unit, splits], trees.slot[unit, splits], trees.size[unit, splits] = best, slot, size
        trees.sets[unit, splits, :size] = work.sets[best, 0, :size]
        work.before[splits] = work.stats[best]
        splits += 1
        _move(best, splits, slot, size, field, work)


@native
def _variance(stats: Float64[np.ndarray, " 6"]) -> float:
    mean = stats[1] / max(stats[0], 1.0)
    return float(max(stats[2] / max(stats[0], 1.0) - mean * mean, 0.0))


@native
def grow_units(
    start: Int64[np.ndarray, " bounds"],
    places: Int32[np.ndarray, " entries"],
    values: Float64[np.ndarray, " entries"],
    field: Field,
    limits: Limits,
    trees: Trees,
) -> None:
    """Grow and prune one tree for each unit, given where it is active and how much. Fills `trees`."""
    leaves, categories = limits.leaves, field.first[-1]
    work = Work(
        np.zeros((leaves, categories), np.int32), np.zeros(categories), np.zeros(categories, np.bool_),
        np.zeros(categories, np.bool_), np.zeros(len(field.held), np.int8), np.zeros((leaves, 6)),
        np.zeros((leaves, 6)), np.zeros((leaves, 3)), np.zeros((leaves, 2, limits.cap), np.int64),
    )  # fmt: skip
    for unit in range(len(start) - 1):
        own = slice(start[unit], start[unit + 1])
        splits = _grow_one(unit, places[own], values[own], field, limits, work, trees)
        _prune(trees.node[unit], trees.kept[unit], splits, work)
        for leaf in range(splits + 1):
            count = work.stats[leaf, 0] + work.stats[leaf, 3]
            trees.values[unit, leaf] = (work.stats[leaf, 1] + work.stats[leaf, 4]) / count if count > 0 else 0.0
