"""A module in a terminal: name, description, tests, what is in it. Nothing in it can steer a terminal."""

from __future__ import annotations

from pathlib import Path

from rich.text import Text

from pellucid.errors import BadInput
from pellucid.reports.module_pages import tested
from pellucid.reports.terminal import add
from pellucid.reports.unit_views import score
from pellucid.reports.wording import clip, number, percent
from pellucid.words.hierarchy.explained import PLACE as EXPLAINED_PLACE
from pellucid.words.hierarchy.explained import ExplainedModule, read_explained
from pellucid.words.hierarchy.modules import PLACE, DescribedModule, children_of, read_modules

LABEL, CHILD, LISTED = 1200, 100, 24


def modules_called(directory: Path, name: str) -> tuple[DescribedModule, ...]:
    """The modules below functions that have a name or a title; none where the directory holds none.

    Raises:
        BadInput: the file of modules is damaged.
    """
    file = directory / PLACE
    known = read_modules(file) if file.is_file() else ()
    return tuple(module for module in known if module.site and name in (module.name, module.title))


def module_text(directory: Path, name: str) -> Text:
    """What the directory of a described program knows of the modules that have a name or a title.

    Raises:
        BadInput: there is none, or the file of modules is missing or damaged.
    """
    every, text = read_modules(directory / PLACE), Text()
    found = [module for module in every if name in (module.name, module.title)]
    if not found:
        raise BadInput(f"module {name!r}: there is none; {directory / 'modules' / 'index.html'} lists them")
    said = {one.part: one for one in read_explained(directory / EXPLAINED_PLACE)}
    for module in found:
        _add_module(text, module, children_of(every, module.name))
        if module.name in said:
            _add_said(text, said[module.name])
    return text


def _add_module(text: Text, module: DescribedModule, children: tuple[DescribedModule, ...]) -> None:
    add(text, f"{module.shown}\n", "bold")
    share = "" if module.share != module.share else f", {percent(module.share)} of what its dictionary writes"
    add(text, f"{module.name}: {module.level}, {module.latents} latents{share}\n", "dim")
    add(text, f"{module.sentence}\n")
    if module.label is not None:
        add(text, f"{clip(module.label, LABEL)}\n")
    if module.detection is not None:
        add(text, f"detection {tested(module.detection)}, with a sibling's {score(module.detection.control)}\n")
    if module.recovered is not None:
        add(text, f"recovered {tested(module.recovered)} of {number(module.cost)} nats, ")
        add(text, f"with labels dealt to others {score(module.recovered.control)}\n")
    for child in children[:LISTED]:
        add(text, f"  {child.name}  {clip(child.shown, CHILD)}\n")
    if module.units and not children:
        add(text, f"latents {', '.join(map(str, module.units))}\n")


def _add_said(text: Text, said: ExplainedModule) -> None:
    told = " — ".join(part for part in (said.name, said.label) if part is not None)
    add(text, f"labeller: {clip(told or f'missing: {said.missing}', LABEL)}\n")
    if said.taken_back is not None:
        add(text, f"its name fits several and was taken back: {clip(said.taken_back, CHILD)}\n", "dim")
    if said.told_apart is not None:
        add(text, f"tells its contexts from its siblings', as the labeller judges: {tested(said.told_apart)}\n", "dim")
