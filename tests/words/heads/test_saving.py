"""Rules as files."""

import numpy as np
import pytest
from words.heads.planted_heads import rule

from pellucid.errors import BadInput
from pellucid.words.heads.saving import DOCUMENT, NUMBERS, load_heads, save_heads

RULES = [rule(0, seed=0), rule(1, seed=1, rests=True), rule(0, seed=2, function="g")]


def test_the_round_trip_is_the_identity(tmp_path):
    save_heads(RULES, tmp_path / "a")
    back = load_heads(tmp_path / "a")
    for one, other in zip(RULES, back, strict=True):
        assert (one.name, one.rests, one.grammar) == (other.name, other.rests, other.grammar)
        assert np.array_equal(one.clusters, other.clusters)
        assert all(np.array_equal(one.tables[name], other.tables[name]) for name in one.tables)
    save_heads(back, tmp_path / "b")
    for name in (DOCUMENT, NUMBERS):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"version": 1', '"version": 2', "version 1"),
        ('"head": 1', '"head": "1"', "damaged"),
        ("{", "", "damaged"),
        ('"offsets": [0', '"offsets": [5', "rise from 0"),
    ],
)
def test_damaged_documents(tmp_path, old, new, message):
    save_heads(RULES, tmp_path)
    text = (tmp_path / DOCUMENT).read_text()
    assert old in text
    (tmp_path / DOCUMENT).write_text(text.replace(old, new, 1))
    with pytest.raises(BadInput, match=message):
        load_heads(tmp_path)


def test_files_that_do_not_fit_together(tmp_path):
    with pytest.raises(BadInput, match="no such file"):
        load_heads(tmp_path)
    save_heads(RULES, tmp_path)
    save_heads(RULES[:1], tmp_path / "other")
    (tmp_path / NUMBERS).write_bytes((tmp_path / "other" / NUMBERS).read_bytes())
    with pytest.raises(BadInput, match="not of 3 heads"):
        load_heads(tmp_path)
