"""The hierarchy of a described program: submodules, modules, MLPs and attention, layers, the whole.

Groups of latents are found and described on *describe* and tested on *verify*. Every level is described from the one
below: a module from the labels of its latents, an MLP from the descriptions of its modules, what calls it from what it
calls. A layer is active where it changes the stream most. Attention is told by its heads and has no test of detection,
for rules say where heads look and not when they write.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pellucid.data.corpus import CorpusParts
from pellucid.ir.program import Program
from pellucid.ir.units import parse_site
from pellucid.words.described import DescribedUnit
from pellucid.words.gathered import acts_of_sites
from pellucid.words.hierarchy.dictionary import modules_of
from pellucid.words.hierarchy.functions import functions_of
from pellucid.words.hierarchy.level import Level, Trial
from pellucid.words.hierarchy.modules import DescribedModule
from pellucid.words.hierarchy.substitution import bench_of
from pellucid.words.labels.labelset import LabelSet
from pellucid.words.links import whole_of


def describe_modules(
    program: Program,
    labels: Sequence[LabelSet],
    parts: CorpusParts,
    units: Sequence[DescribedUnit] = (),
    *,
    trial: Trial | None = None,
    seed: int = 0,
    report: Callable[[str], None] | None = None,
) -> tuple[DescribedModule, ...]:
    """The modules of a described program at all levels, parents first.

    Args:
        program: with dictionaries and words.
        labels: of the latents of each dictionary; `LabelSet.site` is the name of its site.
        parts: modules are found and described on *describe*, tested on *verify*.
        units: records; heads among them tell what attention does.
        trial: how modules are found and how much is tested.
        seed: of everything drawn.
        report: told the site of each dictionary before it is looked at.

    Raises:
        BadInput: a site is not in the program, or has another number of units than labels.
    """
    trial = trial or Trial()
    corpora = (parts.describe, parts.verify)
    bench = bench_of(program, parts.verify.rows(slice(0, trial.windows)))
    below, mlps = dict[str, tuple[DescribedModule, ...]](), list[Level]()
    sites = [parse_site(program, found.site) for found in labels]
    acts = [acts_of_sites(program, sites, corpus) for corpus in corpora]
    for site, found in zip(sites, labels, strict=True):
        if report is not None:
            report(found.site)
        whole, modules = modules_of(program, found, (acts[0][site], acts[1][site]), corpora, bench, trial, seed)
        below[whole_of(site)] = modules
        mlps.append(whole)
    return functions_of(program, mlps, below, corpora, bench, units, trial, seed)
