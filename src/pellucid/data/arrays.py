"""One array of a user's input, checked, as a tensor that a network takes.

Conventions. Samples are rows along axis 0. Floating point of any width becomes float32, integers of any width become
int64 (they may be ids), booleans stay booleans (they may be masks). Nothing is padded, clipped or replaced: what a
network cannot take is refused with the place, the cause and the remedy.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float32, Shaped
from torch import Tensor

from pellucid.errors import BadInput


def tensor_of(value: object, where: str, *, floating: bool = False) -> Shaped[Tensor, "rows ..."]:
    """Return a copy of `value` (tensor, array, nested numbers) as a float32, int64 or bool tensor on the CPU.

    `where` names the value in error messages. `floating` turns integers and booleans into float32.
    Raises BadInput for anything that is not a non-empty array of finite real numbers.
    """
    tensor = _from_torch(value, where) if isinstance(value, Tensor) else _from_numpy(value, where)
    if tensor.ndim == 0:
        raise BadInput(f"{where}: a single number, but samples are rows along axis 0: add that axis")
    if tensor.numel() == 0:
        raise BadInput(f"{where}: empty (shape {list(tensor.shape)}): give at least one sample with at least one value")
    if tensor.is_floating_point():
        _check_finite(tensor, where)
    return tensor.to(torch.float32) if floating else tensor


def _from_torch(value: Tensor, where: str) -> Tensor:
    if value.layout != torch.strided or value.is_quantized:
        raise BadInput(f"{where}: a sparse or quantized tensor: give a dense one (.to_dense(), .dequantize())")
    if value.is_complex():
        raise BadInput(f"{where}: dtype {value.dtype} is complex: give real and imaginary parts as real numbers")
    if value.dtype in (torch.float64, torch.uint64):
        return _from_numpy(value.detach().cpu().numpy(), where)
    whole = torch.bool if value.dtype == torch.bool else torch.int64
    dtype = torch.float32 if value.is_floating_point() else whole
    return value.detach().to("cpu", dtype, copy=True)


def _from_numpy(value: object, where: str) -> Tensor:
    if isinstance(value, np.ma.MaskedArray):
        raise BadInput(f"{where}: a masked array: drop the masked samples and give a plain array")
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError, RuntimeError) as error:
        raise BadInput(f"{where}: not an array ({one_line(error)}): give a tensor or an array of numbers") from error
    if array.dtype.kind not in "biuf":
        raise BadInput(f"{where}: dtype {array.dtype} holds no real numbers: give float32, int64 or bool")
    if array.dtype.kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise BadInput(f"{where}: integers above 2**63 - 1: give int64")
    if array.dtype.kind == "f":
        return torch.from_numpy(_floats(array, where))
    return torch.from_numpy(np.array(array, dtype=bool if array.dtype.kind == "b" else np.int64))


def _floats(array: Shaped[np.ndarray, "..."], where: str) -> Shaped[np.ndarray, "..."]:
    """Return a float32 copy; a finite number that float32 cannot hold is refused here, for it would look like Inf."""
    with np.errstate(over="ignore"):
        floats = np.array(array, dtype=np.float32)
    if array.dtype.itemsize > 4 and bool((np.isinf(floats) & np.isfinite(array)).any()):
        raise BadInput(f"{where}: numbers beyond the range of float32 (3.4e38): rescale them")
    return floats


def _check_finite(floats: Float32[Tensor, "rows ..."], where: str) -> None:
    bad = ~torch.isfinite(floats.reshape(len(floats), -1)).all(1)
    if bool(bad.any()):
        row = int(bad.int().argmax())
        raise BadInput(f"{where}: NaN or Inf in {int(bad.sum())} samples, first in row {row}: remove or replace them")


def one_line(error: BaseException) -> str:
    """Return an error's message as one line (some libraries' messages have several)."""
    return " ".join(str(error).split())[:200] or type(error).__name__
