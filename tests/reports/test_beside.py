from dataclasses import replace

import reports_planted as planted
from test_page import Structure

from pellucid.ir.graph import weights_read
from pellucid.ir.notes import ModuleMeasure
from pellucid.ir.regions import NO_JOINT
from pellucid.ir.serialize import from_json, to_json
from pellucid.reports import compare, comparison, report, write_comparison

MODULES = (
    ModuleMeasure("weight between modules", 0.0, 0.4375, "share"),
    ModuleMeasure("activation between modules", 12.5, 80.0, "bits a sample"),
)


def modular():
    return planted.mlp().with_notes(modules=MODULES)


def test_lines_stand_beside_each_other():
    lines = {line.measure: line for line in compare(modular(), planted.mlp())}
    assert (lines["weight between modules"].one, lines["weight between modules"].other) == ("0 % (random 43.8 %)", "—")
    assert lines["activation between modules"].one == "12.5 bits a sample (random 80)"
    assert lines["functions"].one == lines["functions"].other == "5"
    assert lines["still weights, share of these"].one == "8.4 %"
    assert [*dict.fromkeys(line.group for line in lines.values())] == ["Program", "Modules", "Verdicts"]


def test_the_largest_function_is_told():
    program = planted.mlp()
    sizes = [
        sum(program.weights[name].numel() for name in weights_read(f.reading().body))
        for f in program.functions.values()
    ]
    lines = {line.measure: line for line in compare(program, program)}
    assert lines["largest function, parameters of its own"].one == f"{max(sizes):,}"


def test_a_network_without_joints_is_said_to_have_none():
    program = modular()
    assert program.regions is not None
    other = replace(program, regions=replace(program.regions, origin=f"nesting, for spectral {NO_JOINT}"))
    assert "No joint was found" in Structure(comparison(other, program)).text
    assert "No joint was found" in Structure(report(other, ())).text
    for page in (comparison(program, program), report(program, ())):
        assert "No joint was found" not in Structure(page).text


def test_the_report_shows_modules_only_where_there_are_any():
    assert "weight between modules" in Structure(report(modular(), ())).text
    assert 'id="modules"' not in report(planted.mlp(), ())


def test_measures_are_kept_in_the_file():
    program = modular()
    assert from_json(to_json(program), program.weights).notes.modules[1] == MODULES[1]


def test_hostile_text_is_escaped(tmp_path):
    program = modular().with_notes(modules=(ModuleMeasure(planted.HOSTILE, 1.0),))
    for page in (comparison(program, planted.mlp()), report(program, ())):
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        Structure(page)
    write_comparison(program, program, tmp_path / "beside.html")
    assert (tmp_path / "beside.html").read_text(encoding="utf-8") == comparison(program, program)
