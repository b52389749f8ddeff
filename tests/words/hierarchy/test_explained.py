"""What labellers said is read back as it was written; a damaged file is refused."""

import pytest

from pellucid.errors import BadInput
from pellucid.words.hierarchy import modules as records
from pellucid.words.hierarchy.explained import PLACE, ExplainedModule, read_explained, write_explained

SAID = (
    ExplainedModule("mlp/0", "ants", "what ants do", told_apart=records.Tested(0.9, 0.8, 1.0, 16, 0.5)),
    ExplainedModule("mlp/1", None, "\u202e<b>", taken_back="bees"),
    ExplainedModule("mlp", None, None, missing="no JSON"),
)


def test_records_are_read_back(tmp_path):
    write_explained(SAID, tmp_path / PLACE)
    assert read_explained(tmp_path / PLACE) == SAID


def test_where_nothing_was_asked_there_is_none(tmp_path):
    assert read_explained(tmp_path / PLACE) == ()


@pytest.mark.parametrize("text", ["{", '{"part": 3}', '{"part": "a", "name": null, "label": null, "more": 1}'])
def test_a_damaged_file_is_refused(text, tmp_path):
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(BadInput, match="ask the labeller again"):
        read_explained(tmp_path / "a.jsonl")
