"""Shapes and types are checked while tests run: jaxtyping with beartype on the whole package.

Every test begins with the same random numbers of torch.
"""

import os

import pytest
import torch
from jaxtyping import install_import_hook

if os.environ.get("PELLUCID_TYPECHECK", "1") == "1":
    install_import_hook("pellucid", "typechecker.check")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
