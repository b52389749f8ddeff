"""The page of modules: the hierarchy of a described program, opened level by level, with names, descriptions and tests.

One file beside the pages of units, as closed as they are: no script, nothing from outside, all text escaped. Latents of
a module that has no smaller ones lead to their own entries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pellucid.reports.page import folder_made, render, write_page
from pellucid.reports.unit_pages import MODULE_PAGE, paged
from pellucid.reports.unit_views import score
from pellucid.words.described import DescribedUnit, median
from pellucid.words.hierarchy.explained import ExplainedModule
from pellucid.words.hierarchy.modules import DescribedModule, Tested

STYLE = "modules.css"


@dataclass(frozen=True)
class Branch:
    """A module with those in it, and where its latents are: their numbers with links, "" where there is no page; `said`
    is what a labeller said of it, of an MLP: of what its modules hand on."""

    module: DescribedModule
    anchor: str
    children: tuple[Branch, ...]
    units: tuple[tuple[int, str], ...]
    said: ExplainedModule | None = None


@dataclass(frozen=True)
class Row:
    """A level in the table of figures: medians over its modules, the control's beside them."""

    level: str
    modules: int
    named: int
    detection: float
    detection_control: float
    recovered: float
    recovered_control: float
    tested: int


def write_module_page(
    modules: Sequence[DescribedModule],
    units: Sequence[DescribedUnit],
    directory: Path,
    source: str,
    explained: Sequence[ExplainedModule] = (),
) -> Path:
    """Write the page of modules into a folder of a directory; gives the page.

    Args:
        modules: parents first.
        units: those that have pages (`write_unit_pages`).
        source: what the modules are of, for the title.
        explained: what a labeller said of modules and interfaces.

    Raises:
        BadInput: the folder cannot be written.
    """
    folder_made((directory / MODULE_PAGE).parent)
    places = {unit.name: f"../units/{page.file}#u{unit.index}" for page in paged(units) for unit in page.units}
    write_page(module_page(modules, places, source, explained), directory / MODULE_PAGE)
    return directory / MODULE_PAGE


def module_page(
    modules: Sequence[DescribedModule],
    places: Mapping[str, str],
    source: str,
    explained: Sequence[ExplainedModule] = (),
) -> str:
    """The page as HTML.

    Args:
        places: the file and anchor of every unit that has one, by name.
    """
    return render(
        "modules.html.j2", also=(STYLE,), tree=branches(modules, places, explained), rows=figures(modules),
        source=source, score=score, tested=tested,
    )  # fmt: skip


def branches(
    modules: Sequence[DescribedModule], places: Mapping[str, str], explained: Sequence[ExplainedModule] = ()
) -> tuple[Branch, ...]:
    """The modules as a tree; those whose parent is not there are roots."""
    said = {one.part: one for one in explained}
    known = {module.name for module in modules}
    below: dict[str, list[tuple[int, DescribedModule]]] = {}
    for number, module in enumerate(modules):
        below.setdefault(module.parent if module.parent in known else "", []).append((number, module))

    def grown(parent: str) -> tuple[Branch, ...]:
        return tuple(branch(number, module) for number, module in below.get(parent, ()))

    def branch(number: int, module: DescribedModule) -> Branch:
        children = grown(module.name)
        units = () if children else module.units
        links = tuple((unit, places.get(f"{module.site}[{unit}]", "")) for unit in units)
        return Branch(module, f"m{number}", children, links, said.get(module.name))

    return grown("")


def figures(modules: Sequence[DescribedModule]) -> tuple[Row, ...]:
    """The figures of each level, the whole first."""
    return tuple(
        _row(level, [module for module in modules if module.level == level])
        for level in dict.fromkeys(module.level for module in modules)
    )


def _row(level: str, own: Sequence[DescribedModule]) -> Row:
    detected = [module.detection for module in own if module.detection is not None]
    recovered = [module.recovered for module in own if module.recovered is not None]
    return Row(
        level, len(own), sum(module.title is not None for module in own),
        median([one.value for one in detected]), median([one.control for one in detected]),
        median([one.value for one in recovered]), median([one.control for one in recovered]), len(recovered),
    )  # fmt: skip


def tested(one: Tested) -> str:
    """A measured value with its interval."""
    return f"{score(one.value)} [{score(one.low)}, {score(one.high)}]"
