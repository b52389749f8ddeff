"""What a described directory knows of its units, in the forms that other tools read.

    neuronpedia  v1/…: a source for every site, with all labels and scores (`words.exports.neuronpedia`)
    delphi       a folder for each maker of labels, in it explanations/ and scores/ (`words.exports.delphi`)
    parquet      units.parquet, contexts.parquet and labels.parquet, the records as they are

The number of a source's layer is read off the calls of the program, its name from what the units are: "3-pellucid-mlp"
for the latents of an MLP, "3-pellucid-heads" for heads.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from pellucid.errors import BadInput
from pellucid.ir.directory import is_ours, staged
from pellucid.ir.program import Program
from pellucid.words.described import CONTEXTS, PLACE, UNITS, DescribedUnit, read_units, write_units
from pellucid.words.exports import Source, write_delphi, write_neuronpedia
from pellucid.words.exports.delphi import file_name
from pellucid.words.exports.layers import layers_of
from pellucid.words.exports.said import said_of
from pellucid.words.judged import JUDGED, MAKER, Judged, read_judged, write_judged
from pellucid.words.reading.install import DICTIONARY

LATENTS = "latents"
NUMBERED = re.compile(r".+:.+\[\d+\]", re.DOTALL)


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        directory: where.
        lines: what, a line for each source or folder or file.
        skipped: units that the form has no place for, and why.
    """

    directory: Path
    lines: tuple[str, ...]
    skipped: tuple[str, ...] = ()


def export(
    directory: str | PathLike[str], form: str, output: str | PathLike[str], *, model: str | None = None
) -> Exported:
    """Write the units of a described directory for other tools, whole or not at all.

    Args:
        directory: what `describe` wrote.
        form: "neuronpedia", "delphi" or "parquet".
        output: a directory that is new or empty.
        model: what Neuronpedia is to call the model; else the name of where it came from.

    Raises:
        BadInput: the directory was not described, or is damaged; there is no such form; the output holds something.
    """
    place, target = Path(directory), Path(output)
    if form not in FORMS:
        raise BadInput(f"export to {form!r} is not known; use one of {', '.join(FORMS)}")
    if not (place / PLACE / UNITS).is_file():
        raise BadInput(f"{place}: holds no words of units; make them with pellucid describe")
    if is_ours(target) or (target.is_dir() and any(target.iterdir())):
        raise BadInput(f"{target}: holds something; name a new directory for the export")
    units, judged = read_units(place / PLACE), read_judged(place / PLACE)
    program = Program.load(place)
    with staged(target) as scratch:
        found = FORMS[form](program, units, judged, scratch, model)
    return dataclasses.replace(found, directory=target)


Form = Callable[[Program, Sequence[DescribedUnit], Judged, Path, str | None], Exported]


def _parquet(
    program: Program, units: Sequence[DescribedUnit], judged: Judged, folder: Path, model: str | None
) -> Exported:
    write_units(units, folder)
    contexts = sum(len(unit.contexts) for unit in units)
    lines = [f"{UNITS}: {_counted(len(units), 'unit')}", f"{CONTEXTS}: {_counted(contexts, 'context')}"]
    if judged:
        labels = [label for unit in judged.values() for label in unit]
        write_judged(labels, folder)
        lines.append(f"{JUDGED}: {_counted(len(labels), 'label')} with scores")
    return Exported(folder, tuple(lines))


def _delphi(
    program: Program, units: Sequence[DescribedUnit], judged: Judged, folder: Path, model: str | None
) -> Exported:
    places, skipped = _sites(units)
    by_maker: dict[str, list[DescribedUnit]] = {}
    for unit in (unit for members in places.values() for unit in members):
        for said in said_of(unit, judged):
            own = said.maker == MAKER
            contexts = unit.contexts if own else tuple(dataclasses.replace(one, predicted=()) for one in unit.contexts)
            by_maker.setdefault(said.maker, []).append(
                dataclasses.replace(unit, label=said.text, kind=said.kind, r=said.r, contexts=contexts)
            )
    names = _distinct({maker: file_name(maker) for maker in by_maker})
    for maker, some in by_maker.items():
        write_delphi(some, folder / names[maker])
    lines = tuple(f"{names[maker]}: {_counted(len(some), 'label')}" for maker, some in by_maker.items())
    return Exported(folder, lines, skipped)


def _neuronpedia(
    program: Program, units: Sequence[DescribedUnit], judged: Judged, folder: Path, model: str | None
) -> Exported:
    places, skipped = _sites(units)
    layers, lines, left = layers_of(program), [], []
    named = model_name(program) if model is None else model
    sets = _distinct(
        {site: f"{layers[_function(site)]}-{_set_name(program, site)}" for site in places if _function(site) in layers}
    )
    for site, members in places.items():
        if site not in sets:
            left.append(f"{site}: {_counted(len(members), 'unit')} of a function that the program does not call")
            continue
        number, _, name = sets[site].partition("-")
        source = Source(named, int(number), name)
        write_neuronpedia(members, source, folder, judged)
        lines.append(f"v1/{named}/{source.id}: {_counted(len(members), 'unit')} of {site}")
    return Exported(folder, tuple(lines), (*skipped, *left))


FORMS: Mapping[str, Form] = {"neuronpedia": _neuronpedia, "delphi": _delphi, "parquet": _parquet}
"""What `export` can write."""


def model_name(program: Program) -> str:
    """Where a program came from, in letters, digits, dashes and underscores."""
    last = program.source.rstrip("/").rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9_-]+", "-", last).strip("-")[:128] or "model"


def _sites(units: Sequence[DescribedUnit]) -> tuple[Mapping[str, list[DescribedUnit]], tuple[str, ...]]:
    """Units by site; and what is no numbered unit of a site, and so has no place in a table of latents."""
    found: dict[str, list[DescribedUnit]] = {}
    skipped = []
    for unit in units:
        if NUMBERED.fullmatch(unit.name):
            found.setdefault(unit.site, []).append(unit)
        else:
            skipped.append(f"{unit.name}: is no unit with a number")
    return found, tuple(skipped)


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _function(site: str) -> str:
    return site.rpartition(":")[0]


def _set_name(program: Program, site: str) -> str:
    """What the units are of: "pellucid-mlp" for latents of an MLP, else with the name of the value."""
    function, _, value = site.rpartition(":")
    whole = function.removesuffix(DICTIONARY)
    kind = program[whole].kind if value == LATENTS and whole in program.functions else value
    return f"pellucid-{re.sub(r'[^A-Za-z0-9_-]+', '-', kind)}"[:100]


def _distinct(names: Mapping[str, str]) -> Mapping[str, str]:
    """The names, numbered where several are the same (whatever case letters have)."""
    taken: set[str] = set()
    found = {}
    for key, name in names.items():
        number, given = 1, name
        while given.lower() in taken:
            number += 1
            given = f"{name}-{number}"
        taken.add(given.lower())
        found[key] = given
    return found
