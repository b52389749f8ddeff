"""Training seen from a terminal: a bar with loss, accuracy, interface and z; lines where there is no terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from pellucid.train.run import Progress, Report


@contextmanager
def displayed(console: Console) -> Iterator[Report]:
    """What `train` reports to."""
    if not console.is_terminal:
        yield lambda now: console.print(f"{_name(now)}, step {now.step} of {now.steps}: {_figures(now)}", markup=False)
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
               TextColumn("{task.fields[figures]}", markup=False))  # fmt: skip
    with Bars(*columns, console=console) as bars:
        rows: dict[int, TaskID] = {}

        def report(now: Progress) -> None:
            if now.restart not in rows:
                rows[now.restart] = bars.add_task(_name(now), total=now.steps, figures="")
            bars.update(rows[now.restart], completed=now.step, figures=_figures(now))

        yield report


def _name(now: Progress) -> str:
    return now.method if now.restarts == 1 else f"{now.method}, {now.restart + 1} of {now.restarts}"


def _figures(now: Progress) -> str:
    text = f"loss {now.loss:.4f}, accuracy {now.accuracy:.2%}"
    if math.isnan(now.interface):
        return text
    return f"{text}, interface {now.interface:.2%}" + ("" if math.isnan(now.z) else f", z {now.z:.1f}")
