"""The hierarchy of interfaces: which sets of modules one cut severs from all others.

The quotient graph has a node for each module, its edges are the interfaces between two. Each edge of its Gomory–Hu tree
is a smallest cut that parts the modules in two; a cut that severs a single module says no more than its degree.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from pellucid.modules.cuttree import cut_tree


def quotient(adjacency: sparse.csr_matrix, labels: Int[np.ndarray, " units"]) -> Float[np.ndarray, "groups groups"]:
    """The sum of the edges between each two groups; the diagonal is zero."""
    used = np.flatnonzero(labels >= 0)
    member = sparse.csr_matrix((np.ones(len(used)), (used, labels[used])), (len(labels), int(labels.max()) + 1))
    sums: Float[np.ndarray, "groups groups"] = np.asarray((member.T @ adjacency @ member).todense())
    sums = (sums + sums.T) / 2
    np.fill_diagonal(sums, 0.0)
    return sums


def severed_sets(between: Float[np.ndarray, "groups groups"]) -> list[frozenset[int]]:
    """The sets of two groups and more that an edge of the cut tree severs from two others and more.

    The group with the largest interface is the root of the tree and in none of them; of two sets one holds the other,
    or they share nothing. There are none where each smallest cut is around a single group.
    """
    if len(between) < 4 or not between.any():
        return []
    tree = cut_tree(sparse.csr_matrix(between))
    if tree.only_degrees:
        return []
    below = {place: {place} for place in range(len(between))}
    for place in np.argsort(-tree.depths, kind="stable"):
        parent = int(tree.parents[place])
        if parent >= 0:
            below[parent] |= below[int(place)]
    return sorted(
        {frozenset(found) for found in below.values() if 2 <= len(found) <= len(between) - 2},
        key=lambda found: (len(found), sorted(found)),
    )
