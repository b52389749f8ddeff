"""What `emit` writes: four files, all or none, that can be loaded again and traced back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from emitters.planted_programs import layers, mlp, recurrent

from pellucid.emitters.files import emit, map_text
from pellucid.emitters.python import program_source
from pellucid.errors import BadInput
from pellucid.ir.directory import MAP
from pellucid.ir.serialize import load_program, same_program

FILES = {"program.py", "program.json", "program.map.json", "weights.safetensors"}


def test_all_files_are_there_and_the_program_loads_again(tmp_path: Path) -> None:
    made = layers(mixed=True)
    emit(made, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert same_program(load_program(tmp_path / "out"), made)


def test_emitting_again_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b", "a"):
        emit(recurrent(), tmp_path / name)
    for file in FILES:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_directory_of_others_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(BadInput, match="pellucid did not write it"):
        emit(mlp(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_interrupted_run_leaves_the_old_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    emit(mlp(), tmp_path / "out")
    before = (tmp_path / "out" / "program.py").read_text()

    def full(source: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pellucid.emitters.files.map_text", full)
    with pytest.raises(BadInput, match="disk is full"):
        emit(recurrent(), tmp_path / "out")
    assert (tmp_path / "out" / "program.py").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_map_names_function_reading_and_nodes_of_each_line(tmp_path: Path) -> None:
    emit(mlp(), tmp_path / "out")
    found = json.loads((tmp_path / "out" / MAP).read_text())
    lines = (tmp_path / "out" / found["file"]).read_text().splitlines()
    by_text = {lines[int(line) - 1].strip(): origins for line, origins in found["lines"].items()}
    first = 'fc1 = relu(linear(x, w["fc1.weight"], w["fc1.bias"]))'
    assert by_text[first] == [["network", "weights", ["hidden", "relu_1"]]]
    assert by_text["def network(w, x):"] == [["network", "weights", []]]


def test_lines_of_a_shared_def_belong_to_all_who_share_it() -> None:
    found = json.loads(map_text(program_source(layers(3))))
    owners = {tuple(origin[0] for origin in origins) for origins in found["lines"].values()}
    assert ("blocks.0", "blocks.1", "blocks.2") in owners


def test_the_caller_can_ask_for_torch(tmp_path: Path) -> None:
    emit(mlp(), tmp_path / "out", "torch")
    assert 'DIALECT = "torch"' in (tmp_path / "out" / "program.py").read_text()
