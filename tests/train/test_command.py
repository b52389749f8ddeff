"""`pellucid train`: trains, resumes, and ends with one line and an exit code."""

import json

import pytest
from rich.console import Console
from typer.testing import CliRunner

from pellucid.cli import app, main
from pellucid.train import Progress, displayed

QUICK = ["--steps", "20", "--restarts", "1"]


def test_a_recipe_is_trained_and_resumed(tmp_path):
    command = ["train", "modular", "--recipe", "double-digits", *QUICK, "-o", str(tmp_path / "run")]
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 0, first.output
    assert "interface 0.00%" in first.output
    written = (tmp_path / "run" / "network.safetensors").read_bytes()
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0
    assert again.output.splitlines()[-3:] == first.output.splitlines()[-3:]
    assert (tmp_path / "run" / "network.safetensors").read_bytes() == written
    assert json.loads((tmp_path / "run" / "result.json").read_text())["figures"]["interface"] == 0.0


def test_bad_usage(tmp_path, monkeypatch, capsys):
    for words, told in (
        (["best"], "unknown method 'best'"),
        (["modular", "--recipe", "cats"], "unknown recipe 'cats'"),
        (["modular", "--steps", "0"], "steps=0"),
        (["none", "--output", str(tmp_path)], "holds no run"),
    ):
        (tmp_path / "thesis.txt").write_text("words")
        monkeypatch.setattr("sys.argv", ["pellucid", "train", *words, *([] if "--output" in words else ["-o", "run"])])
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 2
        error = capsys.readouterr().err
        assert told in error
        assert len(error.strip().splitlines()) == 1


def test_progress_in_a_terminal_and_without():
    now = Progress("modular", 0, 2, 100, 300, 0.5, 0.25, float("nan"), float("nan"))
    for terminal in (True, False):
        console = Console(force_terminal=terminal, record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115
        with displayed(console) as report:
            report(now)
            report(Progress("modular", 0, 2, 200, 300, 0.5, 0.25, 0.125, 31.5))
        text = console.export_text()
        assert "modular, 1 of 2" in text
        assert "loss 0.5000, accuracy 25.00%, interface 12.50%, z 31.5" in text
        console.file.close()
