"""The 62 tasks are what they are called, and stacked nets are the nets that they are taken for."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "code"


@pytest.fixture(scope="module")
def tasks():
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module("mips_tasks")
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def training(tasks):
    return importlib.import_module("mips_training")


@pytest.fixture(scope="module")
def stacks(tasks):
    return importlib.import_module("mips_stack")


def answer(tasks, name, *steps):
    x = np.array([[step if isinstance(step, tuple) else (step,) for step in steps]])
    return [step[0] if len(step) == 1 else tuple(step) for step in tasks.TASKS[name].answer(x)[0].tolist()]


def test_there_are_62_tasks_and_all_can_be_drawn(tasks):
    assert len(tasks.TASKS) == 62
    for task in tasks.TASKS.values():
        x = task.draw(np.random.default_rng(0), 50, 12)
        y = task.answer(x)
        assert y.shape[:2] == x.shape[:2]
        assert np.array_equal(task.answer(x[:, :5]), y[:, :5])
        assert len(np.unique(y)) > 1


CASES = {
    "add_base_7": (((6, 6), (1, 0), (3, 4)), [5, 2, 0]),
    "sum_last_3": ((1, 2, 3, 4), [1, 3, 6, 9]),
    "back_2": ((4, 5, -1, 2), [0, 0, 4, 5]),
    "difference_of_abs": ((-3, 1), [3, -2]),
    "divide_by_3": ((1, 1, 0, 1), [0, 1, 0, 0]),
    "previous_equals": ((0, 0, 2, 2), [0, 1, 0, 1]),
    "alternate_3": ((0, 1, 0, 0, 1), [0, 0, 1, 0, 0]),
    "palindrome": ((1, 0, 1, 1), [1, 0, 1, 0]),
    "balanced": ((1, 0, 0, 1), [0, 1, 0, 0]),
    "most_frequent_3": ((2, 1, 1, 0, 0), [2, 1, 1, 1, 0]),
    "square": ((4, -4, 0, 3), [1, 0, 1, 0]),
    "gravity": ((0, 0, 3), [-1, -3, -3]),
    "spring": ((1, 0, 0), [1, 1, 0]),
    "magnetic": (((1, 0), (0, 0), (0, 0)), [(1, 0), (1, 1), (0, 1)]),
    "dither": ((1, 1, 1, 1, 4), [0, 1, 0, 0, 1]),
    "parity_of_zeros": ((0, 1, 0), [1, 1, 0]),
}


@pytest.mark.parametrize("name", CASES)
def test_answers(tasks, name):
    steps, wanted = CASES[name]
    assert answer(tasks, name, *steps) == wanted


@pytest.mark.parametrize("depths", [(1, 1), (1, 2), (2, 1), (2, 3)])
def test_nets_in_a_stack_compute_what_they_do_alone(tasks, stacks, depths):
    task = tasks.TASKS["magnetic"]
    sizes = [stacks.Size(2, 5, depths), stacks.Size(4, 3, depths)]
    stack = stacks.initial(task, 2, sizes, torch.Generator().manual_seed(0))
    x = task.draw(np.random.default_rng(0), 6, 9)
    together = stacks.forward_all(stack, depths[0], stacks.columns(x))
    for member, size in enumerate(sizes):
        net = stacks.net_of(task, 2, size, [w[member : member + 1] for w in stack])
        assert sum(w.numel() for w in net.parameters()) == stacks.parameters(size, 2, 2)
        with torch.no_grad():
            alone = net(torch.from_numpy(x).float())
        assert torch.allclose(alone, together[member].transpose(0, 1), atol=1e-4)


def test_padding_stays_zero_while_a_stack_is_trained(tasks, training, stacks):
    task = tasks.TASKS["xor"]
    sizes = [stacks.Size(1, 2, (2, 2)), stacks.Size(3, 6, (2, 2))]
    stack = [w.requires_grad_() for w in stacks.initial(task, 1, sizes, torch.Generator().manual_seed(0))]
    unused = [(w[0] == 0).clone() for w in stack]
    optimiser = stacks.Adam(stack, torch.tensor([1e-2, 1e-2]))
    for _ in range(20):
        loss = training._loss(optimiser.stack, 2, task, task.draw(np.random.default_rng(0), 32, 5))
        optimiser.step(torch.autograd.grad(loss, optimiser.stack), 1.0)
    assert all((w[0][mask] == 0).all() for w, mask in zip(optimiser.stack, unused, strict=True))


def test_a_small_task_is_trained_to_perfection_and_kept(tasks, training, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(training, "TESTS", 5000)
    effort = training.Effort(members=(6, 3, 2), batches=(64, 64, 64), steps=(300, 300, 300))
    found = training.obtain(tasks.TASKS["shift_right"], 0, effort)
    again = training.obtain(tasks.TASKS["shift_right"], 0, effort)
    assert found.perfect
    assert found.size == again.size
    pairs = zip(found.net.parameters(), again.net.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
