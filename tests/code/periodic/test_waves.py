"""Spectra over pairs of tokens, and waves in a stream."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from planted_waves import KEYS, PERIOD, Adder, pairs
from torch import nn

from pellucid.code.periodic.waves import folded, grid_of, key_frequencies, spectrum, token_frequencies, waves_in
from pellucid.lift.trace import trace
from pellucid.modules.partition import partition
from pellucid.modules.structure import structure


@pytest.fixture(scope="module")
def program():
    graph = trace(Adder().eval(), (pairs(),))
    return structure(graph, partition(graph))


@pytest.fixture(scope="module")
def grid(program):
    return grid_of(program, [[pairs()]])


def test_spectrum_finds_the_term_of_a_wave():
    a, b = np.divmod(np.arange(PERIOD**2), PERIOD)
    values = 3 * np.cos(2 * np.pi * (2 * a + 5 * b) / PERIOD)[:, None] + 7
    found = spectrum(values, PERIOD)[..., 0]
    assert found[2, 5] == pytest.approx(1.5)
    assert found[0, 0] == pytest.approx(7)
    assert np.count_nonzero(np.abs(found) > 1e-9) == 3


def test_frequencies_fold():
    assert [folded(k, 13) for k in (0, 5, 8, 20, -3)] == [0, 5, 5, 6, 3]


def test_grid_holds_all_pairs_from_a_part_of_them(program, grid):
    some = grid_of(program, [[pairs()[::5]]])
    assert torch.equal(some.tokens, grid.tokens)
    assert len(grid.tokens) == PERIOD**2
    assert list(grid.parts) == ["embedding", "attention_0", "mlp_0", "readout"]


@pytest.mark.parametrize(
    "tokens",
    [pairs()[:PERIOD], pairs() // 3 * 3, pairs(3)],
    ids=["one position varies", "values with gaps", "too few tokens"],
)
def test_no_grid_where_two_positions_do_not_run_over_one_range(program, tokens):
    assert grid_of(program, [[tokens]]) == ""


def test_keys_and_token_frequencies(grid):
    keys, share = key_frequencies(grid)
    assert set(keys) == set(KEYS)
    assert share > 0.8
    shares = token_frequencies(grid.parts["embedding"][1], grid)
    assert {k for k, part in shares.items() if part > 0.01} == set(KEYS)


def test_waves_are_read_as_they_were_written(grid):
    stream = grid.parts["mlp_0"][0].double().numpy()
    keys, _ = key_frequencies(grid)
    found = waves_in(stream, grid, keys, keys)
    assert [wave.frequency for wave in found.waves] == list(keys)
    read = stream[:, -1] @ found.reads - found.offsets[-1]
    count = len(found.waves)
    for i, k in enumerate(keys):
        z = read[:, i] + 1j * read[:, count + i]
        turned = spectrum(np.stack([z.real, z.imag], 1), PERIOD)
        term = turned[..., 0] + 1j * turned[..., 1]
        assert abs(term[k, 0]) > 100 * abs(term[-k, 0])
        assert abs(term[k, 0]) == pytest.approx(abs(term[0, k]), rel=0.2)


def test_waves_that_are_not_there_are_not_found(grid):
    stream = grid.parts["attention_0"][0].double().numpy()
    missing = [k for k in range(1, 7) if k not in KEYS]
    assert waves_in(stream, grid, missing, missing) is None


def test_no_grid_of_sequences_of_any_length():
    class Any(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(PERIOD, 4)

        def forward(self, tokens):
            return self.table(tokens).sum(1)

    example = pairs().repeat(1, 4)
    graph = trace(Any().eval(), (example,))
    assert isinstance(graph.values[graph.block.inputs[0]].axes[1], str)
    assert grid_of(structure(graph, partition(graph)), [[pairs()], [example]]) == ""
