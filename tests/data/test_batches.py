"""Batches: how arguments are passed, and when two samples are the same."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pellucid.data.batches import Batch, batch_of, joined, keys
from pellucid.errors import BadInput


def test_positions_and_names_become_args_and_kwargs():
    positional = batch_of((torch.ones(2, 3), torch.zeros(2)), "x")
    assert [tuple(array.shape) for array in positional.args] == [(2, 3), (2,)]
    assert positional.kwargs == {}
    named = batch_of({"ids": np.array([1, 2]), "mask": np.array([True, False])}, "x")
    assert named.args == ()
    assert {name: array.tolist() for name, array in named.kwargs.items()} == {"ids": [1, 2], "mask": [True, False]}


def test_eleven_positions_stay_in_order():
    batch = batch_of(tuple(torch.full((1,), float(i)) for i in range(11)), "x")
    assert [float(array) for array in batch.args] == list(range(11))


def test_floating_may_name_arguments():
    batch = batch_of({"ids": np.array([1]), "x": np.array([1])}, "x", floating={"x"})
    assert (batch.arrays["ids"].dtype, batch.arrays["x"].dtype) == (torch.int64, torch.float32)


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        ((torch.ones(2), torch.ones(3)), "differ in their number of rows .argument 0: 2, argument 1: 3"),
        ({}, "no arrays"),
        ((), "no arrays"),
        ({3: torch.ones(1)}, "not argument names"),
        (7, "int is not a tensor"),
        (b"abc", "bytes is not a tensor"),
        ({"a": np.array(["x"])}, "argument 'a': dtype"),
    ],
)
def test_refusals(value, cause):
    with pytest.raises(BadInput, match=cause):
        batch_of(value, "here")


def test_batches_of_one_shape_are_joined_and_others_kept_apart():
    batches = [batch_of(torch.ones(n, length), "x") for n, length in [(2, 3), (1, 4), (5, 3)]]
    assert [tuple(batch.arrays[0].shape) for batch in joined(batches, "x")] == [(7, 3), (1, 4)]


def test_the_order_of_names_does_not_matter_to_joining():
    one, two = {"a": torch.zeros(1), "b": torch.ones(1)}, {"b": torch.ones(2), "a": torch.zeros(2)}
    (batch,) = joined([batch_of(one, "x"), batch_of(two, "x")], "x")
    assert batch.arrays["a"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("other", [torch.ones(1, 2, 2), torch.ones(1, 2).long(), {"x": torch.ones(1, 2)}])
def test_batches_with_other_arguments_dtypes_or_axes_are_refused(other):
    with pytest.raises(BadInput, match="batches differ"):
        joined([batch_of(torch.ones(1, 2), "x"), batch_of(other, "x")], "x")


@settings(deadline=None)
@given(
    arrays.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 3)), elements=st.integers(-1, 1).map(float))
)
def test_keys_are_equal_exactly_for_equal_rows(rows):
    found = keys(batch_of(rows, "x"))
    for i, first in enumerate(rows):
        for j, second in enumerate(rows):
            assert (found[i] == found[j]) == bool((first == second).all())


def test_what_a_network_cannot_tell_apart_has_one_key():
    assert keys(batch_of(np.array([[0.0]]), "x")) == keys(batch_of(np.array([[-0.0]]), "x"))
    assert keys(batch_of(torch.ones(1, 2), "x")) == keys(batch_of({"x": torch.ones(1, 2)}, "x"))
    both = {"a": torch.zeros(1), "b": torch.ones(1)}
    assert keys(batch_of(both, "x")) == keys(batch_of(dict(reversed(both.items())), "x"))


def test_what_a_network_can_tell_apart_has_two_keys():
    distinct = [
        torch.zeros(1, 2),
        torch.zeros(1, 3),
        torch.zeros(1, 2, 1),
        torch.zeros(1, 2).long(),
        (torch.zeros(1, 2), torch.zeros(1, 1)),
        (torch.zeros(1, 1), torch.zeros(1, 2)),
        {"a": torch.zeros(1, 2), "b": torch.zeros(1, 1)},
    ]
    assert len({keys(batch_of(value, "x"))[0] for value in distinct}) == len(distinct)


def test_cut_yields_every_row_once():
    pieces = list(Batch({0: torch.arange(7)}).cut(3))
    assert [piece.arrays[0].tolist() for piece in pieces] == [[0, 1, 2], [3, 4, 5], [6]]
