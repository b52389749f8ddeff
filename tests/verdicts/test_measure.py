import math

import pytest
import torch

from pellucid.verdicts.measure import Claim, Gap, gap, same_bits, share, wilson


def test_a_gap_is_relative_to_the_largest_output_over_all_samples():
    wanted = torch.tensor([[1.0, -4.0], [2.0, 0.0]])
    found = wanted + torch.tensor([[0.0, 0.4], [0.1, 0.0]])
    measured = gap([found], [wanted])
    assert measured.relative == pytest.approx(0.1)
    assert measured.interval == (pytest.approx(0.025), pytest.approx(0.1))
    assert (measured.samples, measured.bitwise) == (2, False)


def test_merging_is_measuring_together():
    wanted, noise = torch.randn(10, 3), torch.randn(10, 3) * 0.01
    whole = gap([wanted + noise], [wanted])
    halves = gap([(wanted + noise)[:4]], [wanted[:4]]).merged(gap([(wanted + noise)[4:]], [wanted[4:]]))
    assert halves.relative == pytest.approx(whole.relative)
    assert halves.interval == pytest.approx(whole.interval)
    assert halves.samples == whole.samples
    assert Gap().merged(whole) == whole == whole.merged(Gap())


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (torch.tensor([float("nan")]), torch.tensor([1.0])),
        (torch.tensor([1.0]), torch.tensor([float("nan")])),
        (torch.tensor([float("inf")]), torch.tensor([1.0])),
        (torch.tensor([1.0]), torch.tensor([float("inf")])),
        (torch.tensor([float("-inf")]), torch.tensor([float("inf")])),
        (torch.zeros(2), torch.zeros(3)),
        (torch.zeros(2), torch.zeros(2, 1)),
        (torch.tensor([1]), torch.tensor([1.0])),
        (torch.tensor([1.0]).double(), torch.tensor([1.0])),
        (torch.tensor([1000001]), torch.tensor([1000000])),
        (torch.tensor([True]), torch.tensor([False])),
        (torch.tensor([1e-30]), torch.tensor([0.0])),
        (torch.tensor([1.0, -3.4e38]), torch.tensor([1.0, -3.3e38])),
        (torch.tensor([1.0, 0.0]), torch.tensor([1.0, -3.4e38])),
    ],
)
def test_what_cannot_be_small_is_infinite(found, wanted):
    assert math.isinf(gap([found], [wanted]).relative)


@pytest.mark.parametrize(
    "values",
    [
        torch.tensor([float("nan"), float("inf"), 1.0]),
        torch.tensor([]),
        torch.zeros(0, 3),
        torch.tensor(2.0),
        torch.tensor([True]),
        torch.zeros(3),
        torch.tensor([-3.4e38, 1.0]),
        torch.tensor([1, 2]),
    ],
)
def test_equal_values_have_no_gap(values):
    assert gap([values], [values.clone()]).relative == 0.0


def test_huge_values_set_no_scale():
    """A mask of -3.4e38 must not hide that the other numbers are wrong."""
    wanted = torch.tensor([1.0, -3.4028e38])
    assert gap([torch.tensor([1.1, -3.4028e38])], [wanted]).relative == pytest.approx(0.1)


def test_a_missing_output_is_a_gap():
    assert math.isinf(gap([], [torch.ones(2)]).relative)
    assert math.isinf(gap([torch.ones(2), torch.ones(2)], [torch.ones(2)]).relative)


def test_plain_numbers_are_compared():
    assert gap([3], [3]).relative == 0.0
    assert math.isinf(gap([3], [4]).relative)


def test_bits():
    assert same_bits(torch.tensor([float("nan")]), torch.tensor([float("nan")]))
    assert not same_bits(torch.tensor([0.0]), torch.tensor([-0.0]))
    assert not same_bits(torch.tensor([0]), torch.tensor([0.0]))
    assert same_bits(torch.arange(6).reshape(2, 3).t(), torch.arange(6).reshape(2, 3).t().contiguous())


def test_shares_count_positions_and_name_the_first_that_differs():
    wanted = torch.tensor([[0.9, 2.1], [3.0, 3.6]])
    found = torch.tensor([[1.0, 2.0], [3.0, 3.0]])
    measured = share([found], [wanted], "rounded")
    assert (measured.agreed, measured.positions, measured.samples) == (3, 4, 2)
    assert measured.example == "sample 1, position 1: network 3.6, program 3"
    decided = share([torch.tensor([[0.0, 1.0], [1.0, 0.0]])], [torch.tensor([[0.0, 9.0], [0.0, 0.5]])], "decision")
    assert decided.value == 0.5
    assert share([torch.full((1,), float("nan"))], [torch.zeros(1)], "rounded").value == 0.0
    assert share([torch.zeros(1, 2)], [torch.zeros(2, 2)], "rounded").value == 0.0


def test_the_example_is_the_earliest_in_time():
    wanted = torch.zeros(3, 5)
    found = wanted.clone()
    found[0, 4] = found[2, 1] = 7.0
    assert share([found], [wanted], "rounded").place == (2, 1)


def test_another_element_type_is_another_output():
    assert share([torch.ones(3, dtype=torch.int64)], [torch.ones(3)], "rounded").value == 0.0
    assert (
        share([torch.ones(3, dtype=torch.float64)], [torch.ones(3)], "rounded").example
        == "float64[3] instead of float32[3]"
    )


def test_wilson_against_known_values():
    assert wilson(0.5, 10) == (pytest.approx(0.2366, abs=1e-4), pytest.approx(0.7634, abs=1e-4))
    assert wilson(1.0, 10) == (pytest.approx(0.7225, abs=1e-4), pytest.approx(1.0))
    assert wilson(0.0, 0) == (0.0, 1.0)


def test_claims():
    loose = Claim("rounded", 0.25)
    assert loose.met(share([torch.tensor([1.0, 2.0, 3.0, 9.0])], [torch.tensor([1.0, 2.0, 3.0, 4.0])], "rounded"))
    assert not Claim("rounded", 0.0).met(share([torch.tensor([1.0, 9.0])], [torch.tensor([1.0, 4.0])], "rounded"))
    assert Claim("difference", 0.1).met(gap([torch.tensor([1.09])], [torch.tensor([1.0])]))
    assert not Claim("difference", 0.1).met(gap([torch.tensor([1.2])], [torch.tensor([1.0])]))
    assert loose.bar == "at least 0.75"


def test_some_measures_count_samples_as_a_whole():
    wanted = torch.tensor([[[0.0, 1.0], [2.0, 1.0]], [[0.0, 3.0], [-1.0, 0.0]]])
    found = wanted.clone()
    assert share([found], [wanted], "decisions").value == share([found], [wanted], "signs").value == 1.0
    found[1, 1] = torch.tensor([1.0, 0.0])
    decided, signed = share([found], [wanted], "decisions"), share([found], [wanted], "signs")
    assert (decided.agreed, decided.positions, decided.samples, decided.place) == (1, 2, 2, (1, 1))
    assert (signed.agreed, signed.positions, signed.place) == (1, 2, (1, 1, 0))
    assert share([wanted * 5], [wanted], "signs").value == 1.0
    assert Claim("signs", 0.1).bar == "at least 0.9"
    assert Claim("decisions", 0.1).unit == "of samples"
