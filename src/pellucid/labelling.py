"""Labels by a language model: evidence of latents from a described program goes to an endpoint, labels come back.

capture → evidence → cost → ask → judge → explanations.jsonl, labels.parquet → pages
modules, interfaces → evidence → cost → ask → names that fit several taken back → modules-explained.jsonl → page

The store of activations is kept in the folder `words` of the description, replies in a folder beside it: an endpoint
is tried before anything else is begun. So a run that was stopped goes on where it was, and asks nothing twice. Labels
are judged on the *verify* windows by detection and fuzzing, each beside the label of another latent, and the trees of
the same latents are run on the same exams.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from jaxtyping import Float

from pellucid.data.activations.capture import capture
from pellucid.data.activations.store import Store
from pellucid.data.corpus import Corpus, CorpusParts, split_corpus
from pellucid.describing import FOLDER
from pellucid.errors import BadInput
from pellucid.fanout import HERE, Fan
from pellucid.ir.directory import writing
from pellucid.ir.program import Program
from pellucid.ir.units import Unit, parse_site, sites
from pellucid.reports.module_pages import write_module_page
from pellucid.reports.unit_pages import write_unit_pages
from pellucid.words.described import PLACE, UNITS, read_units
from pellucid.words.explain.asking import Asker
from pellucid.words.explain.endpoint import endpoint_from_environment
from pellucid.words.explain.evidence import Evidence
from pellucid.words.explain.explaining import EXPLANATION, Explanation, cost_of, explain, explain_questions
from pellucid.words.explain.stored import stored_evidence
from pellucid.words.gathered import acts_of
from pellucid.words.heads.saving import load_heads
from pellucid.words.hierarchy.asked import contrast_exams, interface_evidence, judged_names, module_evidence
from pellucid.words.hierarchy.detection import strong
from pellucid.words.hierarchy.dictionary import sizes_of, written_by
from pellucid.words.hierarchy.explained import PLACE as EXPLAINED_PLACE
from pellucid.words.hierarchy.explained import ExplainedModule, write_explained
from pellucid.words.hierarchy.modules import MODULE, DescribedModule, children_of, read_modules
from pellucid.words.hierarchy.modules import PLACE as MODULES_PLACE
from pellucid.words.judged import MAKER, JudgedLabel, Score, ScoreKind, by_unit, read_judged, replacing, write_judged
from pellucid.words.labels.labelset import LabelSet, load_labels
from pellucid.words.lines import write_lines
from pellucid.words.reading.install import Words
from pellucid.words.reading.sources import knowing
from pellucid.words.scores.asked import classify
from pellucid.words.scores.exams import Exam
from pellucid.words.scores.judging import asked_scores, doings, exams_of, judging_questions, run_scores

EXPLANATIONS = "explanations.jsonl"
EACH = 5
"""Active contexts of an exam, and as many silent ones."""


def labeller_at(address: str, model: str | None, output: str | PathLike[str], max_calls: int | None = None) -> Asker:
    """A labeller that has answered one small question; its replies are kept in a folder beside the description.

    Raises:
        BadInput: it is down, refuses the key, or does not know the model.
    """
    folder = Path(output)
    return Asker.open(
        endpoint_from_environment(address, model), folder.with_name(f"{folder.name}.replies"), max_calls=max_calls
    )


def explain_latents(
    program: Program,
    corpus: Corpus,
    output: str | PathLike[str],
    asker: Asker,
    *,
    count: int = 60,
    how: Sequence[ScoreKind] = ("detection", "fuzzing"),
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
    fan: Fan = HERE,
) -> tuple[JudgedLabel, ...]:
    """Ask an endpoint what latents of a described program stand for, and what its labels are worth.

    Args:
        program: what `describe` returned.
        corpus: the corpus it was described with; contexts come from its *describe* windows, exams from *verify*.
        output: the directory of the description; records and pages of its units get the labels.
        asker: an endpoint that has answered, with its cap on calls.
        count: latents, drawn among those that are active.
        how: the exams that labels are judged by; none for labels without scores.
        seed: of the split and of the draw.
        fan: what activations are captured on; calls are sent from here, so that pace and cap are those of the whole.

    Returns:
        The labels of the endpoint, with their scores; missing ones say why.

    Raises:
        BadInput: the program has no dictionaries, or fewer latents are active.
    """
    say = progress or (lambda stage: None)
    place = Path(output) / FOLDER
    parts = split_corpus(corpus, seed)
    say("capture: what latents do on the windows that are shown")
    store = capture(program, parts.describe, sites(program, "latents"), place / "activations", fan=fan)
    units = _drawn(store, program, count, seed)
    evidence = list(stored_evidence(program, parts.describe, store, units))
    exams = exams_of(parts.verify, doings(program, parts.verify, units), each=EACH, seed=seed)
    say(f"ask: {cost_of(asker, explain_questions(evidence)) + cost_of(asker, judging_questions(exams, how))}")
    found = explain(asker, evidence)
    with writing(output):
        write_lines(found, EXPLANATION, place / EXPLANATIONS)
    say("ask: what the labels are worth on text that they were not made from")
    scores = asked_scores(asker, [one.label for one in found], exams, how, seed)
    labels = tuple(_label(asker, one, some) for one, some in zip(found, scores, strict=True))
    _recorded((*_trees(program, parts, place, units, exams, seed), *labels), Path(output), program.source)
    return labels


def explain_modules(
    program: Program,
    corpus: Corpus,
    output: str | PathLike[str],
    asker: Asker,
    *,
    count: int = 24,
    windows: int = 64,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> tuple[ExplainedModule, ...]:
    """Ask an endpoint for names of modules and interfaces, from the descriptions of their children.

    Args:
        program: what `describe` returned.
        corpus: the corpus it was described with.
        output: the directory of the description.
        asker: an endpoint that has answered, with its cap on calls.
        count: modules, of each MLP equally many, those that write most.
        windows: of *verify*, in which contexts are looked for that tell a module from its siblings.
        seed: of the split and of the exams.

    Returns:
        What is said of modules, then of interfaces; a name that fits several is taken back, missing ones say why.

    Raises:
        BadInput: the directory holds no modules.
    """
    say = progress or (lambda stage: None)
    modules, units = read_modules(Path(output) / MODULES_PLACE), read_units(Path(output) / PLACE)
    sets = _largest(modules, count)
    chosen = [module for own in sets for module in own]
    evidence: list[Evidence] = [*module_evidence(modules, chosen, units), *interface_evidence(modules, units)]
    held = split_corpus(corpus, seed).verify.rows(slice(0, windows))
    exams = [exam for own in sets for exam in contrast_exams(own, held, _doing(program, own, held), seed=seed)]
    say(f"ask: {cost_of(asker, explain_questions(evidence))}, and as many again to test names")
    found = explain(asker, evidence)
    told = [None if one.label is None else f"{one.name}: {one.label}" for one in found[: len(chosen)]]
    scores = classify(asker, "detection", told, exams)
    explained = judged_names(found, [*scores, *[None] * (len(found) - len(chosen))])
    with writing(output):
        write_explained(explained, Path(output) / EXPLAINED_PLACE)
        write_module_page(modules, units, Path(output), program.source, explained)
    return explained


def _largest(modules: Sequence[DescribedModule], count: int) -> list[list[DescribedModule]]:
    """The modules of each MLP that write most, equally many of each, `count` in all."""
    parents = list(dict.fromkeys(module.parent for module in modules if module.level == MODULE))
    most = -(-count // max(len(parents), 1))
    return [sorted(children_of(modules, parent), key=lambda one: -one.share)[:most] for parent in parents]


def _doing(
    program: Program, modules: Sequence[DescribedModule], corpus: Corpus
) -> Float[np.ndarray, "modules windows context"]:
    """How far modules of one site are above their resting level."""
    site = parse_site(program, modules[0].site)
    members = np.array([np.isin(np.arange(site.units), module.units) for module in modules])
    acts = acts_of(program, site, corpus)
    return np.array([*map(strong, written_by(acts, members, sizes_of(program, site), corpus.ids.shape))])


def incomplete(labels: Sequence[JudgedLabel | ExplainedModule]) -> int:
    """How many labels are missing, or have a score for which no reply came at all."""
    return sum(
        label.missing is not None
        or (isinstance(label, JudgedLabel) and any(score.contexts == 0 and score.missing > 0 for score in label.scores))
        for label in labels
    )


def _label(asker: Asker, found: Explanation, scores: tuple[Score, ...]) -> JudgedLabel:
    return JudgedLabel(found.part, "language model", asker.endpoint.model, found.label, found.missing, scores)


def _recorded(labels: Sequence[JudgedLabel], output: Path, source: str) -> None:
    """The labels beside the records of the units, and the pages with both."""
    with writing(output):
        every = replacing(read_judged(output / PLACE), labels)
        write_judged(every, output / PLACE)
        if (output / PLACE / UNITS).is_file():
            write_unit_pages(read_units(output / PLACE), output, source, by_unit(every))


def _trees(
    program: Program, parts: CorpusParts, place: Path, units: Sequence[Unit], exams: Sequence[Exam], seed: int
) -> list[JudgedLabel]:
    """The trees of units, run on the same exams; none where there are no files of trees."""
    files = {file.stem: load_labels(file) for file in sorted((place / "labels").glob("*.json"))}
    rules = load_heads(place / "heads") if (place / "heads").is_dir() else ()
    grown = {labels.site: labels for labels in knowing(program, Words(files, rules)).values()}
    if not units or any(str(unit.site) not in grown for unit in units):
        return []
    training = exams_of(parts.describe, doings(program, parts.describe, units), each=4 * EACH, seed=seed)
    own = [grown[str(unit.site)].labels[unit.index] for unit in units]
    before, here = (_predicted(grown, units, part) for part in (parts.describe, parts.verify))
    scores = run_scores(before, here, training, exams, seed)
    return [
        JudgedLabel(str(unit), "tree", MAKER, str(label), None, some)
        for unit, label, some in zip(units, own, scores, strict=True)
    ]


def _predicted(
    grown: dict[str, LabelSet], units: Sequence[Unit], corpus: Corpus
) -> list[Float[np.ndarray, "windows context"]]:
    """What the trees of units predict on a corpus, in order."""
    found = dict[Unit, Float[np.ndarray, "windows context"]]()
    for site in dict.fromkeys(unit.site for unit in units):
        here = [unit for unit in units if unit.site == site]
        labels = grown[str(site)]
        few = labels.some([unit.index for unit in here])
        found.update(zip(here, few.predict(corpus.ids), strict=True))
    return [found[unit] for unit in units]


def _drawn(store: Store, program: Program, count: int, seed: int) -> Sequence[Unit]:
    """Some of the latents that are active at all, in order."""
    active = [
        site[int(index)] for site in sites(program, "latents") for index in np.flatnonzero(store.moments(site).active)
    ]
    if len(active) < count:
        raise BadInput(
            f"latents: {count} wanted, {len(active)} are active on this text; ask for fewer or give more text"
        )
    chosen = np.random.default_rng(seed).choice(len(active), count, replace=False)
    return [active[i] for i in np.sort(chosen)]
