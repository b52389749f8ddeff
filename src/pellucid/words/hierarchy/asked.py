"""Names of modules and interfaces by a language model: evidence from records, and the test that takes names back.

A module is asked about with the descriptions of its children and of the modules that it reads from and writes to, an
interface (what the modules of one MLP hand on) with those that write and read it. A name has to pick out its module:
the labeller is shown contexts in which the module is active and contexts in which only its siblings are, and told to
say which hold what name and label say. A name that does not tell them apart fits several and is taken back; so is one
that two modules were given, unless one of them is told apart better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pellucid.data.corpus import Corpus
from pellucid.words.described import DescribedUnit
from pellucid.words.explain.evidence import InterfaceEvidence, ModuleEvidence
from pellucid.words.explain.explaining import Explanation
from pellucid.words.hierarchy.detection import All
from pellucid.words.hierarchy.explained import ExplainedModule
from pellucid.words.hierarchy.modules import MODULE, DescribedModule, Tested, children_of
from pellucid.words.scores.exams import LENGTH, Exam, Sample, exam_of
from pellucid.words.scores.marks import Classified

FITS = 0.6
"""Balanced accuracy from which on a name tells its module from its siblings."""

NEIGHBOURS, SHOWN = 5, 24
"""Modules shown that a module reads from or writes to, and modules that write an interface."""


def module_evidence(
    modules: Sequence[DescribedModule], chosen: Sequence[DescribedModule], units: Sequence[DescribedUnit]
) -> tuple[ModuleEvidence, ...]:
    """What a labeller is told of the chosen modules.

    Args:
        modules: all of them.
        units: records of their latents, with links.
    """
    records = {unit.name: unit for unit in units}
    reads, writes = _traffic(modules, records)
    told = {module.name: _told(module) for module in modules}
    found = []
    for module in chosen:
        below = [told[child.name] for child in children_of(modules, module.name)]
        members = below or [
            (unit.name, unit.label) for unit in _members(module, records) if unit.label is not None
        ]  # fmt: skip
        found.append(
            ModuleEvidence(
                module.name, tuple(members), reads=tuple(told[name] for name in reads.get(module.name, ())),
                writes=tuple(told[name] for name in writes.get(module.name, ())),
            )
        )  # fmt: skip
    return tuple(found)


def interface_evidence(
    modules: Sequence[DescribedModule], units: Sequence[DescribedUnit]
) -> tuple[InterfaceEvidence, ...]:
    """What a labeller is told of what each MLP hands on; MLPs whose modules nobody reads have none."""
    _, writes = _traffic(modules, {unit.name: unit for unit in units})
    told = {module.name: _told(module) for module in modules}
    found = []
    for parent in dict.fromkeys(module.parent for module in modules if module.level == MODULE):
        writers = sorted(children_of(modules, parent), key=lambda module: -module.share)[:SHOWN]
        readers = dict.fromkeys(reader for writer in writers for reader in writes.get(writer.name, ()))
        if readers:
            width = sum(module.latents for module in children_of(modules, parent))
            shown = tuple(told[reader] for reader in [*readers][:SHOWN])
            found.append(InterfaceEvidence(parent, tuple(told[one.name] for one in writers), shown, width))
    return tuple(found)


def _told(module: DescribedModule) -> tuple[str, str]:
    return module.title or module.name, module.sentence


def _members(module: DescribedModule, records: Mapping[str, DescribedUnit]) -> list[DescribedUnit]:
    names = (f"{module.site}[{unit}]" for unit in module.units)
    return [records[name] for name in names if name in records]


def _traffic(
    modules: Sequence[DescribedModule], records: Mapping[str, DescribedUnit]
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """From which modules each module reads most, and which read it most, by the strengths of links between units."""
    own = [module for module in modules if module.level == MODULE]
    home = {f"{module.site}[{unit}]": module.name for module in own for unit in module.units}
    strengths: dict[tuple[str, str], float] = {}
    for module in own:
        for unit in _members(module, records):
            for link in unit.incoming:
                if link.name in home:
                    pair = (home[link.name], module.name)
                    strengths[pair] = strengths.get(pair, 0.0) + abs(link.strength)
    reads, writes = dict[str, list[str]](), dict[str, list[str]]()
    for (source, reader), _ in sorted(strengths.items(), key=lambda item: (-item[1], item[0])):
        if len(reads.setdefault(reader, [])) < NEIGHBOURS:
            reads[reader].append(source)
        if len(writes.setdefault(source, [])) < NEIGHBOURS:
            writes[source].append(reader)
    return reads, writes


# ---- the test


def contrast_exams(
    modules: Sequence[DescribedModule], corpus: Corpus, active: All, each: int = 8, seed: int = 0
) -> tuple[Exam, ...]:
    """For each module contexts in which it is active, and as many in which it is not but its siblings are.

    Args:
        active: how far each module is above its resting level (`detection.strong`), siblings beside each other.
    """
    length = min(LENGTH, corpus.ids.shape[1] - 1)
    exams = [
        exam_of(module.name, corpus.ids, corpus.pieces, one, each=2 * each, length=length, seed=seed)
        for module, one in zip(modules, active, strict=True)
    ]
    rng = np.random.default_rng(seed)
    return tuple(_contrast(number, exams, active[number], each, rng) for number in range(len(exams)))


def _contrast(number: int, exams: Sequence[Exam], own: np.ndarray, each: int, rng: np.random.Generator) -> Exam:
    own_pairs = zip(exams[number].samples, exams[number].contexts, strict=True)
    shown = [pair for pair in own_pairs if pair[0].active][:each]
    others = [
        (sample, context)
        for place, exam in enumerate(exams) if place != number
        for sample, context in zip(exam.samples, exam.contexts, strict=True)
        if sample.active and not own[sample.window, sample.start : sample.stop].any()
    ]  # fmt: skip
    picked = [others[i] for i in rng.permutation(len(others))[: len(shown)]]
    silent = [(Sample(sample.window, sample.start, sample.stop, False, ()), context) for sample, context in picked]
    pairs = [*shown, *silent]
    order = [pairs[i] for i in rng.permutation(len(pairs))]
    return Exam(exams[number].unit, tuple(sample for sample, _ in order), tuple(context for _, context in order))


def judged_names(found: Sequence[Explanation], scores: Sequence[Classified | None]) -> tuple[ExplainedModule, ...]:
    """Explanations with the names that fit several taken back.

    Args:
        scores: of each on its contrast exam; None where there is none, as for interfaces.
    """
    values = [0.5 if score is None else score.balanced.value for score in scores]
    spoken = [None if one.name is None else one.name.casefold() for one in found]
    made = []
    for number, (one, score) in enumerate(zip(found, scores, strict=True)):
        rivals = [values[i] for i, name in enumerate(spoken) if i != number and name == spoken[number]]
        test = None if score is None else Tested.of(score.balanced, float("nan"))
        missing = one.missing
        if missing is None and score is not None and score.answered == 0:
            missing = "no reply to its test"
        beaten = any(not values[number] > rival for rival in rivals)
        unfit = score is not None and not values[number] >= FITS
        back = one.name if one.name is not None and missing is None and (beaten or unfit) else None
        name = one.name if back is None and missing is None else None
        made.append(ExplainedModule(one.part, name, one.label, back, missing, test))
    return tuple(made)
