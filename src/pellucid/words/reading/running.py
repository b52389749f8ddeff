"""The network on words as a differentiable function of its constants, on one corpus.

Which rule of a label gives its value depends on the text alone, so it is worked out once for each window and kept (one
byte a latent and position); then a label is a table looked up. Of the readout only the tokens that occur are computed.
Labels that cite a head follow its rule, and are worked out again after `forget`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from pellucid.data.corpus import Corpus
from pellucid.errors import BadInput
from pellucid.ir.graph import Block, Ref, Weight, calls_made
from pellucid.ir.interpret import Scope, Values, run_block
from pellucid.ir.program import Program
from pellucid.words.reading.install import DICTIONARY, RULE, VALUES, choose, has_words, parts_of

Chosen = Int[np.ndarray, " chosen"]
Seen = dict[str, Float[torch.Tensor, "windows context width"]]
"""What MLPs put out, by name."""


class Running:
    """A program with words, to be run on windows of a corpus.

    Attributes:
        parts: the functions that words describe, by MLP or attention function.
        tokens: the ids of the readout, ascending: those that occur in the corpus.

    Raises:
        BadInput: the program has no words, or its logits are no linear map of its last state.
    """

    def __init__(self, program: Program, corpus: Corpus) -> None:
        self.parts = parts_of(program)
        if not self.parts:
            raise BadInput("program: it has no words; describe it before you tune or measure words")
        self.program = program
        self.ids = torch.from_numpy(corpus.ids.astype(np.int64))
        self.tokens = torch.unique(self.ids)
        self._entry, self._readout = _split_readout(program, self.tokens)
        self._leaves: dict[tuple[str, int], torch.Tensor] = {}
        self._states: dict[int, torch.Tensor] = {}
        self._real: dict[tuple[str, int], torch.Tensor] = {}
        self._mlps = [part for part, own in self.parts.items() if part + DICTIONARY in own]

    def forget(self) -> None:
        """Work out again what labels that cite heads look at, when it is next asked for."""
        citing = {name for name in self._labelled() if calls_made(self.program[name].reading("words").body)}
        self._leaves = {key: leaves for key, leaves in self._leaves.items() if key[0] not in citing}

    def _labelled(self) -> list[str]:
        return [name for own in self.parts.values() for name in own if name.endswith(DICTIONARY)]

    def logits(
        self,
        chosen: Chosen,
        weights: Mapping[str, torch.Tensor],
        parts: Collection[str] | None = None,
        seen: Seen | None = None,
    ) -> Float[torch.Tensor, "windows context tokens"]:
        """Logits of `tokens` for the chosen windows, with some weights replaced.

        Args:
            parts: which of `parts` run by words (None: all).
            seen: is given what described MLPs put out that run by words.
        """
        running = list(self.parts if parts is None else parts)
        names = [name for part in running for name in self.parts[part]]
        mlps: Seen = {}
        state = self._state(chosen, choose(self.program, names), {**self.program.weights, **weights}, mlps)
        if seen is not None:
            seen.update({name: mlps[name] for name in self._mlps if name in running})
        return _read_out(state, self._readout)

    def wanted(self, chosen: Chosen) -> Float[torch.Tensor, "windows context tokens"]:
        """Log-probabilities among `tokens` that the network itself gives; its states are kept."""
        self._run_exactly(chosen)
        with torch.no_grad():
            kept = torch.stack([self._states[int(window)] for window in chosen])
            return _read_out(kept, self._readout).log_softmax(-1)

    def real(self, chosen: Chosen) -> Seen:
        """What described MLPs put out in the network itself, in half precision; kept."""
        self._run_exactly(chosen)
        return {name: torch.stack([self._real[name, int(w)] for w in chosen]).float() for name in self._mlps}

    def _run_exactly(self, chosen: Chosen) -> None:
        """Run the network itself on those of the windows that it has not been run on."""
        missing = np.array([window for window in chosen if int(window) not in self._states], dtype=np.int64)
        if len(missing) == 0:
            return
        seen: Seen = {}
        with torch.no_grad():
            states = self._state(missing, choose(self.program, []), self.program.weights, seen)
        self._states.update({int(w): state for w, state in zip(missing, states, strict=True)})
        for name, outputs in seen.items():
            self._real.update({(name, int(w)): own.half() for w, own in zip(missing, outputs, strict=True)})

    def _state(self, chosen: Chosen, program: Program, weights: Mapping[str, torch.Tensor], seen: Seen) -> torch.Tensor:
        def call(name: str, values: Values) -> Values:
            if name.endswith(DICTIONARY) and program[name].chosen == "words":
                return (self._said(name, chosen, values, scope),)
            if name == program.entry:
                return run_block(self._entry, values, scope)
            if name.endswith(RULE):
                (pattern,) = run_block(program[name].reading().body, [self.ids[chosen]], scope)
                return (pattern,)
            found = run_block(program[name].reading().body, values, scope)
            if name in self._mlps:
                seen[name] = found[0]
            return found

        scope = Scope(weights, call)
        state: torch.Tensor = call(program.entry, [self.ids[chosen]])[0]
        return state

    def _said(self, name: str, chosen: Chosen, values: Values, scope: Scope) -> torch.Tensor:
        body = self.program[name].reading("words").body
        missing = [place for place, window in enumerate(chosen) if (name, int(window)) not in self._leaves]
        if missing:
            self._work_out(name, np.asarray(chosen)[missing], body, values, scope)
        leaves = torch.stack([self._leaves[name, int(window)] for window in chosen])
        table = body.nodes[-1].args[1]
        assert isinstance(table, Weight)
        said: torch.Tensor = _Say.apply(scope.weights[table.name], leaves)  # type: ignore[no-untyped-call]
        return said

    def _work_out(self, name: str, windows: Chosen, body: Block, values: Values, scope: Scope) -> None:
        """The leaves of some windows: the body without its last step, which looks the values up."""
        found = body.nodes[-1].args[0]
        assert isinstance(found, Ref)
        before = dataclasses.replace(body, nodes=body.nodes[:-1], outputs=(found.name,))
        narrow = torch.uint8 if self.program.weights[name + VALUES].shape[1] <= 256 else torch.int16
        own = Scope(scope.weights, lambda name, _: self._rule(name, windows, scope))
        with torch.no_grad():
            given = [self.ids[windows] if _is_ids(value) else value for value in values]
            leaves = run_block(before, given, own)[0].to(narrow)
        self._leaves.update({(name, int(window)): one for window, one in zip(windows, leaves, strict=True)})

    def _rule(self, name: str, windows: Chosen, scope: Scope) -> Values:
        """Where heads look that labels cite: what rules give is a function of the ids alone."""
        return run_block(self.program[name].reading().body, [self.ids[windows]], scope)


def _is_ids(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype == torch.int64 and value.ndim == 2


class _Say(torch.autograd.Function):
    """Values of leaves, [label, rule] by [window, position, label]; the gradient is summed by leaf (a bincount)."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, leaves: torch.Tensor) -> torch.Tensor:
        flat = leaves.long() + torch.arange(len(values)) * values.shape[1]
        ctx.save_for_backward(flat)
        ctx.shape = values.shape
        return torch.take(values, flat)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        (flat,) = ctx.saved_tensors
        summed = torch.bincount(flat.view(-1), weights=grad.reshape(-1), minlength=ctx.shape.numel())
        return summed.view(ctx.shape).to(grad.dtype), None


def described_weights(program: Program) -> dict[str, tuple[str, ...]]:
    """The numbers of the words of each part: values of labels, constants of what is missed, tables of rules."""
    found: dict[str, tuple[str, ...]] = {}
    for part, own in parts_of(program).items():
        names = [name for function in own for name in _constants(program, function)]
        found[part] = tuple(names)
    return found


def _constants(program: Program, name: str) -> list[str]:
    if name.endswith(DICTIONARY):
        return [name + VALUES]
    if name + RULE in program.functions:
        node = program[name + RULE].reading("weights").body.nodes[-1]
        return [arg.name for arg in node.args[2:] if isinstance(arg, Weight)]
    assert has_words(program[name])
    return [f"{name}.constant"]


def _split_readout(program: Program, tokens: torch.Tensor) -> tuple[Block, tuple[torch.Tensor, torch.Tensor | None]]:
    """The entry without its last step, and the rows of that step's matrix (and bias) that belong to the tokens."""
    body = program[program.entry].reading("weights").body
    made = {node.id: node for node in body.nodes}
    last = made.get(body.outputs[0])
    if last is None or last.op != "linear" or not isinstance(last.args[0], Ref) or not isinstance(last.args[1], Weight):
        raise BadInput(f"{program.entry}: its logits are no linear map of its last state; words need a language model")
    bias = last.args[2] if len(last.args) > 2 else last.option("bias")
    rows = program.weights[last.args[1].name][tokens]
    given = program.weights[bias.name][tokens] if isinstance(bias, Weight) else None
    nodes = tuple(node for node in body.nodes if node is not last)
    return dataclasses.replace(body, nodes=nodes, outputs=(last.args[0].name,)), (rows, given)


def _read_out(state: torch.Tensor, readout: tuple[torch.Tensor, torch.Tensor | None]) -> torch.Tensor:
    return torch.nn.functional.linear(state, *readout)
