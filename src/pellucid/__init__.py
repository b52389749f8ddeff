"""pellucid: a decompiler for neural networks.

    program = pellucid.decompile(model, inputs)
    print(program)                # pseudocode, what is still weights first
    program(x)                    # runs it
    program.save(directory)

Names are imported when they are first used, so that `import pellucid` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pellucid import data as data
    from pellucid import train as train
    from pellucid import words as words
    from pellucid.describing import describe as describe
    from pellucid.emitters.files import emit as emit
    from pellucid.errors import BadInput as BadInput
    from pellucid.errors import CannotTrace as CannotTrace
    from pellucid.errors import PellucidError as PellucidError
    from pellucid.exporting import export as export
    from pellucid.ir.notes import Verdict as Verdict
    from pellucid.ir.program import Program as Program
    from pellucid.ir.regions import Region as Region
    from pellucid.lift.load import load as load
    from pellucid.lift.trace import trace as trace
    from pellucid.modules.partition import partition as partition
    from pellucid.modules.structure import structure as structure
    from pellucid.pipeline import decompile as decompile
    from pellucid.pipeline import verify as verify

_HOMES = {
    "BadInput": "errors",
    "CannotTrace": "errors",
    "PellucidError": "errors",
    "Program": "ir.program",
    "Region": "ir.regions",
    "Verdict": "ir.notes",
    "decompile": "pipeline",
    "describe": "describing",
    "emit": "emitters.files",
    "export": "exporting",
    "load": "lift.load",
    "partition": "modules.partition",
    "structure": "modules.structure",
    "trace": "lift.trace",
    "verify": "pipeline",
}

__all__ = ["data", "train", "words", *_HOMES]


def __getattr__(name: str) -> object:
    if name in ("data", "train", "words"):
        return import_module(f"pellucid.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'pellucid' has no attribute {name!r}")
    return getattr(import_module(f"pellucid.{_HOMES[name]}"), name)
