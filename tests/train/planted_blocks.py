"""Two small tasks side by side: eight inputs, of which a hidden half belongs to each of two outputs."""

import torch
from torch import nn
from torch.nn.functional import mse_loss

from pellucid.train import Plan, Task

ORDER = torch.tensor([3, 9, 0, 7, 5, 11, 2, 1, 10, 6, 4, 8])
"""Input i shows value ORDER[i]; values 0 to 5 belong to the first output, the others to the second."""

QUICK = Plan(steps=300, batch=128, rate=2e-2, sparsity=0.15, kept=0.01, restarts=1, saved=50, reported=100)


def batch(generator, samples):
    values = torch.randn(samples, 12, generator=generator)
    first = values[:, 0].relu() + values[:, 1] - values[:, 2].abs() + values[:, 3] * 0.5 + values[:, 4] - values[:, 5]
    second = values[:, 6].abs() - values[:, 7] + values[:, 8].relu() + values[:, 9] - values[:, 10] + values[:, 11] / 2
    return (values[:, ORDER],), torch.stack([first, second], 1)


def network():
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))


def accuracy(model):
    (inputs,), targets = batch(torch.Generator().manual_seed(77), 512)
    return 1 - float(mse_loss(model(inputs), targets) / targets.var(0).mean())


def task():
    return Task("planted", network, batch, mse_loss, accuracy)


def merged(noise, seed=0):
    """Two random networks side by side with noise between them, their units shuffled; and whose each unit is."""
    generator = torch.Generator().manual_seed(seed)
    sizes, owners = (12, 16, 16, 4), []
    for size in sizes:
        owner = torch.arange(size) * 2 // size
        owners.append(owner[torch.randperm(size, generator=generator)])
    model = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
    for layer, before, after in zip((model[0], model[2], model[4]), owners, owners[1:], strict=False):
        weights = torch.randn(layer.weight.shape, generator=generator)
        strange = after[:, None] != before[None, :]
        layer.weight.data = torch.where(strange, noise * weights, weights)
    return model, torch.cat(owners)
