"""The ledger: what share of the network each reading carries, by parameters and by units.

A function that runs as code carries the parameters that its exact reading would have read, less those that the code
still reads; what is left counts as weights. Units are rows (or columns) of the weights that nodes read.
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
    left = set(_weights_below(program, program.entry, None))
    total = sum(sizes[name] for name in everything)
    remaining = min(total, sum(sizes[name] for name in left))
    units: dict[ReadingKind, int] = {"weights": 0, "code": 0, "words": 0}
    _count_units(program, program.entry, units)
    unit_total = sum(units.values())
    raised = _kinds_raised(program)
    return Ledger(
        parameters=_shares(total, remaining, raised),
        units={kind: count / unit_total if unit_total else 0.0 for kind, count in units.items()},
        loss=dict(program.notes.loss_shares),
        parameter_count=total,
        unit_count=unit_total,
    )


def _shares(total: int, remaining: int, raised: ReadingKind) -> Mapping[str, float]:
    shares = {"weights": 1.0, "code": 0.0, "words": 0.0}
    if total:
        shares["weights"] = remaining / total
        shares[raised] = 1.0 - remaining / total
    elif raised != "weights":
        shares = {"weights": 0.0, "code": 0.0, "words": 0.0, raised: 1.0}
    return shares


def _kinds_raised(program: Program) -> ReadingKind:
    chosen = {function.chosen for function in program.functions.values()}
    return "code" if "words" not in chosen else "words"


def _weights_below(program: Program, name: str, kind: ReadingKind | None) -> Iterator[str]:
    body = program[name].reading(kind).body
    yield from weights_read(body)
    for child in calls_made(body):
        yield from _weights_below(program, child, kind)


def _count_units(program: Program, name: str, into: dict[ReadingKind, int]) -> None:
    """Units below a function: what its reading still reads stays weights, the others went to the reading."""
    function = program[name]
    if function.chosen == "weights":
        body = function.reading("weights").body
        into["weights"] += _units_in(program, body)
        for child in calls_made(body):
            _count_units(program, child, into)
        return
    before = _exact_units(program, name)
    left = min(before, _units_in(program, function.reading().body))
    into["weights"] += left
    into[function.chosen] += before - left


def _exact_units(program: Program, name: str) -> int:
    body = program[name].reading("weights").body
    return _units_in(program, body) + sum(_exact_units(program, child) for child in calls_made(body))


def _units_in(program: Program, block: Block) -> int:
    return sum(_units_of(program, node) for node in _nodes(block))


def _nodes(block: Block) -> Iterator[Node]:
    for node in block.nodes:
        yield node
        if node.body is not None:
            yield from _nodes(node.body)


def _units_of(program: Program, node: Node) -> int:
    """How many units a node computes from the first weight that it reads: rows of a layer, columns of a table."""
    read = [leaf for leaf in leaves(node) if isinstance(leaf, Weight)]
    if node.op == "call" or not read:
        return 0
    shape = program.weights[read[0].name].shape
    if not shape:
        return 1
    return shape[-1] if node.op in _COLUMNS else shape[0]
