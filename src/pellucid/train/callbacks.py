"""The modularity loss in other people's training loops: the Hugging Face Trainer, and Lightning.

Both call it between the backward pass and the optimiser's step, once for each step of the optimiser however many
batches are accumulated in it, and after the step for the proximal form.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from torch.optim import Optimizer

from pellucid.errors import BadInput
from pellucid.train.modularity import Modularity


class HuggingFaceHooks:
    """The hooks of a `transformers.TrainerCallback` that matter here."""

    def __init__(self, modularity: Modularity) -> None:
        self.modularity = modularity

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After the backward pass and the clipping of gradients."""
        self.modularity.add()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After the optimiser's step, before the gradients are cleared."""
        optimiser = kwargs.get("optimizer")
        if optimiser is not None:
            self.modularity.shrink(_rate(optimiser))

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Interface and z beside the trainer's own figures, in its history."""
        if state.log_history and self.modularity.division is not None:
            state.log_history[-1].update(interface=self.modularity.interface, interface_z=self.modularity.z)


class LightningHooks:
    """The hooks of a `lightning.pytorch.Callback` that matter here."""

    def __init__(self, modularity: Modularity) -> None:
        self.modularity = modularity
        self._stepped: Optimizer | None = None

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """After the backward pass."""
        self.modularity.add()
        self._stepped = getattr(optimizer, "optimizer", optimizer)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """After the optimiser's step, if this batch ended with one."""
        if self._stepped is not None:
            self.modularity.shrink(_rate(self._stepped))
            self._stepped = None
        if self.modularity.division is not None:
            pl_module.log("interface", self.modularity.interface)

    def state_dict(self) -> dict[str, Any]:
        """For Lightning's checkpoints."""
        return dict(self.modularity.state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From Lightning's checkpoints."""
        self.modularity.load_state_dict(state_dict)


def hugging_face(modularity: Modularity) -> Any:
    """A callback for `transformers.Trainer(callbacks=[…])`; the modularity is of the model that is trained.

    Raises:
        BadInput: transformers is not installed.
    """
    return _callback("HuggingFaceModularity", HuggingFaceHooks, ("transformers",), "TrainerCallback")(modularity)


def lightning(modularity: Modularity) -> Any:
    """A callback for Lightning's `Trainer(callbacks=[…])`; the modularity is of the module that is trained.

    Raises:
        BadInput: neither lightning nor pytorch_lightning is installed.
    """
    homes = ("lightning.pytorch", "pytorch_lightning")
    return _callback("LightningModularity", LightningHooks, homes, "Callback")(modularity)


def _callback(name: str, hooks: type, homes: tuple[str, ...], base: str) -> Any:
    """A class of a package's own kind of callback, with our hooks."""
    for home in homes:
        try:
            package = import_module(home)
        except ImportError:
            continue
        return type(name, (hooks, getattr(package, base)), {})
    raise BadInput(f"this callback needs {' or '.join(homes)}; pip install {homes[0].partition('.')[0]}")


def _rate(optimiser: Optimizer) -> float:
    return float(optimiser.param_groups[0]["lr"])
