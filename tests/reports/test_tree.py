import dataclasses
import itertools

import pytest
import reports_planted as planted

from pellucid.ir.graph import Block, Node, Ref
from pellucid.ir.program import Function, Reading
from pellucid.reports.tree import NARROWEST, lay_out


def test_cells_of_the_planted_mlp():
    cells = lay_out(planted.mlp())
    assert list(cells) == ["mlp", "mlp.first", "mlp.relu", "mlp.gate", "mlp.last"]
    assert cells["mlp"].below == 48 * 65 + 48 * 49 + 10 * 49
    assert cells["mlp.first"].below == 48 * 65
    assert cells["mlp.first"].carried == cells["mlp.gate"].carried == "code"
    assert cells["mlp.last"].mix == {"weights": 490.0, "code": 0.0, "words": 0.0}
    assert cells["mlp.first"].mix == {"weights": 9.0, "code": 48 * 65 - 9.0, "words": 0.0}
    assert cells["mlp"].mix["code"] == 48 * 65 - 9 + 48 * 49


def test_the_mix_of_the_whole_is_the_ledger():
    program = planted.mlp()
    whole = lay_out(program)[program.entry]
    for kind, amount in whole.mix.items():
        assert amount / whole.below == pytest.approx(program.ledger.share(kind))


def test_widths_follow_parameters_and_never_overlap():
    cells = lay_out(planted.transformer(layers=6, width=24, hidden=64, vocabulary=32))
    for cell in cells.values():
        children = [cells[name] for name in cell.children]
        assert sum(child.width for child in children) <= cell.width + 1e-9
        for left, right in itertools.pairwise(children):
            assert right.start == pytest.approx(left.start + left.width)
        assert all(child.width >= 0.8 * NARROWEST * cell.width for child in children)
    assert cells["layers.3.mlp"].width / cells["layers.3.attention"].width == pytest.approx(4608 / 10368)
    assert cells["layers.3.mlp"].width > cells["layers.3.norm1"].width
    assert sum(cell.own for cell in cells.values()) == pytest.approx(cells["model"].below)


def test_a_tied_tensor_is_divided_among_its_readers():
    cells = lay_out(planted.transformer(layers=1, width=8, hidden=16, vocabulary=100))
    assert cells["embed"].own == cells["model"].own == 400.0


def test_what_a_caller_runs_instead_carries_all_below():
    program = planted.mlp()
    constant = Reading(
        "words", Block(("pixels",), (Node(("logits",), "mul", (Ref("pixels"), 2.0)),), ("logits",)), "labels", 9.0
    )
    cells = lay_out(program.with_function(program["mlp"].with_reading(constant)))
    assert {cell.carried for cell in cells.values()} == {"words"}
    assert cells["mlp"].mix["words"] == cells["mlp"].below


def test_shared_and_uncalled_functions_have_one_cell_each():
    program = planted.mlp()
    spare = dataclasses.replace(program["mlp.relu"], name="spare")
    call = Node(("h1",), "call", (Ref("h0"),), function="mlp.relu")
    wrap = Function(
        "wrap",
        "activation",
        "",
        ("h0",),
        ("h1",),
        (Reading("weights", Block(("h0",), (call,), ("h1",)), "exact", 1.0),),
    )
    cells = lay_out(program.with_function(spare).with_function(wrap))
    assert sorted(cells) == sorted([*program.functions, "spare", "wrap"])
    assert cells["mlp.relu"].caller == "mlp"
    assert not cells["spare"].called
    assert not cells["wrap"].called


def test_a_program_without_parameters_has_cells_of_one_width():
    program = planted.mlp()
    bare = dataclasses.replace(
        program,
        functions={"mlp": dataclasses.replace(program["mlp"], readings=program["mlp"].readings)}
        | {name: dataclasses.replace(program["mlp.relu"], name=name) for name in list(program.functions)[1:]},
    )
    cells = lay_out(bare)
    assert {round(cells[name].width, 9) for name in cells["mlp"].children} == {0.25}
