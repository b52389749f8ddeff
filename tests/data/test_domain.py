"""Domains against enumerations by itertools."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.data.domain import Domain
from pellucid.errors import BadInput


def rows(domain, batch=3, argument=0):
    return [row.tolist() for part in domain.batches(batch) for row in part.arrays[argument]]


def test_product_is_all_pairs_in_order():
    domain = Domain.product(range(3), [5, 7])
    assert domain.size == 6
    assert rows(domain) == [list(pair) for pair in itertools.product(range(3), [5, 7])]
    assert next(domain.batches()).arrays[0].dtype == torch.int64


def test_product_by_name_gives_one_array_for_each_argument():
    domain = Domain.product(a=range(2), b=np.array([[0.5, 1.5], [2.5, 3.5]]))
    (batch,) = domain.batches()
    assert batch.kwargs["a"].tolist() == [0, 0, 1, 1]
    assert batch.kwargs["b"].tolist() == [[0.5, 1.5], [2.5, 3.5]] * 2
    assert domain.arguments == ("a", "b")


def test_columns_of_mixed_kinds_become_floats():
    assert rows(Domain.product([0, 1], [0.5])) == [[0.0, 0.5], [1.0, 0.5]]


def test_grid_includes_both_ends():
    assert rows(Domain.grid((0.0, 1.0, 3), (2.0, 2.0, 1))) == [[0.0, 2.0], [0.5, 2.0], [1.0, 2.0]]


@settings(deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 50))
def test_sequences_are_all_sequences_of_all_lengths(symbols, low, more, batch):
    domain = Domain.sequences(range(symbols), length=range(low, low + more))
    expected = [list(s) for n in range(low, low + more) for s in itertools.product(range(symbols), repeat=n)]
    assert rows(domain, batch) == expected
    assert domain.size == len(expected)
    assert all(len(part) <= batch for part in domain.batches(batch))


def test_sequences_of_all_pairs_of_bits():
    domain = Domain.sequences([0.0, 1.0], length=2, width=2)
    pairs = list(itertools.product([0.0, 1.0], repeat=2))
    assert rows(domain) == [[list(a), list(b)] for a in pairs for b in pairs]


def test_sequences_of_given_vectors_are_over_those_alone():
    assert rows(Domain.sequences([[1, 0, 0], [0, 1, 0]], length=1)) == [[[1, 0, 0]], [[0, 1, 0]]]


def test_a_prefix_stands_before_every_sequence():
    assert rows(Domain.sequences([1, 2], length=1, prefix=[9, 8])) == [[9, 8, 1], [9, 8, 2]]


def test_duplicates_are_dropped_and_the_order_kept():
    assert rows(Domain.of(np.array([[2, 1], [0, 0], [2, 1]]))) == [[2, 1], [0, 0]]
    assert rows(Domain.product([3, 1, 3])) == [[3], [1]]


def test_of_takes_ragged_lists_of_batches():
    domain = Domain.of([np.array([[1, 2]]), np.array([[3]]), np.array([[4, 5], [1, 2]])])
    assert rows(domain) == [[1, 2], [4, 5], [3]]


def test_the_size_of_a_vast_domain_is_known_without_enumerating():
    assert Domain.sequences(range(10), length=1000).size == 10**1000


def test_a_vast_domain_can_be_drawn_from_repeatably():
    domain = Domain.sequences([0.0, 1.0], length=range(900, 1001), width=2)
    first, second = (domain.sample(np.random.default_rng(3), 50) for _ in range(2))
    assert sum(len(batch) for batch in first) == 50
    assert all(torch.equal(a.arrays[0], b.arrays[0]) for a, b in zip(first, second, strict=True))


def test_draws_are_uniform_over_samples_of_all_lengths():
    domain = Domain.sequences(range(2), length=range(1, 3))
    parts = domain.sample(np.random.default_rng(0), 6000)
    counts = {}
    for row in (tuple(row.tolist()) for part in parts for row in part.arrays[0]):
        counts[row] = counts.get(row, 0) + 1
    assert len(counts) == 6
    assert all(abs(count - 1000) < 150 for count in counts.values())


def test_floating_changes_the_named_arguments_alone():
    domain = Domain.product(a=range(2), b=range(2)).floating({"b"})
    (batch,) = domain.batches()
    assert (batch.arrays["a"].dtype, batch.arrays["b"].dtype) == (torch.int64, torch.float32)


def test_fingerprints_tell_declarations_apart():
    declared = [
        Domain.product(range(2), range(3)),
        Domain.product(range(3), range(2)),
        Domain.sequences(range(2), length=2),
        Domain.sequences(range(2), length=3),
        Domain.sequences([0.0, 1.0], length=2),
        Domain.of(torch.tensor([0, 1])),
    ]
    assert len({domain.fingerprint for domain in declared}) == len(declared)
    assert Domain.product(range(2), range(3)).fingerprint == declared[0].fingerprint


@pytest.mark.parametrize(
    ("build", "cause"),
    [
        (lambda: Domain.product(), "either by position"),
        (lambda: Domain.product(range(2), a=range(2)), "either by position"),
        (lambda: Domain.product(range(0)), "column 0: empty"),
        (lambda: Domain.product([0.0, float("nan")]), "column 0: NaN"),
        (lambda: Domain.product([[0, 1]], [2]), "cannot be put in one array"),
        (lambda: Domain.grid((1.0, 0.0, 3)), "low ≤ high"),
        (lambda: Domain.grid((0.0, 1.0, 0)), "count ≥ 1"),
        (lambda: Domain.sequences(["a"], length=1), "alphabet: dtype"),
        (lambda: Domain.sequences(range(2), length=0), "at least 1"),
        (lambda: Domain.sequences(range(2), length=[]), "at least 1"),
        (lambda: Domain.sequences(range(2), length=1, width=0), "width=0"),
        (lambda: Domain.sequences([[0, 1]], length=1, width=2), "alphabet of numbers"),
        (lambda: Domain.sequences(range(2), length=1, width=40), "vectors a step"),
        (lambda: Domain.sequences([[0, 1]], length=1, prefix=[0]), "cannot be put in one array"),
        (lambda: Domain.of([]), "no samples"),
        (lambda: Domain.of(np.zeros((0, 2))), "empty"),
    ],
)
def test_refusals(build, cause):
    with pytest.raises(BadInput, match=cause):
        build()
