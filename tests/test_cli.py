"""The command line on a `.pt2` export, and its exit codes."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from pellucid import cli
from pellucid.errors import BadInput


def exported(path, seed):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)).eval()
    shapes = ({0: torch.export.Dim.AUTO},)
    torch.export.save(torch.export.export(network, (torch.randn(3, 6),), dynamic_shapes=shapes), path)
    return path


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*words):
        monkeypatch.setattr(sys, "argv", ["pellucid", *map(str, words)])
        with pytest.raises(SystemExit) as caught:  # noqa: PT012 - a command that ends well exits by itself or returns
            cli.main()
            sys.exit(0)
        out, err = capsys.readouterr()
        return caught.value.code or 0, out, err

    return call


def test_decompile_verify_show_report(tmp_path, run):
    model, other = exported(tmp_path / "a.pt2", 1), exported(tmp_path / "b.pt2", 2)
    inputs, out = tmp_path / "x.npz", tmp_path / "out"
    np.savez(inputs, np.random.default_rng(0).normal(size=(90, 6)).astype(np.float32))
    code, text, _ = run("decompile", model, "--inputs", inputs, "-o", out, "--budget", 5)
    assert code == 0
    assert "100.0% of 43 parameters are still weights" in text
    code, text, _ = run("verify", out, model, "--inputs", inputs)
    assert (code, "verdicts passed" in text) == (0, True)
    code, text, _ = run("verify", out, other, "--inputs", inputs)
    assert (code, "NO" in text) == (1, True)
    code, text, _ = run("show", out)
    assert (code, "def network" in text) == (0, True)
    (out / "report.html").unlink()
    assert run("report", out)[0] == 0
    assert (out / "report.html").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("decompile", "nowhere.gguf"),
        ("decompile", "a.pth"),
        ("verify", "nowhere", "smollm2"),
        ("show", "nowhere"),
        ("decompile", "model.pt2", "--inputs", "nowhere.npz"),
    ],
)
def test_bad_input_is_one_line_on_stderr_with_code_2(tmp_path, run, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    torch.save({}, "a.pth")
    exported("model.pt2", 0)
    code, _, err = run(*words)
    assert code == 2
    assert err.startswith("pellucid: ")
    assert err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pth", "model.pt2"]


@pytest.mark.parametrize("words", [(), ("decompile",), ("frobnicate",), ("verify", "--seed", "x")])
def test_bad_usage_has_code_2(run, words):
    assert run(*words)[0] == 2


def test_an_interrupted_command_says_so(run, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("pellucid.pipeline.decompile", interrupt)
    code, _, err = run("decompile", "smollm2")
    assert (code, "interrupted" in err) == (130, True)


def test_errors_of_ours_keep_their_exit_code(run, monkeypatch):
    def fail(*_, **__):
        raise BadInput("x: a cause; a remedy")

    monkeypatch.setattr("pellucid.pipeline.decompile", fail)
    assert run("decompile", "smollm2") == (2, "", "pellucid: x: a cause; a remedy\n")


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2 h", 7200), ("0", 0)])
def test_durations(text, seconds):
    assert cli.duration(text) == seconds


@pytest.mark.parametrize("text", ["5x", "-3s", "", "m", "1e9", "nan"])
def test_what_is_no_duration_is_one_line_and_exit_code_2(text, run):
    code, _, error = run("decompile", "model", f"--budget={text}")
    assert code == 2
    assert "is no duration; write 90, 90s, 1.5m or 2h" in " ".join(error.split())


def test_describe_wants_a_language_model_and_a_text(tmp_path, run):
    model, text = exported(tmp_path / "a.pt2", 1), tmp_path / "text.txt"
    text.write_text("once upon a time")
    code, _, said = run("describe", model, "--inputs", text, "-o", tmp_path / "out")
    assert (code, "no tokenizer" in said, said.count("\n")) == (2, True, 1)
    assert not (tmp_path / "out").exists()
