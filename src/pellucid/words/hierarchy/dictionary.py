"""The modules of one dictionary: its latents in groups at two levels, described from their labels, named and tested."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float
from scipy import sparse

from pellucid.errors import BadInput
from pellucid.ir.program import Program
from pellucid.ir.units import Site, parse_site
from pellucid.words.hierarchy.composed import described, said_together, sentences
from pellucid.words.hierarchy.groups import Groups, group_latents
from pellucid.words.hierarchy.level import Corpora, Level, Trial, tested
from pellucid.words.hierarchy.modules import MODULE, SUBMODULE, DescribedModule
from pellucid.words.hierarchy.substitution import Bench, substituted_groups
from pellucid.words.labels.activations import Activations
from pellucid.words.labels.labelset import LabelSet
from pellucid.words.links import whole_of
from pellucid.words.links import written_by as directions_written

Sizes: TypeAlias = Float[np.ndarray, " latents"]
"""How much each latent writes for a unit of activation."""


def modules_of(
    program: Program,
    labels: LabelSet,
    acts: tuple[Activations, Activations],
    corpora: Corpora,
    bench: Bench,
    trial: Trial,
    seed: int,
) -> tuple[Level, tuple[DescribedModule, ...]]:
    """The modules of one dictionary, tested, parents first; and the whole of it as a level of one, not yet tested.

    Args:
        acts: of the latents on *describe* and on *verify*.

    Raises:
        BadInput: the site of the labels is not in the program, or has another number of units.
    """
    site = parse_site(program, labels.site)
    if len(labels) != site.units:
        raise BadInput(f"units of {site}: {site.units}, but {len(labels)} labels; give one for each")
    groups = group_latents(acts[0], trial.grouping, seed)
    sizes = sizes_of(program, site)
    coarse = _level(_of_groups(site, groups, MODULE), labels, sizes, acts, corpora)
    fine = _level(_of_groups(site, groups, SUBMODULE), labels, sizes, acts, corpora)
    modules = tested(_with_substitution(coarse, labels, acts[0], bench, trial, seed), corpora, (), trial, seed)
    titles = [module.title for module in modules if module.title is not None]
    submodules = tested(fine, corpora, titles, trial, seed)
    return _whole(site, coarse, acts, sizes, corpora), tuple(_in_order(modules, submodules))


def _whole(site: Site, coarse: Level, acts: tuple[Activations, Activations], sizes: Sizes, corpora: Corpora) -> Level:
    """The MLP as one module, described from the descriptions of its modules."""
    everyone = np.ones((1, site.units), dtype=bool)
    written = [written_by(a, everyone, sizes, corpus.ids.shape) for a, corpus in zip(acts, corpora, strict=True)]
    said = coarse.labels.predict(corpora[0].ids).sum(0).reshape(1, -1)
    name = whole_of(site)
    label = described(corpora[0].ids, said, coarse.labels.lexicon, name)
    (text,) = sentences(label, corpora[0].ids)
    module = DescribedModule(name, "mlp", "", site.units, label=str(label.labels[0]), sentence=text)
    return Level((module,), label, (written[0], written[1]))


def _in_order(modules: Sequence[DescribedModule], submodules: Sequence[DescribedModule]) -> Iterator[DescribedModule]:
    for module in modules:
        yield module
        yield from (one for one in submodules if one.parent == module.name)


def sizes_of(program: Program, site: Site) -> Sizes:
    """How much each latent writes for a unit of activation; all alike where the table is not known."""
    table = directions_written(program, site)
    if table is None or len(table) != site.units:
        return np.ones(site.units)
    return np.asarray(table.double().norm(dim=1).numpy())


def _of_groups(site: Site, groups: Groups, level: str) -> tuple[DescribedModule, ...]:
    """The groups of a level as records that hold nothing but their place."""
    own = groups.modules if level == MODULE else groups.submodules
    made, before = [], dict[int, int]()
    for group in range(int(own.max()) + 1):
        units = np.flatnonzero(own == group)
        parent, name = whole_of(site), f"{site}/{group}"
        if level == SUBMODULE:
            module = int(groups.modules[units[0]])
            before[module] = before.get(module, -1) + 1
            parent, name = f"{site}/{module}", f"{site}/{module}.{before[module]}"
        held = tuple(int(unit) for unit in units)
        made.append(DescribedModule(name, level, parent, len(held), site=str(site), units=held))
    return tuple(made)


def _level(
    modules: tuple[DescribedModule, ...],
    labels: LabelSet,
    sizes: Sizes,
    acts: tuple[Activations, Activations],
    corpora: Corpora,
) -> Level:
    """Groups with what they write and are described to write."""
    members = np.zeros((len(modules), len(labels)), dtype=bool)
    for row, module in zip(members, modules, strict=True):
        row[list(module.units)] = True
    written = [written_by(found, members, sizes, corpus.ids.shape) for found, corpus in zip(acts, corpora, strict=True)]
    if not modules:
        return Level((), labels, (written[0], written[1]))
    said = said_together(labels, corpora[0].ids, members, sizes)
    found = described(corpora[0].ids, said, labels.lexicon, labels.site)
    total = max(float(sizes @ _sums(acts[0])), 1e-30)
    texts = sentences(found, corpora[0].ids)
    told = tuple(
        dataclasses.replace(module, label=str(label), sentence=text, share=float(strengths.sum()) / total)
        for module, label, text, strengths in zip(modules, found.labels, texts, written[0], strict=True)
    )
    return Level(told, found, (written[0], written[1]))


def _sums(acts: Activations) -> Float[np.ndarray, " latents"]:
    return np.asarray(abs(acts.matrix).sum(1)).ravel()


def written_by(
    acts: Activations,
    members: Bool[np.ndarray, "groups latents"],
    sizes: Sizes,
    shape: tuple[int, int],
) -> Float[np.ndarray, "groups windows context"]:
    """How much the latents of each group write at every position."""
    total = sparse.csr_matrix(members * sizes) @ abs(acts.matrix)
    return np.asarray(total.todense(), dtype=np.float32).reshape(len(members), *shape)


def _with_substitution(
    level: Level, labels: LabelSet, acts: Activations, bench: Bench, trial: Trial, seed: int
) -> Level:
    """The level with the largest modules run by their latents' labels."""
    if not level.modules:
        return level
    order = sorted(range(len(level.modules)), key=lambda i: -level.modules[i].share)[: trial.largest]
    chosen = [membership_of(level.modules[i], len(labels)) for i in order]
    usual = np.asarray(acts.matrix.mean(1)).ravel()
    found = substituted_groups(bench, level.modules[0].parent, labels, usual, chosen, seed)
    modules = list(level.modules)
    for place, (share, cost) in zip(order, found, strict=True):
        modules[place] = dataclasses.replace(modules[place], recovered=share, cost=cost)
    return dataclasses.replace(level, modules=tuple(modules))


def membership_of(module: DescribedModule, latents: int) -> Bool[np.ndarray, " latents"]:
    """Which latents a module holds."""
    held = np.zeros(latents, dtype=bool)
    held[list(module.units)] = True
    return held
