"""First what the judge must reject, then what it must let pass."""

from __future__ import annotations

import dataclasses
import os
import py_compile
import shutil

import numpy as np
import pytest
import torch
from hand_printer import Speaker, Summer, decompiled, emit_by_hand
from torch import nn

from pellucid.data import Domain, gather
from pellucid.emitters.files import emit
from pellucid.errors import BadInput
from pellucid.ir.graph import Block, Node, Ref, Weight
from pellucid.ir.program import Program, Reading
from pellucid.ir.serialize import load_program, save_program
from pellucid.lift.load import load
from pellucid.verdicts import Effort, verify_directory


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return load(Speaker().eval())


@pytest.fixture(scope="module")
def ids():
    return torch.randint(0, 11, (24, 9), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def exact(network, ids) -> Program:
    return decompiled(network.module, ids[:3])


@pytest.fixture
def directory(exact, tmp_path):
    return emit_by_hand(exact, tmp_path / "out")


@pytest.fixture
def judge(monkeypatch, network, ids, exact):
    """The judge on the speaker, with its reference traced once for all tests."""
    monkeypatch.setattr("pellucid.verdicts.verify.derive", lambda *_: exact)
    return lambda place, **options: verify_directory(place, network, gather(ids), **options).verdicts


def _edit(directory, old, new, count=1):
    path = directory / "program.py"
    source = path.read_text()
    assert source.count(old) >= 1, f"nothing to edit: {old}"
    path.write_text(source.replace(old, new, count) if count else source.replace(old, new))


def _failed(verdicts):
    return {verdict.part for verdict in verdicts if not verdict.passed}


# ---- it rejects


def test_one_weight_changed_in_its_last_bit(directory, judge):
    program = load_program(directory)
    changed = program.weights["second.norm.weight"].clone()
    changed.view(torch.int32)[0] ^= 1
    save_program(dataclasses.replace(program, weights={**program.weights, "second.norm.weight": changed}), directory)
    verdicts = judge(directory)
    assert "program" in _failed(verdicts)
    assert "second.norm.weight" in verdicts[0].detail
    assert _failed(verdicts) >= {"program", "second"}, "double precision shows which function it is"


def test_weights_of_another_network_under_an_old_program(directory, judge, tmp_path, ids):
    torch.manual_seed(5)
    emit_by_hand(decompiled(Speaker().eval(), ids[:3]), tmp_path / "other")
    shutil.copy(tmp_path / "other" / "weights.safetensors", directory)
    with pytest.raises(BadInput, match="differs from the one that was saved"):
        judge(directory)


def test_a_program_of_another_network(judge, tmp_path, ids):
    torch.manual_seed(5)
    verdicts = judge(emit_by_hand(decompiled(Speaker().eval(), ids[:3]), tmp_path / "other"))
    assert _failed(verdicts) >= {"program", "first", "second.mlp.linear_2"}
    assert any("another network" in verdict.detail for verdict in verdicts)


EDITS = {
    "a call swapped": ("f_second_weights(", "f_first_weights(", "network"),
    "a sign": ("(add + mul)", "(add - mul)", "network"),
    "a literal": ("* 0.1)", "* 0.2)", "network"),
    "a literal, by a billionth": ("* 0.1)", "* 0.1000000001)", "network"),
    "an epsilon, by a thousandth": ("1e-05", "1.001e-05", "first"),
    "a node dropped": ("ops.gelu(", "(", "first.mlp.linear_0"),
    "a node added": ("ops.gelu(", "ops.gelu(1.0001 * ", "first.mlp.linear_0"),
    "an axis": ("ops.cumsum(add, 1)", "ops.cumsum(add, 2)", "network"),
    "two functions exchanged": (
        "FUNCTIONS = {",
        "f_first_own_weights, f_second_own_weights = f_second_own_weights, f_first_own_weights\nFUNCTIONS = {",
        "first",
    ),
    "a weight read twice": ("W['head.weight']", "(W['head.weight'] * 1.0000001)", "network"),
    "an output that is not a number": ("ops.gelu(", "np.nan * ops.gelu(", "first.mlp.linear_0"),
    "an output of another shape": ("ops.gelu(", "np.ones(2) if True else (", "first.mlp.linear_0"),
    "a function that fails": ("ops.gelu(", "undefined(", "first.mlp.linear_0"),
    "a function that gives no tuple": ("", "", "second"),
}  # fmt: skip


@pytest.mark.parametrize("fault", EDITS)
def test_an_edited_program(directory, judge, fault):
    old, new, part = EDITS[fault]
    if fault == "a function that gives no tuple":
        head = next(line for line in (directory / "program.py").read_text().splitlines() if "def f_second_own" in line)
        old, new = head, head + "\n    return 0.0"
    _edit(directory, old, new)
    failed = _failed(judge(directory))
    assert (part if part != "network" else "program") in failed


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("return FUNCTIONS[ENTRY]", "FUNCTIONS[ENTRY]", "returned a NoneType"),
        ("(*inputs)", "(*inputs)[0] * np.float32(1.0000001)", "does not give what FUNCTIONS"),
        ("None: 'chosen'", "'none': 'chosen'", "fails: KeyError"),
    ],
)
def test_a_fault_in_what_users_call(directory, judge, old, new, said):
    """All functions are right, but `run` does not give what they give."""
    _edit(directory, old, new)
    failed = [verdict for verdict in judge(directory) if not verdict.passed]
    assert [verdict.part for verdict in failed] == ["program"]
    assert said in failed[0].detail


def test_a_function_that_is_missing(directory, judge):
    source = (directory / "program.py").read_text()
    line = next(line for line in source.splitlines() if line.startswith("'second.mlp':"))
    _edit(directory, line + "\n", "")
    verdicts = judge(directory)
    assert _failed(verdicts) == {"second.mlp"}, [v.detail for v in verdicts if not v.passed]
    assert "has no reading 'weights' of 'second.mlp'" in verdicts[0].detail


def test_a_program_that_returns_stored_outputs(directory, judge, network, ids):
    """Right on every input that it is checked on, because it has seen them: fresh inputs give it away."""
    (directory / "program.py").write_text(
        "from pathlib import Path\nimport numpy as np\n"
        "STORED = dict(np.load(Path(__file__).with_name('cache.npz')))\n"
        "def network(ids):\n"
        "    hits = (STORED['ids'][:, None] == ids[None]).all(-1)\n"
        "    return ((hits.T @ STORED['out'].reshape(len(hits), -1)).reshape(*ids.shape, -1).astype('float32'),)\n"
        "FUNCTIONS = {'network': {'weights': network}}\nENTRY = 'network'\nINPUTS = ('ids',)\nDIALECT = 'numpy'\n"
        "RUNS = {None: network, 'weights': network}\ndef run(ids, reading=None): return network(ids)\n"
    )
    with torch.no_grad():
        np.savez(directory / "cache.npz", ids=ids.numpy(), out=network.module(ids).numpy())
    whole = next(v for v in judge(directory) if v.part == "program" and v.measure == "max relative difference")
    assert whole.value < 1e-4
    assert not whole.passed


def test_a_program_that_ignores_its_input(directory, judge):
    _edit(
        directory,
        "FUNCTIONS = {",
        "f_network_own_weights = lambda ids: (np.zeros((*ids.shape, 11), 'float32'),)\nFUNCTIONS = {",
    )
    assert "program" in _failed(judge(directory))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("import os; os._exit(7)", "exit status 7"),
        ("raise ValueError('no luck')", "no luck"),
        ("import pellucid", "ModuleNotFoundError"),
        ("FUNCTIONS = 3", "AttributeError"),
        ("def broken(:", "SyntaxError"),
    ],
)
def test_a_program_that_does_not_load(directory, judge, line, message):
    with (directory / "program.py").open("a") as file:
        file.write("\n" + line + "\n")
    verdicts = judge(directory)
    assert not verdicts[0].passed
    assert message in verdicts[0].detail


def test_a_program_that_hangs_is_stopped(directory, judge):
    _edit(directory, "FUNCTIONS = {", "f_first_mlp_own_weights = lambda x: __import__('time').sleep(60)\nFUNCTIONS = {")
    verdicts = judge(directory, effort=Effort(timeout=3.0))
    assert _failed(verdicts) == {"first.mlp"}, [v.detail for v in verdicts if not v.passed]
    assert "no answer within 3 s" in verdicts[0].detail


def test_a_function_that_kills_its_process_does_not_take_the_others_along(directory, judge):
    _edit(directory, "FUNCTIONS = {", "f_first_mlp_own_weights = lambda x: __import__('os')._exit(9)\nFUNCTIONS = {")
    verdicts = judge(directory)
    assert _failed(verdicts) == {"first.mlp"}
    assert "exit status 9" in verdicts[0].detail


def test_cached_bytecode_of_a_better_program_is_not_believed(directory, judge):
    path = directory / "program.py"
    good = path.read_text()
    bad = good.replace("* 0.1)", "* 0.2)")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    py_compile.compile(str(path))
    path.write_text(bad)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    assert len(good) == len(bad)
    assert "program" in _failed(judge(directory))


def test_a_missing_program(directory, judge):
    (directory / "program.py").unlink()
    with pytest.raises(BadInput, match=r"program\.py: no such file"):
        judge(directory)


def test_rounding_that_the_network_does_not_have(directory, judge):
    """Equal in double precision, off by a thousandth in single: a network of ordinary numbers does not round so."""
    _edit(directory, "(add + mul)", "((add + 10000.0) + mul - 10000.0)")
    failed = [verdict for verdict in judge(directory) if not verdict.passed]
    assert {verdict.part for verdict in failed} == {"program"}
    assert failed[0].value > 1e-4
    assert "the network's own rounding error" in failed[0].detail


# ---- it lets pass


def test_a_correct_program_passes_with_a_control_for_every_verdict(directory, network, ids, exact):
    judgement = verify_directory(directory, network, gather(ids))
    assert _failed(judgement.verdicts) == set()
    assert {v.part for v in judgement.verdicts} == {"program", *exact.functions} - {"network"}
    assert judgement.loss_shares == {"weights": 1.0, "code": 0.0, "words": 0.0}
    for verdict in judgement.verdicts:
        assert verdict.kind == ("proved" if verdict.unit == "of tensors" else "sampled")
        assert verdict.control > 0.01 or verdict.unit == "of tensors"
        assert verdict.interval[0] <= verdict.value <= verdict.interval[1]
        if verdict.unit != "of tensors":
            assert verdict.value < 1e-6
            assert float(verdict.detail.split("in double precision ")[1].split(";")[0]) < 1e-14


def test_verdicts_are_the_same_each_time(directory, judge):
    assert judge(directory) == judge(directory)


def test_the_torch_dialect_passes_bit_by_bit(exact, tmp_path, judge):
    verdicts = judge(emit_by_hand(exact, tmp_path / "out", "torch"))
    assert _failed(verdicts) == set()
    assert sum("every bit equal" in verdict.detail for verdict in verdicts) == len(exact.functions) - 1


def test_a_program_that_prints_and_warns_passes(directory, judge):
    _edit(directory, "FUNCTIONS = {", "print('hello'); import warnings; warnings.warn('odd')\nFUNCTIONS = {")
    assert _failed(judge(directory)) == set()


class Rounding(nn.Module):
    """Loses three digits by adding and taking away ten thousand."""

    def forward(self, x):
        return (x + 10000.0) + torch.tanh(x) - 10000.0


def test_rounding_that_the_network_has_too(tmp_path):
    xs = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    place = emit_by_hand(decompiled(Rounding().eval(), xs[:3]), tmp_path / "out")
    lines = (place / "program.py").read_text().splitlines()
    first = next(line.split(" = ")[0].strip() for line in lines if "10000.0" in line)
    _edit(place, f"({first} + tanh)", "((x + tanh) + 10000.0)", 0)
    verdicts = verify_directory(place, load(Rounding().eval()), gather(xs)).verdicts
    assert _failed(verdicts) == set()
    whole = next(verdict for verdict in verdicts if verdict.unit == "of the largest output")
    assert whole.value > 1e-4
    assert "own rounding error" in whole.detail


class Selecting(nn.Module):
    """Takes whole numbers below eight as real ones, and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Embedding(8, 3)

    def forward(self, x):
        return self.rows(x.long())


def test_a_network_that_takes_no_fresh_inputs(tmp_path):
    """Moved by a tenth of their spread, these leave its table: then double precision runs on inputs to verify."""
    xs = torch.tensor([[0.0, 7.0]]).repeat(16, 20)
    module = Selecting().eval()
    verdicts = verify_directory(
        emit_by_hand(decompiled(module, xs[:3]), tmp_path / "out"), load(module), gather(xs)
    ).verdicts
    whole = next(verdict for verdict in verdicts if verdict.unit == "of the largest output")
    assert "in double precision 0.0e+00" in whole.detail


def test_progress_names_the_parts(directory, judge, exact):
    told = []
    judge(directory, progress=told.append)
    assert set(told) >= {*exact.functions} - {"network"}


# ---- code readings


def _with_code(program, name, nodes, measure, budget, weights=None):
    function = program[name]
    reading = Reading("code", Block(function.inputs, nodes, function.outputs), "planted", 1.0, "", measure, budget)
    return program.with_function(function.with_reading(reading), weights)


class Table(nn.Module):
    """Eight numbers that are almost whole."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Embedding(8, 1)
        with torch.no_grad():
            self.rows.weight.copy_(torch.tensor([[0.02], [0.99], [1.03], [2.0], [0.97], [1.99], [2.01], [3.04]]))

    def forward(self, ids):
        return self.rows(ids)[..., 0]


def _tabled(ids, entries=(0.0, 1.0, 1.0, 2.0, 1.0, 2.0, 2.0, 3.0)):
    program = decompiled(Table(), ids)
    (given,) = program["network"].inputs
    (out,) = program["network"].outputs
    return _with_code(program, "network", (Node((out,), "lookup", (entries, (Ref(given),))),), "rounded", 0.0)


def test_a_table_is_proved_on_a_finite_domain(tmp_path):
    domain = Domain.product(range(8), range(8))
    place = emit_by_hand(_tabled(torch.tensor([[0, 1], [2, 3], [4, 5]])), tmp_path / "out")
    judgement = verify_directory(place, load(Table()), gather(domain))
    code = next(verdict for verdict in judgement.verdicts if verdict.reading == "code")
    assert _failed(judgement.verdicts) == set()
    assert (code.kind, code.value, code.inputs) == ("proved", 1.0, 64)
    assert code.control < 1.0
    assert judgement.loss_shares["code"] > 0.99


def test_one_wrong_row_of_a_table_is_named(tmp_path):
    place = emit_by_hand(
        _tabled(torch.tensor([[0, 1], [2, 3], [4, 5]]), (0.0, 1.0, 1.0, 2.0, 1.0, 2.0, 2.0, 4.0)), tmp_path / "out"
    )
    verdicts = verify_directory(place, load(Table()), gather(Domain.product(range(8), range(8)))).verdicts
    assert (verdicts[0].reading, verdicts[0].passed) == ("code", False)
    assert verdicts[0].value == pytest.approx(7 / 8)
    assert "network 3.04, program 4" in verdicts[0].detail


def test_a_printed_table_that_differs_from_the_recorded_one_within_its_budget(tmp_path):
    place = emit_by_hand(_tabled(torch.tensor([[0, 1], [2, 3], [4, 5]])), tmp_path / "out")
    _edit(place, "(0.0, 1.0, 1.0,", "(0.0, 1.0, 1.0001,", 0)
    verdicts = verify_directory(place, load(Table()), gather(Domain.product(range(8), range(8)))).verdicts
    assert verdicts[0].value == 1.0
    assert not verdicts[0].passed


def _drifting():
    class Loop(nn.Module):
        def forward(self, xs):
            return torch.cumsum(xs * 0.995, 1)

    return Loop().eval()


def test_drift_says_up_to_which_length_and_where(tmp_path):
    """round(0.995 s) = s while the sum s stays below 100: at most two a step, they part between 50 and 200."""
    xs = torch.randint(0, 3, (40, 10), generator=torch.Generator().manual_seed(0)).float()
    module = _drifting()
    program = decompiled(module, xs[:3])
    given, out = program["network"].inputs[0], program["network"].outputs[0]
    program = _with_code(program, "network", (Node((out,), "cumsum", (Ref(given), 1)),), "rounded", 0.0)
    verdicts = verify_directory(emit_by_hand(program, tmp_path / "out"), load(module), gather(xs)).verdicts
    code = next(verdict for verdict in verdicts if verdict.reading == "code")
    assert _failed(verdicts) == set()
    assert "agree at lengths 10, 20, 50" in code.detail
    assert "they part at length 1" in code.detail or "they part at length 2" in code.detail
    assert "exact reading" in code.detail


def _mlp_with_code(tmp_path, weight_change, budget):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    xs = torch.randn(60, 6)
    program = decompiled(module, xs[:3])
    function = program["linear_2"]
    weight = module[2].weight.detach() + weight_change
    node = Node(function.outputs, "linear", (Ref(function.inputs[0]), Weight("code.w"), Weight("2.bias")))
    program = _with_code(program, "linear_2", (node,), "difference", budget, {"code.w": weight})
    return verify_directory(emit_by_hand(program, tmp_path / "out"), load(module), gather(xs)).verdicts


def test_a_reading_within_its_budget_passes_and_one_beyond_it_fails(tmp_path):
    passing = _mlp_with_code(tmp_path / "a", 1e-4, 1e-2)
    assert _failed(passing) == set()
    code = next(verdict for verdict in passing if verdict.part == "linear_2" and verdict.reading == "code")
    assert 1e-6 < code.value < 1e-2
    assert _failed(_mlp_with_code(tmp_path / "b", 1e-1, 1e-2)) == {"linear_2", "program"}


def test_an_rnn_is_judged(tmp_path):
    xs = torch.randint(0, 3, (30, 10, 1), generator=torch.Generator().manual_seed(0)).float()
    module = Summer()
    verdicts = verify_directory(
        emit_by_hand(decompiled(module, xs[:3]), tmp_path / "out"), load(module), gather(xs)
    ).verdicts
    assert _failed(verdicts) == set()


def test_what_the_emitter_writes_passes_and_an_edit_of_it_does_not(exact, tmp_path, judge):
    emit(exact, tmp_path / "out")
    assert _failed(judge(tmp_path / "out")) == set()
    _edit(tmp_path / "out", "0.1", "0.1000001")
    assert _failed(judge(tmp_path / "out")) == {"program"}
