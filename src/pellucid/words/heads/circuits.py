"""What attention heads move: the latents whose writing a head carries on, and those that read what it writes.

A head takes what stands at the place it looks at, after the gains of the norm before it, through its part of the value
matrix and its columns of the output matrix: the OV circuit (Elhage et al. 2021). Its link from a latent of an earlier
MLP is the length of what it writes for each unit of the latent there; its link to a latent of a later MLP is the length
of the direction in the stream, at the place looked at, by which that latent's reading rises. Both up to the norms'
scale, and without a sign: a head carries many directions. Paths through other heads are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from pellucid.ir.graph import Block, Node, Ref, Weight, refs
from pellucid.ir.program import Program
from pellucid.ir.units import KINDS, Site
from pellucid.words.described import Link
from pellucid.words.links import (
    STRONGEST,
    Links,
    gains_before,
    latent_sites,
    read_by,
    strongest_links,
    whole_of,
    written_by,
)


@dataclass(frozen=True, eq=False)
class Circuit:
    """The matrices of the heads of one attention function.

    Attributes:
        value: from the stream, gains folded in, to what a head mixes.
        output: from there to the stream.
    """

    value: Float[torch.Tensor, "heads size width"]
    output: Float[torch.Tensor, "heads width size"]

    def written(self, directions: Float[torch.Tensor, "latents width"]) -> Float[np.ndarray, "heads latents"]:
        """Lengths of what each head writes for directions where it looks."""
        return _lengths(directions @ self.value.transpose(1, 2), self.output.transpose(1, 2) @ self.output)

    def read(self, directions: Float[torch.Tensor, "latents width"]) -> Float[np.ndarray, "heads latents"]:
        """Lengths of what is read through each head, where it looks, by what reads directions here."""
        return _lengths(directions @ self.output, self.value @ self.value.transpose(1, 2))


def _lengths(
    mixed: Float[torch.Tensor, "heads latents size"], products: Float[torch.Tensor, "heads size size"]
) -> Float[np.ndarray, "heads latents"]:
    """Lengths of combinations of rows, from the products of the rows with each other."""
    lengths: Float[np.ndarray, "heads latents"] = ((mixed @ products) * mixed).sum(-1).clamp(min=0).sqrt().numpy()
    return lengths


def head_links(program: Program, count: int = STRONGEST) -> Mapping[Site, Links]:
    """The strongest links of heads with the latents of dictionaries, by site; none of forms that are not known."""
    latents = latent_sites(program)
    found = {}
    for site in head_sites(program):
        circuit = circuit_of(program, site)
        if circuit is None:
            continue
        before, after = _around(program, site, latents)
        written = [(one, circuit.written(table)) for one in before if (table := written_by(program, one)) is not None]
        read = [(one, circuit.read(table)) for one in after if (table := read_by(program, one)) is not None]
        found[site] = Links(*(_links(sides, site.units, count) for sides in (written, read)))
    return found


def head_sites(program: Program) -> tuple[Site, ...]:
    """The sites of heads, none where a program has none."""
    return tuple(site for function in program.functions.values() for site in KINDS["heads"](program, function))


def circuit_of(program: Program, site: Site) -> Circuit | None:
    """The matrices of the heads of a site; None where values and outputs are not one matrix each."""
    body = program[site.function].reading("weights").body
    made = {value: node for node in body.nodes for value in node.outputs}
    attention = [node for node in body.nodes if node.op == "attention"]
    outputs = [node for node in body.nodes if node.op == "linear" and node.args[0] == Ref(site.value)]
    if len(attention) != 1 or len(outputs) != 1 or not isinstance(attention[0].args[2], Ref):
        return None
    value = _value_matrix(program, body, attention[0].args[2].name, made)
    output = _matrix(program, outputs[0])
    if value is None or output is None or len(value) % site.size or output.shape[1] != site.units * site.size:
        return None
    value = value * gains_before(program, site.function, value.shape[1])
    parts = value.reshape(-1, site.size, value.shape[1])
    if site.units % len(parts):
        return None
    heads = output.reshape(-1, site.units, site.size).movedim(1, 0)
    return Circuit(parts.repeat_interleave(site.units // len(parts), 0), heads)


def _value_matrix(
    program: Program, body: Block, name: str, made: Mapping[str, Node]
) -> Float[torch.Tensor, "values width"] | None:
    """The matrix that makes values from what the function is given; the identity where they are cut from it."""
    split = made.get(name)
    if split is None or split.op != "split_heads" or not isinstance(split.args[0], Ref):
        return None
    given = split.args[0].name
    if given == body.inputs[0]:
        width = program.values[given].axes[-1]
        return torch.eye(width) if isinstance(width, int) else None
    linear = made.get(given)
    return _matrix(program, linear) if linear is not None and linear.args[0] == Ref(body.inputs[0]) else None


def _matrix(program: Program, node: Node) -> Float[torch.Tensor, "out in"] | None:
    if node.op != "linear" or not isinstance(node.args[1], Weight):
        return None
    return program.weights[node.args[1].name].detach().float()


def _around(program: Program, site: Site, latents: tuple[Site, ...]) -> tuple[list[Site], list[Site]]:
    """Latents of the MLPs that an attention can read from, and of those that can read what it writes."""
    order = [*program.functions]
    here = order.index(site.function)
    before, after = [], []
    for one in latents:
        mlp = whole_of(one)
        if order.index(mlp) < here and _reaches(program, mlp, site.function):
            before.append(one)
        elif order.index(mlp) > here and _reaches(program, site.function, mlp):
            after.append(one)
    return before, after


def _reaches(program: Program, first: str, second: str) -> bool:
    """Whether what a function makes goes into another that is listed later; in some networks they run side by side."""
    for function in program.functions.values():
        nodes = function.reading("weights").body.nodes
        calls = {node.function: node for node in nodes if node.op == "call"}
        if first in calls and second in calls:
            reached = set(calls[first].outputs)
            for node in nodes:
                if reached.intersection(refs(node)):
                    reached.update(node.outputs)
            return bool(reached.intersection(refs(calls[second])))
    return True


def _links(
    found: list[tuple[Site, Float[np.ndarray, "heads latents"]]], heads: int, count: int
) -> tuple[tuple[Link, ...], ...]:
    if not found:
        return ((),) * heads
    names = [str(site[index]) for site, strengths in found for index in range(strengths.shape[1])]
    return strongest_links(np.concatenate([strengths for _, strengths in found], axis=1), names, count)
