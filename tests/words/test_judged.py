"""Labels that were judged come back as they were, take each other's place, and damage is one clear error."""

import dataclasses
import math

import duckdb
import pytest
from planted_units import HOSTILE, SITE, judged

from pellucid.errors import BadInput
from pellucid.words.judged import JUDGED, JudgedLabel, by_unit, read_judged, replacing, write_judged


def test_round_trip_and_bytes(tmp_path):
    made = judged()
    for name in ("a", "b"):
        write_judged(made, tmp_path / name)
    assert repr(read_judged(tmp_path / "a")) == repr(by_unit(made))
    assert (tmp_path / "a" / JUDGED).read_bytes() == (tmp_path / "b" / JUDGED).read_bytes()
    assert read_judged(tmp_path / "a", [f"{SITE}[1]"])[f"{SITE}[1]"] == (made[2],)
    assert read_judged(tmp_path / "nothing") == {}


def test_hostile_text_comes_back(tmp_path):
    write_judged(judged(), tmp_path)
    (_, asked) = read_judged(tmp_path)[f"{SITE}[0]"]
    assert asked.text == "".join(HOSTILE)


def test_queried_by_others(tmp_path):
    write_judged(judged(), tmp_path)
    query = f"select unit, missing from '{tmp_path}/{JUDGED}' where text is null"
    assert duckdb.sql(query).fetchall() == [(f"{SITE}[1]", "timeout: no reply")]


def test_new_labels_take_the_place_of_old_ones_of_the_same_maker():
    old = judged()
    new = dataclasses.replace(old[1], text="said again", scores=())
    other = dataclasses.replace(new, maker="another model")
    found = replacing(by_unit(old), [new, other])
    assert [(one.maker, one.text) for one in found if one.unit == f"{SITE}[0]"] == [
        ("pellucid", old[0].text), ("a model", "said again"), ("another model", "said again")
    ]  # fmt: skip
    assert len(found) == len(old) + 1


def test_a_label_is_there_or_missing_for_a_reason():
    for text, missing in ((None, None), ("said", "lost")):
        with pytest.raises(BadInput, match="reason"):
            JudgedLabel("u[0]", "tree", "pellucid", text, missing)


@pytest.mark.parametrize("harm", ["cut", "text", "columns", "kind", "both"])
def test_damaged(tmp_path, harm):
    write_judged(judged(), tmp_path)
    path = tmp_path / JUDGED
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:200])
    elif harm == "text":
        path.write_text("label")
    else:
        change = {"columns": "unit", "kind": "* replace ('tea' as kind)", "both": "* replace ('a' as missing)"}[harm]
        table = duckdb.sql(f"select {change} from '{path}'").to_arrow_table()
        import pyarrow.parquet as pq

        pq.write_table(table.cast(pq.read_schema(path)) if harm != "columns" else table, path)
    with pytest.raises(BadInput, match="run pellucid describe again"):
        read_judged(tmp_path)


def test_unknown_scores_stay_unknown(tmp_path):
    write_judged(judged(), tmp_path)
    (first, _) = read_judged(tmp_path)[f"{SITE}[0]"]
    assert [math.isnan(score.shuffled) for score in first.scores] == [False, True]
