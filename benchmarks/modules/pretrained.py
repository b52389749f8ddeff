"""stories15M, fine-tuned plain and modular at equal steps on text that it wrote, with its capability before and after.

All networks start from the same weights and see the same windows; two regions have as many units of every block as one
another. Plain networks are judged on the best such regions that are found for them. The interface is the mean over
pairs of blocks of the share of edges that crosses. No story that is trained on is held out.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import stories
from gpt import at_random, best
from shared import ABSENT, DATA, Absent, Outcome, Table, options, publish, say

from pellucid.data.corpus import Corpus
from pellucid.errors import BadInput
from pellucid.modules.grouping import Grouping
from pellucid.modules.specialisation import Specialisation, specialisation
from pellucid.train import Modularity, Trained, train
from pellucid.train.capability import Share, read_pairs, read_schemas
from pellucid.train.division import live_units
from pellucid.train.exam import Exam, Marks, sit, untrained
from pellucid.train.language import CONTEXT, PLAN, fine_tuning, next_token, parts, pretrained
from pellucid.train.streams import shares
from pellucid.train.task import Plan, Task

LOSS, POINTS, SHARE, SIGNIFICANT = 1.03, 0.01, 0.25, 3.0
METHODS = {"none": "plain", "modular": "modular"}
STEPS, EVERY, PROBED, STORIES = 150, 5, 4, 384
TEXT_STEPS = 1000
"""Steps that the cost of SmolLM2-135M is projected to."""

TRIED = (
    "Tried: a weak loss 33 times as strong (`--strength 1000`, seed 0): loss 1.5490 (4.8% above the plain net's), BLiMP"
    " 61.6%, interface 0.377 (0.88 of the plain net's), specialisation 0.035, z 6.3. Cutting off a sixth of all"
    " crossing weight at once more than doubles the loss. The weights of stories15M have no split beyond shuffled ones"
    " (z 0.14): there is no joint to find, and 150 steps make none."
)


@dataclass(frozen=True, eq=False)
class Row:
    """A network: its marks, shares that cross by its own and by random regions, specialisation, seconds of training."""

    marks: Marks
    interface: float
    random: float
    special: Specialisation | None
    seconds: float


def main() -> int:
    given = options(
        __doc__,
        ("--seeds", "how many seeds, else one"),
        ("--steps", f"steps of each run, else {STEPS}"),
        ("--rate", f"of AdamW, else {PLAN.rate:g}"),
        ("--strength", f"of the weak loss, else {PLAN.strength}"),
        ("--every", f"one of so many minimal pairs is asked, else {EVERY}"),
        ("--stories", f"stories to write or to take from the cache, else {STORIES}"),
        ("--runs", "folder that keeps the runs, so that a stopped benchmark goes on"),
    )
    started = time.monotonic()
    torch.set_num_threads(1)
    outcome = Outcome()
    plan = replace(
        PLAN, steps=int(given.steps or STEPS), rate=float(given.rate or PLAN.rate),
        strength=float(given.strength or PLAN.strength), even=True, pairs=8, every=100,
    )  # fmt: skip
    try:
        corpus = halves(stories.corpus(int(given.stories or STORIES)))
        task, exam = fine_tuning(stories.network(), corpus, "stories15M"), questions(corpus, int(given.every or EVERY))
        seeds, runs = range(int(given.seeds or 1)), Path(given.runs) if given.runs else None
        before = measured_before(task, exam)
        rows = {method: [measured(task, exam, method, plan, seed, runs) for seed in seeds] for method in METHODS}
        judge(outcome, before, rows, plan, corpus, int(given.every or EVERY))
    except Absent as absent:
        outcome.notes.append(f"{ABSENT}: {absent}")
    try:
        outcome.tables.append(projected())
    except BadInput as error:
        outcome.notes.append(f"SmolLM2-135M, skipped: {error}")
    outcome.notes.append(TRIED)
    bar = (
        "validation loss within 3% of the plain net's at equal steps, BLiMP within 1 point; interface at most 25% of"
        " the plain net's at equal partition sizes; specialisation by ablation significantly above the random partition"
    )
    return publish("modules/pretrained", "stories15M that comes apart", bar, outcome, started, given.write)


# ---- text and questions


def halves(written: Corpus) -> Corpus:
    """Stories as two windows each, the second one begun anew; the two stay on one side of the last tenth."""
    ids = written.ids[: len(written) // 10 * 10]
    first, second = ids[:, :CONTEXT], np.concatenate([ids[:, :1], ids[:, CONTEXT + 1 : 2 * CONTEXT]], 1)
    width = second.shape[1]
    both = np.stack([first[:, :width], second], 1).reshape(-1, width)
    corpus = Corpus(both, written.pieces, written.beginning)
    fitted, held = parts(corpus)
    seen = {row.tobytes() for row in fitted.ids}
    if any(row.tobytes() in seen for row in held.ids) or len(held) % 2:
        raise BadInput("stories: a window held out is trained on, too; write other stories with --stories")
    return corpus


def questions(corpus: Corpus, every: int) -> Exam:
    """The windows held out; one of `every` minimal pairs and all Winograd schemas where they are at hand."""
    pairs = read_pairs(DATA / "text" / "blimp")[::every] if (DATA / "text" / "blimp").is_dir() else ()
    schemas = read_schemas(DATA / "text" / "wsc273.txt") if (DATA / "text" / "wsc273.txt").is_file() else ()
    return Exam(parts(corpus)[1], stories.tokens(), None, pairs, schemas)


def kinds(pieces: Sequence[str]) -> Int[torch.Tensor, " tokens"]:
    """The kind of each token: a mark, the rest of a word, a capitalised, a short or a long word."""
    return torch.tensor([kind(piece) for piece in pieces])


def kind(piece: str) -> int:
    """The kind of a token."""
    word = piece.strip()
    if not word.isalpha():
        return 0
    if not piece.startswith(" "):
        return 1
    return 2 if word[0].isupper() else 3 if len(word) < 4 else 4


# ---- measuring


def measured_before(task: Task, exam: Exam) -> Row:
    """The network that all begin with."""
    model = untrained(task, 0).eval()
    row = of_regions(model, None, exam, 0.0)
    say(f"before: loss {row.marks.loss:.4f}, interface {row.interface:.1%} of {row.random:.1%} at random")
    return row


def measured(task: Task, exam: Exam, method: str, plan: Plan, seed: int, runs: Path | None) -> Row:
    """Train by one method and measure."""
    before = time.process_time()
    folder = runs / f"{method}-{plan.steps}-{plan.rate:g}-{plan.strength:g}-{seed}" if runs else None
    found = train(
        task, method, plan=plan, seed=seed, directory=folder,
        report=lambda now: say(f"{method}, step {now.step}: loss {now.loss:.3f}, interface {now.interface:.1%}"),
    )  # fmt: skip
    row = of_regions(found.model, found, exam, time.process_time() - before)
    special = f"{row.special.score.value:.3f}, z {row.special.score.z:.1f}" if row.special else ""
    say(
        f"{method}, seed {seed}: loss {row.marks.loss:.4f}, BLiMP {shown(row.marks.pairs)}, interface"
        f" {row.interface:.1%} of {row.random:.1%} at random, specialisation {special}, {row.seconds:.0f} s"
    )
    return row


def of_regions(model: torch.nn.Module, found: Trained | None, exam: Exam, seconds: float) -> Row:
    """The marks of a network, and the figures of its own regions or of the best that are found."""
    windows = torch.from_numpy(exam.corpus.ids[:PROBED].astype("int64"))
    inputs, targets = windows[:, :-1], windows[:, 1:]
    held = Modularity(model, (inputs,), even=True)
    units = live_units(held.graph, model)
    seed = found.seed if found else 0
    own = found.division if found and found.method == "modular" else best(units, held, seed)
    interface = float(np.mean(shares(units, held.passages, own.tensor())))
    special = None
    if found:
        tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        graph = held.graph.with_changes(
            weights={name: tensors.get(name, weight).detach() for name, weight in held.graph.weights.items()}
        )
        _, classes = torch.unique(kinds(exam.corpus.pieces)[targets.flatten()], return_inverse=True)

        def of_positions(outputs: Sequence[torch.Tensor]) -> Float[torch.Tensor, " positions"]:
            return torch.nn.functional.cross_entropy(outputs[0].flatten(0, 1), targets.flatten(), reduction="none")

        grouping = Grouping(own.labels, found.method)
        special = specialisation(graph, units, grouping, [inputs], classes, of_positions, seed=seed)
    return Row(sit(model, exam), interface, at_random(units, held, own), special, seconds)


def projected() -> Table:
    """What fine-tuning SmolLM2-135M costs on this machine, from steps with one and two windows, and one of the loss."""
    network = pretrained("smollm2")
    ids = torch.randint(network.vocabulary or 2, (8, CONTEXT), generator=torch.Generator().manual_seed(0))
    corpus = Corpus(ids.numpy().astype(np.int32), tuple(map(str, range(network.vocabulary or 2))))
    model = fine_tuning(network.module, corpus, "smollm2").build().train()
    optimiser = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], 1e-5)

    def step(windows: int) -> float:
        before = time.process_time()
        loss = next_token(model(ids[:windows, :-1]), ids[:windows, 1:])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return time.process_time() - before

    step(1)
    one, two = min(step(1), step(1)), min(step(2), step(2))
    plain = one + (PLAN.batch - 1) * (two - one)
    before = time.process_time()
    held = Modularity(model, (ids[:2, :-1],), even=True, pairs=8, start=1)
    surveyed = time.process_time() - before
    held.adopt(np.arange(sum(block.size for block in held.blocks)) % 2)
    before = time.process_time()
    held.add()
    added = time.process_time() - before
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
    text = (
        f"SmolLM2-135M, not run: processor time of {TEXT_STEPS:,} steps of {PLAN.batch} windows of {CONTEXT} tokens,"
        " projected from steps with one and two windows, one step of the loss and one survey of all units, as each of"
        f" the {TEXT_STEPS // 100} partitions needs; the split itself not counted; one thread; peak of this process."
    )
    whole = (plain + added) * TEXT_STEPS + surveyed * (TEXT_STEPS // 100)
    row = [f"{plain:.1f}", f"{added:.1f}", f"{surveyed:.0f}", f"{plain * TEXT_STEPS / 3600:.1f}",
           f"{whole / 3600:.1f}", f"{memory:.1f}"]  # fmt: skip
    columns = ("step, s", "modularity, s", "survey, s", "plain, hours", "modular, hours", "memory, GB")
    return Table(text, columns, [row])


# ---- the verdict


def judge(outcome: Outcome, before: Row, rows: dict[str, list[Row]], plan: Plan, corpus: Corpus, every: int) -> None:
    """The table, and the bars."""
    table = [["before", *cells([before])], *([METHODS[method], *cells(found)] for method, found in rows.items())]
    columns = ("network", "loss, nats a token", "BLiMP", "WSC273", "interface", "at random", "specialisation",
               "of random regions", "z", "s")  # fmt: skip
    fitted, held = parts(corpus)
    outcome.tables.append(Table(
        f"Medians over {len(rows['none'])} seeds (least … most). {plan.steps} steps of {plan.batch} windows of"
        f" {corpus.ids.shape[1]} tokens, rate {plan.rate:g}, strength {plan.strength:g};"
        f" {len(fitted)} windows to train on, {len(held)}"
        f" held out; one of {every} pairs of BLiMP. Specialisation: information that region and kind of token share, on"
        f" {PROBED} windows held out, beside 20 random partitions. s: processor time of training.", columns, table,
    ))  # fmt: skip
    plain, own = rows["none"], rows["modular"]
    loss = middle([r.marks.loss for r in own]) / middle([r.marks.loss for r in plain])
    share = middle([r.interface for r in own]) / middle([r.interface for r in plain])
    z = middle([r.special.score.z for r in own if r.special])
    outcome.require(loss <= LOSS, f"loss {loss:.3f} of the plain net's")
    outcome.require(share <= SHARE, f"interface {share:.2f} of the plain net's")
    outcome.require(z >= SIGNIFICANT, f"specialisation z {z:.1f}")
    if before.marks.pairs is not None:
        lost = middle([share_of(r.marks.pairs) for r in plain]) - middle([share_of(r.marks.pairs) for r in own])
        outcome.require(lost <= POINTS, f"BLiMP {100 * lost:.1f} points below the plain net's")


def cells(found: Sequence[Row]) -> list[str]:
    """Medians and ranges."""
    scores = [row.special.score for row in found if row.special]
    return [
        spread([row.marks.loss for row in found], 4),
        percent([row.marks.pairs for row in found]), percent([row.marks.schemas for row in found]),
        spread([row.interface for row in found]), spread([row.random for row in found]),
        spread([score.value for score in scores]), spread([score.mean for score in scores]),
        spread([score.z for score in scores], 1), f"{middle([row.seconds for row in found]):.0f}",
    ]  # fmt: skip


def spread(values: Sequence[float], digits: int = 3) -> str:
    """The median, and the range of several."""
    if not values:
        return ""
    text = f"{middle(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ({min(values):.{digits}f} … {max(values):.{digits}f})"


def middle(values: Sequence[float]) -> float:
    """The median."""
    return float(np.median(values))


def share_of(share: Share | None) -> float:
    """A share, nan where nobody asked."""
    return share.value if share else float("nan")


def percent(shares: Sequence[Share | None]) -> str:
    """The median share with its 95% interval."""
    first = shares[0]
    return f"{100 * middle([share_of(s) for s in shares]):.1f}% ± {100 * first.margin:.1f}" if first else "not asked"


def shown(share: Share | None) -> str:
    """A share as text."""
    return f"{share.value:.1%}" if share else "not asked"


if __name__ == "__main__":
    sys.exit(main())
