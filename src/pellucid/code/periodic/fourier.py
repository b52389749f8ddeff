"""Networks on Z_p × Z_p as trigonometric code: the parts of a stream that carries waves, read together.

Zhong et al. 2023, "The Clock and the Pizza": such a network turns each token into angles 2πk·token/p at a few
frequencies k, adds up the waves of both tokens, doubles the angle of the sum in its MLP, so that a wave of a + b comes
out, and lets each class c answer by how well cos and sin of 2πk·c/p go with it. Each part is read by itself:

1. The outputs of the whole have to be waves of a + b at few frequencies (`periodic.waves`), else nothing is read.
2. Each part reads the waves it knows from the stream, computes with them, and writes along directions of its own.
   What it computes is one of a few forms, simplest first (`periodic.fourier_forms`); strengths and directions are
   fitted by least squares to what the exact part gives.
3. A form is taken when the network, with it in place of the part, decides the same on all p² inputs. Where a fit to
   what the part gives decides a few pairs wrongly, it is repeated with these pairs counting for more, and an embedding
   is tuned by gradient.
4. Readings that hold one by one but not together, and such as nearly hold, are tuned by gradient until all do
   (`periodic.fourier_tuning`). Where that fails, those that decide the same together are chosen; others that hold by
   themselves stand beside the weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from pellucid.code.periodic.fourier_draft import (
    COARSE,
    FINE,
    Draft,
    Try,
    closed_scope,
    fitted,
    nearest,
    running,
    settled,
    short,
    tuned,
)
from pellucid.code.periodic.fourier_forms import MIXING, POSITIONWISE, Form, Waves
from pellucid.code.periodic.fourier_heads import attended
from pellucid.code.periodic.fourier_tuning import agreed
from pellucid.code.periodic.waves import (
    Grid,
    Readout,
    folded,
    grid_of,
    key_frequencies,
    sum_frequencies,
    token_frequencies,
    waves_in,
)
from pellucid.code.propose import Candidate
from pellucid.code.together import Together
from pellucid.ir.graph import Ref
from pellucid.ir.interpret import Values, run_block
from pellucid.ir.program import Program

ENOUGH = 0.5
"""Share of the variation of the outputs that has to be waves of a + b."""

MOST_FREQUENCIES = 0.25
"""An embedding is read as waves of at most this share of all tokens; with more of them it would be a table."""

CARRIED = 0.01
"""Twice a key frequency is taken into an embedding that carries it to this share."""

ALIKE = 1e-3
"""Share of the variation that may be lost where two positions are written along the same directions."""

MORE = (0, 2, 4)
"""Where the parts do not go together, they are read again with so many frequencies more."""

NEARLY = 0.1
"""Readings that are tuned together may decide this share of all pairs wrongly before that."""

TOLD = 0.95
"""A form that tells this share of what a part writes is taken before those that take more code."""


def propose_waves(program: Program, calls: Sequence[Values], seconds: float) -> Mapping[str, Candidate] | str:
    """Readings of the parts of a network on pairs of tokens, by name; a text where there are none."""
    deadline = time.monotonic() + seconds
    grid = grid_of(program, calls)
    if isinstance(grid, str) or len(grid.parts) < 2:
        return grid if isinstance(grid, str) else ""
    keys, share = key_frequencies(grid)
    if share < ENOUGH:
        return f"{share:.0%} of the outputs' variation is waves of the sum of both tokens; {ENOUGH:.0%} are needed"
    names = list(grid.parts)
    first, last = grid.parts[names[0]], grid.parts[names[-1]]
    if not torch.equal(first[0], grid.tokens) or not torch.equal(last[1].argmax(-1), grid.decided):
        return "the network does not begin and end with parts of its own"
    best, alone, nearly = _searched(grid, keys, deadline)
    against = "holds alone, not with all others"
    if len(best) < len(nearly):
        together = agreed(grid, nearly, deadline)
        best, against = (best, f"{against}; {together}") if isinstance(together, str) else (together, against)
    beside = {name: replace(one, against=against) for name, one in alone.items() if name not in best}
    return {**best, **beside} or "no part computes with waves alone"


def _searched(
    grid: Grid, keys: tuple[int, ...], deadline: float
) -> tuple[dict[str, Candidate], dict[str, Candidate], dict[str, Try]]:
    """Readings that hold together, those that hold one by one, and those that at least nearly do: of as few frequencies
    as bring all parts together, else each the most that were found."""
    best: dict[str, Candidate] = {}
    alone: dict[str, Candidate] = {}
    nearly: dict[str, Try] = {}
    tried: tuple[int, ...] = ()
    for more in MORE:
        if time.monotonic() > deadline or len(best) == len(grid.parts) or len(tried) == _most(grid, keys):
            break
        embedding, frequencies = _embedding(grid, next(iter(grid.parts)), keys, more)
        if frequencies == tried:
            continue
        tried = frequencies
        found = _read(grid, keys, embedding, frequencies, deadline)
        holding = {name: one.candidate for name, one in found.items() if one.holds}
        close = {name: one for name, one in found.items() if one.wrong <= NEARLY * len(grid.tokens)}
        best, alone = max(best, _agreeing(grid, holding), key=len), max(alone, holding, key=len)
        nearly = max(nearly, close, key=len)
    return best, alone, nearly


def _read(
    grid: Grid, keys: tuple[int, ...], embedding: Try, frequencies: tuple[int, ...], deadline: float
) -> dict[str, Try]:
    """The nearest readings of the parts one by one, of waves of these frequencies."""
    first, *branches, last = grid.parts
    found: dict[str, Try | None] = {first: embedding}
    for name in branches:
        found[name] = _branch(grid, name, keys, frequencies) if time.monotonic() < deadline else None
    found[last] = _readout(grid, last, keys)
    return {name: one for name, one in found.items() if one is not None}


def _agreeing(grid: Grid, found: dict[str, Candidate]) -> dict[str, Candidate]:
    """The readings with which the network decides the same when all of them are in place."""
    tried = {name: running(one.reading.body, dict(one.weights)) for name, one in found.items()}
    while tried and grid.wrong(tried):
        left = {name: grid.wrong({other: tried[other] for other in tried if other != name}) for name in tried}
        del tried[min(left, key=lambda name: left[name])]
    return {name: found[name] for name in tried}


WAVES = Together("waves", propose_waves)


# ---- what makes the stream


def _embedding(grid: Grid, name: str, keys: tuple[int, ...], more: int) -> tuple[Try, tuple[int, ...]]:
    """The embedding as waves of as few frequencies as it takes and some `more`, and these frequencies."""
    _, output = grid.parts[name]
    shares = token_frequencies(output, grid)
    most = _most(grid, keys)
    twice = [folded(2 * key, grid.period) for key in keys]
    doubles = [k for k in dict.fromkeys(twice) if k not in keys and shares.get(k, 0.0) >= CARRIED]
    ordered = list(dict.fromkeys((*keys, *doubles, *shares)))
    for count in range(len(keys) + len(doubles) + more, min(most, len(ordered)) + 1):
        for levels in (COARSE, FINE):
            found = _embedding_of(grid, name, tuple(ordered[:count]), levels)
            if found.holds:
                return found, tuple(ordered[:count])
    return _embedding_of(grid, name, tuple(ordered[:most]), FINE, tuning=True), tuple(ordered[:most])


def _embedding_of(grid: Grid, name: str, frequencies: tuple[int, ...], levels: int, tuning: bool = False) -> Try:
    """The embedding as waves of these frequencies; fitted to what it writes, then perhaps tuned to what it does."""
    draft = Draft.of(grid, name, levels)
    write = draft.writer.node
    order = write("arange", 0, len(frequencies), name="order")
    named = write("lookup", frequencies, (order,), name="frequencies")
    turns = write("mul", write("unsqueeze", draft.given, -1), named, name="turns")
    angles = write("mul", write("cast", turns, "float32"), 2 * math.pi / grid.period, name="angles")
    waves = write("concat", (write("cos", angles), write("sin", angles)), -1, name="waves")
    features = draft.values(waves)[0].double().numpy()
    wanted = grid.parts[name][1].double().numpy()
    fits = _written_by(grid, features, wanted)
    how = "bpw,wd->bpd" if fits.ndim == 2 else "bpw,pwd->bpd"
    rest = None
    if tuning:
        fits, rest = tuned(grid, name, how, features, fits)
    directions, rounded = draft.directions("directions", fits)
    missed = wanted - np.einsum(how, features, rounded)
    value = write("matmul", waves, directions) if fits.ndim == 2 else write("einsum", how, (waves, directions))
    value = write("add", value, draft.weight("rest", missed.mean(axis=0) if rest is None else rest))
    told = f"each token as cos and sin of 2πk·token/{grid.period} for k = {_list(frequencies)}"
    return draft.tried(value, told)


def _written_by(grid: Grid, features: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Directions [waves, width] along which all moving positions are written, or [positions, waves, width] of each."""
    together, kept = fitted([features[:, list(grid.moving)]], wanted[:, list(grid.moving)])
    alone = [fitted([features[:, [place]]], wanted[:, [place]]) for place in grid.moving]
    if kept >= min(share for _, share in alone) - ALIKE:
        return together[0]
    stacked = np.zeros((wanted.shape[1], features.shape[-1], wanted.shape[-1]))
    for place, (fit, _) in zip(grid.moving, alone, strict=True):
        stacked[place] = fit[0]
    return stacked


# ---- what is added to it


def _branch(grid: Grid, name: str, keys: tuple[int, ...], frequencies: tuple[int, ...]) -> Try | None:
    """A part that reads the stream and adds to it: of the shortest forms that keep all decisions and tell most of the
    part the one that tells most, else that of all forms that keep them, else the one that keeps most of them."""
    given, output = grid.parts[name]
    if given.ndim != 3 or output.ndim != 3:
        return None
    found = waves_in(given.double().numpy(), grid, keys, frequencies)
    if found is None:
        return None
    best: Try | None = None
    for forms in POSITIONWISE if _is_positionwise(grid, name) else MIXING:
        tried = (_coarsely(grid, name, keys, found, form) for form in forms)
        best = min((one for one in (best, *tried) if one is not None), key=lambda one: (one.wrong, -one.share))
        if best.holds and best.share >= TOLD:
            break
    return best


def _coarsely(grid: Grid, name: str, keys: tuple[int, ...], found: Readout, form: Form) -> Try | None:
    """A form with as few bits for its directions as keep all decisions."""
    tries = (_branch_of(grid, name, keys, found, form, levels) for levels in (COARSE, FINE))
    return nearest(one for one in tries if one is not None)


def _is_positionwise(grid: Grid, name: str) -> bool:
    """Whether what a part gives at a position depends on that position alone."""
    given, output = grid.parts[name]
    function = grid.program[name]
    places = given.shape[1]
    for place in range(places):
        moved = given.roll(1, 0)
        moved[:, place] = given[:, place]
        (found,) = run_block(function.reading("weights").body, [moved], closed_scope(dict(grid.program.weights)))
        if not torch.allclose(found[:, place], output[:, place], rtol=1e-4, atol=1e-5 * float(output.abs().max())):
            return False
    return True


def _branch_of(grid: Grid, name: str, keys: tuple[int, ...], found: Readout, form: Form, levels: int) -> Try | None:
    """A form fitted to a part; None where the part has not what the form needs."""
    draft = Draft.of(grid, name, levels)
    write = draft.writer.node
    reads, rounded = draft.directions("reads", found.reads)
    offsets = grid.parts[name][0].double().mean(dim=0).numpy() @ rounded
    read = write("sub", write("matmul", draft.given, reads), draft.weight("offsets", offsets), name="waves")
    waves = Waves(draft.writer, read, len(found.waves), len(found.places(keys)))
    heads = attended(draft, read) if form.heads else None
    deciding = "" if heads is None else _list([found.waves[place].frequency for place in heads[1]])
    waves.weights = None if heads is None else heads[0]
    groups = form.build(waves)
    if not groups:
        return None
    features = [value.double().numpy() for value in draft.values(*groups)]
    directions, rest = settled(draft, features, grid.parts[name][1].double().numpy())
    total: Ref | None = None
    for position, (group, rows) in enumerate(zip(groups, directions, strict=True)):
        label = "writes" if len(groups) == 1 else f"writes_{position + 1}"
        product = write("matmul", group, draft.directions(label, rows)[0])
        total = product if total is None else write("add", total, product)
    assert total is not None
    value = write("add", total, draft.weight("rest", rest))
    return draft.tried(value, _told(found, keys, form, deciding))


def _told(found: Readout, keys: tuple[int, ...], form: Form, deciding: str) -> str:
    known = [wave.frequency for wave in found.waves if not wave.of_sum]
    sums = [wave.frequency for wave in found.waves if wave.of_sum]
    doubled = [found.waves[place].frequency for place in found.places(keys)]
    others = [wave.frequency for i, wave in enumerate(found.waves) if not wave.of_sum and i not in found.places(keys)]
    told = form.summary.format(
        keys=_list(doubled), all=_list([*dict.fromkeys(known)]), others=_list(others), deciding=deciding
    )
    told = told.removesuffix("; passes on waves ")
    return f"{told}; waves of the sum at {_list(sums)}" if sums else told


# ---- what reads it


def _readout(grid: Grid, name: str, keys: tuple[int, ...]) -> Try | None:
    """Classes that answer by their wave at the key frequencies, and at as many others as it takes."""
    ordered = tuple(sum_frequencies(grid))
    options = (ordered[:count] for count in range(len(keys), _most(grid, keys) + 1))
    tries = (_readout_of(grid, name, option) for option in options)
    return nearest(one for one in tries if one is not None)


def _most(grid: Grid, keys: tuple[int, ...]) -> int:
    """How many frequencies at most are more than a table."""
    return max(len(keys), int(MOST_FREQUENCIES * grid.period))


def _readout_of(grid: Grid, name: str, keys: tuple[int, ...]) -> Try | None:
    given, output = grid.parts[name]
    first, period = int(grid.decided.min()), grid.period
    runs = output.ndim == 2 and given.ndim in (2, 3) and output.shape[1] >= first + period
    if not runs or int(grid.decided.max()) >= first + period:
        return None
    draft = Draft.of(grid, name)
    write = draft.writer.node
    place = write("select", draft.given, 1, -1, name="last") if given.ndim == 3 else draft.given
    stream, wanted = draft.values(place)[0].double().numpy(), output.double().numpy()
    classes = wanted[:, first : first + period]
    turns = np.exp(2j * np.pi * np.outer(np.arange(first, first + period), keys) / period)
    amplitudes = (classes - classes.mean(axis=1, keepdims=True)) @ np.conj(turns) * 2 / period
    strengths = tuple(short(float(size)) for size in np.sqrt((np.abs(amplitudes) ** 2).mean(axis=0)))
    parts = np.concatenate([amplitudes.real / strengths, -amplitudes.imag / strengths], axis=1)
    (best,), _ = fitted([stream[:, None]], parts[:, None])
    reads, rounded = draft.directions("reads", best)
    waves = write("matmul", place, reads)
    waves = write("sub", waves, draft.weight("offsets", (stream @ rounded - parts).mean(axis=0)), name="waves")
    value = write("matmul", waves, write("transpose", _answers(draft, keys, strengths, first), 0, 1))
    after = wanted.shape[1] - first - period
    if first or after:
        others = np.delete(wanted, np.arange(first, first + period), axis=1)
        value = write("pad", value, (first, after), short(float(others.mean())))
    told = f"class c answers with Σ strength·cos(2πk(c - (a + b))/{period}) for k = {_list(keys)}"
    strongest = ", ".join(f"{size:g}" for size in strengths)
    return draft.tried(value, f"{told}, strengths {strongest}")


def _answers(draft: Draft, keys: tuple[int, ...], strengths: tuple[float, ...], first: int) -> Ref:
    """What each class says to the waves: strength times its own wave, [classes, waves]."""
    write, period = draft.writer.node, draft.grid.period
    order = write("arange", 0, len(keys), name="order")
    named = write("lookup", keys, (order,), name="frequencies")
    sizes = write("lookup", strengths, (order,), name="strengths")
    numbers = write("unsqueeze", write("arange", first, first + period, name="classes"), -1)
    angles = write("mul", write("cast", write("mul", numbers, named), "float32"), 2 * math.pi / period, name="angles")
    sides = (write("mul", write("cos", angles), sizes), write("mul", write("sin", angles), sizes))
    return write("concat", sides, -1, name="answers")


def _list(numbers: Sequence[object]) -> str:
    return ", ".join(map(str, numbers))
