"""Regions of equal sizes: planted modules are found again, and no block is left to one region alone."""

import numpy as np
import torch
from train.planted_blocks import merged

import pellucid
from pellucid.train.division import Division, evened, live_units


def test_planted_halves_come_out_even_and_whole():
    model, owners = merged(0.3)
    units = live_units(pellucid.trace(model.eval(), (torch.zeros(2, 12),)), model)
    labels = owners.numpy().copy()
    rng = np.random.default_rng(0)
    wrong = rng.permutation(len(labels))[:12]
    labels[wrong] = 0
    found = evened(units, Division(labels, 7.0))
    assert (found.labels == owners.numpy()).all() or (found.labels == 1 - owners.numpy()).all()
    assert found.z == 7.0


def test_a_lopsided_division_is_evened_block_by_block():
    model, _ = merged(0.9)
    units = live_units(pellucid.trace(model.eval(), (torch.zeros(2, 12),)), model)
    found = evened(units, Division((np.arange(units.size) < 3).astype(np.int64)))
    for start, stop in zip(units.starts, units.starts[1:], strict=False):
        assert found.labels[start:stop].sum() * 2 == stop - start
