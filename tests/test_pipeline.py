"""The whole way, on small networks whose program is known."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import pellucid
from pellucid.demos.adder import adder
from pellucid.errors import BadInput
from pellucid.ir.regions import Region, RegionTree, Unit

BITS = pellucid.data.Domain.sequences([0.0, 1.0], length=4, width=2)
FILES = ["program.json", "program.map.json", "program.py", "report.html", "verdicts.json", "weights.safetensors"]


class RunningSum(nn.Module):
    """s += x, by hand."""

    def __init__(self):
        super().__init__()
        self.step = nn.Linear(2, 1)
        self.step.weight.data[:] = 1.0
        self.step.bias.data[:] = 0.0

    def forward(self, x):
        state, outputs = x.new_zeros(x.shape[0], 1), []
        for t in range(x.shape[1]):
            state = self.step(torch.cat([state, x[:, t]], -1))
            outputs.append(state)
        return torch.stack(outputs, 1)


@pytest.fixture(scope="module")
def added(tmp_path_factory):
    directory = tmp_path_factory.mktemp("adder") / "out"
    return pellucid.decompile(adder(), BITS, output=directory, budget=20.0), directory


def test_the_adder_becomes_code_without_weights_and_proved(added):
    program, directory = added
    assert sorted(path.name for path in directory.iterdir()) == FILES
    assert program.ledger.share("weights") == 0.0
    assert program.ledger.share("code", by="loss") > 0.999
    whole = [v for v in program.notes.verdicts if (v.part, v.reading) == ("program", "code")]
    assert [(v.value, v.kind, v.inputs, v.passed) for v in whole] == [(1.0, "proved", 256, True)]
    assert all(v.passed for v in program.notes.verdicts)
    assert "carry ^ a ^ b" in str(program)


def test_code_and_exact_reading_run_in_memory_and_from_the_directory(added):
    program, directory = added
    bits = torch.randint(0, 2, (5, 9, 2)).float()
    with torch.no_grad():
        live = adder()(bits)
    torch.testing.assert_close(program.run(bits, reading="weights"), live)
    assert torch.equal(program(bits), live.round())
    assert torch.equal(pellucid.Program.load(directory)(bits), live.round())


def test_verify_takes_a_directory_or_a_program_and_fails_on_another_network(added):
    program, directory = added
    assert all(verdict.passed for verdict in pellucid.verify(directory, adder(), BITS))
    assert all(verdict.passed for verdict in pellucid.verify(program, adder(), BITS))
    other = adder()
    with torch.no_grad():
        other.readout.bias += 1.0
    assert not all(verdict.passed for verdict in pellucid.verify(directory, other, BITS))


def test_the_same_input_gives_the_same_bytes(added, tmp_path):
    _, directory = added
    pellucid.decompile(adder(), BITS, output=tmp_path / "again", budget=20.0)
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (directory / name).read_bytes(), name


def test_whole_numbers_are_read_as_real_ones_where_the_network_computes_with_them():
    numbers = np.random.default_rng(0).integers(0, 50, (60, 8, 1))
    program = pellucid.decompile(RunningSum(), numbers, budget=20.0)
    assert program.ledger.share("weights") == 0.0
    assert torch.equal(program(torch.ones(2, 30, 1))[:, -1], torch.full((2, 1), 30.0))


def test_a_hierarchy_that_divides_neurons_is_built_on_and_judged(tmp_path):
    def halves(graph):
        hidden = next(node.id for node in graph.block.nodes if node.op == "relu")
        parts = [(f"half{i}", tuple(range(4 * i, 4 * i + 4))) for i in range(2)]
        children = tuple(Region(name, "half", units=(Unit(hidden, 1, at),)) for name, at in parts)
        return RegionTree(Region("network", "network", children=children), "halves")

    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    inputs = torch.randn(90, 6)
    program = pellucid.decompile(network, inputs, output=tmp_path / "out", regions=halves, budget=0.0)
    assert {"half0", "half1"} <= set(program.functions)
    assert all(verdict.passed for verdict in program.notes.verdicts)
    assert all(verdict.passed for verdict in pellucid.verify(tmp_path / "out", network, inputs))


def test_random_weights_give_no_code():
    torch.manual_seed(3)
    network = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    program = pellucid.decompile(network, torch.randn(200, 6), budget=20.0)
    assert program.ledger.share("weights") == 1.0
    assert all(verdict.passed for verdict in program.notes.verdicts)


@pytest.mark.parametrize("before", [True, False], ids=["old result", "no result"])
def test_an_interrupted_run_leaves_the_old_result_or_none(tmp_path, before):
    output = tmp_path / "out"
    if before:
        pellucid.decompile(nn.Linear(3, 2), torch.randn(40, 3), output=output, budget=5.0)
        old = (output / "program.json").read_bytes()

    def interrupt(stage):
        if stage.startswith("verify"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pellucid.decompile(nn.Linear(3, 2), torch.randn(40, 3), output=output, budget=5.0, progress=interrupt)
    assert output.exists() == before
    assert [path.name for path in tmp_path.iterdir()] == (["out"] if before else [])
    if before:
        assert (output / "program.json").read_bytes() == old
        assert json.loads((output / "verdicts.json").read_text())


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (None, "no inputs"),
        (torch.randn(40, 4), "does not run on the given inputs"),
        (torch.zeros(0, 3), "empty"),
        (torch.full((40, 3), float("nan")), "NaN"),
    ],
    ids=["none", "shape", "empty", "nan"],
)
def test_bad_inputs_are_one_line_and_leave_nothing(tmp_path, inputs, words):
    with pytest.raises(BadInput) as caught:
        pellucid.decompile(nn.Linear(3, 2), inputs, output=tmp_path / "out")
    assert words.lower() in str(caught.value).lower()
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
