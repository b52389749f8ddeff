import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pellucid.reports.spread import SAMPLE, measure_spread


def test_spread_of_a_small_tensor_is_exact():
    spread = measure_spread(torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 0.0]]))
    assert (spread.size, spread.broken, spread.low, spread.high, spread.sampled) == (6, 0, 0.0, 4.0, 6)
    assert spread.mean == pytest.approx(10 / 6)
    assert spread.zeros == pytest.approx(1 / 3)
    assert spread.quantiles[2] == 1.0
    assert sum(spread.histogram) == 6
    assert spread.values == ((0.0, 1.0), (2.0, 3.0), (4.0, 0.0))


def test_a_sample_of_a_large_tensor_meets_all_columns():
    weight = torch.zeros(4096, 64)
    weight[:, 5] = 1.0
    weight[0, 0] = 9.0
    spread = measure_spread(weight)
    assert spread.sampled <= SAMPLE
    assert spread.high == 9.0
    assert spread.zeros == pytest.approx(63 / 64, abs=2e-3)
    assert spread.values == ()


def test_values_that_are_not_finite_are_counted_and_left_out():
    spread = measure_spread(torch.tensor([1.0, math.nan, -math.inf, 3.0]))
    assert (spread.broken, spread.low, spread.high, spread.mean) == (2, 1.0, 3.0, 2.0)
    assert measure_spread(torch.full((3,), math.nan)).broken == 3
    assert measure_spread(torch.zeros(0)) is None
    assert measure_spread(torch.zeros(2, dtype=torch.complex64)) is None


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=40))
def test_any_numbers_have_a_spread(values):
    spread = measure_spread(torch.tensor(values, dtype=torch.float64))
    assert sum(spread.histogram) == len(values)
    assert spread.low == min(values)
    assert spread.high == max(values)


@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.int64, torch.uint8, torch.float16, torch.bfloat16, torch.float8_e4m3fn]
)
def test_any_element_type_has_a_spread(dtype):
    spread = measure_spread(torch.tensor([0.0, 1.0, 1.0]).to(dtype))
    assert (spread.low, spread.high) == (0.0, 1.0)
    assert np.isclose(spread.mean, 2 / 3)
