"""The ledger: what share of the network each reading carries, by parameters and by units.

A function that runs as code carries the parameters that its exact reading would have read, less those that the code
still reads; what is left counts as weights. Units are the output axes of the nodes that read weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pellucid.ir.graph import Block, Node, Weight, calls_made, leaves, weights_read
from pellucid.ir.notes import ReadingKind
from pellucid.ir.program import Ledger, Program

_UNIT_AXIS = {"conv1d": 1, "conv2d": 1}


def take_stock(program: Program) -> Ledger:
    """The ledger of `program` as its chosen readings stand."""
    sizes = {name: tensor.numel() for name, tensor in program.weights.items()}
    everything = set(_weights_below(program, program.entry, "weights"))
    left = set(_weights_below(program, program.entry, None))
    total = sum(sizes[name] for name in everything)
    remaining = min(total, sum(sizes[name] for name in left))
    units: dict[ReadingKind, int] = {"weights": 0, "code": 0, "words": 0}
    _count_units(program, program.entry, "weights", units)
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


def _count_units(program: Program, name: str, carried_by: ReadingKind, into: dict[ReadingKind, int]) -> None:
    function = program[name]
    kind = function.chosen if carried_by == "weights" else carried_by
    body = function.reading("weights").body
    into[kind] += sum(_units_of(program, node) for node in _nodes(body))
    for child in calls_made(body):
        _count_units(program, child, kind, into)


def _nodes(block: Block) -> Iterator[Node]:
    for node in block.nodes:
        yield node
        if node.body is not None:
            yield from _nodes(node.body)


def _units_of(program: Program, node: Node) -> int:
    if node.op == "call" or not any(isinstance(leaf, Weight) for leaf in leaves(node)):
        return 0
    value = program.values.get(node.id)
    axes = value.axes if value is not None else ()
    size = axes[_UNIT_AXIS.get(node.op, -1)] if axes else 0
    return size if isinstance(size, int) else 0
