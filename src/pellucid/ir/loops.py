"""The two loops of emitted code: over time (`scan`), and over equal functions called one after another."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pellucid.ir.expressions import ATOM, Expr, at_step, bracketed, name
from pellucid.ir.graph import Arg, Block, Node, Ref, walk_arg
from pellucid.ir.naming import given_name

if TYPE_CHECKING:
    from pellucid.ir.statements import Callee, Line, Style, Writer

SHORTEST = 3
"""Fewer equal calls than this are written one by one."""

OFTEN = 2
"""An entry of a sequence that is read more often than this in a step gets a name."""


# ---- equal functions, one after another


@dataclass(frozen=True)
class Run:
    """Calls of equal functions, each given the result of the one before as argument `position`.

    `numbered` is the component of their paths that counts up from `first`, if their paths differ.
    """

    nodes: tuple[Node, ...]
    position: int
    numbered: int | None
    first: int


def run_of_calls(nodes: Sequence[Node], start: int, style: Style, uses: Mapping[str, int]) -> Run | None:
    """The longest run that starts at `nodes[start]`, if it is worth a loop."""
    run: Run | None = None
    for node, following in zip(nodes[start:], nodes[start + 1 :], strict=False):
        step = _step(node, following, style, uses)
        if step is None or (run is not None and (step.position, step.numbered) != (run.position, run.numbered)):
            break
        run = step if run is None else Run((*run.nodes, following), run.position, run.numbered, run.first)
    return run if run is not None and len(run.nodes) >= SHORTEST else None


def _step(node: Node, following: Node, style: Style, uses: Mapping[str, int]) -> Run | None:
    """Two calls as a run, if they are one."""
    if node.op != "call" or following.op != "call" or len(node.outputs) != 1 or len(following.outputs) != 1:
        return None
    changed = [i for i, (a, b) in enumerate(zip(node.args, following.args, strict=False)) if repr(a) != repr(b)]
    threaded = [i for i in changed if following.args[i] == Ref(node.id)]
    if len(node.args) != len(following.args) or len(threaded) != 1 or changed != threaded or uses[node.id] != 1:
        return None
    one, other = style.callee(node), style.callee(following)
    if one.key != other.key:
        return None
    if one.path == other.path:
        return Run((node, following), threaded[0], None, 0)
    numbered = _counts_up(one, other)
    if numbered is None:
        return None
    return Run((node, following), threaded[0], *numbered)


def _counts_up(one: Callee, other: Callee) -> tuple[int, int] | None:
    """The component of two paths that is a number and grows by one, and where it starts."""
    if one.path is None or other.path is None:
        return None
    first, second = one.path.split("."), other.path.split(".")
    differing = [i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b]
    if len(first) != len(second) or len(differing) != 1:
        return None
    low, high = first[differing[0]], second[differing[0]]
    plain = all(text.isascii() and text.isdigit() and str(int(text)) == text for text in (low, high))
    return (differing[0], int(low)) if plain and int(high) == int(low) + 1 else None


def write_run(writer: Writer, run: Run) -> None:
    """`for i in range(30): x = layer(…, x)`."""
    first, last = run.nodes[0], run.nodes[-1]
    callee = writer.style.callee(first)
    threaded = first.args[run.position]
    if isinstance(threaded, Ref) and threaded.name in writer.waiting:
        writer.settle(threaded.name, callee.inputs[run.position])
    args = [_outside(writer, arg) for arg in first.args]
    for value in (value for node in run.nodes for arg in node.args for value in _refs(arg)):
        writer.use(value)
    others = {local for i, arg in enumerate(args) if i != run.position for local in arg.reads}
    local = _carried(writer, threaded, args[run.position], callee.inputs[run.position], others)
    args[run.position] = name(local)
    counter = "_" if run.numbered is None else writer.fresh("i", {*others, local})
    bounds = f"{run.first}, {run.first + len(run.nodes)}" if run.first else f"{len(run.nodes)}"
    numbered = None if run.numbered is None else (run.numbered, counter)
    function, texts = writer.style.call(callee, [arg.text for arg in args], numbered)
    ids = tuple(node.id for node in run.nodes)
    writer.emit(f"for {counter} in range({bounds}):", nodes=ids)
    writer.indent += 4
    writer.emit(f"{local} = {function}({', '.join(texts)})", nodes=ids)
    writer.indent -= 4
    writer.used.discard(counter)
    writer.hold(last.id, local)


def _carried(writer: Writer, arg: Arg, start: Expr, stem: str, others: Collection[str]) -> str:
    """The variable that a loop changes: the one that holds its start, if nothing else needs that, or a new one."""
    held = isinstance(arg, Ref) and writer.holders.get(start.text) == arg.name
    if held and writer.free(start.text) and start.text not in others:
        return start.text
    local = writer.fresh(stem, others)
    writer.emit(f"{local} = {start.text}", [start])
    return local


def _outside(writer: Writer, arg: Arg) -> Expr:
    """An argument computed before a loop: a name, a weight or a literal."""
    for value in _refs(arg):
        if value in writer.waiting:
            writer.settle(value)
    return writer.part(arg) or Expr("None")


def _refs(arg: Arg) -> list[str]:
    return [leaf.name for leaf in walk_arg(arg) if isinstance(leaf, Ref)]


# ---- over time


def write_scan(writer: Writer, node: Node) -> None:
    """`for t in range(x.shape[1]):` with the states as variables and the outputs as lists."""
    assert node.body is not None
    starts, sequences, fixed = (part if isinstance(part, tuple) else () for part in node.args)
    axis = node.option("axis", 1)
    assert isinstance(axis, int)
    along = [_outside(writer, arg) for arg in sequences]
    settled = [_outside(writer, arg) for arg in fixed]
    begun = [writer.part(arg) or Expr("None") for arg in starts]
    for value in (value for part in node.args for value in _refs(part)):
        writer.use(value)
    names: list[str] = []
    for arg, start, stem in zip(starts, begun, _state_stems(writer, node.body, len(starts)), strict=True):
        others = {local for part in (*along, *settled, *begun[len(names) + 1 :]) for local in part.reads}
        names.append(_carried(writer, arg, start, stem, {*others, *names}))
    guarded = {*names, *(local for part in (*along, *settled) for local in part.reads)}
    lists = _open_lists(writer, node, len(starts), guarded)
    t = writer.fresh("t", guarded)
    writer.emit(f"for {t} in range({bracketed(along[0], ATOM)}.shape[{axis}]):", nodes=(node.id,))
    elements = [at_step(whole, axis, writer.rank(arg), t) for whole, arg in zip(along, sequences, strict=True)]
    guarded |= {t, *lists.values()}
    writer.lines.extend(_body_lines(writer, node, [*map(name, names), *elements, *settled], names, lists, guarded))
    writer.used.discard(t)
    for value, local in zip(node.outputs, names, strict=False):
        writer.hold(value, local)
    for place, local in lists.items():
        value = node.outputs[place]
        writer.define(value, Expr(f"stack({local}, {axis})", ATOM, frozenset({local}), 1, (node.id,)), "")


def _state_stems(writer: Writer, body: Block, count: int) -> list[str]:
    """What the states are called: what a function that is given them calls them, or as in the network."""
    stems = []
    for value in body.inputs[:count]:
        calls = (node for node in body.nodes if node.op == "call" and Ref(value) in node.args)
        asked = next((writer.style.callee(node).inputs[node.args.index(Ref(value))] for node in calls), "")
        stems.append(asked or given_name(value) or "state")
    return stems


def _open_lists(writer: Writer, node: Node, states: int, guarded: set[str]) -> dict[int, str]:
    """A list for each sequence that a scan makes and something needs, by its place among the outputs."""
    wanted = [place for place in range(states, len(node.outputs)) if writer.left[node.outputs[place]]]
    lists: dict[int, str] = {}
    for place in wanted:
        given = given_name(node.outputs[place]) if len(wanted) > 1 else ""
        lists[place] = writer.fresh(f"{given}s" if given else "outputs", guarded)
        writer.emit(f"{lists[place]} = []", nodes=(node.id,))
    return lists


def _body_lines(
    writer: Writer,
    node: Node,
    inputs: Sequence[Expr],
    names: Sequence[str],
    lists: Mapping[int, str],
    guarded: Collection[str],
) -> list[Line]:
    """The lines of one step, which ends with the outputs appended and the states changed."""
    assert node.body is not None
    finals = node.body.outputs[: len(names)]
    block = Block(node.body.inputs, node.body.nodes, (*finals, *(node.body.outputs[place] for place in lists)))
    inner = writer.nested(block, dict(zip(finals, names, strict=True)), guarded)
    sequences = node.args[1] if isinstance(node.args[1], tuple) else ()
    for value, sequence in zip(block.inputs[len(names) :], sequences, strict=False):
        rank = writer.rank(sequence)
        inner.ranks[value] = None if rank is None else rank - 1
    for position, (value, expr) in enumerate(zip(block.inputs, inputs, strict=True)):
        if position < len(names):
            inner.hold(value, expr.text)
        elif position < len(names) + len(sequences) and inner.left[value] > OFTEN:
            inner.assign(value, expr, given_name(value) or "now")
        else:
            inner.env[value] = expr
    inner.write()
    for place, local in lists.items():
        part = inner.env[node.body.outputs[place]]
        inner.emit(f"{local}.append({part.text})", [part])
    changes = [(local, inner.env[value]) for local, value in zip(names, finals, strict=True)]
    _change_states(inner, [(local, part) for local, part in changes if part.text != local])
    if not inner.lines:
        inner.emit("pass")
    return inner.lines


def _change_states(writer: Writer, changes: list[tuple[str, Expr]]) -> None:
    """Assign the new states, in an order in which none is read after it has changed, else all at once."""
    while changes:
        safe = next(
            (one for one in changes if not any(one[0] in part.reads for other, part in changes if other != one[0])),
            None,
        )
        if safe is None:
            targets, parts = ", ".join(local for local, _ in changes), [part for _, part in changes]
            writer.emit(f"{targets} = {', '.join(part.text for part in parts)}", parts)
            return
        writer.emit(f"{safe[0]} = {safe[1].text}", [safe[1]])
        changes.remove(safe)
