"""What is known of modules, as plain records, and the file of JSON lines that they are kept in, parents first.

A line is an object with the fields of `DescribedModule`; fields at their default are left out, and a number that is not
known is the string "nan". The same records give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pellucid.errors import BadInput
from pellucid.ir.codecs import integer, many, maybe, number, pair, record, text
from pellucid.words.lines import read_lines, write_lines
from pellucid.words.scores.intervals import Estimate

PLACE = Path("words", "modules.jsonl")
"""Where the directory of a described program holds its modules."""

MODULE, SUBMODULE = "module", "submodule"
"""The levels below a dictionary; those above have the kinds of their functions."""


@dataclass(frozen=True)
class Tested:
    """A measured value with its 95 % interval, from how many contexts or windows, beside its control (NaN: none)."""

    value: float
    low: float
    high: float
    count: int
    control: float

    @classmethod
    def of(cls, estimate: Estimate, control: float) -> Tested:
        """An estimate beside its control."""
        return cls(estimate.value, estimate.low, estimate.high, estimate.count, control)


@dataclass(frozen=True)
class DescribedModule:
    """What is known of a module.

    Attributes:
        name: of the function, or of the site with numbers: "model.layers.3.mlp.dictionary:latents/4.2".
        level: "submodule", "module", or the kind of the function ("mlp", "layer", …).
        parent: the name of the module that it is in; "" for the whole.
        latents: how many it holds, in it and below.
        title: a name of one to three words that fits no other module of its function; None where there is none.
        taken_back: names that fit several and were taken back, best first.
        sentence: what it does, from the descriptions of its children.
        label: the same as a label, which predicts how much the module writes.
        share: of what its dictionary writes.
        site: the site whose units it holds, and their numbers; "" and none for functions.
        detection: balanced accuracy of its label at telling contexts that use it; control: a sibling's label.
        recovered: what its children's labels recover of knocking it out; control: labels dealt to other latents.
        cost: nats a token that knocking it out costs; NaN where it was not measured.
        holds: balanced accuracy of the title alone on *verify*, and the best that it has there for another module.
    """

    name: str
    level: str
    parent: str
    latents: int
    title: str | None = None
    taken_back: tuple[str, ...] = ()
    sentence: str = ""
    label: str | None = None
    share: float = float("nan")
    site: str = ""
    units: tuple[int, ...] = ()
    detection: Tested | None = None
    recovered: Tested | None = None
    cost: float = float("nan")
    holds: tuple[float, float] | None = None

    @property
    def shown(self) -> str:
        """The title, or that there is none."""
        return self.title if self.title is not None else f"unnamed: {self.latents} latents"


TESTED = record(Tested, value=number, low=number, high=number, count=integer, control=number)
_module = record(
    DescribedModule, name=text, level=text, parent=text, latents=integer, title=maybe(text), taken_back=many(text),
    sentence=text, label=maybe(text), share=number, site=text, units=many(integer), detection=maybe(TESTED),
    recovered=maybe(TESTED), cost=number, holds=maybe(pair(number, number)),
)  # fmt: skip


def write_modules(modules: Sequence[DescribedModule], file: Path) -> None:
    """Write records, the file whole or not at all.

    Raises:
        BadInput: two modules have the same name, or the file cannot be written.
    """
    names = [module.name for module in modules]
    if len(set(names)) < len(names):
        raise BadInput(f"modules: {next(n for n in names if names.count(n) > 1)!r} is there twice; give each once")
    write_lines(modules, _module, file)


def read_modules(file: Path) -> tuple[DescribedModule, ...]:
    """The records in a file, in the order they were written.

    Raises:
        BadInput: it is missing, damaged or something else.
    """
    return read_lines(file, _module, "run pellucid describe again")


def children_of(modules: Sequence[DescribedModule], parent: str) -> tuple[DescribedModule, ...]:
    """The modules right below one."""
    return tuple(module for module in modules if module.parent == parent)
