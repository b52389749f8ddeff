"""Which latents read which: the links between dictionaries through the residual stream.

What latent i of an earlier MLP writes is a direction, its row of the decoder; what latent j of a later one reads is
another, its row of the encoder, times the gains of the norm before that MLP. Their product is how much j's reading
rises for each unit of i, up to the norm's scale (the input-independent part of a connection, Dunefsky et al. 2024).
Paths through attention are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from pellucid.ir.graph import Ref, Weight
from pellucid.ir.program import Program
from pellucid.ir.units import Site, sites
from pellucid.words.described import Link
from pellucid.words.reading.install import DICTIONARY, WRITTEN

NORMS = ("rms_norm", "layer_norm")
STRONGEST = 5


@dataclass(frozen=True)
class Links:
    """The strongest links of the units of a site, in order of their index."""

    incoming: tuple[tuple[Link, ...], ...]
    outgoing: tuple[tuple[Link, ...], ...]


def links_of(program: Program, strongest: int = STRONGEST) -> Mapping[Site, Links]:
    """The links between the latents of all dictionaries in a program, by absolute strength, strongest first."""
    found = latent_sites(program)
    writes = {site: written_by(program, site) for site in found}
    reads = {site: read_by(program, site) for site in found}
    links = {}
    for place, site in enumerate(found):
        own, written = reads[site], writes[site]
        before = [(other, writes[other]) for other in found[:place]]
        after = [(other, reads[other]) for other in found[place + 1 :]]
        links[site] = Links(
            _strongest(own, before, strongest, site.units), _strongest(written, after, strongest, site.units)
        )
    return links


def latent_sites(program: Program) -> tuple[Site, ...]:
    """The latents of all dictionaries in a program; none where it has none."""
    return sites(program, "latents") if any(f.kind == "dictionary" for f in program.functions.values()) else ()


def _strongest(
    own: Float[torch.Tensor, "units width"] | None,
    others: Sequence[tuple[Site, Float[torch.Tensor, "latents width"] | None]],
    count: int,
    units: int,
) -> tuple[tuple[Link, ...], ...]:
    fitting = [
        (site, other) for site, other in others
        if own is not None and other is not None and other.shape[1] == own.shape[1]
    ]  # fmt: skip
    if own is None or not fitting:
        return ((),) * units
    names = [str(site[index]) for site, other in fitting for index in range(len(other))]
    return strongest_links((own @ torch.cat([other for _, other in fitting]).T).numpy(), names, count)


def strongest_links(
    strengths: Float[np.ndarray, "units others"], names: Sequence[str], count: int = STRONGEST
) -> tuple[tuple[Link, ...], ...]:
    """For each unit its links to others that are strongest in absolute value, strongest first; none that are 0."""
    count = min(count, len(names))
    chosen = np.argpartition(-np.abs(strengths), count - 1, axis=1)[:, :count]
    held = np.take_along_axis(strengths, chosen, axis=1)
    order = np.lexsort((chosen, -np.abs(held)), axis=1)
    return tuple(
        tuple(Link(names[chosen[unit, at]], float(held[unit, at])) for at in order[unit] if held[unit, at] != 0)
        for unit in range(len(strengths))
    )


def written_by(program: Program, site: Site) -> Float[torch.Tensor, "latents width"] | None:
    """The directions in the residual stream that latents write; None where the program has no such table."""
    table = program.weights.get(f"{whole_of(site)}{WRITTEN}.decoder")
    return None if table is None else table.detach().float()


def read_by(program: Program, site: Site) -> Float[torch.Tensor, "latents width"] | None:
    """The directions in the residual stream that latents read; None unless their dictionary reads what the MLP does."""
    table, name = program.weights.get(f"{site.function}.encoder"), whole_of(site)
    if table is None or name not in program.functions:
        return None
    body = program[name].reading("weights").body
    calls = [node for node in body.nodes if node.op == "call" and node.function == site.function]
    if len(calls) != 1 or calls[0].args[0] != Ref(body.inputs[0]):
        return None
    return table.detach().float() * gains_before(program, name, table.shape[1])


def gains_before(program: Program, name: str, width: int) -> Float[torch.Tensor, " width"]:
    """The gains of the norm whose output a function is called on; ones where there is none."""
    for function in program.functions.values():
        nodes = function.reading("weights").body.nodes
        made = {value: node for node in nodes for value in node.outputs}
        for node in nodes:
            if node.op != "call" or node.function != name or not isinstance(node.args[0], Ref):
                continue
            norm = made.get(node.args[0].name)
            tables = [leaf.name for leaf in norm.args if isinstance(leaf, Weight)] if norm is not None else []
            if norm is not None and norm.op in NORMS and tables:
                return program.weights[tables[0]].detach().float()
    return torch.ones(width)


def whole_of(site: Site) -> str:
    """The function that the dictionary of a site is a part of."""
    return site.function.removesuffix(DICTIONARY)
