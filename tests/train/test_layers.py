"""Each row and column of a weight has to be told the unit that it belongs to."""

import torch
from torch import nn

import pellucid
from pellucid.train.layers import layers_of


def found(model, example):
    return {layer.name: layer for layer in layers_of(pellucid.trace(model.eval(), (example,)), model)}


def test_linear_layers():
    layers = found(nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)), torch.zeros(2, 5))
    assert list(layers) == ["0.weight", "2.weight"]
    assert layers["0.weight"].columns.tolist() == [0, 1, 2, 3, 4]
    assert layers["0.weight"].rows.tolist() == layers["2.weight"].columns.tolist() == [5, 6, 7, 8, 9, 10, 11]
    assert layers["2.weight"].rows.tolist() == [12, 13, 14]


def test_convolutions_and_what_is_flattened():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(24, 5),
    )  # fmt: skip
    layers = found(model, torch.zeros(2, 3, 4, 4))
    assert layers["0.weight"].rows.tolist() == layers["4.weight"].columns.tolist() == [3, 4, 5, 6]
    assert layers["7.weight"].columns.tolist() == [unit for unit in range(7, 13) for _ in range(4)]
    assert layers["4.weight"].crossing(torch.arange(18) % 2).shape == (6, 4, 1, 1)


def test_units_that_are_taken_in_another_order():
    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 6), nn.Linear(3, 2)
            self.turned = nn.Parameter(torch.randn(6, 6))

        def forward(self, x):
            h = torch.relu(self.first(x))
            return self.last(torch.relu(h @ self.turned)[:, 3:])

    layers = found(Turned(), torch.zeros(2, 4))
    assert layers["turned"].rows.tolist() == [4, 5, 6, 7, 8, 9]  # the parameter's rows read, its columns write
    assert layers["turned"].columns.tolist() == [10, 11, 12, 13, 14, 15]
    assert layers["last.weight"].columns.tolist() == [13, 14, 15]


def test_a_single_channel_is_shared_by_all():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    assert "0.weight" not in found(model, torch.zeros(2, 1, 6, 6))


def test_nothing_to_part():
    assert not found(nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1)), torch.zeros(2, 1))
