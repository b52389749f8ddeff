"""Fingerprints tell tensors apart, and tensors that cannot be decompiled are refused by name."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from pellucid.errors import BadInput
from pellucid.lift.network import fingerprint, from_module


def make(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2, bias=False))


def test_fingerprint_is_the_same_in_another_process():
    code = (
        "import torch; from torch import nn; from pellucid.lift.network import fingerprint; torch.manual_seed(0);"
        "print(fingerprint(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2, bias=False))))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert found == fingerprint(make())
    assert len(found) == 64


def test_fingerprint_does_not_depend_on_memory_layout():
    module = make()
    before = fingerprint(module)
    module[0].weight = nn.Parameter(module[0].weight.detach().t().contiguous().t())
    assert not module[0].weight.is_contiguous()
    assert fingerprint(module) == before


def flip_lowest_bit(module):
    module[0].weight.data.view(torch.int32)[1, 2] ^= 1


def change_buffer(module):
    module[1].running_mean[3] += 1


def change_dtype(module):
    module[2].double()


def change_shape(module):
    module[2].weight = nn.Parameter(module[2].weight.detach().reshape(4, 2))


def change_name(module):
    module.last = module._modules.pop("2")


@pytest.mark.parametrize("change", [flip_lowest_bit, change_buffer, change_dtype, change_shape, change_name])
def test_fingerprint_sees_every_change(change):
    module = make()
    before = fingerprint(module)
    change(module)
    assert fingerprint(module) != before


def test_fingerprint_takes_any_stride_of_an_axis_of_length_one():
    module = nn.Linear(3, 1, bias=False)
    before = fingerprint(module)
    module.weight = nn.Parameter(torch.as_strided(module.weight.detach(), (1, 3), (7, 1)))
    assert fingerprint(module) == before
    module.weight = nn.Parameter(torch.as_strided(torch.ones(9), (3, 1), (1, 5)))
    assert fingerprint(module) != before


def test_fingerprint_takes_half_precision_empty_and_complex_tensors():
    module = make()
    module.register_buffer("empty", torch.zeros(0, 3))
    module.register_buffer("complex", torch.ones(2, dtype=torch.complex64).conj())
    module.register_buffer("scalar", torch.tensor(1.0, dtype=torch.bfloat16))
    assert fingerprint(module) != fingerprint(make())


def test_dropout_is_off_in_all_parts():
    module = nn.Sequential(nn.Dropout(), make().eval(), nn.Dropout())
    network = from_module(module, "live")
    assert not any(part.training for part in network.module.modules())
    assert torch.equal(network.module(torch.ones(2, 3)), network.module(torch.ones(2, 3)))


def test_an_exported_module_keeps_its_mode():
    exported = torch.export.export(make().eval(), (torch.ones(2, 3),)).module()
    assert from_module(exported, "live").module is exported


@pytest.mark.parametrize(("value", "found"), [(float("nan"), "1 NaN"), (float("-inf"), "1 Inf")])
def test_nan_and_inf_weights_are_named_and_counted(value, found):
    module = make()
    module[2].weight.data[1, 1] = value
    with pytest.raises(BadInput, match=rf"tensor 2\.weight holds {found} among its 8 values"):
        from_module(module, "live")


def test_a_mask_of_infinities_is_no_error_but_nan_in_a_buffer_is():
    module = make()
    module.register_buffer("mask", torch.full((3, 3), float("-inf")).triu(1))
    from_module(module, "live")
    module[1].running_var[0] = float("nan")
    with pytest.raises(BadInput, match=r"tensor 1\.running_var holds 1 NaN"):
        from_module(module, "live")


def test_tensors_without_data_are_refused():
    with pytest.raises(BadInput, match="weight is on the meta device"):
        from_module(nn.Linear(2, 2, device="meta"), "live")
    with pytest.raises(BadInput, match="weight has no shape yet; run the module once"):
        from_module(nn.LazyLinear(2), "live")


def test_sparse_tensors_are_refused():
    module = make()
    module.register_buffer("sparse", torch.eye(3).to_sparse())
    with pytest.raises(BadInput, match="tensor sparse is sparse or quantized"):
        from_module(module, "live")
