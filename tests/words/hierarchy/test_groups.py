"""Groups: planted ones are found, noise has none, and a random partition is worth nothing."""

import numpy as np
import planted_hierarchy as planted
import pytest

from pellucid.errors import BadInput
from pellucid.modules.stability import adjusted_rand
from pellucid.words.hierarchy.groups import NOBODY, Grouping, group_latents, held_quality, together
from pellucid.words.labels.activations import activations_of


def test_planted_groups_are_found():
    groups = group_latents(planted.acts_of(planted.text()))
    assert adjusted_rand(groups.modules, planted.GROUPS) == 1
    assert (groups.submodules == NOBODY).all()


def test_a_partition_beats_a_random_one_on_another_text():
    groups = group_latents(planted.acts_of(planted.text()))
    own, random = held_quality(groups.modules, planted.acts_of(planted.text(seed=1), seed=1))
    assert own > 0.45
    assert abs(random) < 0.1


def test_groups_inside_groups():
    rng = np.random.default_rng(0)
    fine = np.repeat(np.arange(8), 30)
    context = rng.integers(0, 4, 6000)
    exact = 2 * context + (rng.random(6000) < 0.5)
    dense = np.where(exact[:, None] == fine[None, :], 2.0, np.where(context[:, None] == fine[None, :] // 2, 0.7, 0.0))
    dense *= rng.random(dense.shape) < 0.6
    found = group_latents(activations_of(dense), Grouping(neighbours=40, modules=4))
    assert adjusted_rand(found.modules, fine // 2) == 1
    for module in range(4):
        assert len(set(found.modules[found.submodules == module])) <= 1


def test_noise_is_one_group_and_dead_latents_are_in_none():
    rng = np.random.default_rng(0)
    dense = (rng.random((3000, 60)) < 0.05) * rng.random((3000, 60))
    dense[:, 7] = 0
    groups = group_latents(activations_of(dense), Grouping(neighbours=60))
    assert groups.modules[7] == NOBODY
    assert groups.modules.max() == 0


def test_links_are_symmetric_and_of_the_strongest():
    links = together(planted.acts_of(planted.text()), 5).toarray()
    np.testing.assert_array_equal(links, links.T)
    assert (np.diag(links) == 0).all()
    assert ((links > 0).sum(1) >= 5).all()


def test_the_same_groups_twice():
    first, second = (group_latents(planted.acts_of(planted.text()), seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.modules, second.modules)


def test_nothing_active_gives_no_group():
    groups = group_latents(activations_of(np.zeros((50, 6))))
    assert (groups.modules == NOBODY).all()
    assert np.isnan(held_quality(groups.modules, activations_of(np.zeros((50, 6))))).all()


def test_numbers_below_one_are_refused():
    with pytest.raises(BadInput, match="from 1"):
        Grouping(neighbours=0)
