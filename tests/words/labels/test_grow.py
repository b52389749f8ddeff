"""Growing: planted rules are found, noise is not, and what is listed has to be worth it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pellucid.errors import BadInput
from pellucid.words.labels.activations import Activations, activations_of, activations_of_entries, activations_of_top
from pellucid.words.labels.agreement import agreement
from pellucid.words.labels.grow import Growth, grow
from pellucid.words.labels.kernels import split_gain
from pellucid.words.labels.lexicon import Lexicon

PIECES = ("<s>", *(f" w{i}" for i in range(60)), ".")
LEXICON = Lexicon(PIECES, 0, (), {"small": tuple(range(1, 9)), "middle": tuple(range(9, 16)), "last": (20,)})
RNG = np.random.default_rng(0)
IDS = RNG.integers(1, 21, (60, 50))
OTHER = np.random.default_rng(1).integers(1, 21, (30, 50))
PLAIN = Growth(slots=("current", "previous", "two back", "place"))


def planted(ids, noise=0.0, seed=0):
    """One unit: 2 on tokens 1 to 5, 3 where besides the token before is 1 to 10, else 0."""
    before = np.concatenate([np.zeros((len(ids), 1), int), ids[:, :-1]], axis=1)
    fires = np.isin(ids, range(1, 6))
    acts = 2.0 * fires + fires * np.isin(before, range(1, 11))
    return acts + noise * np.random.default_rng(seed).normal(size=ids.shape)


def table(acts):
    return activations_of(acts.reshape(-1, 1))


def test_a_planted_rule_is_found():
    label = grow(IDS, table(planted(IDS)), LEXICON, PLAIN).labels[0]
    assert np.allclose(label.predict(OTHER)[:, 1:], planted(OTHER)[:, 1:])
    assert label.rules[0].conditions[0].codes == (1, 2, 3, 4, 5)
    assert len(label.rules) == 3


def test_noise_gets_no_rules_and_little_noise_no_more_than_it_needs():
    noise = np.random.default_rng(3).normal(size=IDS.shape)
    assert len(grow(IDS, table(noise), LEXICON, PLAIN).labels[0].rules) == 1
    noisy = grow(IDS, table(planted(IDS, 0.2)), LEXICON, PLAIN)
    assert agreement(noisy, OTHER, table(planted(OTHER, 0.2, 1))).median > 0.9
    assert len(noisy.labels[0].rules) <= 5


def test_named_sets_are_unions_of_clusters():
    acts = 1.0 * np.isin(IDS, [*range(1, 9), 20])
    label = grow(IDS, table(acts), LEXICON, Growth(sets="named", slots=PLAIN.slots)).labels[0]
    assert str(label) == "1 where current in {<last>, <small>}; 0 otherwise"


def test_sets_stay_below_their_cap_and_leaves_below_theirs():
    acts = RNG.normal(size=62)[IDS] + RNG.normal(size=62)[np.roll(IDS, 1, axis=1)]
    for cap, leaves in ((1, 12), (3, 4), (50, 2)):
        label = grow(IDS, table(acts), LEXICON, Growth(cap=cap, leaves=leaves, penalty=0.1)).labels[0]
        assert max(label.sets) <= cap
        assert 1 < len(label.rules) <= leaves


def test_the_first_split_is_the_best_of_all_subsets():
    """Against every subset of eight tokens."""
    ids = np.random.default_rng(5).integers(1, 9, (40, 20))
    acts = np.random.default_rng(6).normal(size=9)[ids] ** 2 + 0.3 * np.random.default_rng(7).normal(size=ids.shape)
    growth = Growth(leaves=2, penalty=0, hold_out=39, slots=("current",))
    label = grow(ids, table(acts), LEXICON, growth).labels[0]
    kept = np.arange(len(ids)) % 39 != 0
    shown, y = ids[kept, 1:].ravel(), acts[kept, 1:].ravel()

    def gain(subset):
        inside = np.isin(shown, subset)
        return split_gain(float(len(y)), float(y.sum()), float(inside.sum()), float(y[inside].sum()))

    best = max(gain(subset) for size in range(1, 8) for subset in itertools.combinations(range(1, 9), size))
    assert gain(label.rules[0].conditions[0].codes) == pytest.approx(best, rel=1e-9)


def test_sparse_and_dense_activations_grow_the_same():
    acts = np.maximum(planted(IDS, 0.3) - 0.5, 0)
    dense = activations_of(acts.reshape(-1, 1))
    top = activations_of_top(np.zeros((IDS.size, 1), int), acts.reshape(-1, 1), 1)
    assert (np.diff(dense.places) > 0).all()
    assert grow(IDS, dense, LEXICON) == grow(IDS, top, LEXICON)


def test_units_do_not_see_each_other_and_threads_change_nothing():
    units = np.stack([planted(IDS, 0.2, seed).ravel() for seed in range(5)], axis=1)
    together = grow(IDS, activations_of(units), LEXICON, PLAIN)
    assert together == grow(IDS, activations_of(units), LEXICON, PLAIN, threads=3)
    alone = grow(IDS, activations_of(units[:, 2:3]), LEXICON, PLAIN)
    assert alone.labels[0] == together.labels[2]


def test_values_are_means_over_all_positions_but_the_first():
    acts = planted(IDS, 0.2)
    labels = grow(IDS, table(acts), LEXICON, PLAIN)
    leaves = labels.leaf_of(labels.read(IDS)).reshape(IDS.shape)[:, 1:]
    for leaf, value in enumerate(labels.values[0]):
        assert value == pytest.approx(acts[:, 1:][leaves == leaf].mean(), rel=1e-2, abs=1e-3)


def test_the_first_position_does_not_count():
    acts = planted(IDS)
    wild = acts.copy()
    wild[:, 0] = 1e6
    assert grow(IDS, table(acts), LEXICON, PLAIN) == grow(IDS, table(wild), LEXICON, PLAIN)


def test_where_a_head_looks_can_be_learned():
    looks = RNG.integers(0, 3, IDS.shape)
    acts = 1.0 * np.isin(np.take_along_axis(IDS, looks, axis=1), range(1, 8))
    label = grow(IDS, table(acts), LEXICON, Growth(), given={"head 2.1": looks}).labels[0]
    assert label.slots == ("head 2.1",)


def test_dead_units_get_a_label_that_says_so():
    label = grow(IDS, activations_of(np.zeros((IDS.size, 1))), LEXICON, PLAIN).labels[0]
    assert str(label) == "0 otherwise"


def test_agreement_is_pearsons_r_and_shuffled_labels_have_none():
    def wave(ids, unit):
        return np.random.default_rng(unit).normal(size=62)[ids] > 0.3

    units = np.stack([wave(IDS, u).ravel() for u in range(20)], axis=1).astype(float)
    other = np.stack([wave(OTHER, u).ravel() for u in range(20)], axis=1).astype(float)
    other += 0.2 * np.random.default_rng(0).normal(size=other.shape)
    labels = grow(IDS, activations_of(units), LEXICON, PLAIN)
    found = agreement(labels, OTHER, activations_of(other))
    said = labels.predict(OTHER)[:, :, 1:].reshape(20, -1)
    real = other.T.reshape(20, *OTHER.shape)[:, :, 1:].reshape(20, -1)
    assert found.own == pytest.approx([np.corrcoef(a, b)[0, 1] for a, b in zip(said, real, strict=True)])
    assert found.median > 0.8
    assert abs(found.median_shuffled) < 0.1


def test_agreement_of_dead_units_is_not_a_number():
    labels = grow(IDS, activations_of(np.stack([planted(IDS).ravel()] * 2, axis=1)), LEXICON, PLAIN)
    acts = np.stack([planted(OTHER).ravel(), np.zeros(OTHER.size)], axis=1)
    found = agreement(labels, OTHER, activations_of(acts))
    assert np.isnan(found.own).tolist() == [False, True]
    assert found.median == pytest.approx(found.own[0])
    with pytest.raises(BadInput, match="no unit acts"):
        agreement(labels, OTHER, activations_of(acts * 0))
    with pytest.raises(BadInput, match="same text"):
        agreement(labels, IDS, activations_of(acts))


def test_what_cannot_be_grown_is_refused():
    acts = table(planted(IDS))
    with pytest.raises(BadInput, match="same text"):
        grow(IDS[:5], acts, LEXICON)
    with pytest.raises(BadInput, match="clusters"):
        grow(IDS, acts, Lexicon(PIECES, 0), Growth(sets="named"))
    with pytest.raises(BadInput, match="no slot"):
        grow(IDS, acts, LEXICON, Growth(slots=("colour",)))
    for wrong in ({"leaves": 1}, {"cap": 0}, {"smallest": 0}, {"hold_out": 1}, {"penalty": -1.0}):
        with pytest.raises(BadInput, match="growth"):
            Growth(**wrong)


def test_entries_make_the_same_activations_as_a_table():
    dense = np.random.default_rng(0).normal(size=(30, 4)) * (np.random.default_rng(1).random((30, 4)) < 0.3)
    places, units = np.nonzero(dense)
    order = np.random.default_rng(2).permutation(len(places))
    found = activations_of_entries(places[order], units[order], dense[places, units][order], 30, 4)
    for name in ("start", "places", "values"):
        assert (getattr(found, name) == getattr(activations_of(dense), name)).all()
    assert (np.stack([found.of(unit) for unit in range(4)], axis=1) == dense).all()


def test_bad_activations_are_refused():
    one = np.zeros(1, int)
    with pytest.raises(BadInput, match="finite"):
        activations_of(np.array([[np.nan]]))
    with pytest.raises(BadInput, match="outside"):
        activations_of_entries(one + 5, one, one + 1.0, 5, 1)
    with pytest.raises(BadInput, match="twice"):
        activations_of_entries(np.zeros(2, int), np.zeros(2, int), np.ones(2), 5, 1)
    with pytest.raises(BadInput, match="outside"):
        activations_of_top(np.full((3, 1), 7), np.ones((3, 1)), 5)
    with pytest.raises(BadInput, match="twice"):
        activations_of_top(np.zeros((3, 2), int), np.ones((3, 2)), 5)


def test_units_of_activations_are_counted():
    assert Activations(np.array([0, 1, 1]), np.array([3], np.int32), np.array([2.0]), 4).units == 2
