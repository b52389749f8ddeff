"""A digit classifier, trained on the spot on scikit-learn's 1,797 pictures of 8×8 pixels."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import nn

from pellucid.errors import BadInput


def pictures() -> tuple[Float[torch.Tensor, "samples 64"], Int[torch.Tensor, " samples"]]:
    """The pictures, pixels from 0 to 1, in a fixed random order, and the digits they show.

    Raises:
        BadInput: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise BadInput("the digits come with scikit-learn; pip install 'pellucid[demo]'") from error
    pixels, digits = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(digits))
    return torch.tensor(pixels[order] / 16.0).float(), torch.tensor(digits[order])


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
