"""Drafts of parts in waves: bodies while they are written, fitted on all pairs of tokens, and tried in the network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Shaped

from pellucid.code.periodic.waves import Grid
from pellucid.code.propose import Candidate
from pellucid.code.recurrent.writing import Writer
from pellucid.ir.bits import block_bits
from pellucid.ir.graph import Block, Ref, Weight
from pellucid.ir.interpret import Replacement, Scope, Values, run_block, run_functions
from pellucid.ir.program import Function, Reading

COARSE, FINE = 127, 32767
"""Directions are kept in so many steps to either side: eight bits where that keeps all decisions, else sixteen."""

ROUNDS, MORE_WEIGHT, HOPELESS = 16, 3.0, 0.05
"""A fit is repeated so often, pairs that are decided wrongly counting so many times more each time, unless more of them
than this share are."""

SMALLEST_AXIS = 1e-6
"""Features are fitted along axes that are longer than this share of the longest."""

TUNING_RATE, TUNING_STEPS = 1e-2, 100
"""Of Adam: the rate as a share of the size of what is tuned, and the most steps."""

Rows = Float[np.ndarray, "rows width"]
Weights = dict[str, Shaped[torch.Tensor, "..."]]


@dataclass
class Draft:
    """A body while it is written, over the one input and output of a function."""

    grid: Grid
    function: Function
    writer: Writer
    weights: Weights
    levels: int

    @classmethod
    def of(cls, grid: Grid, name: str, levels: int = FINE) -> Draft:
        """An empty body of the function."""
        function = grid.program[name]
        taken = {*grid.program.values, *function.inputs, *function.outputs}
        return cls(grid, function, Writer("float32", taken=taken), {}, levels)

    @property
    def given(self) -> Ref:
        """What the function is given."""
        return Ref(self.function.inputs[0])

    def weight(self, label: str, values: np.ndarray) -> Weight:
        """A new weight of the function, to single precision."""
        name = f"{self.function.name}.{label}"
        self.weights[name] = torch.from_numpy(np.ascontiguousarray(values)).float()
        return Weight(name)

    def directions(self, label: str, values: np.ndarray) -> tuple[Ref, np.ndarray]:
        """A matrix of directions in whole steps up to `levels`, as it is computed and as numbers."""
        whole, step = in_steps(values, self.levels)
        name = f"{self.function.name}.{label}"
        kind = torch.int8 if self.levels == COARSE else torch.int16
        self.weights[name] = torch.from_numpy(np.ascontiguousarray(whole)).to(kind)
        return self.writer.node(
            "mul", self.writer.node("cast", Weight(name), "float32"), step, name=label
        ), whole * step

    def block(self, value: Ref) -> Block:
        """The body that gives `value`."""
        *nodes, last = self.writer.nodes
        assert last.id == value.name
        return Block(
            self.function.inputs, (*nodes, last.with_changes(outputs=self.function.outputs)), self.function.outputs
        )

    def values(self, *wanted: Ref) -> tuple[torch.Tensor, ...]:
        """What these values are on the grid."""
        block = Block(self.function.inputs, tuple(self.writer.nodes), tuple(value.name for value in wanted))
        return run_block(block, [self.grid.parts[self.function.name][0]], closed_scope(self.weights))

    def tried(self, value: Ref, told: str) -> Try:
        """The finished reading, put into the network on the whole grid."""
        return Try.of(self.grid, self.function.name, self.block(value), self.weights, told)


@dataclass(frozen=True, eq=False)
class Try:
    """A reading of a part, on how many pairs the network decides differently with it, the share of what the part writes
    that it tells, and what it says the part does."""

    candidate: Candidate
    wrong: int
    share: float
    told: str

    @classmethod
    def of(cls, grid: Grid, name: str, block: Block, weights: Weights, told: str, how: str = "") -> Try:
        """A body as a reading of the function; `how` it was fitted stands behind the share."""
        given, output = grid.parts[name]
        instead = running(block, weights)
        (found,) = instead([given])
        wanted, missed = output.double().numpy(), (output - found).double().numpy()
        share = explained(wanted - wanted.mean(axis=0), missed - missed.mean(axis=0))
        summary = f"{told} ({share:.1%} of what the part writes{how})"
        reading = Reading("code", block, "waves", block_bits(block, weights), summary, "decision", 0.0)
        return cls(Candidate(reading, weights), grid.wrong({name: instead}), share, told)

    @property
    def holds(self) -> bool:
        """Whether the network decides the same with it on all pairs."""
        return self.wrong == 0


def nearest(tries: Iterable[Try]) -> Try | None:
    """The first that holds; where none does, the one with which the network decides differently least often."""
    best: Try | None = None
    for one in tries:
        best = one if best is None or one.wrong < best.wrong else best
        if best.holds:
            break
    return best


def closed_scope(weights: Weights) -> Scope:
    """What a body without calls sees."""
    return Scope(weights, _no_calls)


def _no_calls(name: str, _: Values) -> Values:
    raise AssertionError(f"a reading of waves calls {name}")


def running(block: Block, weights: Weights) -> Replacement:
    """A body as what stands in for its function."""
    return lambda values: run_block(block, values, closed_scope(weights))


def fitted(
    features: Sequence[np.ndarray], wanted: np.ndarray, weights: Float[np.ndarray, " pairs"] | None = None
) -> tuple[list[Rows], float]:
    """Directions for each group of features [pairs, positions or 1, width], and the share of the variation that
    they explain; each position has a constant of its own, and each pair may have a weight."""
    places = wanted.shape[1]
    counts = np.ones(len(wanted)) if weights is None else weights
    spread = [np.broadcast_to(group, (len(group), places, group.shape[-1])) for group in features]
    joined = np.concatenate(spread, axis=-1)
    flat = (joined - _mean(joined, counts)).reshape(-1, joined.shape[-1])
    target = (wanted - _mean(wanted, counts)).reshape(-1, wanted.shape[-1])
    scale = np.sqrt(counts).repeat(places)[:, None]
    directions = _least_squares(flat * scale, target * scale)
    share = explained(target, target - flat @ directions)
    return np.split(directions, np.cumsum([group.shape[-1] for group in features])[:-1]), share


def _least_squares(known: Float[np.ndarray, "n features"], wanted: Float[np.ndarray, "n width"]) -> Rows:
    """The smallest solution, from the normal equations: far more rows than features make them many times cheaper."""
    lengths, axes = np.linalg.eigh(known.T @ known)
    kept = lengths > SMALLEST_AXIS**2 * lengths[-1]
    scaled = axes[:, kept] / np.sqrt(lengths[kept])
    return np.asarray(scaled @ (scaled.T @ (known.T @ wanted)))


def explained(wanted: np.ndarray, missed: np.ndarray) -> float:
    """The share of the variation of `wanted` that is told where `missed` is not, each around its mean."""
    return 1.0 - float((missed**2).sum()) / max(float((wanted**2).sum()), 1e-30)


def settled(draft: Draft, features: Sequence[np.ndarray], wanted: np.ndarray) -> tuple[list[Rows], np.ndarray]:
    """Directions as `fitted`, to be taken in whole steps, and constants [positions, width]: of a few rounds those that
    keep most decisions. Each time, pairs that the network decides wrongly count for more."""
    name, weights, fewest = draft.function.name, np.ones(len(wanted)), len(wanted) + 1
    for _ in range(ROUNDS):
        directions, _ = fitted(features, wanted, weights)
        steps = [in_steps(each, draft.levels) for each in directions]
        written = sum((f @ (whole * step) for f, (whole, step) in zip(features, steps, strict=True)), np.zeros(1))
        rest = _mean(wanted - written, weights)
        wrong = draft.grid.differs({name: _constantly(torch.from_numpy(written + rest).float())}).numpy()
        if wrong.sum() < fewest:
            fewest, best = int(wrong.sum()), (directions, rest)
        if not wrong.any() or wrong.mean() > HOPELESS:
            break
        weights = np.where(wrong, MORE_WEIGHT * weights, weights)
    return best


def _constantly(value: torch.Tensor) -> Replacement:
    return lambda _: [value]


def tuned(
    grid: Grid, name: str, how: str, features: Float[np.ndarray, "pairs positions waves"], fits: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Directions, and constants [positions, width], of the part that makes the stream, moved by Adam from fits to what
    it writes until the network decides as it did: hinge loss on its outputs.

    Args:
        how: the einsum of features and directions.
    """
    rest = (grid.parts[name][1].double().numpy() - np.einsum(how, features, fits)).mean(axis=0)
    known = torch.from_numpy(features).float()
    values = [torch.from_numpy(each).float().requires_grad_() for each in (fits, rest)]
    optimiser = torch.optim.Adam(values, lr=TUNING_RATE * float(np.sqrt((fits**2).mean())))
    for _ in range(TUNING_STEPS):
        instead = {name: _constantly(torch.einsum(how, known, values[0]) + values[1])}
        (outputs,) = run_functions(grid.program, [grid.tokens], "weights", replace=instead, gradients=True)
        if bool((outputs.argmax(-1) == grid.decided).all()):
            break
        optimiser.zero_grad()
        torch.nn.functional.multi_margin_loss(outputs, grid.decided).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    moved, constants = (value.detach().double().numpy() for value in values)
    return moved, constants


def _mean(values: np.ndarray, weights: Float[np.ndarray, " pairs"]) -> np.ndarray:
    return np.average(values, axis=0, weights=weights)


def in_steps(values: np.ndarray, levels: int) -> tuple[np.ndarray, float]:
    """Numbers in whole steps up to `levels`, and the step."""
    step = short(float(np.abs(values).max(initial=1e-30)) / levels)
    return np.clip(np.rint(values / step), -levels, levels), step


def short(value: float) -> float:
    """The number with three digits."""
    return float(f"{value:.3g}")
