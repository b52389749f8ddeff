import dataclasses

import pytest
import torch
from hand_printer import Speaker, decompiled
from torch import nn

from pellucid.data import Batch, gather
from pellucid.ir.graph import ValueType
from pellucid.verdicts.plan import affordable, entry_values, fresh, of_length, portions, shortened


@pytest.fixture(scope="module")
def program():
    return decompiled(Speaker().eval(), torch.randint(0, 11, (3, 9)))


def _ids(rows, length, seed=0):
    return torch.randint(0, 11, (rows, length), generator=torch.Generator().manual_seed(seed))


def test_portions_hold_every_sample_once_and_fit_into_memory(program, monkeypatch):
    ids = [_ids(20, 9), _ids(7, 5, 1)]
    monkeypatch.setattr("pellucid.verdicts.plan.ELEMENTS", 9 * 16 * 4)
    parts = list(portions(gather(ids), program))
    assert sum(len(part) for part in parts) == 27
    assert max(len(part) for part in parts if part.arrays[0].shape[1] == 9) == 4
    assert torch.equal(torch.cat([part.arrays[0] for part in parts if part.arrays[0].shape[1] == 9]), ids[0])


def test_a_fixed_batch_size_is_kept_to(program):
    (name,) = program["network"].inputs
    fixed = dataclasses.replace(program, values={**program.values, name: ValueType("int64", (4, "seq"))})
    assert [len(part) for part in portions(gather(_ids(10, 9)), fixed)] == [4, 4]


def test_fresh_inputs_are_new_and_of_the_same_kind(program):
    batch = Batch({0: _ids(6, 40)})
    made = fresh(program, batch, 3).arrays[0]
    assert made.shape == (4, 32)
    assert torch.equal(made, fresh(program, batch, 3).arrays[0])
    assert not any((row == made).all(1).any() for row in batch.arrays[0][:, :32])
    assert set(made.flatten().tolist()) <= set(range(11))


def test_fresh_numbers_are_near(program):
    batch = Batch({0: torch.randn(6, 9)})
    made = fresh(program, batch, 0).arrays[0]
    assert 0 < (made - batch.arrays[0][:4]).abs().max() < 1.0


def test_single_samples_are_shuffled_along_the_sequence(program):
    one = Batch({0: torch.arange(9)[None]})
    made = fresh(program, one, 0).arrays[0]
    assert sorted(made[0].tolist()) == list(range(9))
    assert not torch.equal(made, one.arrays[0])


def test_longer_sequences_are_joined_samples(program):
    batch = Batch({0: _ids(6, 9)})
    longer = of_length(program, batch, 20, 5, 0).arrays[0]
    assert longer.shape == (5, 20)
    rows = {tuple(row) for row in batch.arrays[0].tolist()}
    assert all(tuple(row[:9]) in rows and tuple(row[9:18]) in rows for row in longer.tolist())
    assert of_length(program, batch, 4, 5, 0).arrays[0].shape == (5, 4)


def test_no_time_axis_no_longer_sequences(program):
    (name,) = program["network"].inputs
    fixed = dataclasses.replace(program, values={**program.values, name: ValueType("int64", ("batch", 9))})
    assert of_length(fixed, Batch({0: _ids(6, 9)}), 20, 5, 0) is None
    assert shortened(fixed, Batch({0: _ids(6, 9)}), 4).arrays[0].shape == (6, 9)


def test_work_limits_samples_but_not_below_the_least(program):
    inputs = gather(_ids(100, 9))
    assert len(affordable(program, inputs, 1e15, 8, 0)) == 100
    assert len(affordable(program, inputs, 1.0, 8, 0)) == 8
    each = 9 * (2 * 8 * 16 + 2 * 16 * 8 + 8 * 11)
    assert 0.8 * 50 < len(affordable(program, inputs, 50 * each, 8, 0)) <= 50


def test_parts_run_again_within_all_that_call_them():
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64))
    rows = torch.randn(100, 64)
    nested = decompiled(nn.Sequential(nn.Sequential(inner, nn.Tanh()), nn.Tanh()).eval(), rows)
    work = 60 * 2 * 64 * 64
    assert len(nested.functions) > 3
    whole, parts = (len(affordable(nested, gather(rows), work, 8, 0, parts=parts)) for parts in (False, True))
    assert (whole, parts) == (60, 60 // 4)


def test_values_come_in_the_order_of_the_entry(program):
    assert torch.equal(entry_values(program, Batch({0: _ids(2, 9)}))[0], _ids(2, 9))
