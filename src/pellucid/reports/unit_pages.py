"""A page for every unit: label, score, contexts coloured by activation, what it reads and what reads it.

Units are put on pages of up to 200 of one site, each with an anchor, in a folder beside the report, with an index. The
pages are as closed as the report is: no script, nothing from outside, all text escaped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pellucid.reports.page import folder_made, render, write_page
from pellucid.reports.unit_views import Neighbour, Run, Terms, exam_lines, neighbours, runs, said_above, score, terms_of
from pellucid.words.described import DescribedUnit, median_r
from pellucid.words.judged import Judged, JudgedLabel

FOLDER, INDEX = "units", "index.html"
TOGETHER = 200
STYLE = "units.css"
MODULE_PAGE = "modules/index.html"


@dataclass(frozen=True)
class Page:
    """A file of units.

    Attributes:
        file: its name in the folder.
        title: the site, and the numbers of the units.
    """

    file: str
    site: str
    title: str
    units: tuple[DescribedUnit, ...]


@dataclass(frozen=True)
class UnitView:
    """A unit as the template shows it."""

    unit: DescribedUnit
    top: tuple[tuple[Run, ...], ...]
    random: tuple[tuple[Run, ...], ...]
    incoming: tuple[Neighbour, ...]
    outgoing: tuple[Neighbour, ...]
    judged: tuple[JudgedLabel, ...]
    terms: Terms


@dataclass(frozen=True)
class SiteView:
    """A site in the index.

    Attributes:
        labelled: units that have a label.
        r: median over the units that are ever active, and `shuffled` that of the control.
    """

    name: str
    units: int
    labelled: int
    r: float
    shuffled: float
    pages: tuple[Page, ...]


def write_unit_pages(
    units: Sequence[DescribedUnit], directory: Path, source: str, judged: Judged | None = None
) -> Path:
    """Write the pages of units into a folder of a directory; gives the index.

    Args:
        source: what the units are of, for the title.
        judged: labels with scores by exams, of the units that have such.

    Raises:
        BadInput: the folder cannot be written.
    """
    folder = folder_made(directory / FOLDER)
    pages = paged(units)
    places = {unit.name: f"{page.file}#u{unit.index}" for page in pages for unit in page.units}
    labels = {unit.name: unit.label for unit in units}
    for number, page in enumerate(pages):
        around = (pages[number - 1] if number else None, pages[number + 1] if number + 1 < len(pages) else None)
        write_page(unit_page(page, around, places, labels, source, judged or {}), folder / page.file)
    write_page(unit_index(pages, source, (directory / MODULE_PAGE).is_file()), folder / INDEX)
    return folder / INDEX


def paged(units: Sequence[DescribedUnit], together: int = TOGETHER) -> tuple[Page, ...]:
    """Units dealt out to pages, site by site."""
    by_site: dict[str, list[DescribedUnit]] = {}
    for unit in units:
        by_site.setdefault(unit.site, []).append(unit)
    pages = []
    for number, (site, members) in enumerate(by_site.items()):
        members.sort(key=lambda unit: unit.index)
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", site)[-80:]
        for start in range(0, len(members), together):
            some = tuple(members[start : start + together])
            file = f"{number:03d}-{name}-{start:05d}.html"
            pages.append(Page(file, site, f"{some[0].index} to {some[-1].index}", some))
    return tuple(pages)


def unit_page(
    page: Page,
    around: tuple[Page | None, Page | None],
    places: Mapping[str, str],
    labels: Mapping[str, str | None],
    source: str,
    judged: Judged,
) -> str:
    """One page as HTML.

    Args:
        around: the pages before and after.
        places: the file and anchor of every unit that has one; `labels` their labels.
    """
    views = [_view(unit, labels, judged.get(unit.name, ())) for unit in page.units]
    return render(
        "units.html.j2", also=(STYLE,), page=page, views=views, before=around[0], after=around[1], places=places,
        source=source, score=score, exam_lines=exam_lines,
    )  # fmt: skip


def unit_index(pages: Sequence[Page], source: str, modules: bool = False) -> str:
    """The index as HTML: for every site its figures and pages, and a link to the page of modules if there is one."""
    sites = [
        _site(name, [page for page in pages if page.site == name]) for name in dict.fromkeys(p.site for p in pages)
    ]
    return render("unit_index.html.j2", also=(STYLE,), sites=sites, source=source, score=score, modules=modules)


def _site(name: str, pages: Sequence[Page]) -> SiteView:
    units = [unit for page in pages for unit in page.units]
    labelled = sum(unit.label is not None for unit in units)
    return SiteView(name, len(units), labelled, *median_r(units), tuple(pages))


def _view(unit: DescribedUnit, labels: Mapping[str, str | None], judged: tuple[JudgedLabel, ...]) -> UnitView:
    above = said_above(unit)
    shown = {
        how: tuple(tuple(runs(one, unit.highest, above)) for one in unit.contexts if one.how == how)
        for how in ("top", "random")
    }
    incoming, outgoing = neighbours(unit.incoming, labels), neighbours(unit.outgoing, labels)
    return UnitView(unit, shown["top"], shown["random"], incoming, outgoing, judged, terms_of(unit))
