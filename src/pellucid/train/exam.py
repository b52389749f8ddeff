"""What a language model can do before training and after it: the same exam twice, as a table and as a file.

Texts longer than a model's positions are scored with as much before each token as there is room for.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from rich.table import Table
from torch import nn

from pellucid.data.corpus import Corpus
from pellucid.data.texts import Tokenizer
from pellucid.errors import BadInput
from pellucid.train.capability import Schema, Share, held_out_loss, minimal_pairs, pronouns, read_pairs, read_schemas
from pellucid.train.schedule import Trained
from pellucid.train.task import Task

RESULT = "result.json"


@dataclass(frozen=True)
class Exam:
    """What is asked.

    Attributes:
        corpus: windows that training never draws.
        tokenizer: of the model.
        positions: how many tokens the model reads at most; None: as many as there are.
        pairs: of BLiMP (good, bad); none: not asked.
        schemas: of Winograd; none: not asked.
    """

    corpus: Corpus
    tokenizer: Tokenizer
    positions: int | None = None
    pairs: Sequence[tuple[str, str]] = ()
    schemas: Sequence[Schema] = ()


@dataclass(frozen=True)
class Marks:
    """Held-out loss in nats a token, and the shares of minimal pairs and of pronouns that are right."""

    loss: float
    pairs: Share | None = None
    schemas: Share | None = None


class Sliding(nn.Module):
    """A model that reads at most so many tokens, on texts of any length: each token sees as many before it as fit."""

    def __init__(self, model: nn.Module, positions: int) -> None:
        super().__init__()
        self.model, self.positions = model, positions

    def forward(self, ids: Int[torch.Tensor, "texts tokens"]) -> Float[torch.Tensor, "texts tokens vocabulary"]:
        """Logits at every token."""
        first: torch.Tensor = self.model(ids[:, : self.positions])
        if ids.shape[1] <= self.positions:
            return first
        later = ids.unfold(1, self.positions, 1)[:, 1:]
        last = self.model(later.flatten(0, 1))[:, -1].unflatten(0, later.shape[:2])
        return torch.cat([first, last], 1)


def exam_with(
    corpus: Corpus, tokenizer: Tokenizer, *, positions: int | None = None, wsc: Path | None = None,
    blimp: Path | None = None,
) -> Exam:  # fmt: skip
    """An exam with questions from files.

    Raises:
        BadInput: a file is missing, or holds no questions.
    """
    for path, wanted in ((wsc, "--wsc takes wsc273.txt"), (blimp, "--blimp takes BLiMP's data folder")):
        if path is not None and not path.exists():
            raise BadInput(f"{path}: no such file or folder; {wanted}")
    try:
        schemas = read_schemas(wsc) if wsc is not None else ()
        pairs = read_pairs(blimp) if blimp is not None else ()
    except UnicodeDecodeError as error:
        raise BadInput(f"{wsc or blimp}: not UTF-8 text (byte {error.start}); convert it, say with iconv") from error
    except OSError as error:
        raise BadInput(f"{error.filename}: cannot be read ({error.strerror}); give a file for --wsc") from error
    if wsc is not None and not schemas:
        raise BadInput(f"{wsc.name}: holds no Winograd schemas; --wsc takes wsc273.txt")
    return Exam(corpus, tokenizer, positions, pairs, schemas)


def sit(model: nn.Module, exam: Exam, seen: Callable[[int], None] | None = None) -> Marks:
    """A model's marks; `seen` is told how many minimal pairs are done."""
    model = model if exam.positions is None else Sliding(model, exam.positions)
    return Marks(
        held_out_loss(model, exam.corpus),
        minimal_pairs(model, exam.tokenizer, exam.pairs, seen) if exam.pairs else None,
        pronouns(model, exam.tokenizer, exam.schemas) if exam.schemas else None,
    )


def untrained(task: Task, seed: int, restart: int = 0) -> nn.Module:
    """The network that a run starts from: pretrained weights, or the random ones of its seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1000 * seed + restart)
        return task.build()


def before_and_after(task: Task, found: Trained, exam: Exam, directory: Path) -> Table:
    """Both marks, kept in the directory's result.json under "capability", and as a table."""
    before, after = sit(untrained(task, found.seed, found.restart), exam), sit(found.model, exam)
    _keep(directory / RESULT, {"before": _facts(before), "after": _facts(after)})
    return table_of(before, after)


def table_of(before: Marks, after: Marks) -> Table:
    """A row for each thing that was asked."""
    table = Table(box=None, pad_edge=False)
    for column in ("", "before", "after", "95% interval", "asked"):
        table.add_column(column)
    table.add_row("held-out loss, nats a token", f"{before.loss:.4f}", f"{after.loss:.4f}", "", "")
    for name, one, other in (("BLiMP", before.pairs, after.pairs), ("Winograd", before.schemas, after.schemas)):
        if one is not None and other is not None:
            table.add_row(name, f"{one.value:.2%}", f"{other.value:.2%}", f"± {other.margin:.2%}", f"{other.of:,}")
    return table


def _facts(marks: Marks) -> dict[str, Any]:
    return {name: value for name, value in asdict(marks).items() if value is not None}


def _keep(path: Path, facts: Mapping[str, Any]) -> None:
    """Add facts to a run's result, in one piece."""
    result = {**json.loads(path.read_text(encoding="utf-8")), "capability": facts}
    scratch = path.with_name(f".{path.name}")
    scratch.write_text(json.dumps(result, indent=1), encoding="utf-8")
    os.replace(scratch, path)
