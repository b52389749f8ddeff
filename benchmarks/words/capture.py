"""Capture of SmolLM2-135M: speed beside its bare forward, memory and store, for all neurons and heads of 30 layers.

All arms run in one process and take turns shard by shard (64 windows of 256 tokens) on the same text. Arms: the live
network's forward; `capture`, everything it writes included; on the first two shards also the exact program's forward as
a whole and up to the last site (capture does not compute logits, which nobody wanted), and a peer: forward hooks of
torch on the live network that add up the same moments and keep neither contexts nor quantiles. What capture does once,
however long the text (fingerprints, tables), counts: below some 20,000 tokens it weighs more than the rest.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from shared import ABSENT, DATA, Outcome, Table, options, publish, say

import pellucid
from pellucid.data.activations.capture import capture
from pellucid.data.activations.forward import observe
from pellucid.data.activations.manifest import Wanted
from pellucid.data.activations.store import Store
from pellucid.data.corpus import Corpus
from pellucid.data.corpus_files import read_corpus
from pellucid.errors import BadInput
from pellucid.ir.interpret import run_functions
from pellucid.ir.program import Program
from pellucid.ir.units import Site, sites
from pellucid.modules.partition import partition
from pellucid.modules.structure import structure

RATIO, GIGABYTES, STORE, GROWTH = 0.8, 6.0, 2.0, 0.1
TOKENS, CONTEXT, THREADS = 100_000, 256, 2
PEER_SHARDS = 2


@dataclass
class Clock:
    """Seconds, processor seconds and tokens of an arm."""

    seconds: float = 0.0
    processor: float = 0.0
    tokens: int = 0

    @contextmanager
    def running(self, tokens: int) -> Iterator[None]:
        """Add the time of a block that goes over so many tokens."""
        wall, own = time.monotonic(), time.process_time()
        yield
        self.seconds += time.monotonic() - wall
        self.processor += time.process_time() - own
        self.tokens += tokens

    @property
    def speed(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds


@dataclass
class Arms:
    """The clocks of all arms, and the largest memory of the process after each shard, in GB."""

    bare: Clock = field(default_factory=Clock)
    capture: Clock = field(default_factory=Clock)
    program: Clock = field(default_factory=Clock)
    cut: Clock = field(default_factory=Clock)
    hooks: Clock = field(default_factory=Clock)
    memory: list[float] = field(default_factory=list)


def peak() -> float:
    """The largest memory that this process has held, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def prepare(tokens: int) -> tuple[Any, Program, Corpus, tuple[Site, ...]]:
    """The live network, its program, the text and the sites."""
    network = pellucid.load("smollm2")
    tokenizer: Any = network.tokenizer
    pieces = [tokenizer.decode([i]) for i in range(tokenizer.vocabulary)]
    corpus = read_corpus(
        DATA / "text" / "tinyshakespeare.txt", tokenizer.encode, pieces,
        CONTEXT, tokens=tokens,
    )  # fmt: skip
    graph = pellucid.trace(network, (next(corpus.batches(2)),))
    program = structure(graph, partition(graph))
    return network.module, program, corpus, (*sites(program, "mlp"), *sites(program, "heads"))


def take_turns(
    module: Any, program: Program, corpus: Corpus, chosen: tuple[Site, ...], place: str
) -> tuple[Arms, Store]:
    """Capture, and after each shard of it the other arms on the same windows."""
    arms, wanted = Arms(), Wanted()
    started = [time.monotonic(), time.process_time()]

    def others(done: int, of: int) -> None:
        arms.capture.seconds += time.monotonic() - started[0]
        arms.capture.processor += time.process_time() - started[1]
        shard = -(-done // wanted.shard) - 1
        windows = corpus.rows(slice(shard * wanted.shard, done))
        arms.memory.append(peak())
        with arms.bare.running(windows.tokens):
            over(windows, wanted.together, lambda ids: module(ids, use_cache=False))
        if shard < PEER_SHARDS:
            with arms.program.running(windows.tokens):
                over(windows, wanted.together, lambda ids: run_functions(program, [ids], "weights"))
            with arms.cut.running(windows.tokens):
                over(windows, wanted.together, lambda ids: observe(program, ids, chosen, lambda site, batch: None))
            with arms.hooks.running(windows.tokens):
                hooked(module, windows, wanted.together)
        say(f"{done} of {of} windows")
        started[:] = [time.monotonic(), time.process_time()]

    store = capture(program, corpus, chosen, place, wanted, others)
    arms.capture.seconds += time.monotonic() - started[0]
    arms.capture.processor += time.process_time() - started[1]
    arms.capture.tokens = corpus.tokens
    return arms, store


def over(windows: Corpus, together: int, forward: Callable[[torch.Tensor], object]) -> None:
    """Run a forward over windows, without gradients."""
    with torch.no_grad():
        for ids in windows.batches(together):
            forward(ids)


def hooked(module: Any, windows: Corpus, together: int) -> None:
    """The moments of all neurons and heads with forward hooks, position 0 left out."""
    seen: dict[str, list[torch.Tensor]] = {}

    def add(name: str, heads: int, value: torch.Tensor) -> None:
        x = value[:, 1:].flatten(0, 1)
        x = x.unflatten(-1, (heads, -1)).norm(dim=-1) if heads else x
        now = [x.double().sum(0), x.double().square().sum(0), x.amin(0), x.amax(0), (x > 0).sum(0)]
        old = seen.get(name)
        seen[name] = now if old is None else [
            old[0] + now[0], old[1] + now[1], old[2].minimum(now[2]), old[3].maximum(now[3]), old[4] + now[4],
        ]  # fmt: skip

    def hook(name: str, heads: int) -> Callable[[Any, Any], None]:
        return lambda _, given: add(name, heads, given[0])

    heads = module.config.num_attention_heads
    handles = [
        part.register_forward_pre_hook(hook(name, 0 if name.endswith("down_proj") else heads))
        for name, part in module.named_modules()
        if name.endswith(("mlp.down_proj", "self_attn.o_proj"))
    ]
    try:
        over(windows, together, lambda ids: module(ids, use_cache=False))
    finally:
        for handle in handles:
            handle.remove()


def report(arms: Arms, store: Store, corpus: Corpus, outcome: Outcome) -> None:
    """The tables, and the bars."""
    size = sum(file.stat().st_size for file in store.directory.iterdir()) / 2**30
    units = sum(site.units for site in store.sites)
    ratio = arms.capture.speed / arms.bare.speed
    by_processor = arms.bare.processor / arms.bare.tokens * arms.capture.tokens / arms.capture.processor
    rows = [
        ("speed beside the bare forward", f"{ratio:.2f} (by processor time {by_processor:.2f})", f"≥ {RATIO}",
         outcome.require(ratio >= RATIO, f"{ratio:.2f} of the forward's speed")),
        ("largest memory of the process", f"{peak():.2f} GB", f"≤ {GIGABYTES} GB",
         outcome.require(peak() <= GIGABYTES, f"{peak():.2f} GB")),
        ("store", f"{size * 1024:.0f} MB", f"≤ {STORE} GB", outcome.require(size <= STORE, f"store of {size:.2f} GB")),
    ]  # fmt: skip
    outcome.tables.append(
        Table(
            f"{units:,} units at {len(store.sites)} sites, {corpus.tokens:,} tokens of tinyshakespeare, seed 0.",
            ("what", "measured", "bar", "met"),
            rows,
        )
    )
    arms_rows = [
        (name, f"{clock.tokens:,}", f"{clock.speed:.0f}", f"{1e6 * clock.processor / clock.tokens:.0f}")
        for name, clock in (
            ("live network, forward", arms.bare), ("pellucid, capture", arms.capture),
            ("program, forward", arms.program), ("program, up to the last site", arms.cut),
            ("hooks, moments only", arms.hooks),
        )
    ]  # fmt: skip
    outcome.tables.append(Table("Arms, in turns:", ("arm", "tokens", "tokens/s", "processor µs/token"), arms_rows))
    steps = ", ".join(f"{gigabytes:.2f}" for gigabytes in arms.memory)
    outcome.notes.append(f"Largest memory of the process after each shard: {steps} GB; in the end {peak():.2f} GB.")
    if len(arms.memory) > 3:
        grown = arms.memory[-1] - arms.memory[2]
        outcome.require(grown <= GROWTH, f"memory grew by {grown:.2f} GB after the third shard")
    outcome.notes.append(
        f"Quantiles are off by at most {store.quantile_error:.3f} in rank with 95% (2,048 sampled positions)."
    )


def main() -> int:
    """Run the benchmark; returns the exit code."""
    given = options(__doc__, ("--tokens", f"how many (default {TOKENS})"), ("--threads", f"default {THREADS}"))
    started, outcome = time.monotonic(), Outcome()
    torch.set_num_threads(int(given.threads or THREADS))
    try:
        if not (DATA / "text" / "tinyshakespeare.txt").is_file():
            raise BadInput(ABSENT)
        module, program, corpus, chosen = prepare(int(given.tokens or TOKENS))
    except BadInput as error:
        say(str(error))
        return 0
    say(f"{corpus.tokens:,} tokens, {sum(site.units for site in chosen):,} units")
    warm = corpus.rows(slice(0, 2))
    over(warm, 2, lambda ids: module(ids, use_cache=False))
    with tempfile.TemporaryDirectory() as scratch:
        capture(program, warm, chosen[-1:], f"{scratch}/warm")
        arms, store = take_turns(module, program, corpus, chosen, f"{scratch}/store")
        report(arms, store, corpus, outcome)
    bar = f"capture ≥ {RATIO} × bare forward, ≤ {GIGABYTES:.0f} GB whatever the text, store ≤ {STORE:.0f} GB"
    return publish("words/capture", "Words: capture of activations", bar, outcome, started, given.write)


if __name__ == "__main__":
    sys.exit(main())
