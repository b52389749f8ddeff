"""A digit classifier, trained on the spot on scikit-learn's 1,797 pictures of 8×8 pixels."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from pellucid.data.sample_digits import pictures


def digit_classifier(seed: int = 0, epochs: int = 20) -> tuple[nn.Module, float]:
    """A small MLP, and its accuracy on the last fifth of the pictures, which it was not trained on."""
    torch.manual_seed(seed)
    pixels, digits = pictures()
    held = len(digits) // 5
    layers = [("strokes", nn.Linear(64, 32)), ("relu1", nn.ReLU()), ("shapes", nn.Linear(32, 16)), ("relu2", nn.ReLU())]
    network = nn.Sequential(OrderedDict([*layers, ("digits", nn.Linear(16, 10))]))
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(digits) - held), 64):
            loss = nn.functional.cross_entropy(network(pixels[rows]), digits[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    with torch.no_grad():
        right = network.eval()(pixels[-held:]).argmax(-1) == digits[-held:]
    return network, float(right.float().mean())
