"""Every conversion and every refusal of one array."""

import numpy as np
import pytest
import torch

from pellucid.data.arrays import tensor_of
from pellucid.errors import BadInput


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("float16", torch.float32),
        ("float64", torch.float32),
        (">f8", torch.float32),
        ("uint8", torch.int64),
        ("int16", torch.int64),
        (">i4", torch.int64),
        ("uint64", torch.int64),
        ("bool", torch.bool),
    ],
)
def test_numpy_dtypes_become_those_of_networks_and_keep_values(given, expected):
    tensor = tensor_of(np.array([[0, 1], [1, 1]], dtype=given), "x")
    assert tensor.dtype == expected
    assert tensor.tolist() == [[0, 1], [1, 1]]


@pytest.mark.parametrize("given", [torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.uint8, torch.bool])
def test_torch_dtypes_become_those_of_networks(given):
    tensor = tensor_of(torch.tensor([0, 1], dtype=given), "x")
    expected = torch.float32 if given.is_floating_point else torch.bool if given == torch.bool else torch.int64
    assert tensor.dtype == expected
    assert tensor.tolist() == [0, 1]


def test_floating_turns_integers_and_booleans_into_numbers():
    assert tensor_of(np.array([1, 2]), "x", floating=True).dtype == torch.float32
    assert tensor_of(torch.tensor([True]), "x", floating=True).dtype == torch.float32


def test_the_result_does_not_follow_later_changes_of_the_users_array():
    array = np.zeros(3, dtype=np.float32)
    tensor = torch.zeros(3)
    results = [tensor_of(array, "x"), tensor_of(tensor, "x")]
    array += 1
    tensor += 1
    assert [result.tolist() for result in results] == [[0, 0, 0]] * 2


def test_gradients_and_odd_strides_are_shed():
    tensor = tensor_of(torch.ones(2, 3, requires_grad=True).T, "x")
    assert not tensor.requires_grad
    assert tensor_of(np.arange(6)[::-2], "x").tolist() == [5, 3, 1]


REFUSED = [
    (np.array(["a"]), "dtype <U1 holds no real numbers"),
    (np.array([{}]), "dtype object"),
    (np.array([1j]), "dtype complex128"),
    (torch.tensor([1j]), "complex"),
    (np.array(["2020-01-01"], dtype="M8[D]"), "dtype datetime64"),
    (np.zeros(2, dtype=[("a", "f4")]), "holds no real numbers"),
    (np.float32(3), "single number"),
    (np.zeros((0, 3)), r"empty \(shape \[0, 3\]\)"),
    (np.zeros((3, 0)), "empty"),
    (np.array([[0.0, 1.0], [np.nan, 0.0], [0.0, np.inf]]), "NaN or Inf in 2 samples, first in row 1"),
    (torch.tensor([0.0, -torch.inf]), "NaN or Inf in 1 samples, first in row 1"),
    (np.array([1e300]), "beyond the range of float32"),
    (torch.tensor([1e300], dtype=torch.float64), "beyond the range of float32"),
    (np.array([2**63], dtype=np.uint64), "above 2"),
    (torch.eye(2).to_sparse(), "sparse"),
    (np.ma.masked_array([1.0, 2.0], mask=[0, 1]), "masked"),
    ([[1, 2], [3]], "not an array"),
    (None, "dtype object"),
]


@pytest.mark.parametrize(("value", "cause"), REFUSED, ids=[cause for _, cause in REFUSED])
def test_refusals_name_the_place_and_the_cause_in_one_line(value, cause):
    with pytest.raises(BadInput, match=cause) as caught:
        tensor_of(value, "inputs.npz, array 'x'")
    assert str(caught.value).startswith("inputs.npz, array 'x': ")
    assert "\n" not in str(caught.value)
