"""Dense layers of a draft: nodes that multiply by a stored matrix, however they are written, and chains of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Shaped

from pellucid.code.linear.layer import Layer
from pellucid.code.linear.rewriting import Draft, Rewrite
from pellucid.ir.graph import Block, Node, Ref, Weight, leaves, refs
from pellucid.ir.program import Program

Tensor = Shaped[torch.Tensor, "..."]

ACTIVATIONS = ("relu", "tanh", "sigmoid", "silu", "gelu")
"""Operations between two dense layers that work unit by unit; no operation at all is the identity."""

KEPT, FRACTIONS = ".kept", ".fractions"
"""What is put behind the name of a weight whose idle units were dropped, or that is in fractions now."""


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


def ends(draft: Draft) -> list[Chain]:
    """Each layer whose units, after an activation, go out of the body and nowhere else."""
    readers, found = _readers(draft.block), []
    for dense in dense_layers(draft):
        reading = readers.get(dense.target, [])
        if len(reading) == 1 and _activates(reading[0], dense, ACTIVATIONS):
            behind = readers.get(reading[0].id, [])
            if len(behind) == 1 and behind[0].op == "output":
                found.append(Chain((dense,), (reading[0],), reading[0].op))
    return found


def _activates(node: Node, dense: Dense, activations: Sequence[str]) -> bool:
    plain = node.args in ((Ref(dense.target),), (Ref(dense.target), "none"))
    return node.op in activations and plain and not node.kwargs


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
    if not _activates(activation, dense, activations):
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


# ---- their numbers


def is_own(program: Program, dense: Dense) -> bool:
    """Whether nothing else in the program reads the matrix or the bias, so that both may be changed."""
    names = [name for name in (dense.weight_name, dense.bias_name) if name is not None]
    return all(len(weight_readers(program, name)) < 2 for name in names)


def layer_of(dense: Dense) -> Layer:
    """Matrix and bias as a pair of arrays; zeros where there is no bias."""
    bias = dense.bias if dense.bias is not None else np.zeros(len(dense.weight), dense.weight.dtype)
    return Layer(dense.weight, bias)


def are_apart(draft: Draft, layers: tuple[Dense, ...]) -> bool:
    """Whether the layers are not all in the same called function."""
    homes = {draft.origin.get(dense.node.id, "") for dense in layers}
    return homes == {""} or len(homes) > 1


def replaced(draft: Draft, dense: Dense, layer: Layer, suffix: str) -> Rewrite:
    """The same node with other numbers."""
    weight = torch.from_numpy(np.ascontiguousarray(layer.weight)).to(dense.dtype)
    bias = torch.from_numpy(np.ascontiguousarray(layer.bias)).to(dense.dtype)
    base = dense.bias_name or f"{dense.weight_name}.bias"
    name = draft.weight_name(dense.weight_name.removesuffix(suffix) + suffix, weight)
    bias_name = draft.weight_name(base.removesuffix(suffix) + suffix, bias)
    made = {name: weight, bias_name: bias} if bool(bias.any()) else {name: weight}
    args = (Ref(dense.source), Weight(name), Weight(bias_name) if bool(bias.any()) else None)
    return Rewrite((Node((dense.target,), "linear", args),), made, "", "")
