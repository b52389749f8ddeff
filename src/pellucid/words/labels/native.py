"""Functions compiled to machine code by numba."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def native(kernel: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """`kernel` as machine code, kept on disk and run without the interpreter's lock.

    It may call kernels of its own file only: others could change without its being compiled again. Type checks that
    were wrapped around it, as the tests do, are taken off.
    """
    return cast(Callable[_Arguments, _Result], numba.njit(nogil=True, cache=True)(inspect.unwrap(kernel)))
