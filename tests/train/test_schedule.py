"""The whole schedule on planted blocks; killed and resumed; diverging; every method and its control."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import adjusted_rand_score
from train.planted_blocks import ORDER, QUICK, network, task

from pellucid import BadInput
from pellucid.train import METHODS, Diverged, Plan, train
from pellucid.train.checkpoint import last_checkpoint


class Killed(Exception):
    pass


def killed_after(draws, given):
    """The task, whose sampler stops the run at some draw."""
    count = 0

    def batch(generator, samples):
        nonlocal count
        count += 1
        if count > draws:
            raise Killed
        return given.batch(generator, samples)

    return dataclasses.replace(given, batch=batch)


def weights(trained):
    return torch.cat([weight.detach().flatten() for weight in trained.model.parameters()])


def test_planted_parts_are_trained_apart():
    seen = []
    found = train(task(), plan=QUICK, report=seen.append)
    inputs = found.division.labels[:12]
    assert adjusted_rand_score((ORDER >= 6).numpy(), inputs) == 1.0
    assert found.figures.interface == 0.0
    assert found.figures.accuracy > 0.9
    assert found.figures.accuracy_cut == found.figures.accuracy
    assert [each.step for each in seen] == [100, 200, 300]
    assert np.isnan(seen[0].interface)
    assert seen[-1].interface == 0.0
    assert seen[-1].z > 3


def test_random_partition_fails():
    control = train(task(), "random", plan=QUICK)
    assert control.figures.interface == 0.0
    assert control.figures.accuracy < train(task(), plan=QUICK).figures.accuracy - 0.2


@pytest.mark.parametrize(("method", "draws"), [("modular", 75), ("modular", 160), ("modular", 290), ("bimt", 230)])
def test_a_killed_run_resumes_to_the_same_weights(tmp_path, method, draws):
    plan = dataclasses.replace(QUICK, saved=40)
    whole = train(task(), method, plan=plan, seed=3)
    with pytest.raises(Killed):
        train(killed_after(draws, task()), method, plan=plan, seed=3, directory=tmp_path / "run")
    step, _, _ = last_checkpoint(tmp_path / "run" / "restart-0")
    assert 0 < step < 300
    resumed = train(task(), method, plan=plan, seed=3, directory=tmp_path / "run")
    assert torch.equal(weights(whole), weights(resumed))
    assert (whole.division.labels == resumed.division.labels).all()
    assert whole.figures == resumed.figures


@pytest.mark.parametrize("method", ["n-cut", "top-k", "l1"])
def test_states_of_regularisers_are_resumed(tmp_path, method):
    plan = dataclasses.replace(QUICK, steps=60, saved=7)
    whole = train(task(), method, plan=plan)
    with pytest.raises(Killed):
        train(killed_after(45, task()), method, plan=plan, directory=tmp_path / "run")
    assert torch.equal(weights(whole), weights(train(task(), method, plan=plan, directory=tmp_path / "run")))


def test_the_best_of_restarts_is_taken_and_written(tmp_path):
    plan = dataclasses.replace(QUICK, steps=60, restarts=3)
    seen = {}
    found = train(task(), plan=plan, directory=tmp_path / "run", report=lambda at: seen.update({at.restart: at.step}))
    assert seen == {0: 60, 1: 60, 2: 60}
    facts = json.loads((tmp_path / "run" / "result.json").read_text())
    assert facts["restart"] == found.restart
    assert [len(part) for part in facts["regions"].values()] == [12, 16, 16, 2]
    model = network()
    model.load_state_dict(load_file(tmp_path / "run" / "network.safetensors"))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), found.model.parameters(), strict=True))
    again = train(task(), plan=plan, directory=tmp_path / "run", report=lambda at: pytest.fail("trained again"))
    assert again.figures == found.figures


def test_the_callers_random_numbers_are_left_alone():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    train(task(), "none", plan=dataclasses.replace(QUICK, steps=3))
    assert torch.equal(torch.rand(3), wanted)


def test_a_diverging_run_stops_and_keeps_its_last_good_checkpoint(tmp_path):
    given, count = task(), 0

    def loss(outputs, targets):
        nonlocal count
        count += 1
        return given.loss(outputs, targets) * (float("nan") if count > 130 else 1.0)

    with pytest.raises(Diverged, match=r"diverged at step 130 .*step 100 in .*lower the rate") as caught:
        train(dataclasses.replace(given, loss=loss), plan=QUICK, directory=tmp_path / "run")
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)
    step, tensors, _ = last_checkpoint(tmp_path / "run" / "restart-0")
    assert step == 100
    assert all(tensor.isfinite().all() for tensor in tensors.values() if tensor.is_floating_point())


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    plan = dataclasses.replace(QUICK, rate=1e30, saved=1)
    with pytest.raises(Diverged):
        train(task(), "none", plan=plan, directory=tmp_path / "run")
    found = last_checkpoint(tmp_path / "run" / "restart-0")
    assert found is None or all(tensor.isfinite().all() for name, tensor in found[1].items() if "model" in name)


def test_folders_with_something_else(tmp_path):
    plan = dataclasses.replace(QUICK, steps=5)
    train(task(), "none", plan=plan, directory=tmp_path / "run")
    with pytest.raises(BadInput, match="other settings"):
        train(task(), "none", plan=plan, seed=1, directory=tmp_path / "run")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("words")
    with pytest.raises(BadInput, match="not an empty directory"):
        train(task(), "none", plan=plan, directory=tmp_path / "mine")
    with pytest.raises(BadInput, match="cannot be written"):
        train(task(), "none", plan=plan, directory=tmp_path / "mine" / "thesis.txt" / "run")
    folder = next((tmp_path / "run" / "restart-0").iterdir())
    (folder / "tensors.safetensors").write_bytes(b"torn")
    with pytest.raises(BadInput, match="cannot be read"):
        train(task(), "none", plan=plan, directory=tmp_path / "run")


def test_unknown_names_and_plans():
    with pytest.raises(BadInput, match="unknown method 'best'; take one of modular"):
        train(task(), "best")
    with pytest.raises(BadInput, match="0 < warm < severed <= 1"):
        Plan(warm=0.7, severed=0.5)
    with pytest.raises(BadInput, match="rate=nan"):
        Plan(rate=float("nan"))
    assert set(METHODS) == {"modular", "none", "l1", "n-cut", "bimt", "top-k", "random"}
