import reports_planted as planted

from pellucid.reports.listings import list_code
from pellucid.reports.parts import anchors, describe_parts, verdicts_by_part
from pellucid.reports.tensor_views import view_tensors
from pellucid.reports.tree import lay_out


def parts_of(program, verdicts=()):
    cells = lay_out(program)
    ids = anchors(program)
    judged = verdicts_by_part(program, verdicts)
    made = describe_parts(program, cells, judged, list_code(program, ids, {}), view_tensors(program, tuple(cells)))
    return {part.function.name: part for part in made}


def test_the_page_of_a_function_holds_its_facts():
    parts = parts_of(planted.mlp(), planted.mlp_verdicts())
    first = parts["mlp.first"]
    assert first.anchor == "part/mlp.first"
    assert [link.name for link in first.path] == ["mlp"]
    assert (first.before.name, first.after.name) == ("mlp", "mlp.relu")
    assert [str(value.type) for value in (*first.inputs, *first.outputs)] == [
        "float32[batch, 64]",
        "float32[batch, 48]",
    ]
    assert [row.chosen for row in first.readings] == [False, True]
    assert first.readings[1].against_exact == "232 times shorter"
    assert [reading.kind for reading, _, _ in first.listings] == ["code", "weights"]
    assert [tensor.name for tensor in first.tensors] == ["first.weight", "first.bias", "first.kernel"]
    assert [link.name for link in first.callers] == ["mlp"]
    assert len(first.verdicts) == 2
    assert [attempt.method for attempt in first.trail] == ["low rank", "convolution"]


def test_status_follows_the_verdicts():
    parts = parts_of(planted.mlp(), planted.mlp_verdicts())
    assert {name: part.status for name, part in parts.items()} == {
        "mlp": "passed",
        "mlp.first": "passed",
        "mlp.relu": "passed",
        "mlp.gate": "unchecked",
        "mlp.last": "failed",
    }


def test_anchors_are_unique_and_plain():
    program = planted.hostile()
    ids = anchors(program)
    assert len(set(ids.values())) == len(ids)
    assert all(
        set(anchor) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/")
        for anchor in ids.values()
    )


def test_a_shared_tensor_is_pictured_once():
    parts = parts_of(planted.transformer(layers=1, width=80, hidden=16, vocabulary=100))
    assert parts["embed"].tensors[0] is parts["model"].tensors[0]
    assert parts["model"].tensors[0].home == "model"


def test_code_is_cut_when_it_would_fill_the_file():
    program = planted.mlp()
    full = list_code(program, anchors(program), {"mlp.relu": "a = 1\n" * 5000})
    short = list_code(program, anchors(program), {"mlp.relu": "a = 1\n" * 5000}, budget=20_000)
    assert full["mlp.relu"][0].numbers.count("\n") == 4999
    assert len(short["mlp.relu"][0].html) < 3000
    assert "more lines: see program.py" in short["mlp.relu"][0].html
