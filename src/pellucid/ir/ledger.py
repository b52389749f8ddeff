"""The ledger: what share of the network each reading carries, by parameters and by units.

A function that runs as code carries the parameters that its exact reading would have read, less those that the code
still reads; what is left counts as weights. Words carry what they save beyond that; tensors that only words read are
descriptions, not weights. Units are rows (or columns) of the weights that nodes read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pellucid.ir.graph import Block, Node, Weight, calls_made, leaves, weights_read
from pellucid.ir.notes import ReadingKind
from pellucid.ir.program import Ledger, Program

_COLUMNS = ("embedding", "affine", "matmul")
"""Operations whose weights have their units in columns; in all others they are rows."""


def take_stock(program: Program) -> Ledger:
    """The ledger of `program` as its chosen readings stand."""
    sizes = {name: tensor.numel() for name, tensor in program.weights.items()}
    everything = set(_weights_below(program, program.entry, "weights"))
    total = sum(sizes[name] for name in everything)
    by_code, by_all = (
        min(total, sum(sizes[name] for name in weights_left(program, program.entry, with_words)))
        for with_words in (False, True)
    )
    units: dict[ReadingKind, int] = {"weights": 0, "code": 0, "words": 0}
    _count_units(program, program.entry, everything, units)
    unit_total = sum(units.values())
    return Ledger(
        parameters=_shares(program, total, by_code, by_all),
        units={kind: count / unit_total if unit_total else 0.0 for kind, count in units.items()},
        loss=dict(program.notes.loss_shares),
        parameter_count=total,
        unit_count=unit_total,
    )


def weights_left(program: Program, name: str, with_words: bool = True) -> set[str]:
    """The weights that a function still reads as chosen, itself or through those it calls.

    Args:
        with_words: whether functions run by words where that is chosen (else exactly there).
    """
    everything = set(_weights_below(program, name, "weights"))
    return set(_left(program, name, everything, with_words, False))


def _left(program: Program, name: str, everything: set[str], with_words: bool, told: bool) -> Iterator[str]:
    function = program[name]
    words = function.chosen == "words"
    body = function.reading("weights" if words and not with_words else None).body
    told = told or (words and with_words)
    yield from (weight for weight in weights_read(body) if not told or weight in everything)
    for child in calls_made(body):
        yield from _left(program, child, everything, with_words, told)


def _shares(program: Program, total: int, by_code: int, by_all: int) -> Mapping[str, float]:
    if total:
        return {"weights": by_all / total, "code": 1.0 - by_code / total, "words": (by_code - by_all) / total}
    chosen = {function.chosen for function in program.functions.values()}
    raised = "words" if "words" in chosen else "code" if "code" in chosen else "weights"
    return {**dict.fromkeys(("weights", "code", "words"), 0.0), raised: 1.0}


def _weights_below(program: Program, name: str, kind: ReadingKind | None) -> Iterator[str]:
    body = program[name].reading(kind).body
    yield from weights_read(body)
    for child in calls_made(body):
        yield from _weights_below(program, child, kind)


def _count_units(program: Program, name: str, everything: set[str], into: dict[ReadingKind, int]) -> None:
    """Units below a function: what its reading still reads stays weights, the others went to the reading."""
    function = program[name]
    if function.chosen == "weights":
        body = function.reading("weights").body
        into["weights"] += _units_in(program, body, None)
        for child in calls_made(body):
            _count_units(program, child, everything, into)
        return
    before = _exact_units(program, name)
    known = everything if function.chosen == "words" else None
    left = min(before, _units_in(program, function.reading().body, known))
    into["weights"] += left
    into[function.chosen] += before - left


def _exact_units(program: Program, name: str) -> int:
    body = program[name].reading("weights").body
    return _units_in(program, body, None) + sum(_exact_units(program, child) for child in calls_made(body))


def _units_in(program: Program, block: Block, known: set[str] | None) -> int:
    return sum(_units_of(program, node, known) for node in _nodes(block))


def _nodes(block: Block) -> Iterator[Node]:
    for node in block.nodes:
        yield node
        if node.body is not None:
            yield from _nodes(node.body)


def _units_of(program: Program, node: Node, known: set[str] | None) -> int:
    """How many units a node computes from the first weight that it reads: rows of a layer, columns of a table.

    Only weights that are `known` count (None: all).
    """
    read = [leaf for leaf in leaves(node) if isinstance(leaf, Weight) and (known is None or leaf.name in known)]
    if node.op == "call" or not read:
        return 0
    shape = program.weights[read[0].name].shape
    if not shape:
        return 1
    return shape[-1] if node.op in _COLUMNS else shape[0]
