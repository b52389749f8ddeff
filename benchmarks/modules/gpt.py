"""A small GPT on tinyshakespeare, from scratch: the modular schedule beside the plain network at equal steps.

The units are attention patterns, heads, MLP neurons and characters; they meet only in the residual stream, so the weak
loss is kept to the end. The interface is the mean over pairs of blocks of the share of edges that crosses, for two
regions; beside it stands what the same sizes would have at random, since a lopsided partition crosses less.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from shared import ABSENT, DATA, Outcome, Table, options, publish, say

from pellucid.train import Modularity, Plan, Task, Trained, train
from pellucid.train.task import Batch

CONTEXT, WIDTH, LAYERS, HEADS, HELD = 64, 64, 2, 4, 256
LOSS, SHARE = 1.02, 0.25


@dataclass(frozen=True)
class Row:
    """A trained network: its loss on held-out text, its interface, and that of random partitions of equal sizes."""

    loss: float
    interface: float
    expected: float
    z: float
    seconds: float


def main() -> int:
    given = options(__doc__, ("--seeds", "how many seeds, else five"), ("--steps", "steps of each run, else 2,000"))
    started = time.monotonic()
    torch.set_num_threads(1)
    outcome, steps = Outcome(), int(given.steps or 2000)
    file = DATA / "text" / "tinyshakespeare.txt"
    rows: dict[str, list[Row]] = {}
    if file.is_file():
        text = torch.tensor(list(file.read_bytes()))
        for method in ("none", "modular"):
            rows[method] = [trained(text, method, seed, steps) for seed in range(int(given.seeds or 5))]
        judge(outcome, rows, steps)
    else:
        outcome.notes.append(ABSENT)
    bar = "validation loss within 2% of the plain net's at equal steps, interface at most 25% of its"
    return publish("modules/gpt", "A small GPT that comes apart", bar, outcome, started, given.write)


def trained(text: Int[torch.Tensor, " characters"], method: str, seed: int, steps: int) -> Row:
    """Train by one method and measure."""
    held = windows(text[-len(text) // 10 :], torch.Generator().manual_seed(1), HELD)
    plan = Plan(
        steps=steps, batch=32, rate=3e-3, sparsity=0.003, kept=0.0, warm=0.4, severed=1.0, strength=0.5, decay=0.0,
        pairs=64, restarts=1, reported=100,
    )  # fmt: skip
    before = time.process_time()
    found = train(
        task(text), method, plan=plan, seed=seed, report=lambda now: say(f"{method} {now.step} {now.loss:.3f}")
    )
    with torch.no_grad():
        value = float(loss(found.model(*held[0]), held[1]))
    row = Row(value, found.figures.interface, at_random(found, held), found.figures.z, time.process_time() - before)
    say(
        f"{method}, seed {seed}: loss {value:.3f}, interface {row.interface:.1%} of {row.expected:.1%} at random,"
        f" z {row.z:.1f}, {row.seconds:.0f} s"
    )
    return row


def at_random(found: Trained, held: Batch) -> float:
    """The interface of partitions whose units were dealt out anew in each block, the mean of ten."""
    modularity = Modularity(found.model, (held[0][0][:2],))
    stops = np.cumsum([*found.blocks.values()])[:-1]
    rng = np.random.default_rng(0)
    values = []
    for _ in range(10):
        parts = [rng.permutation(part) for part in np.split(found.division.labels, stops)]
        modularity.adopt(np.concatenate(parts))
        values.append(modularity.interface)
    return float(np.mean(values))


def judge(outcome: Outcome, rows: dict[str, list[Row]], steps: int) -> None:
    """The table, and the bars."""
    table = [
        [
            method,
            *(
                f"{np.median(values):.3f} ({min(values):.3f} … {max(values):.3f})"
                for values in zip(*((r.loss, r.interface, r.interface / r.expected, r.z) for r in found), strict=True)
            ),
            f"{np.median([row.seconds for row in found]):.0f}",
        ]
        for method, found in rows.items()
    ]
    columns = ("method", "loss, nats a character", "interface", "over that at random", "z", "s")
    text = (
        f"Medians over {len(rows['none'])} seeds (least … most). {LAYERS} layers, width {WIDTH}, {HEADS} heads, context"
        f" {CONTEXT}; {steps} steps of 32 windows; held out: the last tenth. Control: random partitions of equal sizes."
    )
    outcome.tables.append(Table(text, columns, table))
    plain, own = rows["none"], rows["modular"]
    ratio = float(np.median([row.loss for row in own]) / np.median([row.loss for row in plain]))
    share = float(
        np.median([r.interface / r.expected for r in own]) / np.median([r.interface / r.expected for r in plain])
    )
    outcome.require(ratio <= LOSS, f"loss {ratio:.3f} of the plain net's")
    outcome.require(share <= SHARE, f"interface {share:.2f} of the plain net's")


def task(text: Int[torch.Tensor, " characters"]) -> Task:
    """The next character, on all but the last tenth of the text."""
    fitted, held = text[: -len(text) // 10], text[-len(text) // 10 :]
    inputs, targets = windows(held, torch.Generator().manual_seed(1), HELD)

    def batch(generator: torch.Generator, samples: int) -> Batch:
        return windows(fitted, generator, min(samples, 128))

    def accuracy(model: nn.Module) -> float:
        return float((model(*inputs).logits.argmax(-1) == targets).float().mean())

    return Task("tinyshakespeare", network, batch, loss, accuracy)


def network() -> nn.Module:
    """A GPT-2 over bytes."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=128, n_positions=CONTEXT, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, resid_pdrop=0.0,
        embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def windows(text: Int[torch.Tensor, " characters"], generator: torch.Generator, samples: int) -> Batch:
    """Windows of text and the characters that follow each."""
    starts = torch.randint(len(text) - CONTEXT - 1, (samples, 1), generator=generator)
    chosen = text[starts + torch.arange(CONTEXT + 1)]
    return (chosen[:, :-1],), chosen[:, 1:]


def loss(outputs: object, targets: Int[torch.Tensor, "samples context"]) -> torch.Tensor:
    """Cross-entropy in nats."""
    logits: torch.Tensor = outputs.logits  # type: ignore[attr-defined]
    return nn.functional.cross_entropy(logits.transpose(1, 2), targets)


if __name__ == "__main__":
    sys.exit(main())
