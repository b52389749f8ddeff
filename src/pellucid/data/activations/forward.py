"""The forward of a program over a batch of windows, up to the last site that somebody wants to see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float32, Int

from pellucid.data.corpus import Corpus
from pellucid.errors import BadInput, CannotRun
from pellucid.ir.graph import Ref, Weight
from pellucid.ir.interpret import ValueWatcher, bind, run_functions
from pellucid.ir.program import Program
from pellucid.ir.units import Site

Seer: TypeAlias = Callable[[Site, Float32[np.ndarray, "windows context units"]], None]

UNUSED_ROWS = 0.1
"""Embeddings may have so large a share of rows beyond the vocabulary (they are padded to round sizes)."""


class _AllSeen(Exception):
    """Ends a forward whose remaining values nobody wants."""


def observe(program: Program, ids: Int[torch.Tensor, "windows context"], sites: Sequence[Site], see: Seer) -> None:
    """Run the exact program on windows until all sites have been seen, each once, in the order they are computed.

    What `see` is given is only good until it returns: the network goes on with that memory.

    Raises:
        BadInput: the program does not take such ids, or a site is no value with units at every position.
        CannotRun: the program fails, or does not compute a site.
    """
    missing = dict.fromkeys(sites)

    def saw(wanted: Mapping[str, list[Site]], value: str, tensor: Any) -> None:
        for site in wanted.get(value, ()):
            if site not in missing:
                raise BadInput(f"site {site}: {site.function} runs more than once in a forward; choose its caller")
            del missing[site]
            see(site, activations(site, tensor, tuple(ids.shape)))
        if not missing:
            raise _AllSeen

    watchers: dict[str, ValueWatcher] = {
        function: partial(saw, wanted) for function, wanted in _by_function(sites).items()
    }
    try:
        run_functions(program, bind(program, [ids], {}), "weights", watch_values=watchers)
    except _AllSeen:
        return
    names = ", ".join(str(site) for site in list(missing)[:3])
    raise CannotRun(f"the program never computes {names}; choose sites that its exact reading computes")


def activations(site: Site, value: Any, positions: tuple[int, ...]) -> Float32[np.ndarray, "windows context units"]:
    """What the units of a site say at every position: the values, or the norms of parts of several values."""
    if not isinstance(value, torch.Tensor) or value.shape != (*positions, site.units * site.size):
        found = list(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        wanted = [*positions, site.units * site.size]
        raise BadInput(f"site {site}: its value is {found}, {wanted} is needed: units at every position of a text")
    value = value.detach().to("cpu", torch.float32)
    if site.size > 1:
        value = torch.linalg.vector_norm(value.unflatten(-1, (site.units, site.size)), dim=-1)
    result: Float32[np.ndarray, "windows context units"] = value.contiguous().numpy()
    return result


def check_vocabulary(program: Program, corpus: Corpus) -> None:
    """Check that a corpus is of the vocabulary that the program embeds.

    Raises:
        BadInput: it is of another one.
    """
    names = set(program[program.entry].inputs)
    nodes = [node for function in program.functions.values() for node in function.reading("weights").body.nodes]
    for node in nodes:
        table, ids = (*node.args, None, None)[:2]
        if node.op == "embedding" and isinstance(table, Weight) and isinstance(ids, Ref) and ids.name in names:
            rows, pieces = len(program.weights[table.name]), len(corpus.pieces)
            if pieces > rows or pieces < rows * (1 - UNUSED_ROWS):
                raise BadInput(
                    f"corpus: its vocabulary has {pieces:,} tokens, the network's {rows:,}; tokenize the text with the"
                    " model's own tokenizer"
                )


def _by_function(sites: Sequence[Site]) -> dict[str, dict[str, list[Site]]]:
    found: dict[str, dict[str, list[Site]]] = {}
    for site in sites:
        found.setdefault(site.function, {}).setdefault(site.value, []).append(site)
    return found
