"""Tests of descriptions by substitution: the network runs with one module said by its children's labels.

For a group of latents their activations are replaced by what their labels say (as they were grown), by their means,
and, as the control, by what labels dealt to other latents say; all else, the first position included, stays exact.
A function (MLP, attention, layer, the whole) runs by the words that the program holds. Recovered is as in
`words.reading.measure`. What comes before a replaced part is not computed again, and the readout gives only the tokens
that occur in the windows: losses are among these.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from pellucid.data.corpus import Corpus
from pellucid.ir.graph import Weight
from pellucid.ir.interpret import Replacement, Values, run_functions
from pellucid.ir.program import Program
from pellucid.words.hierarchy.modules import Tested
from pellucid.words.labels.labelset import LabelSet
from pellucid.words.reading.install import DICTIONARY, WRITTEN, choose, parts_of
from pellucid.words.reading.measure import Losses, recovered
from pellucid.words.reading.ngrams import FIRST_SCORED
from pellucid.words.reading.settle import Mean, replaced_by

Changes: TypeAlias = Sequence[Mapping[str, Values]]

READOUT = "words.readout"
TOGETHER = 4
"""Windows that run at the same time."""

Latents = Float[torch.Tensor, "windows context latents"]


@dataclass(frozen=True, eq=False)
class Seen:
    """What the exact network does on a few windows.

    Attributes:
        wanted: the next tokens, by place among those that the readout gives.
        outputs: of each part, in the order in which they are computed.
        latents: of each MLP that has a dictionary, `said` what the words of the program say of them.
    """

    ids: Int[torch.Tensor, "windows context"]
    wanted: Int[torch.Tensor, " scored"]
    outputs: Mapping[str, Values]
    latents: Mapping[str, Latents]
    said: Mapping[str, Latents]


@dataclass(frozen=True, eq=False)
class Bench:
    """A program that is ready for substitutions.

    Attributes:
        program: with a readout of the tokens that occur.
        seen: batches of windows.
        real: the losses of the exact network, one a window.
    """

    program: Program
    seen: tuple[Seen, ...]
    real: Losses


def bench_of(program: Program, corpus: Corpus) -> Bench:
    """Run the exact network once over some windows and keep what its parts give."""
    tokens = torch.unique(torch.from_numpy(corpus.ids.astype(np.int64)))
    narrow = _narrowed(program, tokens)
    seen = tuple(_seen(narrow, ids, tokens if narrow is not program else None) for ids in corpus.batches(TOGETHER))
    bench = Bench(narrow, seen, np.zeros(0))
    return dataclasses.replace(bench, real=losses(bench))


def _seen(
    program: Program, ids: Int[torch.Tensor, "windows context"], tokens: Int[torch.Tensor, " tokens"] | None
) -> Seen:
    outputs, latents, said = dict[str, Values](), dict[str, Latents](), dict[str, Latents]()
    parts = parts_of(program)

    def watch(name: str, taken: Values, out: Values) -> None:
        owner = name.removesuffix(DICTIONARY)
        if name in parts:
            outputs[name] = out
        elif owner in parts and owner != name:
            latents[owner] = out[0]
            said[owner] = run_functions(program, taken, "words", start=name)[0]

    run_functions(program, [ids], "weights", watch=watch)
    after = ids[:, FIRST_SCORED:].flatten()
    return Seen(ids, after if tokens is None else torch.searchsorted(tokens, after), outputs, latents, said)


def _narrowed(program: Program, tokens: Int[torch.Tensor, " tokens"]) -> Program:
    """The program with logits of these tokens only; as it is where logits are no plain linear map."""
    entry = program[program.entry]
    exact = entry.reading("weights")
    last = next((node for node in exact.body.nodes if exact.body.outputs[0] in node.outputs), None)
    if last is None or last.op != "linear" or last.kwargs:
        return program
    tables = {place: arg for place, arg in enumerate(last.args) if isinstance(arg, Weight)}
    weights = {f"{READOUT}.{place}": program.weights[arg.name][tokens] for place, arg in tables.items()}
    args = tuple(Weight(f"{READOUT}.{i}") if i in tables else arg for i, arg in enumerate(last.args))
    nodes = tuple(node.with_changes(args=args) if node is last else node for node in exact.body.nodes)
    reading = dataclasses.replace(exact, body=dataclasses.replace(exact.body, nodes=nodes))
    others = tuple(reading if one is exact else one for one in entry.readings)
    return program.with_function(dataclasses.replace(entry, readings=others), weights)


def losses(bench: Bench, changed: Changes = (), words: Collection[str] = (), dealt: int | None = None) -> Losses:
    """The loss of each window when some parts give something else and some run by words.

    Args:
        changed: for each batch what parts give instead.
        words: parts that run by the words that the program holds.
        dealt: for the control, the seed by which their labels are dealt to other latents.
    """
    parts = parts_of(bench.program)
    running = choose(bench.program, [name for part in words for name in parts[part]])
    found = []
    for place, one in enumerate(bench.seen):
        own = changed[place] if changed else {}
        given = {**_before(one, {*words, *own}), **own}
        given |= {part + DICTIONARY: (_dealt(one.said[part], dealt),) for part in words if part in one.said}
        instead = {name: _always(out) for name, out in given.items()}
        logits = run_functions(running, [one.ids], None, replace=instead)[0]
        scored = logits[:, FIRST_SCORED - 1 : -1].flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(scored, one.wanted, reduction="none")
        found.append(loss.view(len(one.ids), -1).double().mean(1).numpy())
    return np.concatenate(found)


def _dealt(said: Latents, seed: int | None) -> Latents:
    """What labels say, each of another latent in a random cycle; as it is without a seed."""
    if seed is None:
        return said
    order = torch.from_numpy(np.random.default_rng(seed).permutation(said.shape[-1]))
    other = torch.empty_like(said)
    other[..., order] = said[..., order.roll(1)]
    return other


def _before(one: Seen, changed: Collection[str]) -> dict[str, Values]:
    """What the parts give that come before all that is changed; of nothing changed, none."""
    order = [*one.outputs]
    first = min((order.index(name) for name in changed if name in one.outputs), default=0)
    return {name: one.outputs[name] for name in order[:first]}


def _always(out: Values) -> Replacement:
    return lambda values: out


# ---- groups of latents


def substituted_groups(
    bench: Bench,
    part: str,
    labels: LabelSet,
    usual: Float[np.ndarray, " latents"],
    groups: Sequence[Bool[np.ndarray, " latents"]],
    seed: int = 0,
) -> tuple[tuple[Tested, float], ...]:
    """What each group's labels recover, and the nats that knocking the group out costs.

    Args:
        part: the MLP that the latents are of.
        labels: of all its latents.
        usual: the mean of each latent.
        groups: which latents are replaced.
        seed: how labels are dealt for the control.
    """
    said = [torch.from_numpy(np.moveaxis(labels.predict(one.ids.numpy()), 0, -1)) for one in bench.seen]
    mean = torch.from_numpy(usual.astype(np.float32))
    usually = [mean.expand(one.latents[part].shape) for one in bench.seen]
    others = [_dealt(one, seed) for one in said]
    found = []
    for group in groups:
        chosen = torch.from_numpy(np.flatnonzero(group))
        words, ablated, control = (
            losses(bench, [_given(bench.program, part, *pair, chosen) for pair in zip(bench.seen, put, strict=True)])
            for put in (said, usually, others)
        )
        share = recovered(bench.real, words, ablated, seed)
        dealt_share = recovered(bench.real, control, ablated, seed).value
        found.append((Tested.of(share, dealt_share), float((ablated - bench.real).mean())))
    return tuple(found)


def _given(program: Program, part: str, one: Seen, put: Latents, chosen: torch.Tensor) -> Mapping[str, Values]:
    """What an MLP gives when some of its latents are replaced, but for the first position."""
    real = one.latents[part]
    other = real.clone()
    other[:, 1:, chosen] = put[:, 1:, chosen].to(real.dtype)
    change = [run_functions(program, [latents], "weights", start=part + WRITTEN)[0] for latents in (other, real)]
    first, *rest = one.outputs[part]
    return {part: (first + change[0] - change[1], *rest)}


# ---- functions


def substituted_function(
    bench: Bench, parts: Sequence[str], means: Mapping[str, Mean], seed: int = 0
) -> tuple[Tested, float]:
    """What the words of some parts together recover, and the nats that knocking them out costs.

    The control deals labels to other latents; NaN where none of the parts is an MLP with a dictionary.
    """
    ablated = losses(bench, [{p: replaced_by(means[p])([one.ids]) for p in parts} for one in bench.seen])
    share, control = recovered(bench.real, losses(bench, words=parts), ablated, seed), float("nan")
    if any(part + DICTIONARY in bench.program.functions for part in parts):
        control = recovered(bench.real, losses(bench, words=parts, dealt=seed), ablated, seed).value
    return Tested.of(share, control), float((ablated - bench.real).mean())
