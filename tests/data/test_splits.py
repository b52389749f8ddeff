"""Splits leak nothing, lose nothing, and do not depend on the order in which samples come."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.data.domain import Domain
from pellucid.data.inputs import gather
from pellucid.data.splits import split
from pellucid.errors import BadInput

NAMES = ("fit", "describe", "verify")


def samples(inputs):
    """Count the samples of inputs as (argument, values) tuples."""
    found = Counter()
    for batch in inputs:
        for i in range(len(batch)):
            found[tuple((name, str(array[i].tolist())) for name, array in batch.arrays.items())] += 1
    return found


def parts(inputs, seed=0, **options):
    splits = split(inputs, seed, **options)
    return [samples(getattr(splits, name)) for name in NAMES]


ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=3, max_size=60).filter(
    lambda rows: len(set(rows)) >= 3
)


@settings(deadline=None)
@given(ROWS, st.integers(0, 5))
def test_splits_are_disjoint_exhaustive_and_none_is_empty(rows, seed):
    inputs = gather(np.array(rows))
    fit, describe, verify = parts(inputs, seed)
    assert len(set(fit) | set(describe) | set(verify)) == len(fit) + len(describe) + len(verify)
    assert fit + describe + verify == samples(inputs)
    assert all((fit, describe, verify))


@settings(deadline=None)
@given(ROWS, st.integers(0, 5), st.randoms(use_true_random=False))
def test_the_order_of_a_file_moves_no_sample_to_another_split(rows, seed, random):
    shuffled = random.sample(rows, len(rows))
    assert parts(gather(np.array(rows)), seed) == parts(gather(np.array(shuffled)), seed)


@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(0, 10**6), min_size=60, max_size=200), st.integers(0, 5), st.data())
def test_the_same_sample_is_on_the_same_side_in_a_file_and_in_a_part_of_it(values, seed, data):
    part = data.draw(st.sets(st.sampled_from(sorted(values)), min_size=50))
    whole = parts(gather(np.array(sorted(values))), seed)
    fewer = parts(gather(np.array(sorted(part))), seed)
    assert all(set(few) <= set(many) for few, many in zip(fewer, whole, strict=True))


def test_another_draw_of_a_sampler_shares_nothing_with_what_was_fitted_to():
    def sampler(rng, n):
        return rng.integers(0, 2, (n, 10))

    fitted = split(gather(sampler, limit=1000, seed=1)).fit
    fresh = split(gather(sampler, limit=5000, seed=2)).verify
    assert len(fresh) > 1500
    assert not set(samples(fitted)) & set(samples(fresh))


def test_all_of_a_seed_counts():
    inputs = gather(np.arange(300))
    assert parts(inputs, 10**60) != parts(inputs, 10**60 + 1)


def test_seeds_give_different_splits_and_one_seed_the_same():
    inputs = gather(np.arange(300))
    assert parts(inputs, 1) == parts(inputs, 1) != parts(inputs, 2)


def test_shares_are_met_as_a_hash_meets_them():
    inputs = gather(np.arange(10_000))
    for shares in [(0.4, 0.2, 0.4), (0.1, 0.1, 0.8)]:
        sizes = [sum(part.values()) / 10_000 for part in parts(inputs, shares=shares)]
        assert sizes == pytest.approx(shares, abs=0.02)


def test_all_arguments_go_together_and_ragged_samples_are_split_too():
    a, b = np.arange(100), np.arange(100)[:, None] * np.ones((1, 2))
    splits = split(gather({"a": a, "b": b}))
    for batch in splits.verify:
        assert torch.equal(batch.kwargs["a"].float(), batch.kwargs["b"][:, 0])
    ragged = gather([torch.arange(40).reshape(-1, 2), torch.arange(60).reshape(-1, 3)])
    fit, describe, verify = parts(ragged)
    assert fit + describe + verify == samples(ragged)


def test_three_samples_are_one_for_each_split():
    assert [sum(part.values()) for part in parts(gather(np.arange(3)))] == [1, 1, 1]


def test_splits_say_what_they_are():
    inputs = gather(np.arange(100))
    splits = split(inputs, seed=7)
    assert splits.verify.description == f"{len(splits.verify)} samples to verify (seed 7), of {inputs.description}"
    assert {splits.fit.kind, splits.describe.kind, splits.verify.kind} == {"sampled"}


def test_a_domain_is_looked_at_as_a_whole():
    inputs = gather(Domain.product(range(4), range(4)))
    splits = split(inputs)
    assert splits.fit is splits.describe is splits.verify is inputs


def test_too_few_distinct_samples_are_refused():
    with pytest.raises(BadInput, match="2 distinct samples, but three disjoint splits need 3"):
        split(gather(np.array([1, 1, 2, 2])))


@pytest.mark.parametrize("shares", [(0.5, 0.5, 0.5), (1.0, 0.0, 0.0), (0.6, -0.2, 0.6)])
def test_shares_must_be_shares(shares):
    with pytest.raises(BadInput, match="three positive numbers"):
        split(gather(np.arange(9)), shares=shares)
