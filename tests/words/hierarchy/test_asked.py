"""Names by a labeller: what it is told, how a name is tested, and which names are taken back."""

import numpy as np
import planted_hierarchy as planted
import pytest

from pellucid.words.described import DescribedUnit, Link
from pellucid.words.explain.explaining import Explanation
from pellucid.words.hierarchy.asked import contrast_exams, interface_evidence, judged_names, module_evidence
from pellucid.words.hierarchy.detection import strong
from pellucid.words.hierarchy.modules import DescribedModule
from pellucid.words.scores.marks import Classified

EARLY, LATE = "a.mlp.dictionary:latents", "b.mlp.dictionary:latents"
MODULES = (
    DescribedModule("a.mlp", "mlp", "", 4),
    DescribedModule(
        f"{EARLY}/0", "module", "a.mlp", 2, "cats", sentence="of cats", share=0.4, site=EARLY, units=(0, 1)
    ),
    DescribedModule(f"{EARLY}/1", "module", "a.mlp", 2, None, sentence="of dogs", share=0.6, site=EARLY, units=(2, 3)),
    DescribedModule("b.mlp", "mlp", "", 2),
    DescribedModule(f"{LATE}/0", "module", "b.mlp", 2, "pets", sentence="of pets", share=1.0, site=LATE, units=(0, 1)),
    DescribedModule(f"{LATE}/0.0", "submodule", f"{LATE}/0", 2, "old pets", sentence="of old", site=LATE, units=(0, 1)),
)
UNITS = tuple(
    DescribedUnit(f"{site}[{index}]", f"label {index}", "tree", 0.5, 0.0, 0.1, incoming=incoming)
    for site, count in ((EARLY, 4), (LATE, 2))
    for index in range(count)
    for incoming in [(Link(f"{EARLY}[2]", -2.0), Link(f"{EARLY}[0]", 0.5)) if site == LATE else ()]
)


def test_a_module_is_shown_with_its_children_and_neighbours():
    early, late = module_evidence(MODULES, [MODULES[2], MODULES[4]], UNITS)
    assert early.members == ((f"{EARLY}[2]", "label 2"), (f"{EARLY}[3]", "label 3"))
    assert early.writes == (("pets", "of pets"),)
    assert late.members == (("old pets", "of old"),)
    assert late.reads == ((f"{EARLY}/1", "of dogs"), ("cats", "of cats"))


def test_an_interface_is_what_an_mlp_hands_on():
    (one,) = interface_evidence(MODULES, UNITS)
    assert (one.name, one.width) == ("a.mlp", 4)
    assert one.writers == ((f"{EARLY}/1", "of dogs"), ("cats", "of cats"))
    assert one.readers == (("pets", "of pets"),)


def test_exams_hold_own_contexts_and_those_of_siblings_alone():
    corpus = planted.text(60)
    active = np.array(
        [strong(np.isin(corpus.ids, tokens[:1]).astype(float)) for tokens in (planted.FIRST, planted.SECOND)]
    )
    exams = contrast_exams([MODULES[1], MODULES[2]], corpus, active, each=5)
    for number, exam in enumerate(exams):
        assert sum(sample.active for sample in exam.samples) == 5
        assert sum(not sample.active for sample in exam.samples) == 5
        for sample in exam.samples:
            here = (sample.window, slice(sample.start, sample.stop))
            assert bool((active[number][here] > 0).any()) == sample.active
            assert sample.active or (active[1 - number][here] > 0).any()


def said(part, name):
    return Explanation(part, name, None if name is None else "what it is", None if name else "no reply", 0.1)


RIGHT, HALF, WRONG = Classified(5, 0, 0, 5, 0), Classified(4, 1, 0, 5, 0), Classified(5, 0, 5, 0, 0)


def test_a_name_that_does_not_tell_its_module_is_taken_back():
    good, bad = judged_names([said("a", "cats"), said("b", "things")], [RIGHT, WRONG])
    assert (good.name, good.taken_back, good.told_apart.value) == ("cats", None, 1)
    assert (bad.name, bad.taken_back) == (None, "things")


@pytest.mark.parametrize(("scores", "kept"), [((RIGHT, HALF), "a"), ((HALF, RIGHT), "b"), ((RIGHT, RIGHT), None)])
def test_of_two_modules_with_one_name_the_one_told_better_keeps_it(scores, kept):
    found = judged_names([said("a", "Cats"), said("b", "cats")], scores)
    assert [one.part for one in found if one.name] == ([kept] if kept else [])
    assert sum(one.taken_back is not None for one in found) == (1 if kept else 2)


def test_what_is_missing_is_missing_and_nothing_is_invented():
    none, untested, interface = judged_names(
        [said("a", None), said("b", "cats"), said("c", "hand-over")], [None, Classified(0, 0, 0, 0, 10), None]
    )
    assert (none.name, none.missing) == (None, "no reply")
    assert (untested.name, untested.missing, untested.taken_back) == (None, "no reply to its test", None)
    assert interface.name == "hand-over"
