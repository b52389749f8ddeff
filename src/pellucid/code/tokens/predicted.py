"""What a network predicts along sequences of tokens: at each position one token, or which tokens may follow.

The network is a function of token ids, and perhaps of position ids, to one number for each token of the vocabulary at
each position. Where all of these are exactly zero, nothing is asked (a task that scores some positions only puts zeros
elsewhere). It predicts "signs" if nearly none of its numbers is near zero, "decisions" if the largest has nearly all
of the softmax; a network that is not decided predicts nothing that a program could be held to.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64

from pellucid.code.propose import Part

Tokens = Int64[np.ndarray, "batch time"]

NOTHING, UNKNOWN = -1, -2
"""Kinds where nothing is asked, and of signs that were not among those first seen."""

NEAR_ZERO, FEW_NEAR = 1.0, 0.02
"""Signs are predicted if at most this share of the numbers is this near zero."""

DECIDED, NEARLY_ALL = 0.9, 0.95
"""Decisions are predicted if the median of the largest probability is at least the first; they come first if one in
twenty is below the second at most."""

CERTAIN = 4.0
"""A network that always gives the same answer has learned so if its numbers are this far from zero (98% sure)."""

EVEN = 8.0
"""Tokens that are drawn anew have about equal shares: the parameter of their Dirichlet distribution."""

FEWEST_AT_ONCE, NUMBERS_AT_ONCE = 64, 6_000_000
"""Sequences are run together up to so many numbers of one layer, and no fewer than the first."""

MOST_KINDS = 64
FEWEST_SEQUENCES, FEWEST_STEPS = 32, 4
LARGEST_VOCABULARY = 4096


@dataclass(frozen=True, eq=False)
class Predicted:
    """Sequences and what the network predicts on them.

    Attributes:
        tokens, positions: ids; no positions if the network takes none.
        kinds: at each position the token that it decides on, or the number of the pattern of signs; `NOTHING` where
            nothing is asked.
        patterns: which tokens are positive, for each kind; empty for decisions.
        measure: "signs" or "decisions".
        vocabulary: how many tokens there are numbers for.
        places: which inputs of the function hold tokens and positions.
        certain: whether nearly all numbers are far from zero; never of decisions, where one token may simply be common.
    """

    tokens: Tokens
    positions: Tokens | None
    kinds: Tokens
    patterns: Bool[np.ndarray, "kinds vocabulary"]
    measure: Literal["signs", "decisions"]
    vocabulary: int
    places: tuple[int, int | None]
    certain: bool

    def given(self) -> dict[str, torch.Tensor]:
        """The inputs by the names that quantities are written over."""
        pairs = {"tokens": self.tokens, "positions": self.positions}
        return {name: torch.from_numpy(value) for name, value in pairs.items() if value is not None}

    def call(self, rows: slice) -> list[torch.Tensor]:
        """Some of the sequences as the function takes them."""
        values = {self.places[0]: self.tokens}
        if self.places[1] is not None and self.positions is not None:
            values[self.places[1]] = self.positions
        return [torch.from_numpy(values[place][rows]) for place in sorted(values)]

    @property
    def asked(self) -> Bool[np.ndarray, "batch time"]:
        """Where something is asked."""
        return np.asarray(self.kinds != NOTHING)


def observe(part: Part) -> tuple[Predicted, ...] | str:
    """What the network predicted on the samples of the search, as one measure and as the other, the likelier first.

    Or why it predicts nothing; empty if the function is of another form.
    """
    arguments = _arguments(part)
    if not part.whole or arguments is None or len(part.function.outputs) != 1:
        return ""
    outputs = [made[0] for made in part.outputs]
    pairs = zip(part.inputs, outputs, strict=True)
    if any(y.ndim != 3 or not y.is_floating_point() or y.shape[:2] != x[0].shape for x, y in pairs):
        return ""
    length = max(y.shape[1] for y in outputs)
    rows = [i for i, y in enumerate(outputs) if y.shape[1] == length]
    logits = torch.cat([outputs[i] for i in rows]).numpy()
    tokens, positions = (
        None if at is None else torch.cat([part.inputs[i][at] for i in rows]).numpy() for at in arguments
    )
    if len(logits) < FEWEST_SEQUENCES or length < FEWEST_STEPS:
        return "too few sequences"
    assert tokens is not None
    if not int(tokens.max()) < logits.shape[2] <= LARGEST_VOCABULARY:
        return ""
    asked = logits[(logits != 0).any(-1)]
    found = []
    for measure, certain in _measures(asked):
        patterns = np.unique(asked > 0, axis=0) if measure == "signs" else np.zeros((0, logits.shape[2]), dtype=bool)
        if len(patterns) <= MOST_KINDS:
            kinds = kinds_of(logits, patterns, measure)
            found.append(Predicted(tokens, positions, kinds, patterns, measure, logits.shape[2], arguments, certain))
    return tuple(found) or "the network is not decided: nothing that a program could be held to"


def _arguments(part: Part) -> tuple[int, int | None] | None:
    """Which inputs hold tokens and positions: those that go up by one are positions."""
    first = part.inputs[0]
    if not 1 <= len(first) <= 2 or any(not isinstance(x, torch.Tensor) for x in first):
        return None
    if any(x.ndim != 2 or x.is_floating_point() or x.dtype == torch.bool or x.shape != first[0].shape for x in first):
        return None
    if len(first) == 1:
        return 0, None
    rising = [float((x.diff(dim=1) == 1).double().mean()) for x in first]
    return (1, 0) if rising[0] > rising[1] else (0, 1)


def _measures(logits: Float[np.ndarray, "rows vocabulary"]) -> list[tuple[Literal["signs", "decisions"], bool]]:
    """What is predicted, the likelier first, and whether the network is certain of it."""
    if not len(logits):
        return []
    found: list[tuple[Literal["signs", "decisions"], bool]] = []
    if (np.abs(logits) < NEAR_ZERO).mean() <= FEW_NEAR:
        found.append(("signs", bool((np.abs(logits) < CERTAIN).mean() <= FEW_NEAR)))
    largest = torch.from_numpy(logits).softmax(-1).amax(-1).numpy()
    clear = bool(np.quantile(largest, 0.05) >= NEARLY_ALL)
    if np.median(largest) >= DECIDED:
        found.insert(0 if clear else len(found), ("decisions", False))
    return found


def kinds_of(
    logits: Float[np.ndarray, "batch time vocabulary"],
    patterns: Bool[np.ndarray, "kinds vocabulary"],
    measure: Literal["signs", "decisions"],
) -> Tokens:
    """What is predicted at each position (see `Predicted.kinds`)."""
    asked = (logits != 0).any(-1)
    if measure == "decisions":
        return np.where(asked, logits.argmax(-1), NOTHING)
    numbers = {pattern.tobytes(): i for i, pattern in enumerate(patterns)}
    positive = logits[asked] > 0
    kinds = np.full(asked.shape, NOTHING, dtype=np.int64)
    kinds[asked] = [numbers.get(row.tobytes(), UNKNOWN) for row in positive]
    return kinds


def ask(part: Part, like: Predicted, tokens: Tokens, positions: Tokens | None, until: float) -> Predicted:
    """What the network predicts on other sequences; on as many of the first of them as there is time for `until` a
    time of `time.monotonic`, one portion at least."""
    unknown = np.full(tokens.shape, UNKNOWN, dtype=np.int64)
    asked, kinds = replace(like, tokens=tokens, positions=positions, kinds=unknown), []
    for rows in at_once(len(tokens), tokens.shape[1], like.vocabulary):
        kinds.append(kinds_of(part.run(asked.call(rows))[0].numpy(), like.patterns, like.measure))
        if time.monotonic() > until:
            break
    found = np.concatenate(kinds)
    done = picked(asked, np.arange(len(found)))
    return replace(done, kinds=found)


def at_once(count: int, time: int, width: int = 0) -> list[slice]:
    """`count` sequences of so many places, and values of so many numbers at each, in portions that fit into memory."""
    size = max(FEWEST_AT_ONCE, NUMBERS_AT_ONCE // max(1, time * max(time, width)))
    return [slice(begin, begin + size) for begin in range(0, count, size)]


def joined(parts: Sequence[Predicted]) -> Predicted:
    """Several sets of sequences as one."""
    tokens, kinds = (np.concatenate([getattr(p, name) for p in parts]) for name in ("tokens", "kinds"))
    positions = [p.positions for p in parts if p.positions is not None]
    return replace(parts[0], tokens=tokens, positions=np.concatenate(positions) if positions else None, kinds=kinds)


def picked(predicted: Predicted, rows: Int64[np.ndarray, " rows"]) -> Predicted:
    """Some of the sequences, perhaps several times."""
    positions = None if predicted.positions is None else predicted.positions[rows]
    return replace(predicted, tokens=predicted.tokens[rows], positions=positions, kinds=predicted.kinds[rows])


def ending(predicted: Predicted) -> int | None:
    """The token from which on nothing is asked, in nearly all sequences, if there is one."""
    best, most = None, 0
    for token in np.unique(predicted.tokens).tolist():
        over = (predicted.tokens == token).cumsum(1) > 0
        if not (over & predicted.asked).any() and over.any(1).mean() >= DECIDED and int(over.sum()) > most:
            best, most = int(token), int(over.sum())
    return best


def over(predicted: Predicted, end: int | None) -> Bool[np.ndarray, "batch time"]:
    """Positions from the ending token on."""
    if end is None:
        return np.zeros(predicted.tokens.shape, dtype=bool)
    return np.asarray((predicted.tokens == end).cumsum(1) > 0)


def shifted(predicted: Predicted, end: int | None, times: int, seed: int = 0) -> tuple[Tokens, Tokens | None]:
    """The same tokens at other position ids, within those that were seen: `times` copies of all."""
    tokens = np.repeat(predicted.tokens, times, axis=0)
    if predicted.positions is None:
        return tokens, None
    live = ~over(predicted, end)
    top = int(predicted.positions[live].max(initial=0))
    length = np.repeat(live.sum(1), times)
    rng = np.random.default_rng(seed)
    start = (rng.random(len(tokens)) * (top - length + 1).clip(1)).astype(np.int64)
    places: Tokens = (start[:, None] + np.arange(tokens.shape[1])).clip(0, top)
    return tokens, places


def redrawn(
    predicted: Predicted, end: int | None, plain: Sequence[int], periods: Sequence[int], seed: int = 0
) -> tuple[Tokens, Tokens | None]:
    """The sequences at other position ids; in each, the plain tokens at the places of one remainder by one of the
    periods are drawn anew, nearly as often one as another, and all others stay."""
    tokens, positions = shifted(predicted, end, 1, seed)
    rng = np.random.default_rng(seed)
    rows, time = tokens.shape
    period, shares = rng.choice(periods, rows), rng.dirichlet(np.full(len(plain), EVEN), rows).cumsum(1)
    there = np.arange(time) % period[:, None] == rng.integers(0, period)[:, None]
    pick = (rng.random((rows, time, 1)) > shares[:, None, :-1]).sum(-1)
    return np.where(np.isin(tokens, plain) & there, np.asarray(plain)[pick], tokens), positions
