"""The page of modules: every module is there, links lead somewhere, and nothing that text says is more than text."""

import math

import planted_units as planted
import pytest
from tags import Tags

from pellucid.errors import BadInput
from pellucid.reports.module_pages import branches, figures, write_module_page
from pellucid.reports.module_terminal import module_text, modules_called
from pellucid.reports.unit_pages import write_unit_pages
from pellucid.words.hierarchy import modules as records
from pellucid.words.hierarchy.explained import ExplainedModule
from pellucid.words.hierarchy.modules import PLACE, DescribedModule, write_modules

EVIL = "<script>alert(1)</script>\u202e"
UNITS = planted.units(12)
SITE = UNITS[0].site
MODULES = (
    DescribedModule("network", "network", "", 12, sentence="6 parts"),
    DescribedModule("mlp", "mlp", "network", 12, sentence=EVIL, recovered=records.Tested(0.6, 0.5, 0.7, 8, -2), cost=1),
    DescribedModule(
        f"{SITE}/0", "module", "mlp", 8, EVIL, (EVIL,), EVIL, EVIL, 0.7, SITE, tuple(range(8)),
        records.Tested(0.9, 0.8, 1, 80, 0.5), None, holds=(0.8, 0.6),
    ),
    DescribedModule(f"{SITE}/0.0", "submodule", f"{SITE}/0", 4, None, (), "writes", "1", 0.3, SITE, (0, 1, 2, 99)),
    DescribedModule(f"{SITE}/1", "module", "mlp", 4, "dogs", (), "writes", "1 otherwise", 0.3, SITE, (8, 9, 10, 11)),
)  # fmt: skip


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    write_modules(MODULES, out / PLACE)
    said = tuple(ExplainedModule(part, EVIL, EVIL, EVIL) for part in (f"{SITE}/1", "mlp"))
    write_module_page(MODULES, UNITS, out, EVIL, said)
    write_unit_pages(UNITS, out, "model")
    return out


def test_every_module_is_on_the_page_and_its_latents_lead_to_their_entries(output):
    page = Tags((output / "modules" / "index.html").read_text())
    ids = [attributes["id"] for tag, attributes in page.tags if tag == "details"]
    assert len(ids) == len(set(ids)) == len(MODULES)
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    inner = [link for link in links if "#u" in link]
    assert len(inner) == 3 + 4
    for link in links:
        file, _, anchor = link.partition("#")
        if file == "../report.html":
            continue
        target = (output / "modules" / file).resolve()
        assert target.is_file()
        assert not anchor or f'id="{anchor}"' in target.read_text()
    assert '<a href="../modules/index.html">' in (output / "units" / "index.html").read_text()


def test_text_is_no_more_than_text(output):
    text = (output / "modules" / "index.html").read_text()
    page = Tags(text)
    assert [tag for tag, _ in page.tags if tag == "script"] == []
    assert "\u202e" not in text
    assert "alert(1)" in "".join(page.text)


def test_figures_are_medians_of_levels():
    rows = {row.level: row for row in figures(MODULES)}
    assert (rows["module"].modules, rows["module"].named, rows["module"].detection) == (2, 2, 0.9)
    assert (rows["mlp"].recovered, rows["mlp"].recovered_control, rows["mlp"].tested) == (0.6, -2, 1)
    assert math.isnan(rows["submodule"].detection)


def test_modules_whose_parent_is_not_there_are_roots():
    assert [branch.module.name for branch in branches(MODULES[3:], {})] == [f"{SITE}/0.0", f"{SITE}/1"]


def test_without_modules_there_is_no_link(tmp_path):
    write_unit_pages(UNITS, tmp_path, "model")
    assert "modules/index.html" not in (tmp_path / "units" / "index.html").read_text()


def test_a_module_in_the_terminal(output):
    shown = module_text(output, "dogs").plain
    assert "dogs" in shown
    assert "latents 8, 9, 10, 11" in shown
    assert "\u202e" not in module_text(output, f"{SITE}/0").plain
    assert [module.name for module in modules_called(output, EVIL)] == [f"{SITE}/0"]
    assert modules_called(output, "network") == ()
    with pytest.raises(BadInput, match="there is none"):
        module_text(output, "cats")


def test_where_no_modules_were_described(tmp_path):
    assert modules_called(tmp_path, "dogs") == ()
