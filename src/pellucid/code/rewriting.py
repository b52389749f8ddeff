"""Drafts: an exact body on its way to a reading, rewritten one dense layer at a time.

1. `exact_draft` takes the exact body of a function and puts the bodies of the functions it calls in place of the calls.
2. `dense_layers` are its nodes that multiply by a stored matrix, however they are written, as [out, in] and bias;
   `chains` are runs of them in which nothing else reads what is between.
3. A rewrite replaces a few nodes by others that define the same values, and brings the weights these need.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, count

import numpy as np
import torch
from jaxtyping import Float, Shaped

from pellucid.code.propose import Candidate
from pellucid.code.rational import Fractions
from pellucid.ir.bits import block_bits
from pellucid.ir.graph import Block, Node, Ref, ValueType, Weight, calls_made, leaves, refs, rename_refs, weights_read
from pellucid.ir.program import Program, Reading

Tensor = Shaped[torch.Tensor, "..."]

ACTIVATIONS = ("relu", "tanh", "sigmoid", "silu", "gelu")
"""Operations between two dense layers that work unit by unit; no operation at all is the identity."""


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


@dataclass(frozen=True)
class Dense:
    """A node that computes weight @ x + bias; `weight_name` and `bias_name` are those in the network."""

    node: Node
    source: str
    weight_name: str
    bias_name: str | None
    stored: Tensor = field(repr=False)
    stored_bias: Tensor | None = field(repr=False)
    flipped: bool

    @property
    def target(self) -> str:
        """The value it defines."""
        return self.node.id

    @property
    def entries(self) -> int:
        """Numbers in the matrix."""
        return self.stored.numel()

    @property
    def dtype(self) -> torch.dtype:
        """Element type of the matrix."""
        return self.stored.dtype

    @cached_property
    def weight(self) -> Float[np.ndarray, "out in"]:
        """The matrix, in single or double precision."""
        return numbers(self.stored.T if self.flipped else self.stored)

    @cached_property
    def bias(self) -> Float[np.ndarray, "out"] | None:
        """The bias, if there is one."""
        return None if self.stored_bias is None else numbers(self.stored_bias)


def numbers(tensor: Tensor) -> Float[np.ndarray, "..."]:
    """A tensor as an array, in double precision where it is stored so, else single."""
    wide = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    array: np.ndarray = tensor.detach().to(wide).numpy()
    return array


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


# ---- dense layers


def dense_layers(draft: Draft) -> list[Dense]:
    """The nodes of a draft that multiply by a stored matrix."""
    found = (dense_of(draft, node) for node in draft.block.nodes)
    return [dense for dense in found if dense is not None]


def dense_of(draft: Draft, node: Node) -> Dense | None:
    """The node as a dense layer, if it is one: "linear", "affine", or "matmul" with a stored matrix on the right."""
    if node.op not in ("linear", "affine", "matmul") or node.kwargs or len(node.args) < 2:
        return None
    source, weight, bias = (*node.args, None)[:3]
    if not isinstance(source, Ref) or not isinstance(weight, Weight) or not isinstance(bias, Weight | None):
        return None
    stored = draft.weights[weight.name]
    stored_bias = None if bias is None else draft.weights[bias.name]
    if stored.ndim != 2 or not stored.is_floating_point() or stored.numel() == 0:
        return None
    if stored_bias is not None and (stored_bias.ndim != 1 or stored_bias.dtype != stored.dtype):
        return None
    name = None if bias is None else bias.name
    return Dense(node, source.name, weight.name, name, stored, stored_bias, node.op != "linear")


@dataclass(frozen=True)
class Chain:
    """Dense layers one after the other, with `activation` ("identity" for none) between any two of them.

    `between` are the nodes of the activations. Nothing else reads what a layer but the last puts out.
    """

    layers: tuple[Dense, ...]
    between: tuple[Node, ...]
    activation: str


def chains(draft: Draft, activations: Sequence[str]) -> list[Chain]:
    """The longest chains in a draft; a layer that is in none is a chain of its own, with "identity"."""
    by_source = {dense.source: dense for dense in dense_layers(draft)}
    readers = _readers(draft.block)
    waiting = dense_layers(draft)
    found = []
    while waiting:
        layers, between, kind = [waiting[0]], [], ""
        while (step := _next(layers[-1], readers, by_source, activations)) is not None:
            activation, dense = step
            op = "identity" if activation is None else activation.op
            if kind not in ("", op) or dense not in waiting:
                break
            kind = op
            layers.append(dense)
            between += [] if activation is None else [activation]
        found.append(Chain(tuple(layers), tuple(between), kind or "identity"))
        waiting = [dense for dense in waiting if dense not in layers]
    return found


def pairs(draft: Draft, activations: Sequence[str]) -> list[Chain]:
    """All chains of two layers."""
    layers, readers = dense_layers(draft), _readers(draft.block)
    by_source = {dense.source: dense for dense in layers}
    found = []
    for dense in layers:
        step = _next(dense, readers, by_source, activations)
        if step is not None:
            activation, after = step
            between = () if activation is None else (activation,)
            found.append(Chain((dense, after), between, activation.op if activation is not None else "identity"))
    return found


def _next(
    dense: Dense, readers: Mapping[str, list[Node]], by_source: Mapping[str, Dense], activations: Sequence[str]
) -> tuple[Node | None, Dense] | None:
    """The activation behind a layer, if any, and the one layer that reads it."""
    reading = readers.get(dense.target, [])
    if len(reading) != 1:
        return None
    after = by_source.get(dense.target)
    if after is not None:
        return (None, after) if after.node is reading[0] else None
    activation = reading[0]
    plain = activation.args in ((Ref(dense.target),), (Ref(dense.target), "none"))
    if activation.op not in activations or not plain or activation.kwargs:
        return None
    behind = readers.get(activation.id, [])
    after = by_source.get(activation.id)
    return (activation, after) if after is not None and len(behind) == 1 and behind[0] is after.node else None


def _readers(block: Block) -> dict[str, list[Node]]:
    """The nodes that read each value; what the block puts out counts as read once more."""
    readers: dict[str, list[Node]] = {}
    for node in block.nodes:
        for name in refs(node):
            readers.setdefault(name, []).append(node)
    for name in block.outputs:
        readers.setdefault(name, []).append(Node((name,), "output"))
    return readers


def weight_readers(program: Program, name: str) -> list[tuple[str, Node]]:
    """All nodes of the exact program that read a weight, those in loops included, with their functions."""
    bodies = [(function.name, function.reading("weights").body) for function in program.functions.values()]
    return [(home, node) for home, body in bodies for node in _all_nodes(body) if Weight(name) in leaves(node)]


def _all_nodes(block: Block) -> Iterator[Node]:
    for node in block.nodes:
        yield node
        if node.body is not None:
            yield from _all_nodes(node.body)
