"""Real networks, traced, structured and emitted: the file gives what the live module gives, in a process of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from emitters.planted_programs import run_file
from torch import nn

from pellucid.emitters.files import emit
from pellucid.lift.trace import trace
from pellucid.modules.partition import partition
from pellucid.modules.structure import structure


class Picture(nn.Module):
    """Convolutions, normalisation, pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 6, 3, groups=3),
            nn.SiLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        )  # fmt: skip
        self.classifier = nn.Linear(24, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(image))


class Tagger(nn.Module):
    """Embedding, a recurrent layer both ways, a read-out."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(20, 8), nn.Linear(24, 5)
        self.recurrent = nn.GRU(8, 12, num_layers=2, batch_first=True, bidirectional=True)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.recurrent(self.embed(tokens))[0])


class Tower(nn.Module):
    """Three equal transformer layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer() for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class Layer(nn.Module):
    """Attention and a perceptron around a stream."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 8)
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = [part.unflatten(2, (2, 4)).transpose(1, 2) for part in self.qkv(self.norm(x)).split(8, dim=-1)]
        mixed = nn.functional.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.down(nn.functional.gelu(self.up(x)))


NETWORKS = {
    "picture": (Picture, {"image": torch.randn(3, 1, 9, 8)}),
    "tagger": (Tagger, {"tokens": torch.arange(12).reshape(2, 6)}),
    "tower": (Tower, {"x": torch.randn(2, 5, 8)}),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_emitted_network_equals_the_live_one(name: str, tmp_path: Path) -> None:
    make, inputs = NETWORKS[name]
    torch.manual_seed(0)
    network = make().eval()
    graph = trace(network, (), inputs)
    emit(structure(graph, partition(graph)), tmp_path / "out")
    with torch.no_grad():
        wanted = network(**inputs).numpy()
    given = {key: value.numpy() for key, value in inputs.items()}
    (found,) = run_file(tmp_path / "out", given, without=["torch"]).values()
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()
    text = (tmp_path / "out" / "program.py").read_text()
    assert ("for i in range(3):" in text) == (name == "tower")


def test_weights_keep_the_order_of_their_axes_in_memory(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(104, 121), nn.ReLU(), nn.Linear(121, 104)).eval()
    for layer in (network[0], network[2]):
        layer.weight = nn.Parameter(layer.weight.detach().t().contiguous().t())
    inputs = torch.randn(64, 10, 104)
    graph = trace(network, (inputs,), {})
    program = structure(graph, partition(graph))
    emit(program, tmp_path / "out", "torch")
    with torch.no_grad():
        wanted = network(inputs).numpy()
    (found,) = run_file(tmp_path / "out", {program[program.entry].inputs[0]: inputs.numpy()}).values()
    assert np.array_equal(found, wanted)
    assert "memory_order" in (tmp_path / "out" / "program.py").read_text()
