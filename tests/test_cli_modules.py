"""`pellucid decompile --modules`: a program built on modules that a method finds, judged like any other."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pellucid import cli
from pellucid.ir.program import Program


def run(monkeypatch, capsys, *words: object) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["pellucid", *map(str, words)])
    with pytest.raises(SystemExit) as caught:  # noqa: PT012 - a command that ends well exits by itself or returns
        cli.main()
        sys.exit(0)
    return int(caught.value.code or 0), capsys.readouterr().err


def two_worlds(path: Path) -> Path:
    """An MLP whose even and odd units share nothing."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 20), nn.ReLU(), nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 4)).eval()
    with torch.no_grad():
        for layer in network[::2]:
            rows, columns = layer.weight.shape
            layer.weight *= (torch.arange(rows)[:, None] - torch.arange(columns)[None]) % 2 == 0
    shapes = ({0: torch.export.Dim.AUTO},)
    torch.export.save(torch.export.export(network, (torch.randn(3, 8),), dynamic_shapes=shapes), path)
    return path


def test_modules_become_functions_that_hold(tmp_path, monkeypatch, capsys):
    model, inputs, out = two_worlds(tmp_path / "a.pt2"), tmp_path / "x.npz", tmp_path / "out"
    np.savez(inputs, np.random.default_rng(0).normal(size=(90, 8)).astype(np.float32))
    words = ("decompile", model, "--inputs", inputs, "-o", out, "--budget", 2)
    code, _ = run(monkeypatch, capsys, *words, "--modules", "spectral")
    assert code == 0
    program = Program.load(out)
    assert {"network", "module_1", "module_2"} <= set(program.functions)
    assert program.regions is not None
    assert program.regions.origin == "spectral"
    assert {verdict.part for verdict in program.notes.verdicts} >= {"program", "module_1", "module_2"}


def test_an_unknown_method_is_one_line(tmp_path, monkeypatch, capsys):
    code, error = run(monkeypatch, capsys, "decompile", tmp_path / "a.pt2", "--modules", "magic")
    assert code == 2
    assert error.count("\n") == 1
    assert "unknown method 'magic'; take one of nesting, spectral" in error
