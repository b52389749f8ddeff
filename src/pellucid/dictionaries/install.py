"""Dictionaries written into a program: a function becomes what its dictionary writes, and what the dictionary misses.

    latents = NAME.dictionary(x)         kind "dictionary"; an autoencoder reads what NAME.original(x) gives
    written = NAME.written(latents)
    missed = NAME.missed(x, written)     what the function gave before, less what was written; stays weights
    return written + missed

The sum is the function to rounding, so the program stays exact; whoever replaces `missed` by zero runs the dictionary.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch

from pellucid.dictionaries.dictionary import Dictionary, TopK
from pellucid.dictionaries.pairs import signature
from pellucid.errors import BadInput
from pellucid.ir.bits import block_bits
from pellucid.ir.graph import Block, Node, Ref, ValueType, Weight, rename_refs
from pellucid.ir.program import Function, Program, Reading

PARTS = ("dictionary", "written", "missed")


def install(program: Program, function_name: str, dictionary: Dictionary) -> Program:
    """The program with a function's exact reading made of a dictionary and what that misses.

    Raises:
        BadInput: no such function, another signature than one array in and one out, another width than the
            dictionary's, or a dictionary is there already.
    """
    check_fits(program, function_name, dictionary)
    made = {part: f"{function_name}.{part}" for part in (*PARTS, "original")}
    if taken := [name for name in made.values() if name in program.functions]:
        raise BadInput(f"function {function_name!r} has a dictionary already ({taken[0]}); install only one")
    function = program[function_name]
    (x,), (y,) = function.inputs, function.outputs
    latents, written, missed = (_fresh(program, f"{y}_{part}") for part in ("latents", "written", "missed"))
    tensors = _tensors(made["dictionary"], made["written"], dictionary)
    original = function.reading("weights").body
    autoencodes = dictionary.kind == "autoencoder"
    before = _fresh(program, f"{y}_before")
    reads = before if autoencodes else x

    parts = [
        _part(made["dictionary"], "dictionary", _encoding(made["dictionary"], dictionary, reads, latents)),
        _part(made["written"], "dictionary_output", _decoding(made["written"], latents, written)),
    ]
    if autoencodes:
        body = Block((before, written), (Node((missed,), "sub", (Ref(before), Ref(written))),), (missed,))
        parts += [_part(made["original"], function.kind, _renamed(original, y, before), function.scope)]
        opening: tuple[Node, ...] = (Node((before,), "call", (Ref(x),), function=made["original"]),)
    else:
        end = Node((missed,), "sub", (Ref(y), Ref(written)))
        body = Block((*original.inputs, written), (*original.nodes, end), (missed,))
        opening = ()
    parts.append(_part(made["missed"], "missed", body, function.scope))
    calls = (
        Node((latents,), "call", (Ref(reads),), function=made["dictionary"]),
        Node((written,), "call", (Ref(latents),), function=made["written"]),
        Node((missed,), "call", (Ref(reads), Ref(written)), function=made["missed"]),
        Node((y,), "add", (Ref(written), Ref(missed))),
    )
    whole = Block(function.inputs, (*opening, *calls), function.outputs)
    types = _types(program, y, {latents: dictionary.latents, written: None, missed: None, before: None})
    return _joined(program, function, whole, parts, tensors, types)


def check_fits(program: Program, name: str, dictionary: Dictionary) -> None:
    """Raises BadInput when a dictionary is of other dimensions than a function."""
    takes, gives = signature(program, name)
    wanted = (gives if dictionary.kind == "autoencoder" else takes, gives)
    if (dictionary.reads, dictionary.writes) != wanted:
        raise BadInput(
            f"function {name!r}: its {dictionary.kind} would read {wanted[0]} values and write {wanted[1]}, this one"
            f" reads {dictionary.reads} and writes {dictionary.writes}; give one trained on this function"
        )


def _encoding(name: str, dictionary: Dictionary, x: str, latents: str) -> Block:
    raw = f"{latents}_raw"
    first = Node((raw,), "linear", (Ref(x), Weight(f"{name}.encoder"), Weight(f"{name}.bias")))
    if isinstance(dictionary.activation, TopK):
        second = Node((latents,), "top_k", (Ref(raw), dictionary.activation.k))
    else:
        second = Node((latents,), "jump_relu", (Ref(raw), Weight(f"{name}.thresholds")))
    return Block((x,), (first, second), (latents,))


def _decoding(name: str, latents: str, written: str) -> Block:
    node = Node((written,), "affine", (Ref(latents), Weight(f"{name}.decoder"), Weight(f"{name}.bias")))
    return Block((latents,), (node,), (written,))


def _tensors(encodes: str, decodes: str, dictionary: Dictionary) -> dict[str, torch.Tensor]:
    found = {
        f"{encodes}.encoder": dictionary.encoder,
        f"{encodes}.bias": dictionary.encoder_bias,
        f"{decodes}.decoder": dictionary.decoder,
        f"{decodes}.bias": dictionary.decoder_bias,
    }
    if not isinstance(dictionary.activation, TopK):
        found[f"{encodes}.thresholds"] = dictionary.activation.thresholds
    return {name: tensor.detach().float().contiguous() for name, tensor in found.items()}


def _part(name: str, kind: str, body: Block, scope: str | None = None) -> Function:
    """A function of one exact reading; its length is measured when its weights are there."""
    reading = Reading("weights", body, "exact", 0.0)
    return Function(name, kind, name if scope is None else scope, body.inputs, body.outputs, (reading,))


def _renamed(body: Block, old: str, new: str) -> Block:
    """A block whose value `old`, its output, is called `new`."""
    nodes = tuple(
        node.with_changes(outputs=tuple(new if value == old else value for value in node.outputs))
        for node in body.nodes
    )
    return Block(body.inputs, tuple(rename_refs(node, {old: new}) for node in nodes), (new,))


def _fresh(program: Program, wish: str) -> str:
    while wish in program.values:
        wish += "_"
    return wish


def _types(program: Program, y: str, made: Mapping[str, int | None]) -> dict[str, ValueType]:
    """Types of the new values: those of the output, with another last axis where one is given."""
    kind = program.values[y]
    types = {
        name: kind if width is None else dataclasses.replace(kind, axes=(*kind.axes[:-1], width))
        for name, width in made.items()
    }
    raw = {f"{name}_raw": types[name] for name, width in made.items() if width is not None}
    return {**types, **raw}


def _joined(
    program: Program,
    function: Function,
    whole: Block,
    parts: list[Function],
    tensors: Mapping[str, torch.Tensor],
    types: Mapping[str, ValueType],
) -> Program:
    """The program with the function changed and its parts right after it."""
    weights = {**program.weights, **tensors}
    exact = dataclasses.replace(function.reading("weights"), body=whole)
    changed = dataclasses.replace(function, readings=(exact, *function.readings[1:]))
    functions: dict[str, Function] = {}
    for name, held in program.functions.items():
        if name != function.name:
            functions[name] = held
            continue
        for one in (changed, *parts):
            first = one.readings[0]
            measured = dataclasses.replace(first, bits=block_bits(first.body, weights))
            functions[one.name] = dataclasses.replace(one, readings=(measured, *one.readings[1:]))
    return dataclasses.replace(program, functions=functions, weights=weights, values={**program.values, **types})
