"""The tensors of a program beside the network's own: equal bit by bit, or named."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Shaped

from pellucid.ir.notes import Verdict
from pellucid.verdicts.measure import same_bits

Tensor = Shaped[torch.Tensor, "..."]


def compare_weights(given: Mapping[str, Tensor], network: Mapping[str, Tensor]) -> Verdict:
    """Whether every tensor of the network is in the program, equal in every bit; the control flips one bit of one."""
    different = [name for name, tensor in network.items() if name not in given or not same_bits(given[name], tensor)]
    equal = 1.0 - len(different) / max(1, len(network))
    named = ", ".join(different[:3]) + (f" and {len(different) - 3} more" if len(different) > 3 else "")
    smallest = min((tensor for tensor in network.values() if tensor.numel()), key=torch.Tensor.numel, default=None)
    unseen = smallest is not None and same_bits(_flipped(smallest), smallest)
    control = 1.0 - (not unseen) / max(1, len(network))
    return Verdict(
        part="program",
        reading="weights",
        measure="tensors equal in every bit",
        value=equal,
        unit="of tensors",
        interval=(equal, equal),
        inputs=len(network),
        kind="proved",
        control=control,
        passed=not different and control < 1.0,
        bar="all",
        detail=(f"not the network's: {named}; " if different else "") + "control: one bit flipped",
    )


def _flipped(tensor: Tensor) -> Tensor:
    """The tensor with the lowest bit of its first element flipped."""
    copy = tensor.detach().contiguous().clone()
    copy.reshape(-1).view(torch.uint8)[0] ^= 1
    return copy
