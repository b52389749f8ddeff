import base64

import numpy as np
import pytest
import torch
from screenshots import read_png

from pellucid.reports.pictures import SIDES, draw, side_for

BLUE, WHITE, RED, GREEN = (5, 48, 97), (247, 247, 247), (103, 0, 31), (0, 170, 60)


def pixels(picture):
    return read_png(base64.b64decode(picture.uri.removeprefix("data:image/png;base64,")))


def test_one_cell_is_one_value_with_rows_as_outputs():
    (picture,) = draw(torch.tensor([[-1.0, 0.0, 1.0], [1.0, 0.0, -1.0]]), 64)
    assert pixels(picture)[:, :, :3].tolist() == [
        [list(BLUE), list(WHITE), list(RED)],
        [list(RED), list(WHITE), list(BLUE)],
    ]
    assert (picture.kind, picture.rows, picture.columns, picture.low, picture.high) == ("value", 2, 3, "−1", "1")


def test_large_tensors_become_means_and_magnitudes():
    checkers = 1.0 - 2.0 * ((torch.arange(256)[:, None] + torch.arange(512)[None, :]) % 2)
    checkers[:, :256] = 0.0
    mean, magnitude = draw(checkers, 64)
    assert pixels(mean).shape[:2] == pixels(magnitude).shape[:2] == (64, 64)
    assert np.all(pixels(mean) == WHITE)
    assert np.all(pixels(magnitude)[:, :32] == WHITE)
    assert np.all(pixels(magnitude)[:, 32:] < 20)
    assert mean.caption == "each cell is the mean of 4 × 8 values"


def test_the_scale_of_magnitudes_begins_where_they_do():
    weight = torch.linspace(2.0, 3.0, 128)[:, None] * (1.0 - 2.0 * (torch.arange(128) % 2))[None, :]
    _, magnitude = draw(weight, 64)
    assert float(magnitude.low) == pytest.approx(2.0, abs=0.05)
    assert float(magnitude.high) == pytest.approx(3.0, abs=0.05)
    assert pixels(magnitude)[0].mean() > 240
    assert pixels(magnitude)[-1].mean() < 20


def test_long_vectors_lose_no_value():
    vector = torch.zeros(64 * 64 * 3 + 5)
    vector[-1] = 1.0
    mean, _ = draw(vector, 64)
    assert (mean.rows, mean.columns) == (64, 64)
    assert tuple(pixels(mean)[-1, -1]) == RED
    assert mean.caption == "each cell is the mean of 3 values in a row"


def test_values_that_are_not_finite_are_marked():
    weight = torch.zeros(200, 200)
    weight[0, 0], weight[199, 199] = torch.nan, torch.inf
    for picture in draw(weight, 64):
        assert tuple(pixels(picture)[0, 0]) == tuple(pixels(picture)[-1, -1]) == GREEN
        assert tuple(pixels(picture)[30, 30]) == WHITE


def test_vectors_are_read_line_by_line_and_kernels_stand_side_by_side():
    (vector,) = draw(torch.arange(100.0), 64)
    assert (vector.rows, vector.columns) == (2, 64)
    kernels = torch.zeros(5, 2, 3, 3)
    kernels[4, 1, 2, 2] = 1.0
    (picture,) = draw(kernels, 64)
    assert (picture.rows, picture.columns) == (6, 15)
    assert tuple(pixels(picture)[5, 14]) == RED


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor(3.0),
        torch.zeros(7),
        torch.ones(3, 1, dtype=torch.bool),
        torch.arange(24).reshape(2, 3, 4),
        torch.full((2, 2), torch.nan),
        torch.tensor([1e308, -1e308], dtype=torch.float64),
        torch.randn(100_000, generator=torch.Generator().manual_seed(1)),
        torch.randn(9, 2, 1, 3, 2, generator=torch.Generator().manual_seed(1)).bfloat16(),
    ],
)
def test_any_tensor_is_drawn_within_the_side(tensor):
    for picture in draw(tensor, 32):
        assert pixels(picture).shape[:2] == (picture.rows, picture.columns)
        assert picture.rows <= 32
        assert picture.columns <= 32
    assert draw(tensor, 32) == draw(tensor, 32)


def test_nothing_is_drawn_of_nothing():
    assert draw(torch.zeros(0, 4), 64) == ()
    assert draw(torch.zeros(2, dtype=torch.complex64), 64) == ()
    assert draw(torch.zeros(2, 2), 0) == ()


def test_pictures_shrink_to_their_budget():
    generator = torch.Generator().manual_seed(1)
    for amount in (20, 200, 800):
        shapes = [(300, 500)] * amount
        side = side_for(shapes, 1_000_000)
        spent = amount * sum(len(picture.uri) for picture in draw(torch.randn(300, 500, generator=generator), side))
        assert side in SIDES
        assert spent <= 1_000_000
    assert side_for([(300, 500)] * 20, 1_000_000) > side_for([(300, 500)] * 800, 1_000_000)
    assert side_for([(300, 500)] * 100_000, 1_000_000) == 0
