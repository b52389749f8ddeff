"""Primitives travel with all that they call, and nothing else."""

from __future__ import annotations

import ast

import pytest

from pellucid.emitters.frame import imports
from pellucid.emitters.sources import copied, names_in
from pellucid.ir.primitives import OPERATORS, PREFIXES, TORCH

FUNCTIONS = sorted(set(TORCH) - set(OPERATORS) - set(PREFIXES))
GIVEN = {"np", "torch", "F", "Tensor", "Array", "Sequence", "Any"}


@pytest.mark.parametrize("dialect", ["numpy", "torch"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_copied_primitive_finds_everything_it_needs(name: str, dialect: str) -> None:
    sources = copied([name], dialect)
    code = "\n\n".join(sources)
    tree = ast.parse(code)
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert name in defined
    bound = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    bound |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    assert (
        names_in(code)
        - defined
        - bound
        - GIVEN
        - set(dir(__builtins__) if not isinstance(__builtins__, dict) else __builtins__)
        == set()
    )


def test_helpers_come_along_and_others_stay() -> None:
    names = [ast.parse(source).body[0].name for source in copied(["gelu", "conv1d"], "numpy")]  # type: ignore[attr-defined]
    assert names == ["_floating", "erf", "gelu", "conv1d", "conv2d"]
    assert copied(["add", "size_of_nothing"], "torch") == ()


def test_imports_are_those_that_the_code_needs() -> None:
    assert imports("def f(x: Tensor) -> Tensor:\n    return F.relu(x)") == [
        "import torch.nn.functional as F",
        "from torch import Tensor",
    ]
    found = imports("def f(x: Sequence[int], g: Callable[..., Any]) -> None:\n    np.exp(x)")
    assert found == [
        "from collections.abc import Callable, Sequence",
        "from typing import Any",
        "",
        "import numpy as np",
    ]
