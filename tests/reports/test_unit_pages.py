"""Pages of units: everything is there, in files of 200, and nothing that text says is more than text."""

import dataclasses
import re

import planted_units as planted
import pytest
from tags import Tags

from pellucid.errors import BadInput
from pellucid.ir.units import Site, Unit
from pellucid.reports.unit_pages import INDEX, paged, write_unit_pages
from pellucid.reports.unit_terminal import text_of, unit_text
from pellucid.reports.unit_views import level_of, runs, said_above
from pellucid.words.described import PLACE, DescribedUnit, Link, write_units
from pellucid.words.judged import by_unit

EVIL = '<img src=x onerror="alert(1)">:latents'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    judged = by_unit(planted.judged())
    write_unit_pages([*planted.units(205), *planted.units(3, EVIL)], out, "</title><script>alert(1)</script>", judged)
    return out / "units"


def test_files(folder):
    names = sorted(path.name for path in folder.iterdir())
    assert names == [
        "000-model.layers.0.mlp.dictionary-latents-00000.html", "000-model.layers.0.mlp.dictionary-latents-00200.html",
        "001--img-src-x-onerror-alert-1-latents-00000.html", INDEX,
    ]  # fmt: skip
    pages = [Tags((folder / name).read_text()) for name in names[:3]]
    assert [sum(one.startswith("u") for one in page.values("id")) for page in pages] == [200, 5, 3]


def test_links_lead_somewhere(folder):
    ids = {path.name: set(Tags(path.read_text()).values("id")) for path in folder.iterdir()}
    for path in folder.iterdir():
        for link in Tags(path.read_text()).values("href"):
            if link in ("data:,", "../report.html"):
                continue
            file, _, anchor = link.partition("#")
            assert not anchor or anchor in ids[file or path.name], link
            assert (folder / file).exists()


def test_nothing_but_text(folder):
    for path in folder.iterdir():
        page = Tags(path.read_text(encoding="utf-8"))
        assert {tag for tag, _ in page.tags} <= {
            "html", "head", "meta", "title", "link", "style", "body", "header", "p", "h1", "h2", "h3", "a", "bdi",
            "main", "nav", "section", "code", "b", "ol", "li", "span", "div", "table", "caption", "thead", "tbody",
            "tr", "th", "td", "footer",
        }  # fmt: skip
        assert not any(name.startswith("on") or name in ("src", "style") for _, found in page.tags for name in found)
        assert "default-src 'none'" in page.values("content")[0]


def test_all_is_shown(folder):
    text = "".join(Tags((folder / "000-model.layers.0.mlp.dictionary-latents-00000.html").read_text()).text)
    for piece in planted.HOSTILE[:2]:
        assert piece in text
    for shown in ("line↵end", "\\u0000", "\\u001b[31m", "\\u202egnp", "\\ud800", "{{ 7*7 }}", "é 𝄞", "[bold]x[/bold]"):
        assert shown in text
    assert "\x1b" not in text
    assert "r 0.600, with another unit's label 0; active on 20.0 %" in text
    assert "Read most by" in text
    last = "".join(Tags((folder / "000-model.layers.0.mlp.dictionary-latents-00200.html").read_text()).text)
    assert last.count("No label was found.") == 1
    index = "".join(Tags((folder / INDEX).read_text()).text)
    assert "205" in index
    assert "200 to 204" in index


def test_labels_of_several_makers_stand_beside_each_other(folder):
    text = "".join(Tags((folder / "000-model.layers.0.mlp.dictionary-latents-00000.html").read_text()).text)
    assert text.count("a model, language model") == 2
    assert text.count("detection 0.90 [0.70, 0.98], with another unit's label 0.50, 10 contexts") == 2
    assert "fuzzing unknown: no answer came" in text
    assert "missing: timeout: no reply" in text


def test_colours(folder):
    page = (folder / "000-model.layers.0.mlp.dictionary-latents-00000.html").read_text()
    assert re.search(r' on<span class="a9 said peak" title="2.50; the label says 1"> the</span> mat', page)


def test_same_bytes(tmp_path, folder):
    made = [*planted.units(205), *planted.units(3, EVIL)]
    write_unit_pages(made, tmp_path, "</title><script>alert(1)</script>", by_unit(planted.judged()))
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "units" / path.name).read_bytes()


def test_no_units_and_no_place(tmp_path):
    index = write_unit_pages((), tmp_path, "nothing")
    assert "No unit has words yet" in index.read_text()
    assert paged(()) == ()
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be made"):
        write_unit_pages((), tmp_path / "file", "nothing")


def test_runs_and_levels():
    context = planted.stretch(
        ("a", "b", "c", "d", "e"), (0.0, 0.0, 1.0, -2.0, 0.0), predicted=(0.0, 5.0, 0.0, 0.0, 0.0)
    )
    found = list(runs(context, 9.0, 1.0))
    assert [(run.text, run.level, run.said, run.peak) for run in found] == [
        ("a", 0, False, False), ("b", 0, True, False), ("c", 1, False, True), ("d", -1, False, False),
        ("e", 0, False, False),
    ]  # fmt: skip
    assert [level_of(x, 9.0) for x in (0.0, 1e-9, 1.0, 1.1, 9.0, 20.0, -1.0)] == [0, 1, 1, 2, 9, 9, -1]
    assert said_above(planted.hostile_unit()) == (len(planted.HOSTILE) - 1) / 4


def test_terminal_text_is_only_text():
    shown = text_of(planted.hostile_unit(), {f"{planted.SITE}[1]": "[red]\x1b[2J neighbour"}).plain
    assert "\x1b" not in shown
    assert "\x00" not in shown
    assert "\ud800" not in shown
    for piece in ("[bold]x[/bold]", "<script>", "\\u001b[31m", "line↵end", "[red]\\u001b[2J neighbour", "«»"):
        assert piece in shown
    assert "-0.5" in shown or "−0.5" in shown


def test_labels_of_several_makers_in_a_terminal():
    shown = text_of(planted.hostile_unit(), {}, planted.judged()[:2]).plain
    assert "label by pellucid (tree)\n  detection 0.90 [0.70, 0.98], with another unit's label 0.50" in shown
    assert "label by a model (language model)\n  <script>" in shown
    assert "\x1b" not in shown
    assert "missing: timeout" in text_of(planted.units(3)[1], {}, planted.judged()[2:]).plain


def unit_at(index):
    function, _, shown = planted.SITE.partition(":")
    return Unit(Site(function, "y", units=10, shown=shown), index)


def test_terminal_reads_the_directory(tmp_path):
    unit = planted.units(4)[1]
    linked = dataclasses.replace(unit, outgoing=(Link(f"{planted.SITE}[2]", 1.0),))
    write_units([linked, planted.units(4)[2]], tmp_path / PLACE)
    shown = unit_text(tmp_path, unit_at(1)).plain
    assert "1.5 where current in" in shown
    assert 'latents[2]  2.5 where current in {" the"}' in shown
    assert " on« the» mat" in shown
    with pytest.raises(BadInput, match="has no words"):
        unit_text(tmp_path, unit_at(9))
    with pytest.raises(BadInput, match="make them with pellucid describe"):
        unit_text(tmp_path / "other", unit_at(1))


def test_unlabelled_in_terminal():
    bare = DescribedUnit("f:latents[0]", None, "tree", float("nan"), float("nan"), 0.0)
    assert "no label was found" in text_of(bare, {}).plain
    assert "r unknown" in text_of(bare, {}).plain


def test_a_head_shows_which_token_looks_and_where(tmp_path):
    write_unit_pages([*planted.units(3), planted.hostile_head()], tmp_path, "a network")
    source = (tmp_path / "units" / "001-model.layers.0.self_attn-heads-00000.html").read_text()
    page = Tags(source)
    assert not [tag for tag, _ in page.tags if tag in ("script", "img")]
    assert not any(name.startswith("on") for _, found in page.tags for name in found)
    text = "".join(page.text)
    assert (
        "r 0.900, with the rule of another head 0.250; looks at something else than the first token from 80.0 %" in text
    )
    assert "In a box: the token that looks" in text
    assert "Where it looks hardest, from the token in a box" in text
    assert "Carries most of: the length" in text
    assert re.search(r' a<span class="a3" title="0.250; the label says 0"> b</span>', source)
    assert re.search(r'<span class="a6 said peak asks" title="0.500; the label says 0.600"> c</span>', source)
    assert len([name for name in page.values("class") if "asks" in name.split()]) == 2
    assert "the token that looks" not in "".join(
        Tags((tmp_path / "units" / "000-model.layers.0.mlp.dictionary-latents-00000.html").read_text()).text
    )
    for piece in planted.HOSTILE[:2]:
        assert piece in text


def test_a_head_in_the_terminal():
    shown = text_of(planted.hostile_head(), {}).plain
    assert "rule; r 0.900, with the rule of another head 0.250; looks at something else than" in shown
    assert " a b«[ c]»" in shown
    assert "where it looks hardest" in shown
    assert "\x1b" not in shown
