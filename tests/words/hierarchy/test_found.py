"""The hierarchy of a planted program: every level is there and tested, figures are those of `measure`."""

import dataclasses

import numpy as np
import planted_language as language
import pytest
import torch

from pellucid.data.corpus import Corpus, CorpusParts
from pellucid.dictionaries.dictionary import Dictionary, TopK
from pellucid.dictionaries.install import install
from pellucid.errors import BadInput
from pellucid.ir.units import sites
from pellucid.words.described import DescribedUnit
from pellucid.words.gathered import acts_of
from pellucid.words.hierarchy.found import describe_modules
from pellucid.words.hierarchy.groups import Grouping
from pellucid.words.hierarchy.level import Trial
from pellucid.words.hierarchy.modules import MODULE, children_of
from pellucid.words.hierarchy.substitution import bench_of, losses, substituted_function, substituted_groups
from pellucid.words.labels.grow import Growth, grow
from pellucid.words.labels.labelset import LabelSet
from pellucid.words.labels.lexicon import survey
from pellucid.words.labels.parser import parse_label
from pellucid.words.reading.install import Words, install_words
from pellucid.words.reading.measure import measure, window_losses
from pellucid.words.reading.settle import means, settle

LATENTS = 40


def corpus(windows, seed, context=24):
    ids = np.random.default_rng(seed).integers(0, language.VOCABULARY, (windows, context)).astype(np.int32)
    return Corpus(ids, tuple(f" w{i}" for i in range(language.VOCABULARY)))


PARTS = CorpusParts(corpus(40, 0), corpus(8, 1), corpus(30, 2), corpus(30, 3))


def dictionary(seed):
    make = torch.Generator().manual_seed(seed)
    encoder, decoder = (torch.randn(LATENTS, language.WIDTH, generator=make) for _ in range(2))
    return Dictionary("transcoder", TopK(4), encoder, torch.zeros(LATENTS), decoder, torch.zeros(language.WIDTH))


@pytest.fixture(scope="module")
def described():
    """The program on words, and the labels of its two dictionaries."""
    program = language.language_program(layers=2)
    for layer in range(2):
        program = install(program, f"layers.{layer}.mlp", dictionary(layer))
    lexicon = survey(PARTS.fit)
    grown = [
        grow(PARTS.fit.ids, acts_of(program, site, PARTS.fit), lexicon, Growth(leaves=4), site=str(site))
        for site in sites(program, "latents")
    ]
    words = Words({f"layers.{layer}.mlp": labels for layer, labels in enumerate(grown)})
    return settle(install_words(program, words), PARTS.fit), grown


TRIAL = Trial(Grouping(smallest=4), windows=4, watched=8, largest=2, each=10)


@pytest.fixture(scope="module")
def found(described):
    program, labels = described
    units = [DescribedUnit("layers.0.attn:heads[0]", "looks back", "rule", 0.5, 0.0, 1.0)]
    return describe_modules(program, labels, PARTS, units, trial=TRIAL)


def test_every_level_is_there_parents_first(found):
    names = [module.name for module in found]
    assert len(set(names)) == len(names)
    assert all(module.parent == "" or module.parent in names[:place] for place, module in enumerate(found))
    assert [module.name for module in found if not module.site] == ["network", "layers.0.mlp", "layers.1.mlp"]
    for mlp in ("layers.0.mlp", "layers.1.mlp"):
        modules = children_of(found, mlp)
        assert all(module.level == MODULE for module in modules)
        assert sorted(unit for module in modules for unit in module.units) == sorted(
            {unit for module in modules for unit in module.units}
        )
        assert sum(module.share for module in modules) == pytest.approx(1, abs=0.05)


def test_every_module_is_described_and_tested(found):
    for module in found:
        assert module.sentence
        if module.site:
            assert module.label is not None
            assert module.detection is not None
    for mlp in ("layers.0.mlp", "layers.1.mlp"):
        tested = [module for module in children_of(found, mlp) if module.recovered is not None]
        assert len(tested) == min(TRIAL.largest, len(children_of(found, mlp)))
        assert all(module.recovered.count == TRIAL.windows for module in tested)


def test_names_are_given_once_in_a_function(found):
    for mlp in ("layers.0.mlp", "layers.1.mlp"):
        titles = [module.title for module in found if module.name.startswith(mlp + ".") and module.title]
        assert len(set(titles)) == len(titles)


def test_the_same_hierarchy_twice(described, found):
    program, labels = described
    units = [DescribedUnit("layers.0.attn:heads[0]", "looks back", "rule", 0.5, 0.0, 1.0)]
    assert repr(describe_modules(program, labels, PARTS, units, trial=TRIAL)) == repr(found)


def test_labels_of_another_number_are_refused(described):
    program, labels = described
    few = LabelSet(labels[0].site, labels[0].labels[:3], labels[0].lexicon)
    with pytest.raises(BadInput, match="give one for each"):
        describe_modules(program, [few, labels[1]], PARTS, trial=TRIAL)


def test_without_labels_functions_are_still_there(described):
    program, _ = described
    found = describe_modules(program, [], PARTS, trial=TRIAL)
    assert [module.name for module in found] == ["network", "layers.0.mlp", "layers.1.mlp"]
    assert all(module.recovered is not None and module.detection is None for module in found)


# ---- substitution


def test_the_bench_runs_as_the_network_does(described):
    program, _ = described
    assert len(np.unique(PARTS.verify.ids)) == language.VOCABULARY
    np.testing.assert_allclose(losses(bench_of(program, PARTS.verify)), window_losses(program, PARTS.verify), rtol=1e-5)


def test_a_function_is_measured_as_by_measure(described):
    program, _ = described
    few = PARTS.verify.rows(slice(0, 4))
    usual = means(program, PARTS.fit)
    (wanted,) = measure(program, few, usual, {"both": ("layers.0.mlp", "layers.1.mlp")})
    share, cost = substituted_function(bench_of(program, few), ["layers.0.mlp", "layers.1.mlp"], usual)
    assert share.value == pytest.approx(wanted.recovered().value, rel=1e-3)
    assert cost == pytest.approx(float((wanted.mean - wanted.real).mean()), rel=1e-3)
    assert share.control != share.value


def test_labels_that_are_right_recover_everything_and_dealt_ones_do_not(described):
    program, labels = described
    few = PARTS.verify.rows(slice(0, 4))
    site = sites(program, "latents")[0]
    exact = acts_of(program, site, few)
    table = np.array([exact.of(unit) for unit in range(LATENTS)])
    usual = table.mean(1)

    class Right(LabelSet):
        def predict(self, ids, given=None):
            place = next(start for start in range(len(few)) if (few.ids[start] == ids[0]).all())
            own = table.reshape(LATENTS, *few.ids.shape)[:, place : place + len(ids)]
            return own.astype(np.float32)

    right = Right(labels[0].site, labels[0].labels, labels[0].lexicon)
    everyone = np.ones(LATENTS, dtype=bool)
    ((share, cost),) = substituted_groups(bench_of(program, few), "layers.0.mlp", right, usual, [everyone])
    assert share.value == pytest.approx(1, abs=1e-3)
    assert share.control < 0.9
    assert cost != 0


def test_labels_that_say_the_mean_recover_nothing(described):
    program, labels = described
    few = PARTS.verify.rows(slice(0, 4))
    silent = tuple(parse_label("0.25 otherwise", labels[0].lexicon) for _ in range(LATENTS))
    mean = LabelSet(labels[0].site, silent, labels[0].lexicon)
    half = np.arange(LATENTS) % 2 == 0
    bench = bench_of(program, few)
    ((share, _),) = substituted_groups(bench, "layers.0.mlp", mean, np.full(LATENTS, 0.25), [half])
    assert share.value == pytest.approx(0, abs=1e-4)


def test_latents_outside_the_group_stay_exact(described):
    program, labels = described
    few = PARTS.verify.rows(slice(0, 4))
    bench = bench_of(program, few)
    nobody = np.zeros(LATENTS, dtype=bool)
    ((_, cost),) = substituted_groups(bench, "layers.1.mlp", labels[1], np.ones(LATENTS), [nobody])
    assert cost == pytest.approx(0, abs=1e-6)
    assert dataclasses.replace(bench).real.shape == (4,)
