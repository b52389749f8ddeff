"""`.pt2` files: the program comes back, and nothing that a file says is ever executed."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import re
import zipfile

import pytest
import torch
from loader_files import LLAMA, rewrite_archive
from torch import nn

from pellucid.errors import BadInput
from pellucid.lift.load import load

PROGRAM, WEIGHTS = "models/model.json", "data/weights/model_weights_config.json"
CONSTANTS, SAMPLES = "data/constants/model_constants_config.json", "data/sample_inputs/model.pt"


class Model(nn.Module):
    """A parameter, a buffer, a constant, a general axis, two outputs and a text argument of an operator."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.register_buffer("scale", torch.arange(4.0))
        self.shift = torch.ones(4)

    def forward(self, x, *, flag=True):
        y = torch.einsum("bi,i->bi", self.linear(x), self.scale) + self.shift
        return y.reshape(x.shape[0] * 4), {"total": y.sum(-1)}


def save(module, path, args, kwargs=None, **options):
    torch.export.save(torch.export.export(module, args, kwargs, **options), path)
    return path


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    return Model().eval()


@pytest.fixture(scope="module")
def whole(module, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "model.pt2"
    shapes = {"x": {0: torch.export.Dim.AUTO}, "flag": None}
    return save(module, path, (torch.ones(2, 3),), {"flag": True}, dynamic_shapes=shapes)


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "marker"


class Harm:
    """Creates the marker when it is unpickled."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return (os.mkdir, (self.marker,))


def pickled(marker):
    buffer = io.BytesIO()
    torch.save(((Harm(marker),), {}), buffer)
    return buffer.getvalue()


def edit(change):
    """A change of a member's JSON, as a function from bytes to bytes."""

    def apply(content):
        value = json.loads(content)
        change(value)
        return json.dumps(value).encode()

    return apply


def refuse(path, match):
    with pytest.raises(BadInput, match=match) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


def graph(program):
    return program["graph_module"]["graph"]


def rename(program, old, new):
    """Renames a value everywhere, as a forger would."""

    def walk(value):
        if isinstance(value, dict):
            return {new if key == old else key: walk(item) for key, item in value.items()}
        if isinstance(value, list):
            return [walk(item) for item in value]
        return new if value == old else value

    program["graph_module"] = walk(program["graph_module"])


def test_the_program_comes_back(module, whole):
    network = load(whole)
    x = torch.randn(5, 3)
    flat, sums = network.module(x, flag=True)
    expected = module(x)
    assert torch.equal(flat, expected[0])
    assert torch.equal(sums["total"], expected[1]["total"])
    assert torch.equal(network.module.state_dict()["linear.weight"], module.linear.weight)
    assert network.source == "model.pt2"
    assert isinstance(network.exported, torch.export.ExportedProgram)
    stacks = [node.meta["nn_module_stack"] for node in network.exported.graph.nodes if node.op == "call_function"]
    assert any([path for path, _ in stack.values()] == ["", "linear"] for stack in stacks)
    assert network.fingerprint == load(whole).fingerprint


def test_a_copy_of_the_archive_by_the_tests_is_whole(whole, tmp_path):
    assert load(rewrite_archive(whole, tmp_path / "copy.pt2", {})).fingerprint == load(whole).fingerprint


@pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning")
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: nn.Sequential(nn.Conv2d(1, 2, 3, padding="same"), nn.BatchNorm2d(2), nn.ReLU()), (2, 1, 5, 5)),
        (lambda: nn.LSTM(3, 4, num_layers=2, bidirectional=True, dropout=0.1, batch_first=True), (2, 5, 3)),
        (lambda: nn.Sequential(nn.Linear(3, 3), nn.Dropout(), nn.GELU(approximate="tanh")), (2, 3)),
        (lambda: nn.Linear(3, 3).to(torch.bfloat16), (2, 3)),
    ],
)
def test_modules_of_many_kinds_come_back(tmp_path, make, shape):
    torch.manual_seed(1)
    module = make().eval()
    x = torch.randn(shape, dtype=next(module.parameters()).dtype)
    network = load(save(module, tmp_path / "a.pt2", (x,)))
    with torch.no_grad():
        found, expected = network.module(x), module(x)
    pairs = zip(torch.utils._pytree.tree_leaves(found), torch.utils._pytree.tree_leaves(expected), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_branches_and_sizes_taken_from_values_come_back(tmp_path):
    class Branches(nn.Module):
        def forward(self, x):
            with torch.no_grad():
                y = torch.cond(x.sum() > 0, lambda t: t + 1, lambda t: t - 1, (x,))
            return torch.cat([y, torch.arange(x.shape[0] * 2 + 1) / 2])

    path = save(Branches(), tmp_path / "a.pt2", (torch.ones(3),), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    for x in (torch.ones(4), -torch.ones(5)):
        assert torch.equal(load(path).module(x), Branches()(x))


def test_a_named_class_of_outputs_becomes_a_dict(tmp_path):
    transformers = pytest.importorskip("transformers")
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA)).eval()
    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        path = save(model, tmp_path / "a.pt2", (), {"input_ids": ids, "use_cache": False})
        found = load(path).module(input_ids=ids, use_cache=False)
        assert type(found) is dict
        assert torch.equal(found["logits"], model(ids, use_cache=False).logits)


def test_sample_inputs_are_not_unpickled(whole, tmp_path, marker):
    path = rewrite_archive(whole, tmp_path / "a.pt2", {SAMPLES: pickled(marker)})
    load(path)
    assert not marker.exists()
    with contextlib.suppress(TypeError, RuntimeError):  # the planted harm is real: torch itself runs it
        torch.export.load(path)
    assert marker.exists()


def test_pickled_weights_are_refused(whole, tmp_path, marker):
    def use_pickle(config):
        config["config"]["scale"]["use_pickle"] = True

    member = "data/weights/weight_2"
    path = rewrite_archive(whole, tmp_path / "a.pt2", {WEIGHTS: edit(use_pickle), member: pickled(marker)})
    refuse(path, r"weights: scale is a pickled object \(weight_2\), which is not read for safety")
    assert not marker.exists()


@pytest.mark.parametrize("name", ["opaque_obj_0", "custom_obj_0", "../weight_0", "weight_0/../../x", "weight_x"])
def test_pickled_constants_are_refused(whole, tmp_path, marker, name):
    def point(config):
        config["config"]["shift"]["path_name"] = name

    content = {CONSTANTS: edit(point), f"data/constants/{name}": pickle.dumps(Harm(marker))}
    refuse(rewrite_archive(whole, tmp_path / "a.pt2", content), "shift is a pickled object .*, which is not read")
    assert not marker.exists()


@pytest.mark.parametrize("member", ["data/weights/model.pt", "data/constants/model.pt"])
def test_the_old_pickled_form_is_refused(whole, tmp_path, marker, member):
    refuse(rewrite_archive(whole, tmp_path / "a.pt2", {member: pickled(marker)}), "are pickled, an old format")
    assert not marker.exists()


def test_guards_are_not_executed(whole, tmp_path, marker):
    def guard(program):
        program["guards_code"] = [f"open({str(marker)!r}, 'w')"]

    network = load(rewrite_archive(whole, tmp_path / "a.pt2", {PROGRAM: edit(guard)}))
    network.module(torch.ones(2, 3), flag=True)
    network.exported.module()(torch.ones(2, 3), flag=True)
    assert not marker.exists()


EXPRESSIONS = [
    "__import__('os').system('touch MARKER')",
    "open('MARKER', 'w')",
    "Symbol('s0').__class__",
    "Symbol(open('MARKER', 'w'))",
    "Symbol('s0', positive=open('MARKER', 'w'))",
    "Symbol('x y')",
    "Symbol('u999999999')",
    "[open('MARKER', 'w')][0]",
    "(lambda: open('MARKER', 'w'))()",
    "Add(*[1, 2])",
    "Pow(Integer(10), Integer(1000000000))",
    "Pow(Pow(Integer(10), Integer(16)), Integer(16))",
    "PowByNatural(Integer(10), Integer(10**9))",
    "LShift(Integer(1), Integer(1000000000000))",
    "10**10**10",
    "Integer(" + "9" * 30 + ")",
    "factorial(Integer(1000000))",
    "Float('1e99999999')",
    "Add(" * 2000,
    "s0",
    "Integer('7')",
]


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_symbolic_sizes_are_not_evaluated(whole, tmp_path, marker, text):
    def plant(program):
        graph(program)["tensor_values"]["x"]["sizes"][0]["as_expr"]["expr_str"] = text.replace("MARKER", str(marker))

    refuse(rewrite_archive(whole, tmp_path / "a.pt2", {PROGRAM: edit(plant)}), "program: a size is given as")
    assert not marker.exists()


def test_torch_does_evaluate_symbolic_sizes(whole, tmp_path, marker):
    """The control of the test above: without the check, the text is run."""

    def plant(program):
        text = f"__import__('os').mkdir({str(marker)!r})"
        graph(program)["tensor_values"]["x"]["sizes"][0]["as_expr"]["expr_str"] = text

    path = rewrite_archive(whole, tmp_path / "a.pt2", {PROGRAM: edit(plant)})
    with contextlib.suppress(AttributeError, RuntimeError):
        torch.export.load(path)
    assert marker.exists()


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "torch.load",
        "torch.hub.load",
        "torch.ops.load_library",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.save.default",
        "torch.ops.aten.__class__.mro",
        "torch.ops.aten.add",
        "torch.ops.aten.add.Tensor.__call__",
        "torch.ops.unheard.add.default",
        "torch.ops.higher_order.call_torchbind",
        "math.sys.exit",
        "_operator.methodcaller",
        "builtins.eval",
        "#namespace:op",
        "",
    ],
)
def test_only_tensor_operations_are_called(whole, tmp_path, target):
    def plant(program):
        graph(program)["nodes"][0]["target"] = target

    path = rewrite_archive(whole, tmp_path / "a.pt2", {PROGRAM: edit(plant)})
    refuse(path, f"program: calls {re.escape(target)}, which is none of torch's own tensor operations")


def test_operators_given_as_arguments_are_checked_too(whole, tmp_path):
    def plant(program):
        graph(program)["nodes"][0]["inputs"][0]["arg"] = {"as_operator": "torch.os.system"}

    refuse(rewrite_archive(whole, tmp_path / "a.pt2", {PROGRAM: edit(plant)}), r"calls torch\.os\.system")


@pytest.mark.parametrize(
    "name", ["x): open('MARKER', 'w') #", "x\nopen('MARKER', 'w')\n", "lambda", "ｘ", "a.b", "x;import os", "x y"]
)
@pytest.mark.parametrize("old", ["x", "linear", "p_linear_weight"])
def test_names_do_not_reach_the_generated_source(whole, tmp_path, marker, name, old):
    def plant(program):
        rename(program, old, name.replace("MARKER", str(marker)))

    refuse(rewrite_archive(whole, tmp_path / "a.pt2", {PROGRAM: edit(plant)}), "program: ")
    assert not marker.exists()


@pytest.mark.parametrize("name", ["__class__.forward", "linear.__dict__", "a b", "x'); open('MARKER')", "", "a..b"])
def test_names_of_weights_are_plain_paths(whole, tmp_path, name):
    def plant_program(program):
        program["graph_module"]["signature"]["input_specs"][0]["parameter"]["parameter_name"] = name

    def plant_weights(config):
        config["config"][name] = config["config"].pop("linear.weight")

    refuse(rewrite_archive(whole, tmp_path / "a.pt2", {PROGRAM: edit(plant_program)}), "parameter_name is")
    refuse(rewrite_archive(whole, tmp_path / "b.pt2", {WEIGHTS: edit(plant_weights)}), "a tensor has the name")


@pytest.mark.parametrize(
    "tree",
    [
        {"type": "builtins.dict", "context": '[{"__enum__": true, "fqn": "antigravity:A", "name": "x"}]'},
        {"type": "collections.defaultdict", "context": '{"default_factory_module": "os"}'},
        {"type": "collections.namedtuple", "context": '"os.system"'},
        {"type": "builtins.dict", "context": '["a b"]'},
        {"type": "builtins.dict", "context": "["},
        {"type": "builtins.dict", "context": '["a", "b"]'},
        {"type": ["builtins.dict"], "context": None},
        {"type": "builtins.dict"},
    ],
)
@pytest.mark.parametrize("which", ["in_spec", "out_spec"])
def test_containers_of_inputs_and_outputs_are_plain(whole, tmp_path, tree, which):
    def plant(program):
        leaf = {"type": None, "context": None, "children_spec": []}
        signature = program["graph_module"]["module_call_graph"][0]["signature"]
        signature[which] = json.dumps([1, tree | {"children_spec": [leaf]}])

    refuse(
        rewrite_archive(whole, tmp_path / "a.pt2", {PROGRAM: edit(plant)}),
        "grouped in|structure of its inputs or outputs",
    )


def test_texts_among_the_inputs_are_plain_words(whole, tmp_path):
    def plant(program):
        spec = program["graph_module"]["signature"]["input_specs"][-1]["constant_input"]
        spec["value"] = {"as_string": "' or open('x')"}

    refuse(rewrite_archive(whole, tmp_path / "a.pt2", {PROGRAM: edit(plant)}), "as_string is ")


def test_custom_objects_are_refused(whole, tmp_path):
    def plant(program):
        program["graph_module"]["signature"]["input_specs"][0] = {
            "custom_obj": {"arg": {"name": "p_linear_weight", "class_fqn": "a"}, "custom_obj_name": "a"}
        }

    refuse(rewrite_archive(whole, tmp_path / "a.pt2", {PROGRAM: edit(plant)}), "object custom_obj that is no tensor")


def meta(name, **changes):
    """A change of one tensor's description."""

    def change(config):
        config["config"][name]["tensor_meta"].update(changes)

    return {WEIGHTS: edit(change)}


def ints(*numbers):
    return [{"as_int": number} for number in numbers]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (
            {"sizes": ints(4, 4)},
            r"tensor linear\.weight of shape \[4, 4\] and strides \[3, 1\] does not fit its 48 bytes",
        ),
        ({"strides": ints(2**62, 1)}, "does not fit its 48 bytes"),
        ({"strides": ints(-1, 1)}, "has no fixed shape and strides"),
        ({"storage_offset": {"as_int": 1}}, "does not fit its 48 bytes"),
        ({"sizes": ints(2**40, 2**40), "strides": ints(0, 0)}, "does not fit its 48 bytes; .* call .contiguous()"),
        ({"sizes": ints(10**30, 0)}, "sizes|as_int is the number"),
        ({"sizes": ints(3)}, "has no fixed shape and strides"),
        ({"sizes": [{"as_expr": {"expr_str": "Symbol('s0')"}}] * 2}, "has no fixed shape and strides"),
        ({"dtype": 8}, "does not fit its 48 bytes"),
        ({"dtype": 29}, "has the dtype number 29, which is not supported"),
        ({"dtype": "7"}, "has the dtype number 7, which is not"),
        ({"device": {"type": "cuda", "index": 0}}, "uses the device cuda; move model and inputs to the CPU"),
    ],
)
def test_tensors_lie_within_their_bytes(whole, tmp_path, changes, match):
    refuse(rewrite_archive(whole, tmp_path / "a.pt2", meta("linear.weight", **changes)), match)


def test_an_empty_record_cannot_ask_for_memory(whole, tmp_path):
    edits = meta("scale", sizes=ints(2**40)) | {"data/weights/weight_2": b""}
    refuse(rewrite_archive(whole, tmp_path / "a.pt2", edits), r"tensor scale of shape \[1099511627776\] .* its 0 bytes")


def test_fp8_weights_are_refused_clearly(tmp_path):
    module = nn.Linear(2, 2)
    module.register_buffer("small", torch.ones(2).to(torch.float8_e4m3fn))
    refuse(save(module, tmp_path / "a.pt2", (torch.ones(1, 2),)), "tensor small has the dtype number 29, .*float8")


def test_nan_is_named_with_its_tensor(whole, tmp_path):
    bad = torch.tensor([0.0, float("nan"), 1.0, 2.0]).numpy().tobytes()
    refuse(rewrite_archive(whole, tmp_path / "a.pt2", {"data/weights/weight_2": bad}), "tensor scale holds 1 NaN")


@pytest.mark.parametrize("module", [nn.Sequential(nn.Linear(3, 3), nn.Dropout()), nn.BatchNorm1d(3)])
def test_a_program_in_training_mode_is_refused(tmp_path, module):
    path = save(module.train(), tmp_path / "a.pt2", (torch.ones(2, 3),))
    refuse(path, r"exported in training mode \(.*\); call model\.eval\(\) and export again")


@pytest.mark.parametrize("member", [PROGRAM, WEIGHTS, CONSTANTS, "archive_version", "archive_format"])
def test_missing_members_are_named(whole, tmp_path, member):
    refuse(rewrite_archive(whole, tmp_path / "a.pt2", {member: None}), "lacks|holds no program|is not an archive of")


def test_archives_of_other_kinds_are_told_apart(whole, tmp_path):
    refuse(rewrite_archive(whole, tmp_path / "a.pt2", {"archive_version": b"999"}), "export it again with this version")
    refuse(rewrite_archive(whole, tmp_path / "a.pt2", {"byteorder": b"big"}), "big-endian")
    machine = {PROGRAM: None, "data/aotinductor/model/a.so": b"\x7fELF"}
    refuse(rewrite_archive(whole, tmp_path / "a.pt2", machine), "holds machine code only, which is not run")
    with zipfile.ZipFile(tmp_path / "old.pt2", "w") as archive:
        archive.writestr("serialized_exported_program.json", "{}")
        archive.writestr("version", "8.20")
    refuse(tmp_path / "old.pt2", "was exported by an old version of torch")
    torch.save({"w": torch.ones(2)}, tmp_path / "state.pt2")
    refuse(tmp_path / "state.pt2", "is not an archive of torch.export.save")


def test_compressed_archives_are_refused_unread(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.pt2", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/archive_format", b"\0" * 10**7)
    refuse(tmp_path / "bomb.pt2", "m/archive_format is compressed, as torch never does")


def test_a_member_occurs_once(whole, tmp_path):
    rewrite_archive(whole, tmp_path / "a.pt2", {})
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(tmp_path / "a.pt2", "a") as archive:
        archive.writestr("model/models/model.json", "{}")
    refuse(tmp_path / "a.pt2", r"model/models/model\.json occurs twice")


def test_a_flipped_bit_in_the_weights_is_seen(whole, tmp_path, module):
    raw = bytearray(whole.read_bytes())
    at = raw.index(module.linear.weight.detach().numpy().tobytes())
    raw[at + 5] ^= 4
    (tmp_path / "a.pt2").write_bytes(raw)
    refuse(tmp_path / "a.pt2", "Bad CRC-32 for file 'model/data/weights/weight_0'")


@pytest.mark.parametrize("content", [b"[]", b"{}", b"{", b'{"graph_module": 3}', b'{"graph_module": {"graph": {}}}'])
def test_programs_without_sense_are_refused(whole, tmp_path, content):
    refuse(rewrite_archive(whole, tmp_path / "a.pt2", {PROGRAM: content}), "program|model.json|torch")


def test_deep_nesting_is_refused(whole, tmp_path):
    deep = b'{"graph_module": {"graph": ' + b"[" * 10**5 + b"]" * 10**5 + b"}}"
    refuse(rewrite_archive(whole, tmp_path / "a.pt2", {PROGRAM: deep}), "JSON|nested")
