"""Running a program with its attention opened: what each attention is given goes to a function of the caller's.

Every function of the program that holds one node `attention` is an attention function. In a copy of its block that
node becomes a call, so that the caller sees queries, keys and values of all heads and says what they mix: the real
pattern, a rule's, any other. Gradients flow, because nothing here switches them off. The readout can be restricted to
some tokens, which is most of the work in a small network.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float, Int, Shaped

from pellucid.errors import BadInput
from pellucid.ir.graph import Arg, Block, Node, Ref, Weight, calls_made
from pellucid.ir.interpret import Scope, Values, run_block
from pellucid.ir.program import Program

Pattern: TypeAlias = Float[torch.Tensor, "windows heads query key"]

_PARAMETERS = ("q", "k", "v", "mask", "causal", "scale")
_HEADS = ":heads"
_SOME = ":some"


@dataclass(frozen=True, eq=False)
class Attended:
    """What one attention is given.

    Attributes:
        q, k, v: of all heads; keys and values may be shared by several query heads.
        mask: bool (where it may look) or numbers to add, or None.
        causal: whether later keys are out of reach.
        scale: of the scores.
        still_q, still_k: queries and keys before they are turned by their position, where they are.
    """

    q: Float[torch.Tensor, "windows heads query feature"]
    k: Float[torch.Tensor, "windows key_heads key feature"]
    v: Float[torch.Tensor, "windows key_heads key value"]
    mask: Shaped[torch.Tensor, "..."] | None
    causal: bool
    scale: float
    still_q: Float[torch.Tensor, "windows heads query feature"]
    still_k: Float[torch.Tensor, "windows key_heads key feature"]

    @property
    def shared(self) -> int:
        """How many query heads use the same keys."""
        return int(self.q.shape[1] // self.k.shape[1])

    def pattern(self, queries: Int[torch.Tensor, "windows query"] | None = None) -> Pattern:
        """Where the heads really look, from all queries or those at the given positions."""
        context = self.k.shape[2]
        rows = torch.arange(context).expand(len(self.q), context) if queries is None else queries
        chosen = from_queries(self.q, rows)
        scores = chosen @ self.k.repeat_interleave(self.shared, 1).transpose(-1, -2) * self.scale
        if self.mask is not None:
            mask = self.mask.expand(len(self.q), -1, context, context)
            mask = mask.gather(2, rows[:, None, :, None].expand(-1, mask.shape[1], -1, context))
            scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
        if self.causal:
            scores = scores.masked_fill(torch.arange(context) > rows[:, None, :, None], -math.inf)
        return scores.softmax(-1)

    def mixed(self, pattern: Pattern) -> Float[torch.Tensor, "windows heads query value"]:
        """The values that a pattern mixes."""
        return pattern @ self.v.repeat_interleave(self.shared, 1)


def from_queries(
    every: Float[torch.Tensor, "windows heads context of"], rows: Int[torch.Tensor, "windows query"]
) -> Float[torch.Tensor, "windows heads query of"]:
    """What some queries have, patterns or the queries themselves; they may be others in each window."""
    return every.gather(2, rows[:, None, :, None].expand(-1, every.shape[1], -1, every.shape[3]))


Hook: TypeAlias = Callable[[str, Attended], Float[torch.Tensor, "windows heads query value"]]
"""From the name of an attention function and what it is given to what its heads mix."""


@dataclass(frozen=True, eq=False)
class OpenedProgram:
    """A program whose attention functions call a hook.

    Attributes:
        program: what it was made from.
        blocks: of all functions, exact readings, with attention opened.
        weights: the program's, and the rows of the readout.
        functions: the attention functions in the order in which they run.
        readout: the tokens whose logits are computed, None for all.
    """

    program: Program
    blocks: Mapping[str, Block]
    weights: Mapping[str, torch.Tensor]
    functions: tuple[str, ...]
    readout: tuple[int, ...] | None

    def run(
        self, ids: Int[torch.Tensor, "windows context"], hook: Hook
    ) -> Float[torch.Tensor, "windows context token"]:
        """The logits (of the tokens of the readout) when every attention is what the hook says."""

        def call(name: str, values: Values) -> Values:
            if name.endswith(_HEADS):
                return (hook(name.removesuffix(_HEADS), Attended(*values)),)
            return run_block(self.blocks[name], values, scope)

        scope = Scope(self.weights, call)
        logits: torch.Tensor = call(self.program.entry, (ids,))[0]
        return logits


def open_program(program: Program, readout: Sequence[int] | None = None) -> OpenedProgram:
    """A program to be run with a hook for its attention.

    Args:
        program: a language model: one input, the ids of windows; logits of all tokens come first.
        readout: the only tokens whose logits are wanted.

    Raises:
        BadInput: it takes more than ids, has no attention, or not as one node of a function.
    """
    if len(program[program.entry].inputs) != 1:
        raise BadInput(f"{program.entry}: rules of heads need a network that takes token ids only; trace it so")
    order = _functions(program)
    blocks = {name: program[name].reading("weights").body for name in order}
    attention = tuple(name for name in order if any(node.op == "attention" for node in blocks[name].nodes))
    if not attention:
        raise BadInput(f"{program.entry}: no function of it has attention; rules of heads are for transformers")
    opened = {name: _opened(name, blocks[name]) for name in attention}
    entry, rows = _restricted(program, readout)
    return OpenedProgram(
        program,
        {**blocks, **opened, program.entry: entry if readout is not None else blocks[program.entry]},
        {**program.weights, **rows},
        attention,
        None if readout is None else tuple(readout),
    )


def _functions(program: Program) -> tuple[str, ...]:
    """All functions that run, each once, in the order of their first call."""
    found: dict[str, None] = {}

    def visit(name: str) -> None:
        if name not in found:
            found[name] = None
            for callee in calls_made(program[name].reading("weights").body):
                visit(callee)

    visit(program.entry)
    return tuple(found)


def _opened(name: str, block: Block) -> Block:
    """The block with its attention as a call."""
    made = {node.id: node for node in block.nodes}
    nodes = [node for node in block.nodes if node.op == "attention"]
    if len(nodes) != 1:
        raise BadInput(f"{name}: {len(nodes)} attentions in one function; rules of heads need one each")
    (attention,) = nodes
    given: dict[str, Arg] = {"mask": None, "causal": False, "scale": None}
    given |= dict(zip(_PARAMETERS, attention.args, strict=False)) | dict(attention.kwargs)
    if given["scale"] is None:
        raise BadInput(f"{name}: its attention does not say its scale; trace the network again")
    args = (*(given[parameter] for parameter in _PARAMETERS), _still(given["q"], made), _still(given["k"], made))
    call = Node(attention.outputs, "call", args, function=name + _HEADS, scope=attention.scope, source=attention.source)
    return dataclasses.replace(block, nodes=tuple(call if node is attention else node for node in block.nodes))


def _still(arg: Arg, made: Mapping[str, Node]) -> Arg:
    """The value before its rotary embedding, or the value itself."""
    node = made.get(arg.name) if isinstance(arg, Ref) else None
    return node.args[0] if node is not None and node.op == "rotary" else arg


def _restricted(program: Program, readout: Sequence[int] | None) -> tuple[Block, dict[str, torch.Tensor]]:
    """The entry's block with a readout of some tokens, and the weights that it needs."""
    block = program[program.entry].reading("weights").body
    if readout is None:
        return block, {}
    rows = torch.tensor(readout, dtype=torch.long)
    made = {node.id: node for node in block.nodes}
    last = made.get(block.outputs[0])
    if last is None or last.op != "linear" or not all(isinstance(arg, Weight) for arg in last.args[1:] if arg):
        raise BadInput(f"{program.entry}: its logits are not a linear map of its last state; ask for all tokens")
    names = [arg.name for arg in last.args[1:] if isinstance(arg, Weight)]
    args = tuple(Weight(arg.name + _SOME) if isinstance(arg, Weight) else arg for arg in last.args)
    nodes = tuple(node.with_changes(args=args) if node is last else node for node in block.nodes)
    return dataclasses.replace(block, nodes=nodes), {name + _SOME: program.weights[name][rows] for name in names}
