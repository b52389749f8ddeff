"""The tools of the benchmarks: what is compared, what is written, and that each fault is a single one."""

from __future__ import annotations

import ast
import difflib
import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def _load(name):
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def shared():
    return _load("shared")


@pytest.fixture(scope="module")
def mutants():
    return _load("mutants")


PROGRAM = '''\
"""A program."""

from __future__ import annotations


def scale(w, x: float) -> float:
    """kᵀ → x."""
    y = w["a"] * x + 1.5
    if y < 3:
        y = -y
    return scaled(y, x)


def scaled(w, x):
    table = [1, 2, 3]
    return w["b"] * table[x]


def main():
    return 1 + 1


if __name__ == "__main__":
    main()
'''


def test_a_difference_is_relative_to_the_largest_number_of_its_output(shared):
    worst = shared.Worst()
    worst.see([torch.tensor([1.0, 2.0]), torch.tensor([10.0])], [torch.tensor([1.0, 4.0]), torch.tensor([10.0])])
    worst.see([torch.tensor([0.0]), torch.tensor([101.0])], [torch.tensor([0.0]), torch.tensor([100.0])])
    assert worst.relative == pytest.approx(0.5)


@pytest.mark.parametrize("found", [torch.tensor([math.nan]), torch.tensor([[1.0]])])
def test_what_is_not_a_number_or_of_another_shape_is_infinitely_off(shared, found):
    worst = shared.Worst()
    worst.see([found], [torch.tensor([1.0])])
    assert worst.relative == math.inf


def test_nothing_seen_is_no_agreement(shared):
    assert shared.Worst().relative == math.inf


def test_a_section_is_replaced_where_it_stood(shared):
    text = shared.with_section("# Results\n", "one", "first")
    text = shared.with_section(text, "two", "second")
    text = shared.with_section(text, "one", "again")
    assert text.index("# Results") < text.index("again") < text.index("second")
    assert "first" not in text
    assert shared.with_section(text, "one", "again") == text


def test_a_table_is_markdown(shared):
    text = shared.Table("Numbers.", ("a", "b"), [[1, "x|y"]]).markdown()
    assert text.splitlines() == ["Numbers.", "", "| a | b |", "| --- | --- |", "| 1 | x\\|y |"]


def test_every_edit_parses_and_is_one_place(mutants):
    source = mutants.Source(PROGRAM)
    assert set(source.edits) >= {
        "sign", "operator", "literal", "call", "argument", "term dropped", "line dropped", "table row",
        "weight exchanged", "value", "call dropped",
    }  # fmt: skip
    for edits in source.edits.values():
        for edit in edits:
            text = source.edited(edit)
            ast.parse(text)
            blocks = difflib.SequenceMatcher(
                None, PROGRAM.splitlines(), text.splitlines(), autojunk=False
            ).get_opcodes()
            assert sum(tag != "equal" for tag, *_ in blocks) == 1


def test_the_command_line_and_annotations_are_left_alone(mutants):
    source = mutants.Source(PROGRAM)
    tail = PROGRAM[PROGRAM.index("def main") :]
    for edits in source.edits.values():
        for edit in edits:
            text = source.edited(edit)
            assert text.endswith(tail)
            assert "x: float) -> float" in text


def test_a_changed_weight_is_one_number(mutants):
    weights = {"a": torch.randn(4, 5, generator=torch.Generator().manual_seed(0)), "ids": torch.arange(3)}
    rng = np.random.default_rng(0)
    for _ in range(50):
        drawn = mutants.changed_weight(weights, rng)
        if drawn is not None:
            assert int((drawn[1]["a"] != weights["a"]).sum()) == 1
            assert torch.equal(drawn[1]["ids"], weights["ids"])
