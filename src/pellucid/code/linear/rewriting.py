"""Drafts: an exact body on its way to a reading, rewritten a few nodes at a time.

1. `exact_draft` takes the exact body of a function and puts the bodies of the functions it calls in place of the calls.
2. A rewrite replaces some nodes by others that define the same values, and brings the weights these need.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, count

import torch
from jaxtyping import Shaped

from pellucid.code.linear.rational import Fractions
from pellucid.code.propose import Candidate
from pellucid.ir.bits import block_bits
from pellucid.ir.graph import Block, Node, Ref, ValueType, calls_made, rename_refs, weights_read
from pellucid.ir.program import Program, Reading

Tensor = Shaped[torch.Tensor, "..."]


@dataclass(frozen=True)
class Rewrite:
    """What is put in the place of some nodes; `summary` says what it shows, `method` how it was found."""

    nodes: tuple[Node, ...]
    weights: Mapping[str, Tensor]
    summary: str
    method: str


@dataclass(frozen=True)
class Draft:
    """A body without calls, and what it reads.

    Attributes:
        block: over the function's own signature.
        values: types of values by name, those of the program first.
        weights: those of the program and new ones.
        origin: for each node the function that it stood in, directly below the one that is drafted ("" for itself).
        fractions: matrices known to be fractions, by the name of the weight.
        done: the rewrites so far.
    """

    block: Block
    values: Mapping[str, ValueType]
    weights: Mapping[str, Tensor] = field(repr=False)
    origin: Mapping[str, str]
    fractions: Mapping[str, Fractions] = field(default_factory=dict)
    done: tuple[Rewrite, ...] = ()

    def rewritten(self, replaced: Sequence[str], rewrite: Rewrite, **changes: object) -> Draft:
        """The draft with `rewrite` where the last of the nodes named `replaced` stood, and without the others."""
        nodes: list[Node] = []
        for node in self.block.nodes:
            nodes += rewrite.nodes if node.id == replaced[-1] else () if node.id in replaced else (node,)
        home = self.origin.get(replaced[-1], "")
        changed = dataclasses.replace(
            self,
            block=Block(self.block.inputs, tuple(nodes), self.block.outputs),
            weights={**self.weights, **rewrite.weights},
            origin={**self.origin, **{node.id: home for node in rewrite.nodes}},
            done=(*self.done, rewrite),
        )
        return dataclasses.replace(changed, **changes)  # type: ignore[arg-type]

    def taken(self) -> set[str]:
        """Names that new values must not have."""
        made = chain.from_iterable(node.outputs for node in self.block.nodes)
        return {*self.values, *self.block.inputs, *made}

    def weight_name(self, name: str, tensor: Tensor) -> str:
        """`name`, or with a number behind it where another weight already has that name."""
        options = chain([name], (f"{name}_{i}" for i in count(2)))
        return next(o for o in options if o not in self.weights or _identical(self.weights[o], tensor))

    def candidate(self, program: Program, budget: float = 1e-4) -> Candidate:
        """The draft as a reading, with the weights that the program does not have."""
        new = {name: self.weights[name] for name in weights_read(self.block) if name not in program.weights}
        method = ", ".join(dict.fromkeys(rewrite.method for rewrite in self.done if rewrite.method))
        summary = "; ".join(rewrite.summary for rewrite in self.done if rewrite.summary)
        bits = block_bits(self.block, self.weights)
        return Candidate(Reading("code", self.block, method, bits, summary, budget=budget), new)


def _identical(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


# ---- drafts


def exact_draft(program: Program, name: str, most: int) -> Draft | None:
    """The exact body of a function without calls; None where it has more than `most` nodes or cannot be written so."""
    body = program[name].reading("weights").body
    own = {value for node in body.nodes for value in node.outputs}
    inliner = _Inliner(program, most, taken={*body.inputs, *own})
    if not inliner.put(body, dict.fromkeys(body.inputs, ""), {value: value for value in own}, ""):
        return None
    block = Block(body.inputs, tuple(inliner.nodes), body.outputs)
    return Draft(block, {**program.values, **inliner.values}, program.weights, inliner.origin)


@dataclass
class _Inliner:
    """Nodes collected so far, each value under a name of its own."""

    program: Program
    most: int
    taken: set[str]
    nodes: list[Node] = field(default_factory=list)
    origin: dict[str, str] = field(default_factory=dict)
    values: dict[str, ValueType] = field(default_factory=dict)

    def put(self, body: Block, inputs: Mapping[str, str], wanted: Mapping[str, str], home: str) -> bool:
        """Append the nodes of a body; False where that cannot be done.

        Args:
            inputs: what its inputs are called here ("" for the same).
            wanted: what some of its values have to be called.
            home: the function it belongs to, directly below the one that is drafted.
        """
        names = {name: known or name for name, known in inputs.items()}
        for node in body.nodes:
            made = tuple(wanted.get(name) or self._fresh(name) for name in node.outputs)
            if node.op == "call":
                if not self._call(node, names, made, home):
                    return False
            elif node.body is not None and calls_made(node.body):
                return False
            else:
                self.nodes.append(rename_refs(node, names).with_changes(outputs=made))
                self.origin[made[0]] = home
            names.update(zip(node.outputs, made, strict=True))
        return len(self.nodes) <= self.most and not any(name in body.inputs for name in body.outputs)

    def _call(self, node: Node, names: Mapping[str, str], made: tuple[str, ...], home: str) -> bool:
        function = self.program[node.function]
        body = function.reading("weights").body
        given = [names[arg.name] for arg in node.args if isinstance(arg, Ref)]
        if len(given) < len(node.args) or len(self.nodes) > self.most:
            return False
        wanted = dict(zip(body.outputs, made, strict=True))
        return self.put(body, dict(zip(body.inputs, given, strict=True)), wanted, home or function.name)

    def _fresh(self, name: str) -> str:
        options = chain([name], (f"{name}_{i}" for i in count(2)))
        made = next(option for option in options if option not in self.taken)
        self.taken.add(made)
        if made != name and name in self.program.values:
            self.values[made] = self.program.values[name]
        return made
