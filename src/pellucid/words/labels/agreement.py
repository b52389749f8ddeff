"""How well labels agree with units: correlation on text they were not grown on, and its control."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pellucid.errors import BadInput
from pellucid.words.labels.activations import Activations
from pellucid.words.labels.labelset import LabelSet
from pellucid.words.labels.places import Ids
from pellucid.words.labels.slots import Given


@dataclass(frozen=True)
class Agreement:
    """Pearson's r of each unit with its label, and with the label of another unit; nan for units that never act.

    Attributes:
        own: with its own label; 0 where the label says the same everywhere.
        shuffled: with a label dealt to it at random, never its own.
    """

    own: Float[np.ndarray, " units"]
    shuffled: Float[np.ndarray, " units"]

    @property
    def median(self) -> float:
        """Median over the units that act."""
        return float(np.nanmedian(self.own))

    @property
    def median_shuffled(self) -> float:
        """Median of the control over the units that act."""
        return float(np.nanmedian(self.shuffled))


def agreement(
    labels: LabelSet, ids: Ids, activations: Activations, *, given: Given | None = None, seed: int = 0
) -> Agreement:
    """Correlations over all positions but the first of each window.

    Args:
        labels: of all units.
        ids: windows that labels were not grown on.
        activations: of the same units on them.
        given: what labels cite that the text does not tell, see `slots.Given`.
        seed: how labels are dealt for the control.

    Raises:
        BadInput: other units or positions than labels and ids have, or no unit acts.
    """
    if activations.units != len(labels) or activations.positions != ids.size:
        raise BadInput(
            f"agreement: {activations.units} units at {activations.positions} positions, but {len(labels)} labels and"
            f" {ids.size} tokens; capture the units of the labels on the same text"
        )
    if len(activations.values) == 0:
        raise BadInput("agreement: no unit acts on this text; give more of it")
    leaves = labels.leaf_of(labels.read(ids, given)).reshape(len(labels), *ids.shape)[:, :, 1:]
    said = leaves.reshape(len(labels), -1)
    real = activations.without_first(ids.shape[1])
    dealt = _dealt(len(labels), seed)
    own, shuffled = np.empty(len(labels)), np.empty(len(labels))
    for unit in range(len(labels)):
        acts = real.of(unit)
        own[unit] = _pearson(labels.values[unit].astype(np.float64)[said[unit]], acts)
        other = dealt[unit]
        shuffled[unit] = _pearson(labels.values[other].astype(np.float64)[said[other]], acts)
    return Agreement(own, shuffled)


def _dealt(units: int, seed: int) -> list[int]:
    """A random cycle: everyone gets the label of another one."""
    order = np.random.default_rng(seed).permutation(units)
    dealt = np.empty(units, dtype=np.int64)
    dealt[order] = np.roll(order, 1)
    return dealt.tolist()


def _pearson(said: Float[np.ndarray, " positions"], acts: Float[np.ndarray, " positions"]) -> float:
    """Pearson's r; nan where a unit never changes, 0 where only the label does not."""
    said, acts = said - said.mean(), acts - acts.mean()
    real, told = float(acts @ acts), float(said @ said)
    if real == 0:
        return float("nan")
    return float(said @ acts) / np.sqrt(real * told) if told > 0 else 0.0
