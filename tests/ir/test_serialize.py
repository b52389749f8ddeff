import dataclasses
import hashlib
import json
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.errors import BadInput, InvalidProgram
from pellucid.ir.codecs import compact, parse
from pellucid.ir.graph import Block, Node, Ref, ValueType, Weight
from pellucid.ir.program import Function, Program, Reading
from pellucid.ir.serialize import from_json, load_program, same_program, save_program, to_json


def _sealed(document, change):
    """The document with changed contents and a fitting SHA-256: what an attacker, not an accident, would write."""
    plain = json.loads(document)
    change(plain)
    plain["sha256"] = hashlib.sha256(compact(plain["program"]).encode()).hexdigest()
    return json.dumps(plain)


def test_the_round_trip_is_the_identity(program):
    back = from_json(to_json(program), program.weights)
    assert back == program
    assert repr(back) == repr(program)
    assert [*back.functions] == [*program.functions]
    assert to_json(back) == to_json(program)


def test_the_round_trip_through_files_is_the_identity(program, tmp_path, xs):
    program.save(tmp_path / "out")
    back = Program.load(tmp_path / "out")
    assert same_program(back, program)
    assert torch.equal(back(xs), program(xs))
    assert sorted(entry.name for entry in (tmp_path / "out").iterdir()) == ["program.json", "weights.safetensors"]


def test_saving_again_replaces_and_gives_the_same_bytes(program, tmp_path):
    save_program(program, tmp_path)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    save_program(program, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first
    save_program(program.with_notes(remarks=("another",)), tmp_path)
    assert load_program(tmp_path).notes.remarks == ("another",)


def test_a_program_may_be_saved_over_the_files_its_weights_are_mapped_from(program, tmp_path):
    save_program(program, tmp_path)
    loaded = load_program(tmp_path)
    save_program(loaded, tmp_path)
    assert same_program(load_program(tmp_path), program)


LEAVES = st.one_of(
    st.booleans(), st.none(), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=("C", "Z")), max_size=6), st.just(Ref("x")), st.just(Weight("w")),
)  # fmt: skip
ARGS = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=8)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(ARGS)
def test_any_argument_comes_back_with_its_type(arg):
    node = Node(("y",), "lookup", (arg, (Ref("x"),)))
    reading = Reading("weights", Block(("x",), (node,), ("y",)), "exact", 1.0)
    program = Program(
        "f", {"f": Function("f", "network", "", ("x",), ("y",), (reading,))}, {"x": ValueType("int64", ("n",))},
        {"w": torch.zeros(2)},
    )  # fmt: skip
    back = from_json(to_json(program), program.weights)
    assert repr(back["f"]) == repr(program["f"])


def test_an_invalid_program_is_not_written(program, tmp_path):
    broken = dataclasses.replace(program, entry="nowhere")
    with pytest.raises(InvalidProgram):
        save_program(broken, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_document_has_no_literal_that_json_forbids(program):
    assert "Infinity" not in to_json(program)
    assert "NaN" not in to_json(program)
    parse(to_json(program))


# ---- damage


def test_every_kind_of_missing_file(program, tmp_path):
    with pytest.raises(BadInput, match=r"program\.json: no such file"):
        load_program(tmp_path)
    save_program(program, tmp_path)
    (tmp_path / "weights.safetensors").unlink()
    with pytest.raises(BadInput, match=r"weights\.safetensors: no such file"):
        load_program(tmp_path)
    with pytest.raises(BadInput, match="no such file"):
        load_program(tmp_path / "program.json")


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.data())
def test_any_flipped_bit_is_found(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("flip")
    reading = Reading("weights", Block(("x",), (Node(("y",), "mul", (Ref("x"), Weight("w"))),), ("y",)), "exact", 1.0)
    program = Program(
        "f", {"f": Function("f", "network", "", ("x",), ("y",), (reading,))}, {"x": ValueType("float32", ("n", 3))},
        {"w": torch.tensor([1.0, 2.0, 3.0])},
    )  # fmt: skip
    save_program(program, folder)
    name = data.draw(st.sampled_from(["program.json", "weights.safetensors"]))
    content = bytearray((folder / name).read_bytes())
    place = data.draw(st.integers(0, len(content) * 8 - 1))
    content[place // 8] ^= 1 << place % 8
    (folder / name).write_bytes(bytes(content))
    try:
        damaged = not same_program(load_program(folder), program)  # white space, or metadata that nothing reads
        message = f"{folder}: read, though damaged" if damaged else str(folder)
    except BadInput as error:
        damaged, message = False, str(error)
    assert not damaged
    assert str(folder) in message
    assert "\n" not in message


def test_truncated_documents_are_refused(program):
    document = to_json(program).rstrip()
    for length in range(0, len(document), 101):
        with pytest.raises(BadInput, match=r"program\.json"):
            from_json(document[:length], program.weights)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("[]", "not a pellucid program"),
        ('{"format": "other"}', "not a pellucid program"),
        ('{"format": "pellucid program", "version": 99, "program": {}}', "version 99"),
        ('{"format": "pellucid program", "version": 1, "program": {}}', "SHA-256"),
        ("[" * 100_000, "nested"),
        ('{"a": ' * 300 + "1" + "}" * 300, "nested"),
        ("9" * 5000, "not JSON"),
        ('{"format": "pellucid program", "x": NaN}', "NaN"),
    ],
)
def test_foreign_and_hostile_documents_are_refused(document, message):
    with pytest.raises(BadInput, match=re.escape(message)) as caught:
        from_json(document, {})
    assert "\n" not in str(caught.value)


def _node(plain):
    return plain["program"]["functions"][2]["readings"][0]["body"]["nodes"][0]


HOSTILE = {
    "unknown operation": lambda p: _node(p).update(op="system"),
    "an operation with side effects": lambda p: _node(p).update(op="aten.add_.Tensor"),
    "an attribute of python": lambda p: _node(p).update(op="aten.__class__.__name__"),
    "a torch function as recurrent cell": lambda p: _node(p).update(
        op="recurrent", args=["load", {"ref": "all"}, [], [], 1, False, True]
    ),
    "a torch function as element type": lambda p: _node(p).update(op="cast", args=[{"ref": "all"}, "load"]),
    "an unknown weight": lambda p: _node(p).update(args=[{"ref": "all"}, {"weight": "none"}]),
    "an unknown field": lambda p: _node(p).update(code="import os"),
    "a huge integer": lambda p: _node(p).update(args=[{"ref": "all"}, 2**70]),
    "a list where text is due": lambda p: _node(p).update(op=["linear"]),
    "an argument of a strange form": lambda p: _node(p).update(args=[{"ref": "all", "weight": "head.w"}]),
    "recursion": lambda p: _node(p).update(op="call", function="network", args=[{"ref": "all"}]),
    "deep arguments": lambda p: _node(p).update(args=[json.loads("[" * 150 + "]" * 150)]),
    "a name that is code": lambda p: _node(p).update(outputs=["x; import os"]),
    "a keyword as name": lambda p: _node(p).update(outputs=["lambda"]),
    "a line break in text": lambda p: p["program"]["functions"][0].update(kind='x"""\nimport os'),
    "no functions": lambda p: p["program"].update(functions=[]),
    "a function twice": lambda p: p["program"]["functions"].append(p["program"]["functions"][2]),
    "a missing field": lambda p: p["program"].pop("entry"),
    "a boolean as a number": lambda p: p["program"]["functions"][0]["readings"][0].update(bits=True),
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_hostile_document_is_refused_even_with_a_fitting_digest(program, attack):
    document = _sealed(to_json(program), HOSTILE[attack])
    with pytest.raises(BadInput, match=r"program\.json: ") as caught:
        from_json(document, program.weights)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_the_attack_helper_itself_leaves_a_readable_document(program):
    assert from_json(_sealed(to_json(program), lambda p: None), program.weights) == program


def test_weights_that_do_not_fit_are_refused_by_name(program):
    document = to_json(program)
    weights = dict(program.weights)
    changes = {
        "missing": lambda t: None,
        "differs": lambda t: t + 1,
        "needs": lambda t: t[:2],
        "is float64": lambda t: t.double(),
    }
    for name, change in changes.items():
        changed = change(weights["head.w"])
        given_weights = {n: t for n, t in {**weights, "head.w": changed}.items() if t is not None}
        with pytest.raises(BadInput, match=f"'head.w'.*{name}"):
            from_json(document, given_weights)
