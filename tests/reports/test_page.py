import os
import stat
import time
from html.parser import HTMLParser

import pytest
import reports_planted as planted
import torch

from pellucid.errors import BadInput
from pellucid.reports import report, write_report
from pellucid.reports.page import _policy

VOID = {"meta", "link", "img", "br", "input"}


class Structure(HTMLParser):
    """Collects tags and visible text, and checks that tags close in order."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.attributes, self.texts = [], [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.extend((tag, name, value) for name, value in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.extend((tag, name, value) for name, value in attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] not in (["style"], ["script"]):
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def page():
    return report(planted.mlp(), planted.mlp_verdicts())


def test_order_of_contents(page):
    text = Structure(page).text
    places = [
        text.index(words) for words in ("still weights", "2 verdicts failed", "Incomplete", "Remarks", "All 5 parts")
    ]
    assert places == sorted(places)
    assert text.index("All 5 parts") < text.index("float32[batch, 64]") < text.rindex("How to read this")
    assert "3b1f9c44d2a07e58" in text
    assert "5,962 parameters" in text
    assert "not measured" in text


def test_the_page_is_well_formed_and_ids_are_unique(page):
    structure = Structure(page)
    assert structure.open == []
    ids = [value for _, name, value in structure.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    targets = {value[1:] for tag, name, value in structure.attributes if tag == "a" and name == "href"}
    assert targets <= set(ids)


def test_the_page_refers_to_nothing_outside(page):
    for tag, name, value in Structure(page).attributes:
        if name in ("src", "href", "action", "srcset", "data"):
            assert value.startswith(("#", "data:")), (tag, name, value)
        assert not name.startswith("on")
        assert name != "style"
    assert "http://" not in page
    assert "https://" not in page


def test_the_policy_names_the_one_script_and_style(page):
    policy = next(value for tag, name, value in Structure(page).attributes if value and value.startswith("default-src"))
    style = page.split("<style>")[1].split("</style>")[0]
    script = page.split("<script>")[1].split("</script>")[0]
    assert policy == _policy(style, script)
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


def test_the_same_program_gives_the_same_bytes():
    assert report(planted.mlp(), planted.mlp_verdicts()) == report(planted.mlp(), planted.mlp_verdicts())


def test_verdicts_in_the_notes_are_used_when_none_are_given(page):
    program = planted.mlp().with_notes(verdicts=planted.mlp_verdicts())
    assert report(program, ()) == page


def test_without_failures_the_page_says_so_with_its_control():
    verdicts = [planted.verdict("program"), planted.verdict("mlp.first", "code"), planted.verdict("mlp.gate", "code")]
    text = Structure(report(planted.mlp(), verdicts)).text
    assert (
        "No verdict failed. 3 verdicts: none proved on all inputs of a finite domain, 3 sampled, on 2,000 inputs"
        in text
    )
    assert "gave 0.830 where the readings gave 3.00 × 10⁻⁷" in text
    assert "failed, of" not in text


def test_weights_that_are_not_finite_are_a_finding():
    program = planted.mlp()
    program.weights["last.bias"][2] = torch.nan
    text = Structure(report(program, planted.mlp_verdicts())).text
    assert "1 weight not finite" in text
    assert "1 value not finite (green cells)" in text


def test_code_given_by_the_caller_is_shown():
    text = Structure(report(planted.mlp(), (), code={"mlp.gate": "return sieve_of(h1)"})).text
    assert "return sieve_of (h1)" in text.replace("sieve_of(", "sieve_of (")


def test_hostile_text_stays_text():
    page = report(planted.hostile(), planted.hostile_verdicts())
    structure = Structure(page)
    assert structure.open == []
    assert structure.tags.count("script") == 1
    assert "<script>alert(1)</script>" in structure.text
    assert "{{ 7*7 }}" in structure.text
    assert not [name for _, name, _ in structure.attributes if name.startswith("on")]
    assert {
        value for tag, name, value in structure.attributes if tag == "img" and name == "src" and value == "x"
    } == set()
    assert not set(page) & {"\u202e", "\ud800"}
    assert len(page) < 400_000


def thread_seconds(program):
    """A report, and what it takes of one thread."""
    verdicts = [planted.verdict(name, value=1e-7 * i) for i, name in enumerate(("program", *program.functions))]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    start = time.thread_time()
    page = report(program, verdicts)
    spent = time.thread_time() - start
    torch.set_num_threads(threads)
    return page, spent


def test_two_hundred_functions_are_small_and_take_no_longer_each():
    few, many = (planted.transformer(layers=layers, width=288, hidden=640) for layers in (6, 30))
    assert (len(few.functions), len(many.functions)) == (44, 212)
    _, shorter = thread_seconds(few)
    page, longer = thread_seconds(many)
    assert longer / len(many.functions) < 3 * shorter / len(few.functions)
    assert len(page.encode()) < 4_000_000


def test_three_hundred_wordy_functions_stay_under_five_megabytes():
    program = planted.transformer(layers=42, width=96, hidden=160, vocabulary=512)
    verdicts = [
        planted.verdict(name, reading, detail="parts at position 12 " * 20)
        for name in program.functions
        for reading in ("weights", "code")
    ]
    code = {name: "h = linear(x, weight, bias)  # a line\n" * 150 for name in program.functions}
    page = report(program, verdicts, code=code)
    assert len(program.functions) == 296
    assert len(page.encode()) < 5_000_000


def test_a_report_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    write_report(planted.mlp(), planted.mlp_verdicts(), path)
    before = path.read_bytes()
    assert before.decode() == report(planted.mlp(), planted.mlp_verdicts())
    assert stat.S_IMODE(path.stat().st_mode) == 0o644

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(BadInput, match=r"report\.html: cannot write the report \(No space left on device\)"):
        write_report(planted.mlp(), (), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BadInput, match="cannot write the report"):
        write_report(planted.mlp(), (), tmp_path / "absent" / "report.html")
