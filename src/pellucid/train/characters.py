"""The recipe "characters": a small GPT that reads a text, character by character, in two regions.

The text is the user's; nothing is shipped. The stream is wide for the number of units, so that a half of it is room
enough for a half of them. Half of everything, characters to be predicted as well, goes to each region after a short
warm-up; what stays in common is the table of characters, which the weak loss thins out.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import nn
from torch.nn.functional import cross_entropy, gelu, scaled_dot_product_attention

from pellucid.errors import BadInput
from pellucid.train.task import Batch, Plan, Task

VOCABULARY, CONTEXT, WIDTH, INNER, HEADS, LAYERS = 64, 64, 96, 192, 4, 2
HELD = 256
"""Windows of the last tenth of the text that accuracy is taken on."""

PLAN = Plan(
    steps=1000, batch=16, rate=5e-3, warming=0.05, sparsity=0.0, kept=0.0, warm=0.02, severed=0.03, strength=0.4,
    decay=0.0, pairs=2, even=True, restarts=1,
)  # fmt: skip


def characters(path: Path) -> Task:
    """The task of a text: the next of its bytes, the 63 commonest by themselves, the others as one.

    Raises:
        BadInput: the file cannot be read, or is too short.
    """
    places = encoded(path)
    fitted, held = parts(places)
    inputs, targets = windows(held, torch.Generator().manual_seed(1), HELD)

    def batch(generator: torch.Generator, samples: int) -> Batch:
        chosen, following = windows(fitted, generator, min(samples, HELD))
        return (chosen,), following

    def accuracy(model: nn.Module) -> float:
        return float((model(inputs).argmax(-1) == targets).float().mean())

    return Task("characters", CharacterGPT, batch, next_character, accuracy)


def encoded(path: Path) -> Int[torch.Tensor, " text"]:
    """The text as numbers below 64, commonest bytes first.

    Raises:
        BadInput: see `characters`.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise BadInput(f"the text {path} cannot be read ({error.strerror}); give a file with --text") from error
    if len(text) < 100 * CONTEXT:
        raise BadInput(f"the text {path} has {len(text)} characters; give one of at least {100 * CONTEXT}")
    order = torch.full((256,), VOCABULARY - 1)
    for place, (byte, _) in enumerate(sorted(Counter(text).items(), key=lambda item: (-item[1], item[0]))):
        order[byte] = min(place, VOCABULARY - 1)
    return order[torch.frombuffer(bytearray(text), dtype=torch.uint8).long()]


def parts(places: Int[torch.Tensor, " text"]) -> tuple[Int[torch.Tensor, " fitted"], Int[torch.Tensor, " held"]]:
    """What is trained on, and the last tenth."""
    return places[: -len(places) // 10], places[-len(places) // 10 :]


def windows(
    places: Int[torch.Tensor, " text"], generator: torch.Generator, samples: int
) -> tuple[Int[torch.Tensor, "samples context"], Int[torch.Tensor, "samples context"]]:
    """Windows of a text, and the characters that follow each of theirs."""
    starts = torch.randint(len(places) - CONTEXT - 1, (samples, 1), generator=generator)
    chosen = places[starts + torch.arange(CONTEXT + 1)]
    return chosen[:, :-1], chosen[:, 1:]


def next_character(
    outputs: Float[torch.Tensor, "samples context characters"], targets: Int[torch.Tensor, "samples context"]
) -> Float[torch.Tensor, ""]:
    """Cross-entropy in nats a character."""
    loss: torch.Tensor = cross_entropy(outputs.transpose(1, 2), targets)
    return loss


class Layer(nn.Module):
    """Attention and an MLP, each behind a norm and added to the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)

    def forward(self, stream: Float[torch.Tensor, "samples context width"]) -> torch.Tensor:
        """The stream with what the layer adds."""
        read = self.first(stream)
        q, k, v = (
            linear(read).unflatten(-1, (HEADS, -1)).transpose(1, 2) for linear in (self.query, self.key, self.value)
        )
        heard = scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        stream = stream + self.out(heard)
        made: torch.Tensor = stream + self.down(gelu(self.up(self.second(stream)), approximate="tanh"))
        return made


class CharacterGPT(nn.Module):
    """A GPT over 64 characters, its output table apart from that of its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.layers = nn.ModuleList([Layer() for _ in range(LAYERS)])
        self.last, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY, bias=False)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                added = ".out." in name or ".down." in name
                nn.init.normal_(weight, std=0.08 / (math.sqrt(2 * LAYERS) if added else 1))
            elif name.endswith("bias"):
                nn.init.zeros_(weight)

    def forward(self, characters: Int[torch.Tensor, "samples context"]) -> torch.Tensor:
        """Logits of the next character."""
        places = torch.arange(characters.shape[1], device=characters.device)
        stream = self.table(characters) + self.places(places)
        for layer in self.layers:
            stream = layer(stream)
        logits: torch.Tensor = self.head(self.last(stream))
        return logits
