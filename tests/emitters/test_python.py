"""An emitted file computes what the interpreter computes, part by part and reading by reading, on its own."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from emitters.planted_programs import block, function, layers, linear_weights, mlp, node, program, recurrent, run_file
from emitters.random_programs import random_program

from pellucid.emitters.files import emit
from pellucid.emitters.python import dialect_of, plain, program_source
from pellucid.errors import CannotRun
from pellucid.ir.graph import Node
from pellucid.ir.interpret import Scope, run_block, run_functions
from pellucid.ir.program import Program, Reading
from pellucid.ir.serialize import save_program

PLANTED = {"mlp": mlp(), "recurrent": recurrent(), "layers": layers(), "mixed": layers(mixed=True)}


KILLERS = (2, 5, 11, 20, 22, 39, 48, 52, 100, 202)
"""Random programs that a broken printer computes wrongly; found by breaking it in eight ways."""


def load_module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("program", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def emitted(made: Program, directory: Path, dialect: str) -> ModuleType:
    save_program(made, directory)
    (directory / "program.py").write_text(program_source(made, dialect).text)
    return load_module(directory / "program.py")


def example(made: Program, name: str, seed: int = 0) -> list[torch.Tensor]:
    sizes = {"batch": 3, "seq": 5}
    generator = torch.Generator().manual_seed(seed)
    kinds = [made.values[value] for value in made[name].inputs]
    shapes = [[sizes.get(axis, axis) for axis in kind.axes] for kind in kinds]
    found = [torch.randn(shape, generator=generator) for shape in shapes]
    return [
        x > 0 if kind.dtype == "bool" else x.to(getattr(torch, kind.dtype))
        for x, kind in zip(found, kinds, strict=True)
    ]


def expected(made: Program, name: str, reading: str, inputs: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """One reading of a part over the chosen readings of what it calls; `weights` exact all the way down."""
    if reading == "weights":
        return run_functions(made, inputs, "weights", start=name)
    scope = Scope(made.weights, lambda called, values: run_functions(made, values, None, start=called))
    with torch.no_grad():
        return run_block(made[name].reading(reading).body, inputs, scope)


def assert_same(wanted: tuple[torch.Tensor, ...], found: tuple[object, ...], what: object = "") -> None:
    assert len(wanted) == len(found)
    for one, other in zip(wanted, found, strict=True):
        array = np.asarray(other)
        assert array.shape == tuple(one.shape), what
        assert str(array.dtype) == str(one.dtype)[6:], what
        finite = one[one.isfinite()].abs().max().item() if one.isfinite().any() else 0.0
        np.testing.assert_allclose(array, one.numpy(), rtol=1e-4, atol=1e-4 * max(1.0, finite))


def check_everything(made: Program, directory: Path, dialect: str) -> str:
    """Compare all parts and runs of an emitted file with the interpreter; returns its text."""
    module = emitted(made, directory, dialect)
    assert dialect == module.DIALECT
    convert = (lambda x: x.numpy()) if dialect == "numpy" else (lambda x: x)
    for name, readings in module.FUNCTIONS.items():
        inputs = example(made, name)
        for reading, call in readings.items():
            wanted = run_functions(made, inputs) if reading == "chosen" else expected(made, name, reading, inputs)
            assert_same(wanted, call(*map(convert, inputs)), (name, reading))
    inputs = example(made, made.entry, 1)
    for reading in module.RUNS:
        assert_same(run_functions(made, inputs, reading), module.RUNS[reading](*map(convert, inputs)), reading)
    return (directory / "program.py").read_text()


@pytest.mark.parametrize("dialect", ["numpy", "torch"])
@pytest.mark.parametrize("name", PLANTED)
def test_planted_programs_compute_what_the_interpreter_does(name: str, dialect: str, tmp_path: Path) -> None:
    check_everything(PLANTED[name], tmp_path, dialect)


@pytest.mark.parametrize("dialect", ["numpy", "torch"])
@pytest.mark.parametrize("seed", KILLERS)
def test_random_programs_compute_what_the_interpreter_does(seed: int, dialect: str, tmp_path: Path) -> None:
    check_everything(random_program(seed), tmp_path, dialect)


@pytest.mark.parametrize("name", PLANTED)
def test_runs_in_a_process_that_has_neither_pellucid_nor_torch(name: str, tmp_path: Path) -> None:
    made = PLANTED[name]
    emit(made, tmp_path / "out")
    inputs = example(made, made.entry)
    given = {value: x.numpy() for value, x in zip(made[made.entry].inputs, inputs, strict=True)}
    for options, reading in (((), None), (("--reading", "weights"), "weights")):
        found = run_file(tmp_path / "out", given, *options, without=["torch"])
        assert list(found) == list(made[made.entry].outputs)
        assert_same(run_functions(made, inputs, reading), tuple(found.values()))


def test_torch_program_runs_in_a_process_that_has_no_pellucid(tmp_path: Path) -> None:
    made = recurrent()
    emit(made, tmp_path / "out", "torch")
    inputs = example(made, made.entry)
    assert_same(run_functions(made, inputs), tuple(run_file(tmp_path / "out", {"x": inputs[0].numpy()}).values()))


def test_code_that_reads_no_weights_never_opens_them(tmp_path: Path) -> None:
    made = recurrent()
    emit(made, tmp_path / "out")
    (tmp_path / "out" / "weights.safetensors").unlink()
    inputs = {"x": example(made, "network")[0].numpy()}
    run_file(tmp_path / "out", inputs, without=["torch", "safetensors"])
    with pytest.raises(AssertionError, match=r"weights\.safetensors"):
        run_file(tmp_path / "out", inputs, "--reading", "weights")


def test_missing_array_is_named_and_ends_with_2(tmp_path: Path) -> None:
    emit(mlp(), tmp_path / "out")
    np.savez(tmp_path / "inputs.npz", y=np.zeros((2, 4)))
    command = [sys.executable, "-I", "program.py", str(tmp_path / "inputs.npz"), str(tmp_path / "outputs.npz")]
    done = subprocess.run(command, cwd=tmp_path / "out", capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [f"{tmp_path / 'inputs.npz'} has no array x; it needs x (float32[batch, 4])"]
    assert not (tmp_path / "outputs.npz").exists()


def test_equal_layers_are_one_def_called_in_a_loop() -> None:
    text = program_source(layers()).text
    assert text.count("def layer(") == text.count("def mlp(") == 1
    assert '    for i in range(4):\n        add_0 = layer(w.at("blocks", i), add_0, mask)\n' in text
    assert '"blocks.3": {"weights": part(layer, "blocks.3")},' in text


def test_a_layer_with_code_stands_apart_and_its_exact_reading_follows() -> None:
    text = program_source(layers(mixed=True)).text
    chosen, exact = text.split("# The same parts as the network computes them")
    assert "    return x * 2.0\n" in chosen
    assert "code (by hand)" in chosen
    assert "def mlp_weights(" not in chosen
    assert "for i in range(4):" in exact
    assert '"chosen": part(network, "")' in text


def test_the_file_reads_from_the_top() -> None:
    text = program_source(recurrent()).text
    places = [
        text.index(mark)
        for mark in ("Still weights: 0.0%", "def network(x)", "def network_weights(w, x)", "def cast(", "FUNCTIONS =")
    ]
    assert places == sorted(places)


def test_the_loop_is_written_as_a_person_would() -> None:
    assert (
        """\
    state = zeros((x.shape[0], 1), dtype="int64")
    outputs = []
    for t in range(whole.shape[1]):
        state = state + whole[:, t]
        outputs.append(state)
    return cast(stack(outputs, 1), "float32")
"""
        in program_source(recurrent()).text
    )


@pytest.mark.parametrize("dialect", ["numpy", "torch"])
def test_every_name_in_the_file_is_defined(dialect: str, tmp_path: Path) -> None:
    for made in PLANTED.values():
        path = tmp_path / "program.py"
        path.write_text(program_source(made, dialect).text)
        ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--quiet", "--select", "F", str(path)]
        done = subprocess.run(ruff, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout


def test_map_gives_every_node_of_every_function_that_shares_a_def() -> None:
    made = layers()
    source = program_source(made)
    lines = source.text.splitlines()
    traced: dict[tuple[str, str], set[str]] = {}
    for origin in source.source_map:
        assert lines[origin.line - 1].strip()
        traced.setdefault((origin.function, origin.reading), set()).update(origin.nodes)
    for name, held in made.functions.items():
        assert traced[name, "weights"] == {n.id for n in held.readings[0].body.nodes}
    adding = [o for o in source.source_map if o.function == "blocks.2" and "add_3" in o.nodes]
    assert [lines[o.line - 1] for o in adding] == ['    return x + where(mask, mlp(w.at("mlp"), x * w["gain"]), x)']


def test_numpy_up_to_five_million_parameters_and_only_for_what_numpy_has() -> None:
    assert dialect_of(mlp()) == "numpy"
    large = mlp().with_function(mlp()["network"], {"fc1.weight": torch.zeros(2500, 2001)})
    assert dialect_of(large) == "torch"
    half = mlp().with_function(mlp()["network"], {"fc1.weight": torch.zeros(4, 4, dtype=torch.bfloat16)})
    assert dialect_of(half) == "torch"
    assert dialect_of(opaque_program("aten.erfinv.default")) == "torch"


def opaque_program(op: str, outputs: str = "y", *args: object, **kwargs: object) -> Program:
    body = block("x", "y", node(outputs, op, "%x", *args, **kwargs))
    return program([function("network", body, "network", "")], {"x": "float32 batch 4", "y": "float32 batch 4"}, {})


def test_operations_that_nobody_recognised_run_in_torch(tmp_path: Path) -> None:
    assert "torch.ops.aten.erfinv.default(x)" in check_everything(
        opaque_program("aten.erfinv.default"), tmp_path / "a", "torch"
    )
    text = check_everything(opaque_program("aten.sort.default", "y positions", -1, True), tmp_path / "b", "torch")
    assert "y, _ = torch.ops.aten.sort.default(x, -1, True)" in text
    text = program_source(opaque_program("aten.sum.dim_IntList", "y", (1,), dtype="float64"), "torch").text
    assert "torch.ops.aten.sum.dim_IntList(x, (1,), dtype=torch.float64)" in text


@pytest.mark.parametrize("op", ["aten.relu_.default", "aten.system.default", "os.system", "aten.__class__.x.y"])
def test_operations_that_do_more_than_compute_are_refused(op: str) -> None:
    with pytest.raises(CannotRun):
        program_source(opaque_program(op), "torch")


HOSTILE = '"""\nimport os; os.system(\'touch harmed\')\n#'


def test_texts_of_the_file_cannot_become_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = mlp()
    body = made["network"].readings[0].body
    renamed = [
        n.with_changes(args=tuple(_hostile(a) for a in n.args), scope=HOSTILE, source=HOSTILE) for n in body.nodes
    ]
    weights = {f"{HOSTILE}{name}": tensor for name, tensor in made.weights.items()}
    exact = Reading("weights", block("x", "out", *renamed), HOSTILE, 1.0, HOSTILE)
    held = function("network", exact.body, HOSTILE, "")
    held = held.with_reading(Reading("code", exact.body, HOSTILE, 1.0, HOSTILE))
    harmful = Program("network", {"network": held}, made.values, weights, HOSTILE, HOSTILE)
    harmful = harmful.with_notes(remarks=(HOSTILE,), descriptions={"network": HOSTILE})
    path = tmp_path / "program.py"
    path.write_text(program_source(harmful).text)
    monkeypatch.chdir(tmp_path)
    load_module(path)
    assert not (tmp_path / "harmed").exists()
    assert str(harmful.text(None))


def _hostile(argument: object) -> object:
    from pellucid.ir.graph import Weight

    return Weight(HOSTILE + argument.name) if isinstance(argument, Weight) else argument


def test_plain_text_is_one_line_without_quotes() -> None:
    assert plain('a"b\\c\n d\u202ee') == "a'b/c d?e"


def test_locals_hide_nothing_that_is_called(tmp_path: Path) -> None:
    """Values, parameters and functions with the names of primitives, builtins and tables."""
    inner = block("max cos", "tanh", node("linear", "cos", "%cos"), node("tanh", "mul", "%linear", "%max"))
    body = block(
        "relu FUNCTIONS", "w",
        node("run", "relu", "%relu"),
        node("tanh", "call", "%run", "%FUNCTIONS", function="sum"),
        node("np", "tanh", "%tanh"),
        node("w", "linear", "%np", "@weights.weight", "@weights.bias", scope="weights"),
    )  # fmt: skip
    names = ("relu", "FUNCTIONS", "w", "run", "tanh", "np", "max", "cos", "linear")
    made = program(
        [function("network", body, "main", ""), function("sum", inner, "import")],
        dict.fromkeys(names, "float32 batch 4"),
        linear_weights("weights"),
    )
    for dialect in ("numpy", "torch"):
        check_everything(made, tmp_path / dialect, dialect)


def test_two_processes_with_other_hash_seeds_write_the_same_bytes(tmp_path: Path) -> None:
    script = "import sys; sys.path.insert(0, sys.argv[1]); from emitters.planted_programs import layers, recurrent\n"
    script += "from pellucid.emitters.files import emit\nfrom emitters.random_programs import random_program\n"
    script += "for i, p in enumerate([layers(mixed=True), recurrent(), *map(random_program, range(8))]):\n"
    script += "    emit(p, f'{sys.argv[2]}/{i}')"
    for seed in ("1", "2"):
        command = [sys.executable, "-c", script, str(Path(__file__).parents[1]), str(tmp_path / seed)]
        subprocess.run(command, env={"PYTHONHASHSEED": seed, "PATH": ""}, check=True, timeout=120)
    files = sorted(path.relative_to(tmp_path / "1") for path in (tmp_path / "1").rglob("*") if path.is_file())
    assert len(files) == 40
    assert all((tmp_path / "1" / file).read_bytes() == (tmp_path / "2" / file).read_bytes() for file in files)


def test_numbers_keep_their_bits(tmp_path: Path) -> None:
    body = Node(("y",), "mul", (node("", "x", "%x").args[0], 0.1 + 0.2))
    shift = node("z", "sub", "%y", 1e-17)
    exact = block("x", "z", body, shift)
    made = program([function("network", exact, "network", "")], {"x": "float64 batch 4", "z": "float64 batch 4"}, {})
    text = check_everything(made, tmp_path, "numpy")
    assert "return x * 0.30000000000000004 - 1e-17" in text
