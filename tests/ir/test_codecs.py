import pytest

from pellucid.ir.codecs import DEPTH_LIMIT, Wrong, compact, layout, parse, read_number, write_number

BIG = "1" * 9000


@pytest.mark.parametrize("value", [0.1, -0.0, 1e300, 5e-324, 3, float("inf"), float("-inf"), 0.1 + 0.2])
def test_numbers_come_back_exactly(value):
    back = read_number(parse(compact(write_number(value))))
    assert repr(back) == repr(value)


def test_nan_comes_back():
    assert repr(read_number(parse(compact(write_number(float("nan")))))) == "nan"


@pytest.mark.parametrize(
    "document",
    ["", "{", "NaN", "[Infinity]", "[-Infinity]", "1e999", '{"a":1,"a":2}', "[" * 5000, "[" * 200 + "]" * 200, BIG],
)
def test_what_is_not_strict_json_is_refused_in_one_line(document):
    with pytest.raises(Wrong) as caught:
        parse(document)
    assert "\n" not in str(caught.value)


def test_nesting_up_to_the_limit_is_read():
    assert parse("[" * DEPTH_LIMIT + "]" * DEPTH_LIMIT)


def test_layout_says_the_same_as_the_compact_form():
    value = {"a": [[1, 2], {"b": "x" * 130, "c": [1.5] * 100}], "d": [], "e": {"ü": None}}
    assert parse(layout(value)) == value == parse(compact(value))
    assert max(len(line) for line in layout({"a": [["word"] * 5] * 40}).splitlines()) <= 120
