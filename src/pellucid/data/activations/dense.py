"""All activations of some sites in memory, for what has to see every position: dictionaries, trees, excerpts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float

from pellucid.data.activations.forward import check_vocabulary, observe
from pellucid.data.corpus import Corpus
from pellucid.errors import BadInput
from pellucid.ir.program import Program
from pellucid.ir.units import Site

MEMORY = 2 * 2**30
"""Bytes of activations that are held at the same time, unless one site alone is larger."""


def dense(
    program: Program,
    corpus: Corpus,
    sites: Sequence[Site],
    dtype: type[np.floating] = np.float32,
    memory: int = MEMORY,
    together: int = 8,
) -> Iterator[tuple[Site, Float[np.ndarray, "windows context units"]]]:
    """The activations of each site at every position, site after site in the order given.

    As many sites as fit into `memory` bytes share a pass over the corpus; a pass ends at the last of them.

    Args:
        dtype: numpy.float32 or numpy.float16 (what is beyond its range becomes its largest number).
        together: windows in a forward.

    Raises:
        BadInput: the corpus is of another vocabulary, or a site has no units at every position.
        CannotRun: the program fails.
    """
    if dtype not in (np.float32, np.float16):
        raise BadInput(f"dense: activations as {dtype.__name__} are not offered; use numpy.float32 or numpy.float16")
    check_vocabulary(program, corpus)
    sizes = {site: site.units * corpus.tokens * np.dtype(dtype).itemsize for site in sites}
    for group in grouped(sizes, memory):
        found = _one_pass(program, corpus, group, dtype, together)
        for site in group:
            yield site, found.pop(site)


def _one_pass(
    program: Program, corpus: Corpus, group: Sequence[Site], dtype: type[np.floating], together: int
) -> dict[Site, Float[np.ndarray, "windows context units"]]:
    found = {site: np.empty((*corpus.ids.shape, site.units), dtype) for site in group}
    limit = np.finfo(dtype).max
    start = 0

    def see(site: Site, batch: Float[np.ndarray, "windows context units"]) -> None:
        found[site][start : start + len(batch)] = batch if dtype is np.float32 else np.clip(batch, -limit, limit)

    for ids in corpus.batches(together):
        observe(program, torch.as_tensor(ids), list(found), see)
        start += len(ids)
    return found


def grouped(sizes: Mapping[Site, int], memory: int) -> Iterator[list[Site]]:
    """Sites in order, as many together as fit into `memory` bytes, at least one."""
    group, held = list[Site](), 0
    for site, size in sizes.items():
        if group and held + size > memory:
            yield group
            group, held = [], 0
        group.append(site)
        held += size
    if group:
        yield group
