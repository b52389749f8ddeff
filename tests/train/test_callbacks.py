"""The callbacks in a real Trainer, and in a loop that calls Lightning's hooks in its order."""

import sys
import types

import pytest
import torch
from torch import nn
from train.planted_blocks import batch, merged

from pellucid import BadInput
from pellucid.train import Modularity, callbacks

EXAMPLE = (torch.zeros(2, 12),)


class WithLoss(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 2))

    def forward(self, inputs, labels=None):
        outputs = self.body(inputs)
        return outputs if labels is None else {"loss": nn.functional.mse_loss(outputs, labels), "logits": outputs}


def test_in_a_hugging_face_trainer(tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    (inputs,), targets = batch(torch.Generator().manual_seed(0), 256)
    model = WithLoss()
    modularity = Modularity(model, EXAMPLE, start=4, every=2, decay=5.0)
    options = transformers.TrainingArguments(
        output_dir=str(tmp_path), max_steps=12, per_device_train_batch_size=16, gradient_accumulation_steps=2,
        learning_rate=0.02, lr_scheduler_type="constant", logging_steps=6, report_to=[], use_cpu=True,
        save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    rows = [{"inputs": x, "labels": y} for x, y in zip(inputs, targets, strict=True)]
    trainer = transformers.Trainer(model, options, train_dataset=rows, callbacks=[callbacks.hugging_face(modularity)])
    trainer.train()
    assert modularity.steps == 12
    assert 0 < modularity.interface < 0.4
    assert trainer.state.log_history[0]["interface"] > modularity.interface


def test_in_lightnings_hooks(monkeypatch):
    stub = types.ModuleType("pytorch_lightning")
    stub.Callback = type("Callback", (), {"setup": lambda *_: None})
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    monkeypatch.setitem(sys.modules, "pytorch_lightning", stub)
    model, _ = merged(0.3)
    callback = callbacks.lightning(modularity := Modularity(model, EXAMPLE, every=5, strength=0.1, decay=5.0))
    assert isinstance(callback, stub.Callback)
    logged = []
    module = types.SimpleNamespace(log=lambda name, value: logged.append(value))
    optimiser = torch.optim.SGD(model.parameters(), 0.01)
    for index in range(6):
        model(torch.randn(16, 12)).square().mean().backward()
        if index % 2:  # two batches for a step
            callback.on_before_optimizer_step(None, module, types.SimpleNamespace(optimizer=optimiser))
            optimiser.step()
            optimiser.zero_grad()
        callback.on_train_batch_end(None, module, None, None, index)
    assert modularity.steps == 3
    assert logged[0] == logged[1] > logged[2] == logged[3] > logged[4]
    other = callbacks.lightning(Modularity(merged(0.3)[0], EXAMPLE))
    other.load_state_dict(callback.state_dict())
    assert other.modularity.steps == 3


def test_without_the_package(monkeypatch):
    for name in ("lightning.pytorch", "pytorch_lightning", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)
    modularity = Modularity(merged(0.3)[0], EXAMPLE)
    with pytest.raises(BadInput, match="pip install lightning"):
        callbacks.lightning(modularity)
    with pytest.raises(BadInput, match="pip install transformers"):
        callbacks.hugging_face(modularity)
