"""Labels by a language model on a real server: valid or missing, scored beside label trees and shuffled labels.

Latents of stories15M are labelled by a small instruction model behind an OpenAI-compatible server in a process of its
own. The run is killed twice and resumed; some latents are then labelled again without interruption, with an empty
cache, and the tables compared. Detection is also scored by delphi's protocol on the same latents, labels, contexts and
server.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import spearmanr

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from explain_worker import COMPARED, EACH, LENGTH, SHUFFLED, SIMULATED, exams_of
from judged_latents import SEED, WINDOWS, prepare
from labeller import labeller, serving
from shared import ABSENT, Absent, Outcome, Table, cache_folder, options, publish, say

from pellucid.words.scores.exams import Exam
from pellucid.words.scores.executable import Task, judged, simulation, threshold_of
from pellucid.words.scores.intervals import bootstrapped_mean, correlation
from pellucid.words.scores.marks import Classified, dealt

LATENTS, AGAIN, RATIO = 60, 4, 0.1
CALIBRATION = 20
"""Active contexts of *describe* that thresholds of label trees are set on."""

TITLE = "Labels by a language model"
BAR = (
    "every label valid or counted as missing; killed twice and resumed, the same table; a label tree in at most 1/10 of"
    " the time of a label by the model; detection beside delphi's protocol"
)


def main() -> int:
    given = options(
        __doc__, ("--latents", "how many, else 60"), ("--threads", "of the server, else 2"),
        ("--again", "how many of them are run again without interruption, else 4"),
        ("--dictionaries", "folder of FUNCTION.safetensors, else they are trained"),
        ("--fresh", "yes: forget all replies"),
    )  # fmt: skip
    started = time.monotonic()
    torch.set_num_threads(1)
    count, again = int(given.latents or LATENTS), int(given.again or AGAIN)
    outcome = Outcome()
    try:
        model, name = labeller()
        work = cache_folder() / "words-explain"
        folder = work / f"latents-{count}"
        kind = prepare(folder, count, Path(given.dictionaries) if given.dictionaries else None)
        replies = work / f"{model.stem}-{count}"
        if given.fresh:
            shutil.rmtree(replies, ignore_errors=True)
        with serving(model, int(given.threads or 2)) as address:
            run_killed_twice(folder, address, name, replies, count)
            shutil.rmtree(replies / "again", ignore_errors=True)
            run(folder, address, name, replies / "again", again, 0)
    except Absent as absent:
        say(f"{ABSENT} ({absent})")
        return 0
    table(outcome, folder, replies, name, kind, again)
    return publish("words/explain", TITLE, BAR, outcome, started, given.write)


# ---- runs


def begun(folder: Path, address: str, name: str, replies: Path, *counts: int) -> subprocess.Popen[bytes]:
    """A run in a process of its own; counts of latents, and of those judged by shuffled labels."""
    replies.mkdir(parents=True, exist_ok=True)
    worker = Path(__file__).with_name("explain_worker.py")
    command = [sys.executable, str(worker), str(folder), address, name, str(replies), *map(str, counts)]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})


def run(folder: Path, address: str, name: str, replies: Path, *counts: int) -> None:
    """A run to its end."""
    if begun(folder, address, name, replies, *counts).wait():
        raise RuntimeError("the run failed; its message is above")


def run_killed_twice(folder: Path, address: str, name: str, replies: Path, count: int) -> None:
    """A run that is killed when a third and two thirds of its replies are there, and started again."""
    whole = 2 * count + min(count, SHUFFLED) + 2 * min(count, SIMULATED) + 2 * min(count, COMPARED)
    journal = replies / "kills.json"
    kills: list[int] = json.loads(journal.read_text()) if journal.is_file() else []
    while len(kills) < 2 and not (replies / "rows.json").is_file():
        until = whole * (len(kills) + 1) // 3
        process = begun(folder, address, name, replies, count)
        while process.poll() is None and answered(replies) < until:
            time.sleep(0.2)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills.append(answered(replies))
        journal.write_text(json.dumps(kills))
        say(f"killed with {kills[-1]} replies")
    run(folder, address, name, replies, count)


def answered(replies: Path) -> int:
    """How many replies are on disk."""
    return sum(1 for _ in (replies / "replies").glob("*/*.json"))


# ---- tables


def table(outcome: Outcome, folder: Path, replies: Path, name: str, kind: str, again: int) -> None:
    """The tables, and the bars."""
    done = json.loads((replies / "rows.json").read_text())
    rows: list[dict[str, Any]] = done["rows"]
    arrays = np.load(folder / "latents.npz")
    data = {key: arrays[key] for key in arrays.files} | {"pieces": json.loads((folder / "pieces.json").read_text())}
    trees = json.loads((folder / "trees.json").read_text())
    exams, training = exams_of(data, len(rows)), exams_of(data, len(rows), "describe", CALIBRATION)
    valid, missing = (sum((row["label"] is None) == lost for row in rows) for lost in (False, True))
    outcome.require(
        valid + missing == len(rows) and all(bool(r["label"]) != bool(r["missing"]) for r in rows), "labels"
    )
    text = (
        f"{len(rows)} latents of stories15M ({kind}), drawn with seed {SEED} among those active in 8 windows of"
        f" *describe* and 5 of *verify* ({WINDOWS} windows of 256 tokens that it wrote, split in four). Labeller and"
        f" judge: {name}, temperature 0. Exams of *verify*: {EACH} active and {EACH} silent contexts of {LENGTH} tokens"
        " a latent. Means over latents with 95 % intervals (bootstrap over latents); detection is balanced accuracy,"
        " chance 0.5."
    )
    columns = ("labels", "judge", "valid", "missing", "detection", "shuffled", "simulation r", "shuffled")
    lm = [name, "the model", valid, missing, *(mean_of(rows, column) for column in (
        "detection", "detection, shuffled", "simulation", "simulation, shuffled"))]  # fmt: skip
    own, other = (executable(data, exams, training, trees) for trees in (range(len(rows)), dealt(range(len(rows)))))
    tree = [
        "label trees",
        "run",
        len(rows),
        0,
        *(str(bootstrapped_mean(np.array(x[c]))) for c in range(2) for x in (own, other)),
    ]
    fuzz = [str(bootstrapped_mean(np.array(x[2]))) for x in (own, other)]
    outcome.tables.append(Table(text, columns, [lm, tree]))
    outcome.tables.append(peers(rows))
    outcome.tables.append(times(outcome, done["seconds"], trees["seconds"] / len(rows)))
    lost = sum(row["detection"]["missing"] for row in rows)
    everywhere = str(bootstrapped_mean(np.array(own[3])))
    outcome.notes += [
        f"By the model, {min(SHUFFLED, len(rows))} latents are judged by shuffled labels, {min(SIMULATED, len(rows))}"
        " simulated. Contexts without a valid answer, left out and"
        f" counted: {lost} of {2 * EACH * len(rows)} in detection. Label trees over all tokens of *verify*: r"
        f" {everywhere}; by fuzzing {fuzz[0]}, shuffled {fuzz[1]}. Thresholds of trees are set on *describe*.",
        resumed(outcome, replies, rows, again),
        "First labels: "
        + "; ".join(
            f"“{str(row['label'])[:60]}” beside `{label[:90]}`"
            for row, label in zip(rows[:6], trees["labels"], strict=False)
        ),
    ]


def mean_of(rows: Sequence[Mapping[str, Any]], column: str) -> str:
    """The mean of a score over the rows that have it."""
    return str(bootstrapped_mean(np.array([value_of(row[column]) for row in rows if column in row])))


def value_of(score: Mapping[str, Any]) -> float:
    """The balanced accuracy or the correlation of a stored score; NaN where nothing was answered."""
    if "r" in score:
        return float("nan") if score["r"]["value"] is None else float(score["r"]["value"])
    return Classified(**score).balanced.value


def executable(
    data: Mapping[str, Any], exams: Sequence[Exam], training: Sequence[Exam], order: Sequence[int]
) -> tuple[list[float], list[float], list[float], list[float]]:
    """Detection, simulation on the exam's contexts, fuzzing, and simulation on all tokens, of trees in some order."""
    found: tuple[list[float], ...] = ([], [], [], [])
    for i, tree in enumerate(order):
        before, here = data["tree describe"][tree], data["tree verify"][tree]
        for place, task in ((0, "detection"), (2, "fuzzing")):
            kind: Task = "detection" if task == "detection" else "fuzzing"
            threshold = threshold_of(before, training[i], kind)
            found[place].append(judged(here, exams[i], kind, threshold).balanced.value)
        found[1].append(on_contexts(here, data["verify"][i], exams[i]))
        found[3].append(simulation(here, data["verify"][i]).r.value)
    return found  # type: ignore[return-value]


def on_contexts(
    predicted: Float[np.ndarray, "windows context"], activations: Float[np.ndarray, "windows context"], exam: Exam
) -> float:
    """Pearson's r on the tokens of an exam, the same as the model simulates."""

    def cut(a: np.ndarray) -> np.ndarray:
        return np.stack([a[s.window, s.start : s.stop] for s in exam.samples])

    return correlation(cut(predicted), cut(activations)).value


def peers(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Our detection beside delphi's protocol."""
    pairs = np.array([[value_of(row["detection"]), value_of(row["delphi"])] for row in rows if "delphi" in row])
    lost = sum(row["delphi"]["missing"] for row in rows if "delphi" in row)
    pairs = pairs[np.isfinite(pairs).all(axis=1)]
    varies = len(pairs) > 2 and (pairs.std(axis=0) > 0).all()
    rank = f"{spearmanr(pairs[:, 0], pairs[:, 1]).statistic:.2f}" if varies else "none (one of them is constant)"
    means = [str(bootstrapped_mean(column)) for column in (*pairs.T, pairs[:, 0] - pairs[:, 1])]
    text = "Detection of the same labels on the same contexts by the same model, ours and delphi's protocol re-run:"
    columns = ("latents", "ours", "delphi's", "difference", "rank correlation", "contexts without an answer, delphi's")
    return Table(text, columns, [[len(pairs), *means, rank, lost]])


def times(outcome: Outcome, seconds: Sequence[float], tree: float) -> Table:
    """Seconds for each label."""
    model = float(np.mean(seconds))
    met = outcome.require(tree <= RATIO * model, f"a tree takes {tree:.2f} s, a label of the model {model:.2f} s")
    rows = [["the model", f"{model:.2f}"], ["label tree (one thread)", f"{tree:.3f}"], ["ratio ≤ 1/10", met]]
    return Table(
        "Seconds for a label, evidence given (calls of the endpoint; growing a tree):", ("label by", "s"), rows
    )


def resumed(outcome: Outcome, replies: Path, rows: Sequence[Mapping[str, Any]], again: int) -> str:
    """Whether the run that was killed twice says what a run without interruption says."""
    kills = json.loads((replies / "kills.json").read_text()) if (replies / "kills.json").is_file() else []
    whole = json.loads((replies / "again" / "rows.json").read_text())["rows"]
    keep = ("latent", "label", "missing", "detection", "simulation", "delphi")
    first, second = ([[row.get(column) for column in keep] for row in some[:again]] for some in (rows, whole))
    outcome.require(len(kills) == 2, f"killed {len(kills)} times, not twice")
    same = sum(a == b for a, b in zip(first, second, strict=True))
    outcome.require(same == again, f"killed and resumed, {again - same} of {again} rows differ")
    at = " and ".join(str(kill) for kill in kills)
    return (
        f"Killed (SIGKILL) with {at} replies on disk and started again. Run anew without interruption and with an empty"
        f" cache: {same} of {again} rows the same (label, detection, simulation, delphi's detection)."
    )


if __name__ == "__main__":
    sys.exit(main())
