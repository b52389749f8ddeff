"""Records of modules: every text is read back as it was, and what is damaged is refused."""

import math

import pytest

from pellucid.errors import BadInput
from pellucid.words.hierarchy import modules as records
from pellucid.words.hierarchy.modules import DescribedModule, children_of, read_modules, write_modules

MODULES = (
    DescribedModule("f.mlp", "mlp", "", 30, sentence='of " and \\ and \u202e', cost=0.5),
    DescribedModule(
        "f.mlp.dictionary:latents/0", "module", "f.mlp", 3, "cat, dog", ("pets",), "writes", "1 otherwise", 0.25,
        "f.mlp.dictionary:latents", (1, 5, 7),
        records.Tested(0.9, 0.8, 0.95, 80, 0.5), records.Tested(0.7, 0.6, 0.8, 8, -3.0), 0.01,
        (0.8, 0.6),
    ),
)  # fmt: skip


def test_round_trip(tmp_path):
    file = tmp_path / "words" / "modules.jsonl"
    write_modules(MODULES, file)
    read = read_modules(file)
    assert read[1] == MODULES[1]
    assert (read[0].sentence, math.isnan(read[0].share)) == (MODULES[0].sentence, True)
    first = file.read_bytes()
    write_modules(read, file)
    assert file.read_bytes() == first
    assert children_of(read, "f.mlp") == (read[1],)


def test_shown_says_that_there_is_no_name():
    assert (MODULES[0].shown, MODULES[1].shown) == ("unnamed: 30 latents", "cat, dog")


@pytest.mark.parametrize("line", ["{", "[]", '{"name": "a"}', '{"name": 3, "level": "", "parent": "", "latents": 1}'])
def test_what_is_damaged_is_refused(tmp_path, line):
    file = tmp_path / "modules.jsonl"
    file.write_text(line + "\n")
    with pytest.raises(BadInput, match="describe again"):
        read_modules(file)


def test_what_is_missing_or_twice_is_refused(tmp_path):
    with pytest.raises(BadInput, match="cannot be read"):
        read_modules(tmp_path / "none")
    with pytest.raises(BadInput, match="twice"):
        write_modules([MODULES[0]] * 2, tmp_path / "modules.jsonl")
