import pytest

from pellucid.errors import BadInput
from pellucid.ir.notes import Verdict
from pellucid.verdicts.record import read_verdicts, write_verdicts

VERDICTS = (
    Verdict("program", "weights", "max difference", 1e-7, "of the output", (0.0, 1e-7), 20, "sampled", 0.9, True),
    Verdict("f", "code", "match", 0.0, "share", (0.0, 0.1), 3, "proved", float("inf"), False, "1", "sample 2 \"x\"\n"),
)  # fmt: skip


def test_the_round_trip_is_the_identity(tmp_path):
    write_verdicts(VERDICTS, tmp_path / "verdicts.json")
    assert read_verdicts(tmp_path / "verdicts.json") == VERDICTS
    assert [entry.name for entry in tmp_path.iterdir()] == ["verdicts.json"]


def test_damage_is_told_in_one_line(tmp_path):
    path = tmp_path / "verdicts.json"
    with pytest.raises(BadInput, match="no such file"):
        read_verdicts(path)
    write_verdicts(VERDICTS, path)
    text = path.read_text()
    for damaged in (
        text[:50],
        text.replace('"passed": true', '"passed": 1'),
        "[]",
        text.replace('"version": 1', '"version": 2'),
    ):
        path.write_text(damaged)
        with pytest.raises(BadInput, match=r"verdicts\.json: damaged") as caught:
            read_verdicts(path)
        assert "\n" not in str(caught.value)
