"""Transformers over tokens as programs of selections: the method of the search, for a network as a whole.

1. The network is asked about sequences of every length (`tokens.corpus`); what its attention heads do is kept.
2. Head by head, what it selects and what it moves becomes a variable over those known so far
   (`tokens.sequence_variables`); MLPs are not read one by one, because a variable may be any finite function of
   the known ones.
3. What the network puts out is a function of the fewest variables (`tokens.dependence`): the index of the
   largest output, or the number that the only output is. Variables that it does not need are dropped.
4. The program is measured on all sequences before it is proposed: it holds on each, or there is none.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64

from pellucid.code.expressions.expression import Expr, Name, evaluate, linear
from pellucid.code.expressions.expression import text as expression_text
from pellucid.code.propose import Candidate, Method, Part
from pellucid.code.recurrent.realise import simple
from pellucid.code.tokens.corpus import Corpus, corpus_of
from pellucid.code.tokens.heads import HeadRun, count_bundles, run_heads
from pellucid.code.tokens.selection_writing import Answer, write_program
from pellucid.code.tokens.sequence_variables import PARTS, Known, columns, expressed, given_variables, read_head
from pellucid.errors import CannotRun, InvalidProgram
from pellucid.ir.bits import code_bits
from pellucid.ir.program import Reading

MOST_PARAMETERS = 5_000_000
"""Larger networks are not run on thousands of sequences."""

NONE = 0.1
"""Outputs that stay below this share of the largest decide nothing."""

SURE = (0.3, 0.02)
"""A decision counts as sure from this distance to the second largest output on, as a share of the largest of all; the
second where the first leaves too little to tell."""

MOST_SILENT = 0.25
"""A decision reading may miss at most this share of places: such at which the network decides nothing, and a few more,
because how many these are is estimated. On the sequences that are asked about here it misses no others."""

CLEAR, MOSTLY = 0.1, 0.25
"""At so many places all outputs have to be this near 0 or the largest: what weights at random put out is not."""

ONE_HOT = 0.1
"""Outputs this near 0 and 1 are read as such, not only by their largest."""

EXACT = 1e-4

LEFT_OUT = 2
"""So many of the greatest lengths are left out in turn when rules are read off: compiled networks hesitate there first,
and what holds on the others may be shorter. All lengths are kept when the program is measured."""

MOST_LEVELS = 64
"""Different numbers of an output that is read as one of a few."""

SLACK = 0.01
"""How far numbers may be off a formula, as a share of the largest."""


@dataclass(frozen=True, eq=False)
class _Outputs:
    """What the network puts out: at all positions, and at the beginning if it puts out something there."""

    values: Float[np.ndarray, "places classes"]
    first: Float[np.ndarray, "sequences classes"] | None


def propose_attention(part: Part, seconds: float) -> Candidate | str:
    """A program of selections over the token sequences that go in."""
    deadline = time.monotonic() + seconds
    if not part.whole or not _takes_tokens(part) or not count_bundles(part):
        return ""
    if sum(weight.numel() for weight in part.program.weights.values()) > MOST_PARAMETERS:
        return "too large to be asked about thousands of sequences"
    corpus = corpus_of([call[0] for call in part.inputs])
    if corpus is None:
        return "too many different tokens, or none"
    try:
        runs, outputs = _asked(part, corpus)
    except CannotRun as error:
        return f"it cannot be asked about sequences of other lengths ({error})"
    if isinstance(outputs, str):
        return outputs
    best: Candidate | None = None
    reasons: list[str] = []
    for left_out in range(min(LEFT_OUT + 1, len(corpus.groups))):
        made = _program(part, corpus, len(corpus.groups) - left_out, runs, outputs, deadline)
        if isinstance(made, str):
            reasons.append(made)
            continue
        if best is None or made.reading.bits < best.reading.bits:
            best = made
        if made.reading.budget <= EXACT and made.reading.measure == "difference":
            break
    return best or "; ".join(dict.fromkeys(reasons))


def _program(
    part: Part,
    corpus: Corpus,
    fitted: int,
    runs: Sequence[tuple[HeadRun, ...]],
    outputs: _Outputs,
    deadline: float,
) -> Candidate | str:
    """A program read off the shorter sequences, that holds on all."""
    known, remarks = _variables(runs, corpus, fitted, deadline)
    answer = _answer(part, outputs, corpus.first(fitted).places, known, deadline)
    if isinstance(answer, str):
        return "; ".join([answer, *remarks])
    try:
        body = write_program(part, corpus, known, answer)
    except InvalidProgram as error:
        return str(error)
    summary = f"gives {expression_text(answer.expr)}"
    if answer.measure == "decision" and answer.budget:
        summary += f", where the network decides anything (at {silent_share(part):.1%} of places it does not)"
    return Candidate(Reading("code", body, "attention rules", code_bits(body), summary, answer.measure, answer.budget))


def _takes_tokens(part: Part) -> bool:
    """Whether token ids [batch, position] go in and numbers [batch, position, class] come out."""
    if len(part.function.inputs) != 1 or len(part.function.outputs) != 1 or not part.inputs:
        return False
    given, made = part.inputs[0][0], part.outputs[0][0]
    return bool(given.ndim == 2 and not given.is_floating_point() and made.ndim == 3 and made.is_floating_point())


def _asked(part: Part, corpus: Corpus) -> tuple[list[tuple[HeadRun, ...]], _Outputs | str]:
    """The heads on each group of the corpus, and the outputs."""
    runs, values, firsts = [], [], []
    for group, inputs in zip(corpus.groups, corpus.inputs(), strict=True):
        heads, (output,) = run_heads(part, (inputs.to(part.inputs[0][0].dtype),))
        extra = output.shape[1] - group.shape[1]
        if extra not in (0, corpus.skipped) or not bool(torch.isfinite(output).all()):
            return [], "it does not put out finite numbers for each position"
        if any(head.scores.shape[1:] != (inputs.shape[1], inputs.shape[1]) for head in heads):
            return [], "its attention is not over the positions"
        runs.append(heads)
        values.append(output[:, extra:].double().numpy())
        firsts += [output[:, 0].double().numpy()] if extra else []
    return runs, _Outputs(corpus.flat(values), np.concatenate(firsts) if firsts else None)


def _variables(
    runs: Sequence[tuple[HeadRun, ...]], corpus: Corpus, fitted: int, deadline: float
) -> tuple[Known, list[str]]:
    """All variables that heads add, and why some heads add none."""
    known, remarks = given_variables(corpus), []
    for i, head in enumerate(zip(*runs, strict=True)):
        made = read_head(head, corpus, fitted, known, deadline)
        if isinstance(made, str):
            remarks.append(f"head {i}: {made}")
            continue
        for variable in made:
            if not any(np.array_equal(variable.column, old.column) for old in known.values()):
                known[variable.name] = variable
    return known, remarks


# ---- what is put out


def _answer(part: Part, outputs: _Outputs, places: int, known: Known, deadline: float) -> Answer | str:
    if outputs.values.shape[1] == 1:
        return _number(outputs, places, known, deadline)
    scale = float(np.abs(outputs.values).max())
    ordered = np.sort(outputs.values, axis=1)
    silent = ordered[:, -1] < NONE * scale
    decided = np.where(silent, -1, outputs.values.argmax(1)).astype(np.int64)
    margin = (ordered[:, -1] - ordered[:, -2]) / scale
    shares = np.abs(outputs.values) / scale
    clear = float((np.minimum(shares, np.abs(shares - 1)) <= CLEAR).all(1).mean())
    if clear < MOSTLY or (decided == decided[0]).all():
        return (
            f"its outputs are all or nothing at {clear:.0%} of places only" if clear < MOSTLY else "one decision only"
        )
    reason = "its outputs decide nothing"
    for least in SURE:
        sure = (silent | (margin >= least)) & (np.arange(len(decided)) < places)
        expr = expressed(decided, sure, known, deadline) if sure.any() else None
        if expr is None:
            reason = "no expression for the decision"
            continue
        found = np.broadcast_to(evaluate(expr, columns(known)), decided.shape)
        wrong = int((found != decided).sum())
        if not wrong:
            return _decision(outputs, expr, found, silent_share(part))
        reason = f"{wrong:,} of {len(decided):,} decisions differ from {expression_text(expr)}"
    return reason


def _decision(outputs: _Outputs, expr: Expr, found: Int64[np.ndarray, " places"], silent: float) -> Answer:
    """An expression for the index of the largest output, and how near the outputs are to 0 and 1."""
    classes = outputs.values.shape[1]
    off = float(np.abs(outputs.values - (found[:, None] == np.arange(classes))).max())
    first = outputs.first
    off = max(off, 0.0 if first is None else float(np.abs(first).max()))
    if off <= ONE_HOT:
        return Answer(expr, classes, -1, "difference", max(EXACT, 4 * off))
    winner = 0 if first is None else int(np.bincount(first.argmax(1)).argmax())
    return Answer(expr, classes, winner, "decision", min(MOST_SILENT, 2 * silent + 0.02) if silent else 0.0)


def silent_share(part: Part) -> float:
    """At what share of places the network decides nothing: which of its outputs is the largest there is rounding."""
    made = [call[0].double() for call in part.outputs]
    scale = max(float(values.abs().max()) for values in made)
    silent = sum(int((values.amax(-1) < NONE * scale).sum()) for values in made)
    places = sum(int(values[..., 0].numel()) for values in made)
    return silent / places


def _number(outputs: _Outputs, places: int, known: Known, deadline: float) -> Answer | str:
    """The output as a sum of variables, or as a table over an expression of whole numbers."""
    wanted = outputs.values[:, 0]
    scale = max(float(np.abs(wanted).max()), 1e-30)
    first = 0.0 if outputs.first is None else float(np.median(outputs.first))
    first = first if abs(first) > SLACK * scale else 0.0
    for names in _summands(known):
        table = np.stack([known[name].column / (PARTS if known[name].kind == "mean" else 1) for name in names], axis=1)
        design = np.c_[table, np.ones(len(wanted))]
        weights = [simple(float(w)) for w in np.linalg.lstsq(design, wanted, rcond=None)[0]]
        whole = [w for w in weights if w is not None]
        if len(whole) < len(weights):
            continue
        off = float(np.abs(design @ np.array([float(w) for w in whole]) - wanted).max()) / scale
        if off <= SLACK:
            expr: Expr = linear([(w, Name(name)) for w, name in zip(whole, names, strict=False)], whole[-1])
            return Answer(expr, 0, first, "difference", max(EXACT, 4 * off))
    return _levels(wanted, first, places, known, deadline)


def _summands(known: Known) -> list[tuple[str, ...]]:
    """Sets of variables that may add up to the output."""
    means = tuple(name for name, variable in known.items() if variable.kind == "mean")
    return [*((name,) for name in known), *([means] if len(means) > 1 else []), tuple(known)]


def _levels(
    wanted: Float[np.ndarray, " places"], first: float, places: int, known: Known, deadline: float
) -> Answer | str:
    """An output of few values: which of them it is, as an expression."""
    scale = max(float(np.abs(wanted).max()), 1e-30)
    values = np.sort(wanted)
    ends = np.flatnonzero(np.diff(values, append=np.inf) > SLACK * scale)
    levels = values[ends]
    if len(levels) > MOST_LEVELS:
        return "no sum of variables for the number"
    nearest = np.abs(wanted[:, None] - levels).argmin(1)
    levels = np.array([np.median(wanted[nearest == i]) for i in range(len(levels))])
    whole = np.abs(levels - np.rint(levels)).max() <= SLACK * scale
    target = np.rint(levels).astype(np.int64)[nearest] if whole else nearest.astype(np.int64)
    expr = expressed(target, np.arange(len(target)) < places, known, deadline)
    if expr is None:
        return "no expression for the number"
    found = np.broadcast_to(evaluate(expr, columns(known)), target.shape)
    if (found != target).any():
        return f"{int((found != target).sum()):,} of {len(target):,} numbers differ from {expression_text(expr)}"
    off = float(np.abs((target if whole else levels[nearest]) - wanted).max()) / scale
    table = () if whole else tuple(float(f"{level:.6g}") for level in levels)
    return Answer(expr, 0, first, "difference", max(EXACT, 4 * off), table)


ATTENTION = Method("attention", propose_attention)
