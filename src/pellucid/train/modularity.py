"""A loss that makes a network modular, for any training loop: its gradient is added, its partition found on the way.

An early penalty freezes an arbitrary partition. So nothing happens for the first `start` steps, which the caller
spends under an L1 loss (see `pellucid.train.regularisers.Sparsity`, and `schedule` for the whole of what works); then
the weights as they are tell the partition (layer-corrected spectral split), the loss pulls down what crosses, and every
`every` steps each unit may go where it is pulled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import nn

from pellucid.errors import BadInput
from pellucid.ir.graph import Weight, leaves
from pellucid.lift.trace import trace
from pellucid.train.allotment import Side, allotted, keep_apart, sides_of
from pellucid.train.division import Division, divide, evened, given, live_units, settle
from pellucid.train.layers import Layer, layers_of
from pellucid.train.streams import add_stream_gradient, crossed, live_plan, passages_of, shares
from pellucid.train.weights import Mask, add_cut_gradient, cut, interface, means, shrink_crossing

Tensors = dict[str, Shaped[torch.Tensor, "..."]]


class Modularity:
    """The cut between regions of units, made small while a network trains.

        modularity = Modularity(model, (x,), start=1000)
        ...
        loss.backward()
        modularity.add()              # adds the gradient, renews the partition when due
        optimizer.step()
        modularity.shrink(rate)       # only for the proximal form

    Args:
        model: the network; it is traced once, on `args` and `kwargs` (see `pellucid.trace`).
        args, kwargs: example inputs.
        strength: factor of the term, the mean over layers of the share of absolute weights that crosses.
        decay: of the proximal form: crossing weights lose `rate · decay` mean weights of their layer a step.
        parts: how many regions.
        start: steps before the partition is found.
        every: steps after which units may change their region.
        pairs: pairs of blocks that meet in a residual stream to take a gradient of, each step.
        even: whether regions have equally many units of each block.
        seed: of the null model.

    Raises:
        BadInput: a network without two layers of units to part, or arguments out of range.
    """

    def __init__(
        self,
        model: nn.Module,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        strength: float = 1.0,
        decay: float = 0.0,
        parts: int = 2,
        start: int = 0,
        every: int = 100,
        pairs: int = 16,
        even: bool = False,
        seed: int = 0,
    ) -> None:
        if not (0 <= strength < float("inf") and 0 <= decay < float("inf")):
            raise BadInput(f"strength {strength} and decay {decay} have to be finite and not negative")
        if parts < 2 or start < 0 or min(every, pairs) < 1:
            raise BadInput(f"parts={parts}, start={start}, every={every}, pairs={pairs}: take at least 2, 0, 1 and 1")
        training = model.training
        self.graph = trace(model.eval(), args, kwargs)
        model.train(training)
        self.model, self.layers = model, layers_of(self.graph, model)
        self.strength, self.decay, self.parts = strength, decay, parts
        self.passages = passages_of(self.graph, self.layers)
        if not self.layers and not self.passages:
            raise BadInput("the network has no weights between two layers of units; there is nothing to train apart")
        self.start, self.every, self.pairs, self.seed = start, every, min(pairs, len(self.passages)), seed
        self.steps, self.severed, self.even = 0, False, even
        self.blocks = live_units(self.graph, model).blocks
        self.division: Division | None = None
        self._masks: tuple[Mask, ...] = ()
        self._means: tuple[float, ...] = ()
        self._sides: tuple[Side, ...] = ()
        self._owners = torch.zeros(0, dtype=torch.int64)
        self._left = self.passages

    @property
    def weights(self) -> tuple[nn.Parameter, ...]:
        """The matrices that connect units: those of layers, and with a residual stream all but tables read by index."""
        if not self.passages:
            return tuple(layer.weight for layer in self.layers)
        tables = {arg.name for node in self.graph.block.nodes if node.op == "embedding" for arg in leaves(node)
                  if isinstance(arg, Weight)}  # fmt: skip
        return tuple(w for name, w in self.model.named_parameters() if w.ndim >= 2 and name not in tables)

    # ---- in the loop

    def add(self) -> None:
        """Add the term's gradient to the parameters' and renew the partition when due.

        Call it once a step, between `loss.backward()` and `optimizer.step()`. It adds nothing before the split.
        """
        if not self.severed and self.steps >= self.start and (self.steps - self.start) % self.every == 0:
            self.refresh()
        self.steps += 1
        if self.division is not None and self.strength:
            count = len(self.layers) + len(self.passages)
            if self.layers and not self.severed:
                add_cut_gradient(self.layers, self._masks, self._means, self.strength * len(self.layers) / count)
            if self._left:
                pairs = min(self.pairs, len(self._left))
                due = [self._left[(self.steps * pairs + i) % len(self._left)] for i in range(pairs)]
                weight = self.strength * len(self._left) / (pairs * count)
                plan = live_plan(self.graph, self.model)
                add_stream_gradient(plan, self.model, due, self.division.tensor(), weight)

    def shrink(self, rate: float) -> None:
        """The proximal step, after `optimizer.step()`, with its learning rate; weights that were cut stay zero."""
        if self.severed:
            self._keep_apart()
        elif self.division is not None and self.decay:
            shrink_crossing(self.layers, self._masks, self._means, rate * self.decay)

    # ---- the partition

    def refresh(self) -> None:
        """Find the partition, or let units change their region."""
        units = live_units(self.graph, self.model)
        found = divide(units, self.parts, self.seed) if self.division is None else settle(units, self.division)
        self._take(evened(units, found) if self.even else found)

    def adopt(self, labels: Int[np.ndarray, " units"]) -> None:
        """Take a partition from outside: a label from 0 for each unit of `units`, -1 for nobody's.

        Raises:
            BadInput: an empty region, or labels of another length.
        """
        self._take(given(labels, sum(block.size for block in self.blocks)))

    def sever(self) -> None:
        """Cut all edges between regions; from now on the partition stays, and `shrink` keeps them cut.

        Weights between units are set to zero. Of a residual stream each region gets coordinates for itself, a share of
        the size of its own; only tables of inputs still write to all, under the weak loss (see `allotment`).

        Raises:
            BadInput: no partition yet, or a stream whose weights cannot be told apart or has too few coordinates.
        """
        if self.division is None:
            raise BadInput("there is no partition to cut yet; train past `start`, or adopt one")
        if self.passages:
            self._sides = sides_of(self.graph, self.model)
            self._left = crossed(self.graph, self.passages)
            self._owners = allotted(self._sides, self.division.tensor(), self.division.count)
        self.severed = True
        self._keep_apart()

    def _keep_apart(self) -> None:
        cut(self.layers, self._masks)
        if self.division is not None and self._sides:
            keep_apart(self._sides, self.division.tensor(), self._owners)

    @property
    def interface(self) -> float:
        """The mean over layers, and pairs in a stream, of the share of weight that crosses; nan before the split."""
        if self.division is None:
            return float("nan")
        labels = self.division.tensor()
        found = shares(live_units(self.graph, self.model), self.passages, labels) if self.passages else []
        direct = interface(self.layers, labels) * len(self.layers) if self.layers else 0.0
        return (direct + sum(found)) / (len(self.layers) + len(found))

    @property
    def z(self) -> float:
        """Deviations of the split above shuffled weights, when it was found."""
        return float("nan") if self.division is None else self.division.z

    def _take(self, division: Division) -> None:
        if self.division is None or (division.labels != self.division.labels).any():
            self._masks = crossings(self.layers, division)
        self.division, self._means = division, means(self.layers)

    # ---- checkpoints

    def state_dict(self) -> Tensors:
        """What a resumed run needs."""
        held = torch.tensor(self._means, dtype=torch.float64)
        state: Tensors = {"steps": torch.tensor(self.steps), "severed": torch.tensor(self.severed), "means": held}
        if self.division is not None:
            state["labels"] = self.division.tensor()
            state["z"] = torch.tensor(self.division.z, dtype=torch.float64)
        if self._sides:
            state["owners"] = self._owners
        return state

    def load_state_dict(self, state: Tensors) -> None:
        """Take up where another run stopped."""
        self.steps, self.severed = int(state["steps"]), bool(state["severed"])
        if "labels" in state:
            self._take(Division(state["labels"].numpy().astype(np.int64), float(state["z"])))
            self._means = tuple(state["means"].tolist())
        if "owners" in state:
            self._sides, self._owners = sides_of(self.graph, self.model), state["owners"]
            self._left = crossed(self.graph, self.passages)


def crossings(layers: Sequence[Layer], division: Division) -> tuple[Mask, ...]:
    """For each layer, 1 where weights lie between regions, else 0."""
    labels = division.tensor()
    return tuple(layer.crossing(labels).to(layer.weight.dtype) for layer in layers)
