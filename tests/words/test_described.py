"""Records of units come back as they were, in the same bytes; damage is one clear error."""

import dataclasses
import math

import duckdb
import pytest
from planted_units import HOSTILE, SITE, hostile_unit, units

from pellucid.errors import BadInput
from pellucid.words.described import Stretch, median_r, read_units, write_units


def same(one, other):
    return repr(one) == repr(other)


def test_round_trip_and_bytes(tmp_path):
    made = units(5)
    write_units(made, tmp_path / "a")
    write_units(made, tmp_path / "b")
    assert same(read_units(tmp_path / "a"), made)
    for name in ("units.parquet", "contexts.parquet"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["contexts.parquet", "units.parquet"]


def test_some_by_name(tmp_path):
    write_units(units(5), tmp_path)
    found = read_units(tmp_path, [f"{SITE}[0]", f"{SITE}[9]", f"{SITE}[2]"])
    assert [unit.index for unit in found] == [0, 2]
    assert found[0].contexts[0].pieces == HOSTILE
    assert read_units(tmp_path, []) == ()


def test_queried_by_others(tmp_path):
    write_units(units(4), tmp_path)
    rows = duckdb.sql(f"select name, r from '{tmp_path}/units.parquet' where r > 0.1 order by r desc").fetchall()
    assert rows[0] == (f"{SITE}[0]", 0.75)
    assert len(rows) == 3


def test_no_units(tmp_path):
    write_units((), tmp_path)
    assert read_units(tmp_path) == ()


@pytest.mark.parametrize("name", ["units.parquet", "contexts.parquet"])
@pytest.mark.parametrize("harm", ["missing", "cut", "flipped", "empty", "text", "columns"])
def test_damaged(tmp_path, name, harm):
    write_units(units(5), tmp_path)
    path = tmp_path / name
    data = bytearray(path.read_bytes())
    if harm == "missing":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif harm == "flipped":
        data[60] ^= 0x55
        path.write_bytes(data)
    elif harm == "columns":
        other = "contexts.parquet" if name == "units.parquet" else "units.parquet"
        path.write_bytes((tmp_path / other).read_bytes())
    else:
        path.write_bytes(b"" if harm == "empty" else b"label,r\nnothing,1\n")
    with pytest.raises(BadInput, match=name) as caught:
        read_units(tmp_path)
    assert "\n" not in str(caught.value)
    assert "run pellucid describe again" in str(caught.value)


def test_contexts_of_other_units(tmp_path):
    write_units(units(4), tmp_path / "a")
    write_units(units(4, "model.layers.1.mlp.dictionary:latents"), tmp_path / "b")
    (tmp_path / "b" / "contexts.parquet").replace(tmp_path / "a" / "contexts.parquet")
    with pytest.raises(BadInput, match="other units"):
        read_units(tmp_path / "a")


def test_bad_records(tmp_path):
    with pytest.raises(BadInput, match="twice"):
        write_units([hostile_unit(), hostile_unit()], tmp_path)
    with pytest.raises(BadInput, match="one for each token"):
        Stretch("top", 0, 1, ("a", "b"), (1.0,))
    with pytest.raises(BadInput, match="does not end in"):
        _ = dataclasses.replace(hostile_unit(), name="model:latents").index
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written"):
        write_units([hostile_unit()], tmp_path / "file" / "units")


def test_medians():
    assert median_r(units(4)) == (pytest.approx(0.7), 0.0)
    assert math.isnan(median_r(units(3)[-1:])[0])
