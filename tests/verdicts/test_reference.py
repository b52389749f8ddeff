import dataclasses

import torch
from hand_printer import Speaker, Summer, decompiled
from torch import nn

from pellucid.data import gather
from pellucid.ir.interpret import run_functions
from pellucid.ir.regions import Region, RegionTree
from pellucid.lift.load import load
from pellucid.verdicts.reference import derive, double_precision, why_not_widened, widened
from pellucid.verdicts.rounding import own_rounding


def _ids(rows=4, length=9):
    return torch.randint(0, 11, (rows, length), generator=torch.Generator().manual_seed(0))


def test_a_reference_is_the_network():
    network = load(Speaker().eval())
    reference = derive(network, gather([_ids(3, 9), _ids(2, 30)]), None)
    torch.testing.assert_close(reference(_ids(5, 17)), network.module(_ids(5, 17)))


def test_regions_are_followed_where_they_fit():
    network, inputs = load(Speaker().eval()), gather(_ids())
    own = derive(network, inputs, None)
    coarse = RegionTree(dataclasses.replace(own.regions.root, children=own.regions.root.children[:1]), "planted")
    assert set(derive(network, inputs, coarse).functions) < set(own.functions)
    foreign = RegionTree(Region("network", "network", children=(Region("part", "part", ("no_such_node",)),)), "planted")
    assert set(derive(network, inputs, foreign).functions) == set(own.functions)


def test_a_widened_program_computes_in_double_precision():
    for module, values in ((Speaker().eval(), _ids()), (Summer(), torch.rand(4, 10, 1))):
        program = decompiled(module, values[:3])
        wide = values.double() if values.is_floating_point() else values
        with double_precision():
            (found,) = run_functions(widened(program), [wide], "weights")
        assert found.dtype == torch.float64
        torch.testing.assert_close(found, module.double()(wide), rtol=1e-13, atol=1e-13)
        assert torch.get_default_dtype() == torch.float32


def test_loops_and_makers_without_a_type_are_widened(program_with_loop):
    with double_precision():
        (found,) = run_functions(widened(program_with_loop), [torch.rand(2, 5, 2).double()], "weights")
    assert found.dtype == torch.float64


def test_half_precision_is_a_stated_reason():
    program = decompiled(Speaker().eval(), _ids(3))
    assert why_not_widened(program) == ""
    halved = dataclasses.replace(program, weights={**program.weights, "head.bias": program.weights["head.bias"].half()})
    assert "'head.bias' is of half precision" in why_not_widened(halved)

    class Casting(nn.Module):
        def forward(self, x):
            return x.bfloat16().float()

    assert "half precision" in why_not_widened(decompiled(Casting(), torch.rand(3, 4)))


def test_own_rounding_is_what_single_precision_loses():
    class Rounding(nn.Module):
        def forward(self, x):
            return x + 10000.0 - 10000.0

    xs = torch.rand(50, 4)
    program = decompiled(Rounding(), xs[:3])
    lost = float(((xs + 10000.0 - 10000.0).double() - xs.double()).abs().max() / xs.max())
    assert 0.5 * lost < own_rounding(program, "network", [[xs]]) < 2 * lost
    speaker = decompiled(Speaker().eval(), _ids(3))
    assert own_rounding(speaker, "first.mlp", [[_ids()]]) < 1e-6
