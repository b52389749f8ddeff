"""Kernels that numba compiles at their first call.

Numba can keep compiled code beside the source, but to tell whether it is still good, it looks only at the file of the
kernel that is called, not at those of the kernels that this one calls. So only outermost kernels are kept. They are
made inside a function that gives them a variable of `sources`: what they close over is a part of what they are kept
under.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import ParamSpec, TypeVar, cast

import numba

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def compiled(kernel: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """`kernel` compiled to machine code, for the length of this process.

    Type checks that were wrapped around it, as the tests do, are taken off.
    """
    return cast(Callable[_Arguments, _Result], numba.njit(inspect.unwrap(kernel)))


def kept(kernel: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """`kernel` compiled to machine code, which later processes find on disk. It should close over `sources`."""
    return cast(Callable[_Arguments, _Result], numba.njit(cache=True)(inspect.unwrap(kernel)))


def sources(*modules: ModuleType) -> str:
    """A digest of the source of modules."""
    return hashlib.sha256("".join(inspect.getsource(module) for module in modules).encode()).hexdigest()
