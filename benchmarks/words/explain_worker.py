"""One run of the labeller over latents, from arrays on disk to a table on disk; killed and resumed by `explain.py`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import peer

from pellucid.words.explain.asking import Asker, Patience
from pellucid.words.explain.endpoint import Endpoint
from pellucid.words.explain.evidence import UnitEvidence, unit_evidence
from pellucid.words.explain.explaining import Cost, cost_of, explain, explain_questions
from pellucid.words.scores.asked import classify, classify_questions, simulate, simulate_questions
from pellucid.words.scores.exams import Exam, exam_of
from pellucid.words.scores.marks import dealt

EACH, LENGTH = 5, 16
SHUFFLED, SIMULATED, COMPARED = 30, 12, 12
"""So many latents are also judged by a shuffled label, simulated (both ways), and judged by delphi's protocol."""

TIMEOUT = 900.0
"""Seconds for one call: a busy machine reads a prompt slowly."""


def evidence_of(data: Any, count: int) -> list[UnitEvidence]:
    """What the labeller sees of each latent: contexts of *describe*."""
    return [
        unit_evidence(
            str(data["names"][i]), data["describe_ids"], data["pieces"], data["describe"][i], each=2, silent=1
        )
        for i in range(count)
    ]


def exams_of(data: Any, count: int, part: str = "verify", each: int = EACH) -> list[Exam]:
    """On what labels are judged: contexts of *verify*."""
    return [
        exam_of(str(data["names"][i]), data[f"{part}_ids"], data["pieces"], data[part][i], each=each, length=LENGTH)
        for i in range(count)
    ]


def told(asker: Asker, evidence: list[UnitEvidence], exams: list[Exam], shuffled: int) -> Cost:
    """What the whole run will cost, `shuffled` of the labels judged beside another unit's."""
    placeholder = "a label of at most twelve words, as long as they tend to be"
    total = cost_of(asker, explain_questions(evidence))
    for i, exam in enumerate(exams):
        asked = [*classify_questions("detection", placeholder, exam)] * (2 if i < shuffled else 1)
        total = total + cost_of(asker, asked)
        if i < SIMULATED:
            total = total + cost_of(asker, simulate_questions(placeholder, exam) * (2 if shuffled else 1))
    return total


def run(folder: Path, address: str, model: str, cache: Path, count: int, shuffled: int = SHUFFLED) -> None:
    """Label, judge, write `rows.json` into the cache's folder; 0 `shuffled` for a run that only repeats another."""
    data = np.load(folder / "latents.npz", allow_pickle=False)
    data = {name: data[name] for name in data.files}
    data["pieces"] = json.loads((folder / "pieces.json").read_text())
    endpoint = Endpoint(address, model, timeout=TIMEOUT, concurrency=1)
    asker = Asker.open(endpoint, cache / "replies", patience=Patience(again=1, retries=2))
    evidence, exams = evidence_of(data, count), exams_of(data, count)
    print(told(asker, evidence, exams, shuffled), flush=True)
    found = explain(asker, evidence)
    labels = [one.label for one in found]
    others = dealt(labels) if count > 1 else labels
    rows = []
    for i, (label, other, exam) in enumerate(zip(labels, others, exams, strict=True)):
        row: dict[str, Any] = {"latent": exam.unit, "label": label, "missing": found[i].missing}
        for column, one in (("", label), (", shuffled", other)):
            if i < shuffled or not column:
                row[f"detection{column}"] = asdict(classify(asker, "detection", [one], [exam])[0])
        for column, one in (("", label), (", shuffled", other)):
            if i < SIMULATED and (shuffled or not column):
                row[f"simulation{column}"] = asdict(simulate(asker, [one], [exam])[0])
        rows.append(row)
        print(f"{i + 1} of {count}: {exam.unit}: {label or found[i].missing}", flush=True)
    for row, label, exam in list(zip(rows, labels, exams, strict=True))[:COMPARED]:
        row["delphi"] = asdict(peer.detection(asker.endpoint, asker.cache, label, exam))
    seconds = [one.seconds for one in found]
    spent = {"calls": asker.tally.calls, "remembered": asker.tally.remembered, "faults": dict(asker.tally.faults)}
    part = cache / "rows.part"
    part.write_text(json.dumps({"rows": rows, "seconds": seconds, "spent": spent}))
    part.replace(cache / "rows.json")


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]), *map(int, sys.argv[5:]))
