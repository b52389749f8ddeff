import os
import sys
import time

import pytest
import torch

from pellucid.errors import CannotRun
from pellucid.ir.tensors import write_tensors
from pellucid.verdicts.process import Emitted

PROGRAM = """
import os, sys, time
from pathlib import Path
import numpy as np
from safetensors.numpy import load_file
W = load_file(Path(__file__).with_name("weights.safetensors"))
print("noise on the channel")
def double(x): return (np.float32(2) * x,)
def typed(*values): return values
def weight(): return (W["w"],)
def sizes(x): return (x.shape[0], True, 1.5)
def die(x): os._exit(3)
def hang(x): time.sleep(60)
def wrong(x): return x
def odd(x): return ("text",)
def state(): return (int("pellucid" in sys.modules and sys.modules["pellucid"] is not None), len(os.environ))
FUNCTIONS = {f.__name__: {"weights": f} for f in (double, typed, weight, sizes, die, hang, wrong, odd, state)}
ENTRY, INPUTS, DIALECT = "double", ("x",), "numpy"
RUNS = {None: double, "weights": double}
def run(*values, reading=None): return RUNS[reading](*values)[0]
"""


@pytest.fixture
def place(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    write_tensors(tmp_path / "weights.safetensors", {"w": torch.tensor([0.1, 0.2])})
    return tmp_path


def _run(emitted, name, *values):
    return emitted.run(name, "weights", values)


def test_values_of_every_kind_go_there_and_back(place):
    values = [
        torch.randn(3, 4).t(), torch.tensor([True, False]), torch.arange(5), torch.tensor(2.5), torch.zeros(0, 3),
        torch.randn(4, dtype=torch.float64), torch.tensor([1.5]).half(), torch.randn(2, 3, 4)[:, 1],
    ]  # fmt: skip
    with Emitted(place) as emitted:
        for _ in range(3):
            back = _run(emitted, "typed", *values)
            for a, b in zip(back, values, strict=True):
                assert (a.dtype, a.shape) == (b.dtype, b.shape)
                assert torch.equal(a, b)
        assert _run(emitted, "typed", 3, 2.5, True) == (3, 2.5, True)
        assert _run(emitted, "sizes", torch.zeros(7)) == (7, True, 1.5)
        assert _run(emitted, "typed") == ()


def test_the_whole_runs_as_users_call_it(place):
    with Emitted(place) as emitted:
        assert emitted.runs == (None, "weights")
        for reading in emitted.runs:
            (found,) = emitted.run_whole(reading, [torch.tensor([1.5])])
            assert torch.equal(found, torch.tensor([3.0]))
        with pytest.raises(CannotRun, match="KeyError: 'words'"):
            emitted.run_whole("words", [torch.tensor([1.5])])


def test_large_values_do_not_block(place):
    large = torch.randn(3_000_000)
    with Emitted(place) as emitted:
        assert torch.equal(_run(emitted, "double", large)[0], 2 * large)


def test_double_precision_widens_weights_and_literals(place):
    with Emitted(place, "double") as emitted:
        assert _run(emitted, "weight")[0].dtype == torch.float64
        assert torch.equal(_run(emitted, "weight")[0], torch.tensor([0.1, 0.2]).double())
        assert _run(emitted, "double", torch.tensor([1e-300], dtype=torch.float64))[0] == 2e-300
    with Emitted(place, "single") as emitted:
        assert _run(emitted, "weight")[0].dtype == torch.float32


def test_the_process_is_isolated(place, monkeypatch):
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("PYTHONPATH", str(place))
    with Emitted(place) as emitted:
        has_pellucid, variables = _run(emitted, "state")
    assert has_pellucid == 0
    assert variables <= 8


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wrong", "not a tuple"),
        ("odd", "AttributeError|TypeError|returned"),
        ("die", "exit status 3"),
        ("none", "no reading"),
    ],
)
def test_a_failure_is_told_and_the_next_request_is_served(place, name, message):
    with Emitted(place) as emitted:
        for _ in range(2):
            with pytest.raises(CannotRun, match=message):
                _run(emitted, name, torch.ones(2))
            assert _run(emitted, "double", torch.ones(1))[0] == 2


def test_a_process_that_keeps_dying_is_given_up(place):
    with Emitted(place) as emitted:
        for _ in range(3):
            with pytest.raises(CannotRun, match="exit status 3"):
                _run(emitted, "die", torch.ones(1))
        with pytest.raises(CannotRun, match="ended 3 times"):
            _run(emitted, "double", torch.ones(1))


def test_a_hang_ends(place):
    started = time.monotonic()
    with Emitted(place, timeout=1.0) as emitted, pytest.raises(CannotRun, match="no answer within 1 s"):
        _run(emitted, "hang", torch.ones(1))
    assert time.monotonic() - started < 30


def test_no_process_outlives_the_block(place):
    with Emitted(place) as emitted:
        _run(emitted, "double", torch.ones(1))
        number = emitted._process.pid
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


def test_the_worker_stands_alone():
    """It may import neither pellucid nor anything but the standard library until it loads the program."""
    from pellucid.verdicts.process import WORKER

    imports = [
        line.split()[1].split(".")[0]
        for line in WORKER.read_text().splitlines()
        if line.startswith(("import ", "from "))
    ]
    assert set(imports) <= sys.stdlib_module_names | {"__future__"}
